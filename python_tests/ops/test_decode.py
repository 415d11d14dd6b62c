# SPDX-License-Identifier: MIT
"""Decoders of all members in one pass: equal to the reference implementation, to the bit for any threads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dtnn_fast import reference
from dtnn_fast.ops import decode
from dtnn_fast.ops.decode import num_decoder_weights

OPS = torch.ops.dtnn_fast
SIZES = {"blocks": 2, "latent": 19, "readouts": 2}


def random_inputs(
    counts: list[int],
    members: int = 2,
    channels: tuple[int, int, int, int] = (9, 5, 3, 2),
    bonds: bool = True,
    masks: bool = True,
    share: bool = True,
    residual: bool = True,
    **sizes: int,
) -> dict[str, Any]:
    """Make the arguments of decode for crystals with these numbers of atoms; all values are of order 1."""
    sizes = SIZES | sizes
    blocks, latent, readouts = sizes["blocks"], sizes["latent"], sizes["readouts"]
    rows, generator = sum(counts), torch.Generator().manual_seed(len(counts))

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    scalar, vector, rank2, bond_vector = channels
    num_weights = num_decoder_weights(scalar, vector, rank2, bond_vector if bonds else None, **sizes)
    arguments: dict[str, Any] = {
        "scalar": normal(rows, scalar),
        "vector": normal(rows, 3, vector),
        "rank2": normal(rows, 6, rank2),
        "weights": normal(members, num_weights) / latent**0.5,
        "ptr": torch.tensor([0, *counts]).cumsum(0),
    }
    if bonds:
        arguments["bond_vector"] = normal(rows, 3, bond_vector)
        arguments["bond_sums"] = normal(members * blocks, rows, latent)
        arguments["envelope_sum"] = normal(rows)
    if masks:
        arguments["masks"] = normal(members, 3 * blocks + 2 * readouts, rows, latent)
    if share:
        arguments["atom_share"] = normal(rows)
    return arguments | sizes | {"residual": residual}


def moving(arguments: dict[str, Any]) -> list[str]:
    return [name for name, x in arguments.items() if isinstance(x, Tensor) and x.is_floating_point()]


def gradients(function, arguments: dict[str, Any]) -> tuple[Tensor, ...]:
    leaves = {name: arguments[name].clone().requires_grad_() for name in moving(arguments)}
    out = function(**(arguments | leaves))
    return torch.autograd.grad(out.sin().sum(), list(leaves.values()), materialize_grads=True)


@pytest.mark.parametrize(
    ("counts", "options"),
    [
        ([3, 1, 30], {}),
        ([2] * 200, {"latent": 8}),
        ([700], {"masks": False, "share": False, "latent": 8}),
        ([4, 4], {"bonds": False}),
        ([4, 4], {"residual": False}),
        ([4, 4], {"blocks": 0}),
        ([4, 4], {"blocks": 3, "readouts": 1, "members": 1}),
        ([5], {"channels": (1, 1, 1, 1), "latent": 1}),
        ([3, 9], {"channels": (384, 192, 96, 32), "latent": 64}),  # of the bundled model
    ],
    ids=str,
)
def test_equals_reference_with_gradients(counts, options):
    arguments = random_inputs(counts, **options)
    torch.testing.assert_close(decode(**arguments), reference.decode(**arguments))
    torch.testing.assert_close(gradients(decode, arguments), gradients(reference.decode, arguments))


def test_float32_is_close_to_float64():
    arguments = random_inputs([5, 40, 9], channels=(384, 192, 96, 32), latent=64, masks=False)
    exact = decode(**arguments)
    single = decode(**{name: x.float() if name in moving(arguments) else x for name, x in arguments.items()})
    assert (single - exact).abs().max() < 2e-5 * exact.abs().max()


@pytest.mark.parametrize("counts", [[3] * 5, [40] * 40])
def test_same_bits_for_any_number_of_threads(counts):
    arguments = random_inputs(counts, latent=16)
    arguments = {name: x.float() if name in moving(arguments) else x for name, x in arguments.items()}
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append((decode(**arguments), *gradients(decode, arguments)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_members_and_crystals_do_not_depend_on_each_other():
    arguments = random_inputs([6, 90, 11], members=3)
    whole = decode(**arguments)
    own = dict(arguments, weights=arguments["weights"][1:2], masks=arguments["masks"][1:2])
    own["bond_sums"] = arguments["bond_sums"][2:4]
    torch.testing.assert_close(decode(**own), whole[1:2])
    for name in ("scalar", "vector", "rank2", "bond_vector", "envelope_sum", "atom_share"):
        own[name] = arguments[name][6:96]
    own["bond_sums"], own["masks"] = own["bond_sums"][:, 6:96], own["masks"][:, :, 6:96]
    own["ptr"] = torch.tensor([0, 90])
    torch.testing.assert_close(decode(**own), whole[1:2, :, 1:2])


def test_share_is_the_mean_where_absent():
    arguments = random_inputs([2, 5], share=False)
    share = torch.tensor([0.5] * 2 + [0.2] * 5, dtype=torch.float64)
    torch.testing.assert_close(decode(**arguments), decode(**arguments, atom_share=share))


def test_without_crystals_or_members():
    assert decode(**random_inputs([])).shape == (2, 2, 0, 3, 3)
    assert not any(grad.any() for grad in gradients(decode, random_inputs([])))
    assert decode(**random_inputs([3], members=0)).shape == (0, 2, 1, 3, 3)
    grads = gradients(decode, random_inputs([3], members=0))
    assert not any(grad.any() for grad in grads)


def test_gradients_that_are_not_needed_are_not_computed():
    arguments = random_inputs([3, 4])
    order = ["scalar", "vector", "rank2", "bond_vector", "bond_sums", "envelope_sum", "masks", "weights", "ptr"]
    given = [arguments[name] for name in (*order, "atom_share", "blocks", "latent", "readouts")]
    grad = torch.ones(2, 2, 2, 3, 3, dtype=torch.float64)
    everything = OPS.decode_backward(grad, *given, True)
    groups = (0, 0, 0, 1, 1, 1, 2, 3, 4)
    for needed in range(0, 32, 3):
        needs = [bool(needed >> group & 1) for group in range(5)]
        some = OPS.decode_backward(grad, *given, True, *needs)
        for result, whole, group in zip(some, everything, groups, strict=True):
            if needs[group]:
                # Within rounding: the compiler contracts loops without a gradient in another way.
                torch.testing.assert_close(result, whole, rtol=1e-12, atol=1e-12)
            else:
                assert result.shape == (0,)


def bad(message, **change):
    return pytest.param(message, change, id=message[:50])


@pytest.mark.parametrize(
    ("message", "change"),
    [
        bad("expected `scalar` of dtype float32 or float64, got int64", scalar=torch.ones(7, 9).long()),
        bad("expected `vector` of shape [N, 3, C] with N = 7 as in `scalar`, got", vector=torch.ones(7, 6, 5).double()),
        bad("expected `rank2` of the dtype of `scalar` (float64), got float32", rank2=torch.ones(7, 6, 3)),
        bad("expected `weights` of shape [M, P] with P = ", weights=torch.ones(2, 100).double()),
        bad("expected all of `bond_vector`, `bond_sums` and `envelope_sum` or none, got some", bond_sums=None),
        bad("expected `bond_sums` of shape [M L, N, H] = [4, 7, 19], got", bond_sums=torch.ones(2, 7, 19).double()),
        bad("expected `envelope_sum` of shape [N] = [7], got [7, 1]", envelope_sum=torch.ones(7, 1).double()),
        bad("expected `masks` of shape [M, 3 L + 2 R, N, H] = [2, 10, 7, 19]", masks=torch.ones(2, 9, 7, 19).double()),
        bad("expected `ptr` that rises from 0 to the number of atoms, 7, with", ptr=torch.tensor([0, 3, 6])),
        bad("expected `ptr` that rises from 0 to the number of atoms, 7, with", ptr=torch.tensor([0, 3, 3, 7])),
        bad("expected `ptr` that rises from 0 to the number of atoms, 7, with", ptr=torch.tensor([0, 9, 7])),
        bad("expected `ptr` of dtype int64, got int32", ptr=torch.tensor([0, 7], dtype=torch.int32)),
        bad("expected `atom_share` of shape [N] = [7], got [2]", atom_share=torch.ones(2).double()),
        bad("expected `blocks` of 0 or more, `latent` and `readouts` of 1 or more, got -1", blocks=-1),
        bad("expected `blocks` of 0 or more, `latent` and `readouts` of 1 or more, got 2, 0", latent=0),
        bad("expected `weights` of shape [M, P] with P of at least", readouts=2**40),
    ],
)
def test_bad_input(message, change):
    with pytest.raises(RuntimeError) as error:
        decode(**(random_inputs([3, 4]) | change))
    assert str(error.value).startswith(f"decode: {message}")


@pytest.mark.parametrize("ptr", [[0, 3, 6], [0, 3, 3, 7], [0, 9, 7], [1, 3, 7], [0, -1, 7]])
def test_bad_ptr_of_backward(ptr):
    arguments = random_inputs([3, 4]) | {"ptr": torch.tensor(ptr)}
    order = ["scalar", "vector", "rank2", "bond_vector", "bond_sums", "envelope_sum", "masks", "weights", "ptr"]
    given = [arguments[name] for name in (*order, "atom_share", "blocks", "latent", "readouts")]
    with pytest.raises(RuntimeError, match="decode_backward: expected `ptr` that rises from 0 to the number of atoms"):
        OPS.decode_backward(torch.ones(2, 2, len(ptr) - 1, 3, 3, dtype=torch.float64), *given, True)
