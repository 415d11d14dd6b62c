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


def bond_geometry(bonds: int, radial: int, size: int) -> tuple[Traffic, ...]:
    """Length, direction, envelope and radial basis of each bond; a sine or cosine is one operation."""
    results = 5 + radial
    forward = Traffic(size * bonds * (3 + results), bonds * (19 + 3 * radial))
    backward = Traffic(size * bonds * (6 + results), bonds * (26 + 6 * radial))
    return forward, backward


def bond_perceptron_sum(
    atoms: int, bonds: int, scalars: int, hidden: int, outputs: int, perceptrons: int, size: int
) -> tuple[Traffic, ...]:
    """Two layers for each bond and perceptron, summed at both ends; an activation is six operations."""
    weights = perceptrons * (hidden * (scalars + 1) + outputs * (hidden + 1))
    floats = size * (bonds * (scalars + 1) + weights)
    index = INDEX * (3 * bonds + 2 * atoms)
    results = size * atoms * (perceptrons * outputs + 1)
    product = 2 * perceptrons * bonds * hidden * (scalars + outputs)
    around = perceptrons * bonds * (6 * hidden + 9 * outputs)
    return _network(floats, index, results, product, around)


def atom_update(atoms: int, scalars: int, vectors: int, tensors: int, size: int) -> tuple[Traffic, ...]:
    """Mixed vectors and tensors, a perceptron on their invariants, gates."""
    s, v, t = scalars, vectors, tensors
    state, sums = s + 3 * v + 6 * t, s + 9 * v
    weights = (3 * v + 2 * t) * v + (2 * s + 4 * v + 1) * s + (s + 1) * (s + 4 * v)
    product = 2 * atoms * (6 * v * v + 6 * (t + v) * v + (2 * s + 4 * v) * s + s * (s + 4 * v) + 6 * v * t)
    # Of each channel about 120 for norms, products of vectors and tensors, and gates.
    around = atoms * (120 * v + 14 * s + 6 * t)
    return _network(size * (atoms * (state + sums) + weights), 0, size * atoms * state, product, around)


def atom_readout(
    atoms: int, channels: tuple[int, int, int], outputs: tuple[int, int, int], size: int
) -> tuple[Traffic, ...]:
    """Linear maps of the state, with gates on products of vectors and tensors."""
    (s, v, t), (so, vo, to) = channels, outputs
    gates = s + 2 * vo + 2 * to
    weights = (s + 1) * (s + gates) + (2 * s + 1) * so + v * (2 * vo + to + v) + t * (to + v)
    at_scalars = s * (s + gates) + 2 * s * so
    product = 2 * atoms * (at_scalars + 3 * v * (2 * vo + v) + 6 * (t * (to + v) + v * to))
    around = atoms * (14 * s + 50 * v + 9 * vo + 24 * to)
    state, results = s + 3 * v + 6 * t, so + 3 * vo + 6 * to
    return _network(size * (atoms * state + weights), 0, size * atoms * results, product, around)


def decode(
    atoms: int,
    crystals: int,
    channels: tuple[int, int, int],
    bond_vectors: int,
    members: int,
    blocks: int,
    latent: int,
    readouts: int,
    size: int,
) -> tuple[Traffic, ...]:
    """Blocks and readouts of all members on the atoms, and the mean over the atoms of each crystal."""
    (s, v, t), h = channels, latent
    inputs = atoms * (s + 3 * v + 6 * t + 3 * bond_vectors + 1 + members * blocks * h)
    weights = multiplied = around = 0
    for _ in range(blocks):
        weights += (s + 1) * h + 2 * (h + 1) * h + (3 * h + 1) * h + (h + 1) * 3 * h
        weights += (h + 1) * h + (t + v + bond_vectors + 2 * h) * h
        multiplied += s * h + 2 * h * h + 6 * h * h + (h + 1) * h + 6 * t * h + 3 * (v + bond_vectors) * h + 9 * h * h
        around += 75 * h
        s = v = t = h
    weights += readouts * (2 * (s * h + 2 * h + 1) + v + t)
    multiplied += readouts * (2 * (s * h + h) + 3 * v + 6 * t)
    around += readouts * (14 * h + 20)
    floats, index = size * (inputs + members * weights), INDEX * crystals
    results = size * members * readouts * crystals * 9
    return _network(floats, index, results, 2 * atoms * members * multiplied, atoms * members * around)


def _network(floats: float, index: float, results: float, product: float, around: float) -> tuple[Traffic, Traffic]:
    """Forward and backward of a network: gradients of the results and the inputs in, gradients of the inputs out."""
    forward = Traffic(floats + index + results, product + around)
    return forward, Traffic(results + index + 2 * floats, 2 * product + 2 * around)


def symmetrise_crystals(atoms: int, crystals: int, operations: int, images: int) -> tuple[Traffic]:
    """Crystals and operations in, symmetric crystals and the image of each atom under each operation out."""
    inputs = atoms * (3 * DOUBLE + INDEX) + crystals * (9 * DOUBLE + 2 * INDEX) + operations * (9 * SHIFT + INDEX)
    outputs = atoms * 3 * DOUBLE + crystals * (11 * DOUBLE + 2 * INDEX) + images * 4 * SHIFT
    # The image of an atom 18, its distance from the atom there and its part of the mean 6.
    return (Traffic(inputs + outputs, 24 * images),)


def reduce_bonds(
    atoms: int, crystals: int, bonds: int, operations: int, images: int, stored: int, kept: int
) -> tuple[Traffic]:
    """A list and operations in, one atom and one bond of each orbit out, with rotations and projectors."""
    inputs = atoms * (3 * DOUBLE + INDEX) + crystals * (9 * DOUBLE + 2 * INDEX) + bonds * (2 * INDEX + 3 * SHIFT)
    inputs += operations * 9 * SHIFT + images * 4 * SHIFT
    outputs = stored * (46 * DOUBLE + 2 * INDEX) + crystals * (36 * DOUBLE + INDEX)
    outputs += kept * (3 * INDEX + 3 * SHIFT + 14 * DOUBLE)
    return (Traffic(inputs + outputs, 23 * bonds),)


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
