# SPDX-License-Identifier: MIT
"""torch.compile of every operation with inductor: values and gradients as in eager, one compilation for all sizes."""

from __future__ import annotations

import pytest
import torch
from compiling import FIRST_SIZE, OTHER_SIZES, fresh_compiler, no_recompilation  # noqa: F401  the fixture acts by itself
from op_cases import FUNCTIONS, batch, leaves, on, scalar
from torch.func import grad, hessian, jvp, vmap

from dtnn_fast import ops, use_backend


def values_and_gradients(call, arguments):
    moving = leaves(arguments)
    out = call(*arguments)
    return out, torch.autograd.grad(scalar(out), moving)


def check(name, compiled, size, device, dtype=torch.float64):
    case = FUNCTIONS[name]
    arguments = on(case.arguments(batch(size)), device, dtype)
    torch.testing.assert_close(
        values_and_gradients(compiled, arguments), values_and_gradients(case.call, arguments), rtol=0, atol=0
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_one_compilation_for_twenty_batch_sizes(name, device):
    compiled = torch.compile(FUNCTIONS[name].call, fullgraph=True, dynamic=True)
    check(name, compiled, FIRST_SIZE, device)
    with no_recompilation():
        for size in OTHER_SIZES:
            check(name, compiled, size, device)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("sizes", [(10, 1, 0, 1, 12), (0, 1, 10)], ids=str)
def test_sizes_of_zero_and_one(name, sizes, device):
    """torch compiles separately for these sizes; the results must be right in any order."""
    compiled = torch.compile(FUNCTIONS[name].call, fullgraph=True, dynamic=True)
    for size in sizes:
        check(name, compiled, size, device)


def test_float32(device):
    compiled = torch.compile(FUNCTIONS["rank2_gate"].call, fullgraph=True, dynamic=True)
    for size in (10, 12):
        check("rank2_gate", compiled, size, device, torch.float32)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_reference_implementations_compile_as_one_graph(name, device):
    compiled = torch.compile(FUNCTIONS[name].call, fullgraph=True, dynamic=True, backend="aot_eager")
    with use_backend("reference"):
        for size in (10, 12):
            check(name, compiled, size, device)


TRANSFORMS = {
    "grad": lambda f, x: grad(lambda *a: scalar(f(*a)))(*x),
    "jvp": lambda f, x: jvp(lambda a: f(a, *x[1:]), x[:1], (x[0].cos(),)),
    "vmap": lambda f, x: vmap(lambda a: f(a, *x[1:]))(torch.stack([x[0], 2 * x[0]])),
    "hessian": lambda f, x: hessian(lambda a: scalar(f(a, *x[1:])))(x[0]),
}


@pytest.mark.parametrize(
    ("name", "transform"),
    [*((name, "jvp") for name in FUNCTIONS), *(("rank2_gate", transform) for transform in TRANSFORMS)],
)
def test_torch_func_within_a_compiled_function(name, transform, device):
    case = FUNCTIONS[name]
    arguments = on(case.arguments(batch(2)), device)
    compiled = torch.compile(lambda *a: TRANSFORMS[transform](case.call, a), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*arguments), TRANSFORMS[transform](case.call, arguments))


def test_neighbor_list_within_a_compiled_function(device):
    """The number of bonds depends on the positions; torch.compile follows it only with a setting."""

    def mean_square(positions, cell, pbc, ptr):
        pairs, shifts, row_ptr = ops.neighbor_list(positions, cell, pbc, 2.4, ptr)
        vectors = ops.bond_vectors(positions, cell, pairs, shifts, ptr)
        return ops.bond_to_atom_sum((vectors * vectors).sum(1), pairs, row_ptr)

    compiled = torch.compile(mean_square, fullgraph=True, dynamic=True)
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        for size in (10, 7, 13):
            arguments = on(batch(size)[:4], device)
            torch.testing.assert_close(
                values_and_gradients(compiled, arguments), values_and_gradients(mean_square, arguments)
            )
