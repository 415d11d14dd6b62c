# SPDX-License-Identifier: MIT
"""Example inputs for every operation, which the tests of this folder run through.

`OPERATIONS` has the operations of the namespace ``torch.ops.dtnn_fast`` with the arguments of their schemas,
`FUNCTIONS` the public functions of ``dtnn_fast.ops``. Inputs are made on the CPU in float64; `on` moves them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dtnn_fast import ops
from dtnn_fast.ops.atom_readout import num_readout_weights
from dtnn_fast.ops.atom_update import num_update_weights
from dtnn_fast.ops.decode import num_decoder_weights

OPS = torch.ops.dtnn_fast
CHANNELS, OUTPUTS = 3, 4


class Batch(NamedTuple):
    """Crystals of two or three atoms with their half list of bonds, and random values on atoms and bonds."""

    positions: Tensor
    cell: Tensor
    pbc: Tensor
    ptr: Tensor
    pairs: Tensor
    shifts: Tensor
    row_ptr: Tensor
    order: Tensor
    order_ptr: Tensor

    def atoms(self, *shape: int, seed: int = 0) -> Tensor:
        """Draw random values for each atom."""
        return normal(len(self.positions), *shape, seed=seed)

    def bonds(self, *shape: int, seed: int = 0) -> Tensor:
        """Draw random values for each bond."""
        return normal(self.pairs.shape[1], *shape, seed=seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Draw random values, the same on every call."""
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def batch(num_crystals: int) -> Batch:
    """Make a batch of this many crystals; 0 gives an empty batch."""
    sizes = [2 + b % 2 for b in range(num_crystals)]
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    cell = 3.0 * torch.eye(3, dtype=torch.float64) + 0.2 * normal(num_crystals, 3, 3, seed=1)
    crystal = torch.arange(num_crystals).repeat_interleave(torch.tensor(sizes, dtype=torch.int64))
    inside = torch.rand(sum(sizes), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    positions = (inside.unsqueeze(1) @ cell[crystal]).squeeze(1)
    pbc = torch.ones(num_crystals, 3, dtype=torch.bool)
    bonds = ops.neighbor_list(positions, cell, pbc, 2.4, ptr, half=True)
    return Batch(positions, cell, pbc, ptr, *bonds, *ops.neighbor_order(bonds.pairs, len(positions)))


def full_list(b: Batch) -> ops.NeighborList:
    """Return every bond of the batch from both ends."""
    return ops.neighbor_list(b.positions, b.cell, b.pbc, 2.4, b.ptr)


def with_identity(b: Batch) -> ops.SymmetrisedCrystals:
    """Give every crystal the identity alone, as `symmetrise_crystals` returns it."""
    return ops.symmetrise_crystals(b.positions, b.cell, b.ptr, numbers(b), *identities(b), 1e-3)


def numbers(b: Batch) -> Tensor:
    """Return an element for each atom."""
    return torch.ones(len(b.positions), dtype=torch.int64)


def identities(b: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Return rotations, images and `operation_ptr` of the identity for each crystal."""
    count = len(b.cell)
    identity = torch.eye(3, dtype=torch.int32).expand(count, 3, 3).contiguous()
    return identity, torch.zeros(count, dtype=torch.int64), torch.arange(count + 1)


def _reduce_arguments(b: Batch) -> tuple[Any, ...]:
    rotations, _, operation_ptr = identities(b)
    positions, cell, atoms, shifts, *_ = with_identity(b)
    bonds = b.pairs, b.shifts, b.row_ptr
    return positions, cell, b.ptr, *bonds, True, rotations, operation_ptr, atoms, shifts, [1.5, 2.4]


def weight(seed: int = 9) -> Tensor:
    """Draw weights that map CHANNELS to OUTPUTS."""
    return normal(OUTPUTS, CHANNELS, seed=seed)


class Case(NamedTuple):
    """A call with inputs for a batch of any size.

    Args:
        call: the operation or function.
        arguments: makes the positional arguments from a batch.
    """

    call: Callable[..., Any]
    arguments: Callable[[Batch], tuple[Any, ...]]


def _norm_inputs(b: Batch) -> tuple[Tensor, ...]:
    """Make grad_y, grad_norm, y, norm, x, weight for the backward of rank2_linear."""
    x = b.atoms(3, CHANNELS)
    y, norm = ops.rank2_linear(x, weight(), norm=True, eps=0.5)
    return b.atoms(3, OUTPUTS, seed=1), b.atoms(OUTPUTS, seed=2), y, norm, x, weight()


def _perceptrons(b: Batch) -> tuple[Tensor, ...]:
    """Make the floating point inputs of bond_perceptron_sum with two perceptrons, without `sum_scalar`."""
    shapes = (2, CHANNELS, 5), (2, 5), (2, 5, OUTPUTS), (2, OUTPUTS)
    weights = (normal(*shape, seed=seed) for seed, shape in enumerate(shapes, start=3))
    return b.bonds(CHANNELS), b.bonds(seed=1), *weights


def _perceptron_grads(b: Batch) -> tuple[Tensor, ...]:
    """Make the gradients of the results of bond_perceptron_sum."""
    return normal(2, len(b.positions), OUTPUTS, seed=8), b.atoms(seed=9)


# Small: the tests make whole Hessians of it.
DECODER = {"blocks": 1, "latent": 1, "readouts": 1}


def _decoder_atoms(b: Batch) -> tuple[Tensor, ...]:
    """Make the latents of atoms for decode."""
    return b.atoms(1), b.atoms(3, 1, seed=1), b.atoms(6, 1, seed=2)


def _decoder_bonds(b: Batch) -> tuple[Tensor, ...]:
    """Make what decode reads of the bonds, for two members."""
    return b.atoms(3, 1, seed=3), normal(2, len(b.positions), 1, seed=4), b.atoms(seed=5)


def _decoder_masks(b: Batch) -> Tensor:
    return normal(2, 5, len(b.positions), 1, seed=6)


def _decoder_weights(bond_vector: int | None) -> Tensor:
    return 0.5 * normal(2, num_decoder_weights(1, 1, 1, bond_vector, **DECODER), seed=7)


def _decode(b: Batch) -> tuple[Any, ...]:
    """Make all arguments of the operation decode."""
    atoms = *_decoder_atoms(b), *_decoder_bonds(b), _decoder_masks(b)
    return *atoms, _decoder_weights(1), b.ptr, b.atoms(seed=8), *DECODER.values(), True


def _decode_simple(b: Batch) -> tuple[Any, ...]:
    """Make the arguments of the operation decode without optional ones."""
    return *_decoder_atoms(b), *[None] * 4, _decoder_weights(None), b.ptr, None, *DECODER.values(), False


def _network_grads(b: Batch) -> tuple[Tensor, ...]:
    """Make gradients of scalars, vectors and tensors with one channel."""
    return b.atoms(1, seed=1), b.atoms(3, 1, seed=2), b.atoms(6, 1, seed=3)


def _update(b: Batch) -> tuple[Tensor, ...]:
    """Make the arguments of atom_update."""
    sums = b.atoms(2, seed=3), b.atoms(3, 1, seed=4), b.atoms(6, 1, seed=5)
    return b.atoms(2), *_decoder_atoms(b)[1:], *sums, 0.5 * normal(num_update_weights(2, 1, 1), seed=6)


def _update_grads(b: Batch) -> tuple[Tensor, ...]:
    return b.atoms(2, seed=1), *_network_grads(b)[1:]


def _readout(b: Batch) -> tuple[Any, ...]:
    """Make the arguments of atom_readout."""
    weights = 0.5 * normal(num_readout_weights(2, 1, 1, 1, 1, 1), seed=6)
    return b.atoms(2), *_decoder_atoms(b)[1:], weights, 1, 1, 1


def _decode_grad(b: Batch) -> Tensor:
    return normal(2, 1, len(b.ptr) - 1, 3, 3, seed=9)


def _ends(b: Batch) -> tuple[Tensor, ...]:
    return b.pairs, b.row_ptr, b.order, b.order_ptr


def _message_inputs(b: Batch) -> tuple[Any, ...]:
    """Make the arguments of bond_messages."""
    features, results = 6 * CHANNELS + 1, 6 * CHANNELS
    atoms = (b.atoms(3, CHANNELS), b.atoms(6, CHANNELS, seed=1), b.atoms(OUTPUTS, seed=2))
    bonds = (b.bonds(CHANNELS), b.bonds(3, CHANNELS, seed=1), b.bonds(3, seed=2), b.bonds(seed=3), b.bonds(1, seed=4))
    weights = (normal(OUTPUTS, features), normal(OUTPUTS), normal(results, OUTPUTS), normal(results))
    # Results of order 1: the sine of larger ones would magnify rounding.
    return *atoms, *bonds, *(0.05 * w for w in weights), *_ends(b), None, None


def _message_grads(b: Batch) -> tuple[Tensor, ...]:
    """Make gradients for the results of bond_messages."""
    bonds = (b.bonds(CHANNELS, seed=5), b.bonds(3, CHANNELS, seed=6))
    return *bonds, b.atoms(CHANNELS, seed=5), b.atoms(3, CHANNELS, seed=6), b.atoms(6, CHANNELS, seed=7)


def _changes(inputs: Sequence[Any]) -> list[Tensor]:
    """Make gradients for the gradients of the floating point inputs."""
    return [(x + 1.0).sin() for x in inputs if isinstance(x, Tensor) and x.is_floating_point()]


# Keys: the name of the operation, then the variant.
OPERATIONS: dict[str, Case] = {
    "neighbor_list": Case(OPS.neighbor_list, lambda b: (b.positions, b.cell, b.pbc, b.ptr, 2.4, None, False, False)),
    "neighbor_list half": Case(
        OPS.neighbor_list, lambda b: (b.positions, b.cell, b.pbc, b.ptr, 2.4, None, True, False)
    ),
    "neighbor_list cutoff per crystal": Case(
        OPS.neighbor_list,
        lambda b: (b.positions, b.cell, b.pbc, b.ptr, 0.0, 2.4 + 0.1 * torch.arange(len(b.cell)).double(), False, True),
    ),
    "neighbor_list_fixed": Case(
        OPS.neighbor_list_fixed,
        lambda b: (b.positions, b.cell, b.pbc, b.ptr, 2.4, None, False, False, 40 * len(b.positions)),
    ),
    "bonds_within": Case(
        OPS.bonds_within, lambda b: (b.positions, b.cell, b.ptr, b.pairs, b.shifts, b.row_ptr, 2.0, None)
    ),
    "bond_reverses": Case(OPS.bond_reverses, full_list),
    "symmetrise_crystals": Case(
        OPS.symmetrise_crystals, lambda b: (b.positions, b.cell, b.ptr, numbers(b), *identities(b), 1e-3)
    ),
    "reduce_bonds": Case(OPS.reduce_bonds, _reduce_arguments),
    "bond_vectors": Case(OPS.bond_vectors, lambda b: (b.positions, b.cell, b.pairs, b.shifts, b.ptr)),
    "bond_vectors_backward": Case(
        OPS.bond_vectors_backward,
        lambda b: (b.bonds(3), b.pairs, b.shifts, b.ptr, b.positions.shape[0], b.cell.shape[0]),
    ),
    "bond_to_atom_sum center": Case(
        OPS.bond_to_atom_sum, lambda b: (b.bonds(3, CHANNELS), b.pairs, b.row_ptr, None, None, 1, 0)
    ),
    "bond_to_atom_sum difference": Case(OPS.bond_to_atom_sum, lambda b: (b.bonds(CHANNELS), *_ends(b), -1, 1)),
    "atom_to_bond_gather neighbor": Case(OPS.atom_to_bond_gather, lambda b: (b.atoms(6, CHANNELS), *_ends(b), 0, 1)),
    "atom_to_bond_gather sum": Case(OPS.atom_to_bond_gather, lambda b: (b.atoms(CHANNELS), *_ends(b), 1, 1)),
    "bond_messages": Case(OPS.bond_messages, _message_inputs),
    "bond_messages_backward": Case(
        OPS.bond_messages_backward, lambda b: (*_message_grads(b), *_message_inputs(b), True, True)
    ),
    "bond_messages_backward of the sums": Case(
        OPS.bond_messages_backward, lambda b: (None, None, *_message_grads(b)[2:], *_message_inputs(b), False, True)
    ),
    "bond_messages_double_backward": Case(
        OPS.bond_messages_double_backward,
        lambda b: (*_changes(_message_inputs(b)), *_message_grads(b), *_message_inputs(b), True, True),
    ),
    "bond_geometry": Case(OPS.bond_geometry, lambda b: (b.bonds(3), 2.5, 3)),
    "bond_geometry_backward": Case(
        OPS.bond_geometry_backward,
        lambda b: (b.bonds(seed=1), b.bonds(3, seed=2), b.bonds(seed=3), b.bonds(3, seed=4), b.bonds(3), 2.5, 3),
    ),
    "bond_geometry_backward of the direction": Case(
        OPS.bond_geometry_backward, lambda b: (None, b.bonds(3, seed=2), None, None, b.bonds(3), 2.5, 3)
    ),
    "bond_geometry_double_backward": Case(
        OPS.bond_geometry_double_backward,
        lambda b: (
            b.bonds(3, seed=5),
            None,
            b.bonds(3, seed=2),
            b.bonds(seed=3),
            b.bonds(3, seed=4),
            b.bonds(3),
            2.5,
            3,
        ),
    ),
    "bond_perceptron_sum": Case(
        OPS.bond_perceptron_sum, lambda b: (*_perceptrons(b), b.pairs, b.row_ptr, b.bonds(2, seed=7).t())
    ),
    "bond_perceptron_sum without factors": Case(
        OPS.bond_perceptron_sum, lambda b: (*_perceptrons(b), b.pairs, b.row_ptr, None)
    ),
    "bond_perceptron_sum with sorted bonds": Case(
        OPS.bond_perceptron_sum, lambda b: (*_perceptrons(b), b.pairs, b.row_ptr, None, b.order, b.order_ptr)
    ),
    "bond_perceptron_sum_backward": Case(
        OPS.bond_perceptron_sum_backward,
        lambda b: (*_perceptron_grads(b), *_perceptrons(b), b.pairs, b.row_ptr, None),
    ),
    "bond_perceptron_sum_backward with factors": Case(
        OPS.bond_perceptron_sum_backward,
        lambda b: (
            *_perceptron_grads(b),
            *_perceptrons(b),
            b.pairs,
            b.row_ptr,
            b.bonds(2, seed=7).t(),
            *[True] * 4,
        ),
    ),
    "bond_perceptron_sum_backward of the sums": Case(
        OPS.bond_perceptron_sum_backward,
        lambda b: (_perceptron_grads(b)[0], None, *_perceptrons(b), b.pairs, b.row_ptr, None, True, False, True),
    ),
    "bond_perceptron_sum_backward of the envelope": Case(
        OPS.bond_perceptron_sum_backward,
        lambda b: (None, _perceptron_grads(b)[1], *_perceptrons(b), b.pairs, b.row_ptr, None, False, True, False),
    ),
    "atom_update": Case(OPS.atom_update, _update),
    "atom_update_backward": Case(OPS.atom_update_backward, lambda b: (*_update_grads(b), *_update(b))),
    "atom_update_backward of the vectors": Case(
        OPS.atom_update_backward, lambda b: (None, _update_grads(b)[1], None, *_update(b), False, True, False)
    ),
    "atom_readout": Case(OPS.atom_readout, _readout),
    "atom_readout_backward": Case(OPS.atom_readout_backward, lambda b: (*_network_grads(b), *_readout(b))),
    "atom_readout_backward in the weights": Case(
        OPS.atom_readout_backward, lambda b: (*_network_grads(b), *_readout(b), False, True)
    ),
    "atom_update_double_backward": Case(
        OPS.atom_update_double_backward, lambda b: (*_changes(_update(b)), *_update_grads(b), *_update(b))
    ),
    "atom_readout_double_backward": Case(
        OPS.atom_readout_double_backward, lambda b: (*_changes(_readout(b)), *_network_grads(b), *_readout(b))
    ),
    "decode": Case(OPS.decode, _decode),
    "decode without bonds": Case(OPS.decode, _decode_simple),
    "decode_backward": Case(OPS.decode_backward, lambda b: (_decode_grad(b), *_decode(b))),
    "decode_backward without bonds": Case(OPS.decode_backward, lambda b: (_decode_grad(b), *_decode_simple(b))),
    "decode_backward of the weights": Case(
        OPS.decode_backward, lambda b: (_decode_grad(b), *_decode_simple(b), False, False, True, False, False)
    ),
    "rank2_linear": Case(OPS.rank2_linear, lambda b: (b.atoms(6, CHANNELS), weight())),
    "rank2_linear_norm": Case(OPS.rank2_linear_norm, lambda b: (b.atoms(6, CHANNELS), weight(), 0.5)),
    "rank2_weight_grad": Case(OPS.rank2_weight_grad, lambda b: (b.atoms(3, OUTPUTS, seed=1), b.atoms(3, CHANNELS))),
    "rank2_linear_backward": Case(OPS.rank2_linear_backward, lambda b: (*_norm_inputs(b), 0.5, True, True)),
    "rank2_linear_backward of y": Case(
        OPS.rank2_linear_backward,
        lambda b: (_norm_inputs(b)[0], None, None, None, *_norm_inputs(b)[4:], 0.5, True, True),
    ),
    "rank2_linear_backward of the norm": Case(
        OPS.rank2_linear_backward, lambda b: (None, *_norm_inputs(b)[1:], 0.5, True, True)
    ),
    "rank2_linear_backward in x": Case(OPS.rank2_linear_backward, lambda b: (*_norm_inputs(b), 0.5, True, False)),
    "rank2_linear_backward in the weight": Case(
        OPS.rank2_linear_backward, lambda b: (*_norm_inputs(b), 0.5, False, True)
    ),
    "rank2_gate": Case(
        OPS.rank2_gate,
        lambda b: (b.atoms(3, CHANNELS), b.atoms(OUTPUTS, seed=1), weight(), b.atoms(3, OUTPUTS, seed=2), True),
    ),
    "rank2_gate without residual": Case(
        OPS.rank2_gate, lambda b: (b.atoms(6, CHANNELS), b.atoms(OUTPUTS, seed=1), weight(), None, False)
    ),
    "rank2_gate_backward": Case(
        OPS.rank2_gate_backward,
        lambda b: (
            b.atoms(3, OUTPUTS, seed=3),
            b.atoms(3, CHANNELS),
            b.atoms(OUTPUTS, seed=1),
            weight(),
            b.atoms(3, OUTPUTS, seed=2),
        ),
    ),
    "tensor_readout": Case(
        OPS.tensor_readout,
        lambda b: (b.atoms(CHANNELS), b.atoms(3, CHANNELS, seed=1), b.atoms(6, CHANNELS, seed=2), b.ptr),
    ),
    "tensor_readout_backward": Case(
        OPS.tensor_readout_backward,
        lambda b: (normal(b.cell.shape[0], 3, 3, seed=1), b.atoms(3, CHANNELS), b.ptr),
    ),
}

# Public functions with the arguments that depend on the batch, all of them tensors.
FUNCTIONS: dict[str, Case] = {
    "bond_vectors": Case(ops.bond_vectors, lambda b: (b.positions, b.cell, b.pairs, b.shifts, b.ptr)),
    "bond_to_atom_sum center": Case(ops.bond_to_atom_sum, lambda b: (b.bonds(3, CHANNELS), b.pairs, b.row_ptr)),
    "bond_to_atom_sum difference": Case(
        lambda *a: ops.bond_to_atom_sum(*a, ends="difference"), lambda b: (b.bonds(CHANNELS), b.pairs, b.row_ptr)
    ),
    "atom_to_bond_gather sum": Case(
        lambda *a: ops.atom_to_bond_gather(*a, ends="sum"), lambda b: (b.atoms(3, CHANNELS), b.pairs, b.row_ptr)
    ),
    "bond_messages": Case(
        lambda *a: tuple(ops.bond_messages(*a[:8], ops.MessageWeights(*a[8:12]), *a[12:])),
        lambda b: _message_inputs(b)[:14],
    ),
    "bond_geometry": Case(lambda v: ops.bond_geometry(v, 2.5, 3), lambda b: (b.bonds(3),)),
    "bond_perceptron_sum": Case(
        ops.bond_perceptron_sum, lambda b: (*_perceptrons(b), b.pairs, b.row_ptr, b.bonds(2, seed=7).t())
    ),
    "atom_update": Case(ops.atom_update, _update),
    "atom_readout": Case(lambda *a: ops.atom_readout(*a, 1, 1, 1), lambda b: _readout(b)[:4]),
    "decode": Case(
        lambda *a: ops.decode(*a, **DECODER),
        lambda b: (*_decoder_atoms(b), _decoder_weights(1), b.ptr, *_decoder_bonds(b), _decoder_masks(b)),
    ),
    "rank2_linear": Case(ops.rank2_linear, lambda b: (b.atoms(6, CHANNELS), weight())),
    "rank2_linear with norm": Case(
        lambda x, w: ops.rank2_linear(x, w, norm=True, eps=0.5), lambda b: (b.atoms(3, CHANNELS), weight())
    ),
    "rank2_gate": Case(
        ops.rank2_gate,
        lambda b: (b.atoms(3, CHANNELS), b.atoms(OUTPUTS, seed=1), weight(), b.atoms(3, OUTPUTS, seed=2)),
    ),
    "tensor_readout": Case(
        ops.tensor_readout,
        lambda b: (b.atoms(CHANNELS), b.atoms(3, CHANNELS, seed=1), b.atoms(6, CHANNELS, seed=2), b.ptr),
    ),
}


def operation_of(name: str) -> str:
    """Return the operation of a case in `OPERATIONS`."""
    return name.split(maxsplit=1)[0]


def differentiable(case: Case) -> bool:
    """Tell whether any output has gradients."""
    if case.call in (OPS.symmetrise_crystals, OPS.reduce_bonds):
        return False
    result = case.call(*case.arguments(batch(1)))
    return any(x.is_floating_point() for x in outputs(result))


def outputs(result: Any) -> tuple[Tensor, ...]:
    """Return the results as a tuple."""
    return (result,) if isinstance(result, Tensor) else tuple(result)


def on(arguments: tuple[Any, ...], device: str, dtype: torch.dtype = torch.float64) -> tuple[Any, ...]:
    """Copy the arguments to a device, the floating point ones in this dtype and as new leaves."""

    def move(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        return x.to(device, dtype if x.is_floating_point() else x.dtype, copy=True)

    return tuple(move(x) for x in arguments)


def leaves(arguments: tuple[Any, ...]) -> list[Tensor]:
    """Make the floating point tensors among the arguments require gradients, and return them."""
    return [x.requires_grad_() for x in arguments if isinstance(x, Tensor) and x.is_floating_point()]


def scalar(result: Any) -> Tensor:
    """Reduce all differentiable outputs of a result to one number, nonlinearly."""
    parts = [x for x in outputs(result) if x.is_floating_point()]
    return torch.stack([(x.sin() * (1 + index)).sum() for index, x in enumerate(parts)]).sum()
