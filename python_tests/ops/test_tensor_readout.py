# SPDX-License-Identifier: MIT
"""tensor_readout: the tensor of each crystal from its atoms."""

from __future__ import annotations

import pytest
import torch
from helpers import check_compiled, check_first_and_second_derivatives, check_operator, check_same_bits

from dtnn_fast import reference, use_backend
from dtnn_fast.ops import tensor_readout

OPS = torch.ops.dtnn_fast
# Atoms of the crystals, channels: fewer than, as many as and more than the partial sums; no crystal; no channel.
CASES = [([3, 1, 5], 1), ([4], 3), ([1], 1), ([2, 7], 16), ([30, 2] * 40, 37), ([], 2), ([2, 1], 0)]


def random_inputs(sizes, channels, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    n = sum(sizes)
    parts = [torch.randn(size, dtype=dtype, generator=generator) for size in ((n, channels), (n, 3, channels))]
    parts.append(torch.randn(n, 6, channels, dtype=dtype, generator=generator))
    return *parts, torch.tensor([0, *sizes]).cumsum(0)


@pytest.mark.parametrize(("sizes", "channels"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_reference_with_gradients(sizes, channels, dtype):
    *parts, ptr = random_inputs(sizes, channels, dtype)
    results = []
    for backend in ("native", "reference"):
        leaves = [t.clone().requires_grad_() for t in parts]
        with use_backend(backend):
            epsilon = tensor_readout(*leaves, ptr)
        # Not symmetric, so that the gradient of an element is told from that of its mirror image.
        (epsilon.sin() * torch.arange(9.0, dtype=dtype).view(3, 3)).sum().backward()
        results.append((epsilon, *(t.grad for t in leaves)))
    torch.testing.assert_close(*results, **({"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {}))


def test_hand_written_case():
    scalar = torch.tensor([[1.0], [3.0], [5.0]])
    vector = torch.tensor([[[1.0], [2.0], [3.0]], [[0.0], [0.0], [0.0]], [[0.0], [1.0], [-1.0]]])
    rank2 = torch.tensor([[[0.0]] * 6, [[1.0], [2.0], [3.0], [4.0], [5.0], [6.0]], [[0.0]] * 6])
    epsilon = tensor_readout(scalar, vector, rank2, torch.tensor([0, 2, 3]))
    # (I + v (x) v + 3 I + t) / 2 and 5 I + v (x) v.
    assert epsilon[0].tolist() == [[3.0, 4.0, 4.0], [4.0, 5.0, 5.0], [4.0, 5.0, 8.0]]
    assert epsilon[1].tolist() == [[5.0, 0.0, 0.0], [0.0, 6.0, -1.0], [0.0, -1.0, 6.0]]


def test_result_is_symmetric_to_the_bit():
    epsilon = tensor_readout(*random_inputs([5, 9, 2], 33, torch.float32))
    assert torch.equal(epsilon, epsilon.transpose(1, 2))


@pytest.mark.parametrize(("sizes", "channels"), [([3, 1], 1), ([2, 3], 2), ([1], 17)])
def test_first_and_second_derivatives(sizes, channels):
    *parts, ptr = random_inputs(sizes, channels)
    check_first_and_second_derivatives(lambda *a: tensor_readout(*a, ptr) ** 2, *parts)
    grad = torch.randn(len(sizes), 3, 3, dtype=torch.float64)
    check_first_and_second_derivatives(lambda g, v: OPS.tensor_readout_backward(g, v, ptr), grad, parts[1])


@pytest.mark.parametrize(("sizes", "channels"), [([3, 1], 2), ([4], 20), ([], 2)])
def test_opcheck(sizes, channels):
    *parts, ptr = random_inputs(sizes, channels)
    leaves = [t.requires_grad_() for t in parts]
    check_operator(OPS.tensor_readout.default, *leaves, ptr)
    grad = torch.randn(len(sizes), 3, 3, dtype=torch.float64, requires_grad=True)
    check_operator(OPS.tensor_readout_backward.default, grad, leaves[1], ptr)


@pytest.mark.parametrize("sizes", [[9000], [3, 5, 1] * 1000])
def test_same_bits_for_any_number_of_threads(sizes):
    inputs = random_inputs(sizes, 16, torch.float32)
    grad = torch.randn(len(sizes), 3, 3)
    check_same_bits(lambda: (tensor_readout(*inputs), *OPS.tensor_readout_backward(grad, inputs[1], inputs[3])))


def test_non_contiguous_inputs():
    *parts, ptr = random_inputs([3, 4], 5)
    strided = [t.transpose(0, -1).contiguous().transpose(0, -1) for t in parts]
    assert not any(t.is_contiguous() for t in strided)
    torch.testing.assert_close(tensor_readout(*strided, ptr), reference.tensor_readout(*parts, ptr))


def test_compiled():
    check_compiled(tensor_readout, *(random_inputs([2] * n, 3, seed=n) for n in (2, 3, 5)))


def bad(message, **change):
    return pytest.param(message, change, id=message[:40])


@pytest.mark.parametrize(
    ("message", "change"),
    [
        bad("expected `atom_scalar` of dtype float32 or float64, got int64", atom_scalar=torch.ones(4, 2).long()),
        bad("expected `atom_scalar` of shape [N, C], got [4]", atom_scalar=torch.ones(4)),
        bad("expected `atom_vector` of shape [N, 3, C] = [4, 3, 2], got [4, 6, 2]", atom_vector=torch.ones(4, 6, 2)),
        bad("expected `atom_rank2` of shape [N, 6, C] = [4, 6, 2], got [4, 6, 1]", atom_rank2=torch.ones(4, 6, 1)),
        bad("expected `atom_rank2` of the dtype of `atom_scalar` (float32)", atom_rank2=torch.ones(4, 6, 2).double()),
        bad("expected `atom_vector` on the device of `atom_scalar` (cpu), got meta", atom_vector="meta"),
        bad("expected `ptr` of dtype int64, got float32", ptr=torch.ones(3)),
        bad("expected `ptr` to be a tensor, got None", ptr=None),
        bad("expected `ptr` of shape [B+1], got [0]", ptr=torch.empty(0, dtype=torch.int64)),
        bad("expected `ptr` from 0 to the number of atoms, 4, got 0 to 3", ptr=torch.tensor([0, 3])),
        bad("expected `ptr` in ascending order, got 2 after 3", ptr=torch.tensor([0, 3, 2, 4])),
        bad(
            "expected `ptr` with at least one atom in every crystal, got none in crystal 1",
            ptr=torch.tensor([0, 2, 2, 4]),
        ),
    ],
)
def test_bad_input(message, change):
    if change.get("atom_vector") is not None and isinstance(change["atom_vector"], str):
        change = {"atom_vector": torch.ones(4, 3, 2, device=change["atom_vector"])}
    arguments = {
        "atom_scalar": torch.ones(4, 2),
        "atom_vector": torch.ones(4, 3, 2),
        "atom_rank2": torch.ones(4, 6, 2),
        "ptr": torch.tensor([0, 1, 4]),
    } | change
    with pytest.raises(RuntimeError) as error:
        tensor_readout(**arguments)
    assert f"tensor_readout: {message}" in str(error.value)


def test_bad_input_of_backward():
    vector, ptr = torch.ones(4, 3, 2), torch.tensor([0, 1, 4])
    with pytest.raises(RuntimeError, match=r"tensor_readout_backward: expected `grad` of shape \[B, 3, 3\] with B = 2"):
        OPS.tensor_readout_backward(torch.ones(3, 3, 3), vector, ptr)
    with pytest.raises(RuntimeError, match="tensor_readout_backward: expected `ptr` from 0"):
        OPS.tensor_readout_backward(torch.ones(2, 3, 3), vector, ptr + 1)
