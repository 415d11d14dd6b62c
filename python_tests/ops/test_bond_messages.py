# SPDX-License-Identifier: MIT
"""bond_messages: messages of a layer and their sums at the atoms, with and without rotations."""

from __future__ import annotations

import pytest
import torch
from helpers import (
    check_compiled,
    check_first_and_second_derivatives,
    check_operator,
    check_same_bits,
    random_graph,
)

from dtnn_fast import reference, use_backend
from dtnn_fast.ops import BondTurns, MessageWeights, bond_messages, neighbor_order

OPS = torch.ops.dtnn_fast
# Atoms, bonds, then scalars, vectors, radial functions and hidden channels. The last graphs are large blocks.
CASES = [
    (5, 12, (3, 2, 2, 4)),
    (4, 3, (1, 1, 1, 1)),
    (3, 0, (2, 3, 1, 2)),
    (0, 0, (2, 3, 1, 2)),
    (7, 60, (16, 17, 3, 33)),
    (40, 200, (32, 16, 8, 32)),
]


def random_inputs(num_atoms, num_bonds, sizes, turned=False, dtype=torch.float64, graph=None, seed=0):
    """Draw the arguments of the operation `torch.ops.dtnn_fast.bond_messages`."""
    scalars, vectors, radial, hidden = sizes
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, dtype=dtype, generator=generator)

    graph = graph or random_graph(num_atoms, num_bonds, seed)
    features, outputs = scalars + 5 * vectors + radial, scalars + 5 * vectors
    direction = torch.nn.functional.normalize(normal(num_bonds, 3), dim=-1)
    floats = [
        *(normal(num_atoms, 3, vectors), normal(num_atoms, 6, vectors), normal(num_atoms, hidden)),
        *(normal(num_bonds, scalars), normal(num_bonds, 3, vectors)),
        *(direction, torch.rand(num_bonds, dtype=dtype, generator=generator), normal(num_bonds, radial)),
        *(normal(hidden, features) / features**0.5, normal(hidden)),
        *(normal(outputs, hidden) / hidden**0.5, normal(outputs)),
    ]
    turns = (None, None)
    if turned:
        rotation = torch.linalg.qr(normal(num_bonds, 3, 3)).Q
        turns = rotation, torch.randint(0, 4, (2, num_bonds), generator=generator).to(dtype)
    return *floats, *graph, *neighbor_order(graph.pairs, num_atoms), *turns


def public_call(*arguments):
    """Call the public function with the arguments of the operation."""
    floats, (pairs, row_ptr, order, order_ptr, rotation, counts) = arguments[:12], arguments[12:]
    turns = None if rotation is None else BondTurns(rotation, counts)
    return bond_messages(*floats[:8], MessageWeights(*floats[8:]), pairs, row_ptr, (order, order_ptr), turns)


def scalar_of(outputs):
    """A nonlinear scalar that depends on every output."""
    return sum(((k + 1) * (x * 0.1).sin()).sum() for k, x in enumerate(outputs))


def outputs_and_grads(arguments, backend):
    leaves = [x.clone().requires_grad_() for x in arguments[:12]]
    with use_backend(backend):
        outputs = public_call(*leaves, *arguments[12:])
        scalar_of(outputs).backward()
    return [*outputs, *(x.grad for x in leaves)]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("num_atoms", "num_bonds", "sizes"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_reference_with_gradients(num_atoms, num_bonds, sizes, turned, dtype):
    arguments = random_inputs(num_atoms, num_bonds, sizes, turned, dtype)
    native, expected = (outputs_and_grads(arguments, backend) for backend in ("native", "reference"))
    # Relative to the largest number of each result: its smaller ones are differences of larger ones.
    tolerance = 2e-5 if dtype == torch.float32 else 1e-12
    for ours, theirs in zip(native, expected, strict=True):
        scale = max(1.0, float(theirs.detach().abs().max())) if theirs.numel() else 1.0
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("num_blocks", [1, 3])
def test_large_blocks_equal_reference(turned, num_blocks):
    # Blocks of more bonds than one thread takes, beside small ones.
    sizes = [(60, 2500), (5, 9)] * num_blocks
    graphs = [random_graph(*size, seed) for seed, size in enumerate(sizes)]
    num_atoms, num_bonds = (sum(part) for part in zip(*sizes, strict=True))
    first_atoms = torch.tensor([0, *(atoms for atoms, _ in sizes)]).cumsum(0)
    pairs = torch.cat([g.pairs + first for g, first in zip(graphs, first_atoms, strict=False)], dim=1)
    row_ptr = torch.searchsorted(pairs[0].contiguous(), torch.arange(num_atoms + 1))
    arguments = random_inputs(num_atoms, num_bonds, (8, 4, 2, 8), turned, graph=type(graphs[0])(pairs, row_ptr))
    native, expected = (outputs_and_grads(arguments, backend) for backend in ("native", "reference"))
    torch.testing.assert_close(native, expected, rtol=1e-10, atol=1e-10)


def test_identity_turns_are_an_ordinary_list():
    arguments = random_inputs(6, 20, (3, 4, 2, 5))
    rotation = torch.eye(3, dtype=torch.float64).expand(20, 3, 3)
    turned = public_call(*arguments[:16], rotation, torch.ones(2, 20, dtype=torch.float64))
    torch.testing.assert_close(tuple(turned), tuple(public_call(*arguments)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("turned", [False, True])
def test_sums_are_those_of_the_bonds(turned):
    arguments = random_inputs(6, 20, (3, 4, 2, 5), turned)
    out = public_call(*arguments)
    pairs, rotation, counts = arguments[12], arguments[16], arguments[17]
    for atom in range(6):
        scalar, vector = torch.zeros(3, dtype=torch.float64), torch.zeros(3, 4, dtype=torch.float64)
        for bond, (center, neighbor) in enumerate(pairs.t().tolist()):
            n0, n1 = counts[:, bond].tolist() if turned else (1.0, 1.0)
            back = rotation[bond].t() if turned else torch.eye(3, dtype=torch.float64)
            if center == atom:
                scalar += n0 * out.bond_scalar[bond]
                vector += n0 * out.bond_vector[bond]
            if neighbor == atom:
                scalar += n1 * out.bond_scalar[bond]
                vector -= n1 * back @ out.bond_vector[bond]
        torch.testing.assert_close(out.sum_scalar[atom], scalar)
        torch.testing.assert_close(out.sum_vector[atom], vector)


@pytest.mark.parametrize("turned", [False, True])
def test_equivariance(turned):
    arguments = list(random_inputs(6, 20, (3, 4, 2, 5), turned))
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    components = reference.bond_messages.__globals__["component_rotation"](turn)
    before = public_call(*arguments)
    for place, matrix in ((0, turn), (1, components), (4, turn)):
        arguments[place] = matrix @ arguments[place]
    arguments[5] = arguments[5] @ turn.t()
    if turned:
        arguments[16] = turn @ arguments[16] @ turn.t()
    after = public_call(*arguments)
    expected = (before[0], turn @ before[1], before[2], turn @ before[3], components @ before[4])
    torch.testing.assert_close(tuple(after), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("turned", [False, True])
def test_first_and_second_derivatives(turned):
    arguments = random_inputs(3, 4, (2, 1, 1, 2), turned)
    check_first_and_second_derivatives(lambda *x: public_call(*x, *arguments[12:]), *arguments[:12])


@pytest.mark.parametrize("absent", [(0, 1), (2,), (3, 4), (0, 1, 2, 3)])
def test_gradients_of_some_outputs(absent):
    arguments = random_inputs(5, 12, (3, 2, 2, 4))
    results = []
    for backend in ("native", "reference"):
        leaves = [x.clone().requires_grad_() for x in arguments[:12]]
        with use_backend(backend):
            outputs = public_call(*leaves, *arguments[12:])
            kept = [x for place, x in enumerate(outputs) if place not in absent]
        grads = torch.autograd.grad(scalar_of(kept), leaves, allow_unused=True, materialize_grads=True)
        results.append(grads)
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("frozen", [range(5, 12), range(8, 12), range(5, 8), range(8)])
def test_frozen_inputs_have_no_gradients(frozen):
    arguments = random_inputs(5, 12, (3, 2, 2, 4))
    results = []
    for backend in ("native", "reference"):
        leaves = [x.clone().requires_grad_(place not in frozen) for place, x in enumerate(arguments[:12])]
        with use_backend(backend):
            scalar_of(public_call(*leaves, *arguments[12:])).backward()
        assert all((x.grad is None) == (place in frozen) for place, x in enumerate(leaves))
        results.append([x.grad for x in leaves if x.grad is not None])
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("num_atoms", "num_bonds"), [(4, 7), (0, 0)])
@pytest.mark.parametrize("turned", [False, True])
def test_opcheck(num_atoms, num_bonds, turned):
    arguments = random_inputs(num_atoms, num_bonds, (2, 3, 1, 2), turned)
    leaves = [x.clone().requires_grad_() for x in arguments[:12]]
    check_operator(OPS.bond_messages.default, *leaves, *arguments[12:])
    outputs = OPS.bond_messages(*arguments)
    grads = [torch.randn_like(x).requires_grad_() for x in outputs]
    check_operator(OPS.bond_messages_backward.default, *grads, *leaves, *arguments[12:], True, True)


@pytest.mark.parametrize("sizes", [(64, 32, 8, 64), (5, 3, 2, 7)])
def test_same_bits_for_any_number_of_threads(sizes):
    small = [random_graph(6, 40, seed) for seed in range(60)]
    pairs = torch.cat([g.pairs + 6 * k for k, g in enumerate(small)], dim=1)
    row_ptr = torch.searchsorted(pairs[0].contiguous(), torch.arange(361))
    many = random_inputs(360, 2400, sizes, True, torch.float32, type(small[0])(pairs, row_ptr))
    for arguments in (many, random_inputs(90, 3000, sizes, False, torch.float32)):
        grads = [torch.randn_like(x) for x in OPS.bond_messages(*arguments)]
        check_same_bits(
            lambda arguments=arguments, grads=grads: (
                *OPS.bond_messages(*arguments),
                *OPS.bond_messages_backward(*grads, *arguments, True, True),
            )
        )


def test_compiled():
    def call(*floats):
        return torch.cat([x.flatten() for x in public_call(*floats, *indices)])

    arguments = random_inputs(5, 12, (3, 2, 2, 4))
    indices = arguments[12:]
    check_compiled(call, arguments[:12])


# On CUDA the error comes from the kernels, which see one bond or atom each.
NOT_SORTED_BY_NEIGHBOR = "that sort the bonds by neighbor|by neighbor as `neighbor_order` says"
BAD = {
    "tau": (1, lambda x: x[:, :5], r"expected `tau` of shape \[N, 6, V\] with N and V of `q`, got \[5, 5, 2\]"),
    "dtype": (3, lambda x: x.float(), r"expected `bond_scalar` of the dtype of `q` \(float64\), got float32"),
    "weight": (8, lambda x: x[:, 1:], r"expected `hidden_weight` of shape \[H, C \+ 5 V \+ R\], got \[4, 14\]"),
    "bonds": (4, lambda x: x[1:], r"expected `bond_vector` of shape \[E, 3, V\] with V of `q`, got \[11, 3, 2\]"),
    "center": (12, lambda x: torch.stack([x[0].flip(0), x[1]]), "expected `pairs` sorted by center as `row_ptr` says"),
    "neighbor": (12, lambda x: x + torch.tensor([[0], [5]]), NOT_SORTED_BY_NEIGHBOR),
    "row_ptr": (13, lambda x: x[:-1], r"expected `neighbor_row_ptr` of shape \[N\+1\]"),
    "turn": (16, lambda _: torch.zeros(12, 3, 3, dtype=torch.float64), "expected both of `turn` and `turn_counts`"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name):
    place, spoil, message = BAD[name]
    arguments = list(random_inputs(5, 12, (3, 2, 2, 4)))
    arguments[place] = spoil(arguments[place])
    with pytest.raises(RuntimeError, match=message):
        OPS.bond_messages(*arguments)


@pytest.mark.parametrize("num_bonds", [12, 2500])
def test_bad_neighbor_order(num_bonds):
    arguments = list(random_inputs(60, num_bonds, (2, 1, 1, 2)))
    arguments[14] = arguments[14].flip(0)
    with pytest.raises(RuntimeError, match=NOT_SORTED_BY_NEIGHBOR):
        OPS.bond_messages(*arguments)
