# SPDX-License-Identifier: MIT
"""Decode the latents of atoms to a tensor for each crystal, for all members of an ensemble at once."""

from __future__ import annotations

import torch
from torch import Tensor

from .._backend import reference_implementations, uses_reference
from ._rank2 import matmul_precision
from ._reference_gradients import reference_gradients_with_tangents, second_gradients
from ._registration import check_same_device, register_autocast, register_derivatives, register_vmap


def decode(
    scalar: Tensor,
    vector: Tensor,
    rank2: Tensor,
    weights: Tensor,
    ptr: Tensor,
    bond_vector: Tensor | None = None,
    bond_sums: Tensor | None = None,
    envelope_sum: Tensor | None = None,
    masks: Tensor | None = None,
    atom_share: Tensor | None = None,
    *,
    blocks: int,
    latent: int,
    readouts: int,
    residual: bool = True,
) -> Tensor:
    """Apply the blocks and readouts of M decoders in one pass: Eq. 8 to 27 of arXiv 2405.09052.

    No result of a layer is stored, on the CPU not even in the backward. On CUDA the backward stores those of some
    thousand atoms at a time. csrc/ops/decode.h has the formulas. On the CPU,
    products follow ``torch.set_float32_matmul_precision``, as in `bond_messages`.

    Args:
        scalar: scalars of atoms. [N, Cs], float32 or float64.
        vector: vectors of atoms. [N, 3, Cv], dtype of `scalar`.
        rank2: symmetric tensors of atoms, stored xx yy zz yz xz xy. [N, 6, Ct], dtype of `scalar`.
        weights: the weights of each member one after the other, matrices as [inputs, outputs]. Of each block: three
            layers on scalars, the map of the bond sums [H + 1, H], the maps of tensors and of vectors, two layers that
            mix scalars and norms, the maps of gated vectors and tensors. Of each readout: two layers for the value, two
            for its gate, the maps of vectors and tensors to one channel. [M, P], dtype of `scalar`.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``, at least one. [B+1], int64.
        bond_vector: vectors of bonds, summed at the atoms; these three are given together or not at all.
            [N, 3, Cb], dtype of `scalar`.
        bond_sums: values of bond perceptrons, summed, of each member's blocks. [M * blocks, N, H], dtype of `scalar`.
        envelope_sum: summed envelopes. [N], dtype of `scalar`.
        masks: factors of the hidden activations, such as dropout's. [M, 3 * blocks + 2 * readouts, N, H], dtype of
            `scalar`.
        atom_share: weight of an atom in its crystal's tensor; None for the mean. [N], dtype of `scalar`.
        blocks: number of blocks.
        latent: channels H of the blocks and of the hidden layers.
        readouts: number of tensors that each member reads out.
        residual: whether blocks add their input to their output.

    Returns:
        Symmetric tensors. [M, readouts, B, 3, 3], dtype of `scalar`.

    Raises:
        RuntimeError: a shape, dtype or device does not fit, or `ptr` does not rise from 0 to N.
    """
    if uses_reference():
        return reference_implementations().decode(
            scalar,
            vector,
            rank2,
            weights,
            ptr,
            bond_vector,
            bond_sums,
            envelope_sum,
            masks,
            atom_share,
            blocks=blocks,
            latent=latent,
            readouts=readouts,
            residual=residual,
        )
    tensors = scalar, vector, rank2, bond_vector, bond_sums, envelope_sum, masks, weights, ptr, atom_share
    return torch.ops.dtnn_fast.decode(*tensors, blocks, latent, readouts, residual, matmul_precision())


def num_decoder_weights(
    scalar: int, vector: int, rank2: int, bond_vector: int | None, *, blocks: int, latent: int, readouts: int
) -> int:
    """Count the weights of a member in `decode`, P.

    Args:
        scalar: channels Cs of the atoms.
        vector: channels Cv of the atoms.
        rank2: channels Ct of the atoms.
        bond_vector: channels Cb of the bonds; None without bonds.
        blocks: number of blocks.
        latent: channels H.
        readouts: number of readouts.
    """
    count = 0
    for _ in range(blocks):
        perceptrons = (scalar + 1) * latent + 2 * (latent + 1) * latent + (3 * latent + 1 + 3 * (latent + 1)) * latent
        maps = (rank2 + vector + 2 * latent) * latent
        bonds = 0 if bond_vector is None else (latent + 1 + bond_vector) * latent
        count += perceptrons + maps + bonds
        scalar = vector = rank2 = latent
    return count + readouts * (2 * ((scalar + 1) * latent + latent + 1) + vector + rank2)


_BONDS = ["bond_vector", "bond_sums", "envelope_sum"]
_NAMES = ["scalar", "vector", "rank2", *_BONDS, "masks", "weights", "ptr", "atom_share"]
_PTR = _NAMES.index("ptr")


@torch.library.register_fake("dtnn_fast::decode")
def _fake(
    scalar: Tensor,
    vector: Tensor,
    rank2: Tensor,
    bond_vector: Tensor | None,
    bond_sums: Tensor | None,
    envelope_sum: Tensor | None,
    masks: Tensor | None,
    weights: Tensor,
    ptr: Tensor,
    atom_share: Tensor | None,
    blocks: int,
    latent: int,
    readouts: int,
    residual: bool,
    precision: int = 0,
) -> Tensor:
    tensors = scalar, vector, rank2, bond_vector, bond_sums, envelope_sum, masks, weights, ptr, atom_share
    check_same_device("decode", **dict(zip(_NAMES, tensors, strict=True)))
    return scalar.new_empty((weights.shape[0], readouts, ptr.shape[0] - 1, 3, 3))


@torch.library.register_fake("dtnn_fast::decode_backward")
def _fake_backward(
    grad: Tensor,
    scalar: Tensor,
    vector: Tensor,
    rank2: Tensor,
    bond_vector: Tensor | None,
    bond_sums: Tensor | None,
    envelope_sum: Tensor | None,
    masks: Tensor | None,
    weights: Tensor,
    ptr: Tensor,
    atom_share: Tensor | None,
    blocks: int,
    latent: int,
    readouts: int,
    residual: bool,
    need_atoms: bool = True,
    need_bonds: bool = True,
    need_weights: bool = True,
    need_masks: bool = True,
    need_share: bool = True,
    precision: int = 0,
) -> tuple[Tensor, ...]:
    tensors = scalar, vector, rank2, bond_vector, bond_sums, envelope_sum, masks, weights, ptr, atom_share
    check_same_device("decode_backward", **dict(zip(_NAMES, tensors, strict=True)), grad=grad)
    wanted = _needed(need_atoms, need_bonds, need_weights, need_masks, need_share)
    inputs = _in_order_of_gradients(tensors)
    return tuple(
        scalar.new_empty((0,) if x is None or not need else x.shape) for x, need in zip(inputs, wanted, strict=True)
    )


def _in_order_of_gradients(tensors):  # type: ignore[no-untyped-def]
    """Reorder the arguments of the operation as its backward returns their gradients: weights before masks."""
    scalar, vector, rank2, bond_vector, bond_sums, envelope_sum, masks, weights, _, atom_share = tensors
    return [scalar, vector, rank2, bond_vector, bond_sums, envelope_sum, weights, masks, atom_share]


def _in_order_of_arguments(grads):  # type: ignore[no-untyped-def]
    """Undo `_in_order_of_gradients`, with None for `ptr`."""
    *rest, weights, masks, atom_share = grads
    return [*rest, masks, weights, None, atom_share]


def _needed(
    need_atoms: bool = True,
    need_bonds: bool = True,
    need_weights: bool = True,
    need_masks: bool = True,
    need_share: bool = True,
) -> list[bool]:
    """Tell which results of the backward are gradients, if their arguments are present."""
    return [*[need_atoms] * 3, *[need_bonds] * 3, need_weights, need_masks, need_share]


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *ctx.sizes, ctx.precision = inputs[len(_NAMES) :]
    ctx.save_for_backward(*inputs[: len(_NAMES)])


def _backward(ctx, grad):  # type: ignore[no-untyped-def]
    needs = ctx.needs_input_grad
    groups = any(needs[:3]), any(needs[3:6]), needs[7], needs[6], needs[9]
    grads = torch.ops.dtnn_fast.decode_backward(grad, *ctx.saved_tensors, *ctx.sizes, *groups, ctx.precision)
    in_order = _in_order_of_arguments(grads)
    return *(g if need else None for g, need in zip(in_order, needs, strict=False)), *[None] * 5


def _setup_backward(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    count = 1 + len(_NAMES)
    ctx.sizes, ctx.needed = inputs[count : count + 4], _needed(*inputs[count + 4 : -1])
    ctx.save_for_backward(*inputs[:count])
    ctx.set_materialize_grads(False)


def _backward_backward(ctx, *grad_grads):  # type: ignore[no-untyped-def]
    grad, *tensors = ctx.saved_tensors
    reference, inputs, present = _reference_of(tensors, ctx.sizes)
    wanted = [
        g if need and x is not None else None
        for g, need, x in zip(grad_grads, ctx.needed, _in_order_of_gradients(tensors), strict=True)
    ]
    in_order = _in_order_of_arguments(wanted)
    (grad_grad,), of_inputs = second_gradients(reference, inputs, (grad,), [in_order[place] for place in present])
    by_place = dict(zip(present, of_inputs, strict=True))
    return grad_grad, *(by_place.get(place) for place in range(len(_NAMES))), *[None] * 10


def _reference_of(tensors, sizes):  # type: ignore[no-untyped-def]
    """Return the reference implementation of the differentiable inputs alone, these, and their places."""
    present = [place for place, x in enumerate(tensors) if x is not None and place != _PTR]

    def reference(*moving: Tensor) -> tuple[Tensor]:
        given = list(tensors)
        for place, x in zip(present, moving, strict=True):
            given[place] = x
        return (_reference(*given, *sizes),)

    return reference, [tensors[place] for place in present], present


def _reference(*arguments):  # type: ignore[no-untyped-def]
    blocks, latent, readouts, residual = arguments[len(_NAMES) : len(_NAMES) + 4]
    named = dict(zip(_NAMES, arguments, strict=False))
    return reference_implementations().decode(
        **named, blocks=blocks, latent=latent, readouts=readouts, residual=residual
    )


def _reference_backward(grad, *arguments):  # type: ignore[no-untyped-def]
    count = len(_NAMES)
    tensors, sizes, needed = arguments[:count], arguments[count : count + 4], _needed(*arguments[count + 4 : count + 9])
    reference, inputs, present = _reference_of(tensors, sizes)
    by_place = dict(zip(present, reference_gradients_with_tangents(reference, inputs, (grad,)), strict=True))
    grads = _in_order_of_gradients([by_place.get(place) for place in range(count)])
    return tuple(grad.new_empty(0) if g is None or not need else g for g, need in zip(grads, needed, strict=True))


register_derivatives("decode", setup_context=_setup_context, backward=_backward, reference=_reference)
register_derivatives(
    "decode_backward",
    setup_context=_setup_backward,
    backward=_backward_backward,
    reference=_reference_backward,
)
register_vmap("decode")
register_vmap("decode_backward")
register_autocast("decode")
