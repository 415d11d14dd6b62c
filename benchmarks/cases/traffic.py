# SPDX-License-Identifier: MIT
"""Bytes that must move and operations that must be done, for the floor under any implementation.

Bytes: each input read once and each output written once, per stage (forward, backward, second backward); what is kept
between stages by choice is not counted, nor are temporaries. Operations: additions and multiplications of the formula
as written in the op's docstring. docs/kernels.md holds the same as a table of formulas.
"""

from __future__ import annotations

from typing import NamedTuple

INDEX, SHIFT, DOUBLE = 8, 4, 8  # bytes of an int64, an int32 and a float64


class Traffic(NamedTuple):
    """Bytes moved and floating-point operations done."""

    bytes: float
    flops: float

    def __add__(self, other: object) -> Traffic:
        assert isinstance(other, Traffic)
        return Traffic(self.bytes + other.bytes, self.flops + other.flops)

    def floor(self, bytes_per_second: float, flops_per_second: float) -> float:
        """The least time on a machine with these rates, in seconds."""
        return max(self.bytes / bytes_per_second, self.flops / flops_per_second)

    def memory_bound(self, bytes_per_second: float, flops_per_second: float) -> bool:
        """The bytes take longer than the operations."""
        return self.bytes / bytes_per_second >= self.flops / flops_per_second


def neighbor_list(atoms: int, crystals: int, bonds: int) -> tuple[Traffic]:
    """Positions and cells in, bonds out; 23 operations for the vector and length of each bond found."""
    inputs = atoms * 3 * DOUBLE + crystals * (9 * DOUBLE + 3 + INDEX)
    outputs = bonds * (2 * INDEX + 3 * SHIFT) + atoms * INDEX
    return (Traffic(inputs + outputs, 23 * bonds),)


def bonds_within(atoms: int, crystals: int, bonds: int, kept: int) -> tuple[Traffic]:
    """A list in, the part of it within the cutoff out."""
    inputs = atoms * (3 * DOUBLE + INDEX) + crystals * (9 * DOUBLE + INDEX) + bonds * (2 * INDEX + 3 * SHIFT)
    outputs = kept * (3 * INDEX + 3 * SHIFT) + atoms * INDEX
    return (Traffic(inputs + outputs, 23 * bonds),)


def nested_neighbor_lists(atoms: int, crystals: int, bonds: list[int]) -> tuple[Traffic]:
    """A list for each cutoff, from short to long, and where each shorter one is in the next."""
    (longest,) = neighbor_list(atoms, crystals, bonds[-1])
    shorter = sum(count * (3 * INDEX + 3 * SHIFT) + atoms * INDEX for count in bonds[:-1])
    return (Traffic(longest.bytes + shorter, longest.flops),)


def bond_reverses(atoms: int, bonds: int) -> tuple[Traffic]:
    """A list in, an index for each bond out."""
    return (Traffic(bonds * (3 * INDEX + 3 * SHIFT) + atoms * INDEX, 0),)


def bond_vectors(atoms: int, crystals: int, bonds: int, size: int) -> tuple[Traffic, ...]:
    """``d = (r_j - r_i) + S @ cell``; its derivative is the transposed map, and so on."""
    places = atoms * 3 * size + crystals * (9 * size + INDEX)
    bond_arrays = bonds * (2 * INDEX + 3 * SHIFT + 3 * size)
    forward = Traffic(places + bond_arrays, 21 * bonds)
    backward = Traffic(places + bond_arrays, 24 * bonds)
    return forward, backward, forward


def bond_to_atom_sum(atoms: int, bonds: int, width: int, ends: str, size: int) -> tuple[Traffic, ...]:
    """The sum forward, the gather backward, the sum again."""
    both = ends in ("sum", "difference")
    values = (bonds + atoms) * width * size
    # By center a row's bonds are adjacent; by neighbor their places must be read.
    sum_index = (atoms if ends in ("center", "sum", "difference") else 0) * INDEX
    sum_index += (bonds + atoms) * INDEX if ends != "center" else 0
    gather_index = bonds * INDEX * (1 + both)
    total = Traffic(values + sum_index, bonds * width * (1 + both))
    gather = Traffic(values + gather_index, bonds * width * both)
    return total, gather, total


def atom_to_bond_gather(atoms: int, bonds: int, width: int, ends: str, size: int) -> tuple[Traffic, ...]:
    """The transpose of the sum."""
    total, gather, _ = bond_to_atom_sum(atoms, bonds, width, ends, size)
    return gather, total, gather


def bond_messages(
    atoms: int, bonds: int, scalars: int, vectors: int, radial: int, hidden: int, size: int
) -> tuple[Traffic, ...]:
    """Messages of a layer and their sums; two products forward, four backward, sixteen at second order.

    The latter are four forward and backward for the inputs' changes, as many for the inputs, four of the weights'
    changes, and four for the weights.
    """
    outputs = scalars + 5 * vectors
    features = outputs + radial
    weights = hidden * (features + 1) + outputs * (hidden + 1)
    states = bonds * (scalars + 3 * vectors)
    at_atoms = atoms * (9 * vectors + hidden)
    floats = size * (at_atoms + states + bonds * (4 + radial) + weights)
    index = INDEX * (3 * bonds + 2 * atoms)
    results = size * (states + atoms * (scalars + 9 * vectors))
    product = 2 * bonds * hidden * (features + outputs)
    # Of each channel of a bond 50 for its invariants, 60 for its messages and sums; backward about twice as many.
    around = bonds * (110 * vectors + 4 * scalars + 6 * hidden)
    forward = Traffic(floats + index + results, product + around)
    # Gradients of the results and the inputs again; gradients of the inputs.
    backward = Traffic(results + index + 2 * floats, 2 * product + 2 * around)
    # The gradients of these gradients too. A product of numbers that change is three products.
    second = Traffic(2 * results + index + 3 * floats, 8 * product + 9 * around)
    return forward, backward, second


def rank2_linear(n: int, k: int, c: int, d: int, norm: bool, size: int) -> tuple[Traffic, ...]:
    """``y = x W^T`` and the norm; one product forward, two backward, four more at second order (six with the norm)."""
    x, y, w, length = n * k * c, n * k * d, c * d, n * d * norm
    product = 2 * n * k * c * d
    around_norm = 3 * y * norm
    forward = Traffic(size * (x + w + y + length), product + around_norm)
    # grad_y, grad_norm, x, W, and for the norm y; grad_x, grad_W.
    backward = Traffic(size * ((1 + norm) * y + length + 2 * x + 2 * w), 2 * product + around_norm)
    # grad_grad_x, grad_grad_W, grad_y, grad_norm, x, W; gradients of grad_y, grad_norm, x, W.
    second = Traffic(size * (2 * y + 2 * length + 3 * x + 3 * w), (4 + 2 * norm) * product + 3 * around_norm)
    return forward, backward, second


def rank2_gate(n: int, k: int, c: int, d: int, size: int) -> tuple[Traffic, ...]:
    """``sigmoid(g) * x W^T + residual``; one product forward, two backward, six more at second order."""
    x, y, w, gate = n * k * c, n * k * d, c * d, n * d
    product = 2 * n * k * c * d
    # x, gate, W, residual; the result. The residual's gradient is the result's own.
    forward = Traffic(size * (x + gate + w + 2 * y), product + 2 * y)
    backward = Traffic(size * (y + 2 * x + 2 * gate + 2 * w), 2 * product + 4 * y)
    # grad_grad of x, gate, W, residual; grad_out, x, gate, W; gradients of grad_out, x, gate, W.
    second = Traffic(size * (3 * y + 3 * x + 3 * gate + 3 * w), 6 * product + 8 * y)
    return forward, backward, second


def tensor_readout(atoms: int, crystals: int, c: int, size: int) -> tuple[Traffic, ...]:
    """``mean over atoms of sum_c (s I + v v^T + t)``: scalars, vectors and tensors in, 3x3 out."""
    ends = crystals * (9 * size + INDEX)
    forward = Traffic(size * atoms * 10 * c + ends, 19 * atoms * c)
    backward = Traffic(size * atoms * 13 * c + ends, 15 * atoms * c)
    second = Traffic(size * atoms * 16 * c + 2 * ends, (31 + 15) * atoms * c)
    return forward, backward, second
