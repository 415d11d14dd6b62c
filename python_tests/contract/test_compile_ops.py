# SPDX-License-Identifier: MIT
"""torch.compile of every operation with inductor: values and gradients as in eager, one compilation for all sizes."""

from __future__ import annotations

import pytest
import torch
from compiling import FIRST_SIZE, OTHER_SIZES, fresh_compiler, no_recompilation  # noqa: F401  the fixture acts by itself
from op_cases import FUNCTIONS, batch, leaves, on, outputs, scalar
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jvp, vmap

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
    "jvp of grad": lambda f, x: jvp(grad(lambda a: scalar(f(a, *x[1:]))), x[:1], (x[0].cos(),)),
    "vmap": lambda f, x: vmap(lambda a: f(a, *x[1:]))(torch.stack([x[0], 2 * x[0]])),
    "jacfwd": lambda f, x: jacfwd(lambda a: f(a, *x[1:]))(x[0]),
    "hessian": lambda f, x: hessian(lambda a: scalar(f(a, *x[1:])))(x[0]),
}


def check_transforms(name, transforms, device, backend, native=True):
    """Compile transforms of a function, and compare with the same of the reference implementation without compiler."""
    case = FUNCTIONS[name]
    arguments = on(case.arguments(batch(2)), device)

    def call(*given):
        return tuple(TRANSFORMS[transform](case.call, given) for transform in transforms)

    with use_backend("reference"):
        expected = call(*arguments)
    with use_backend("native" if native else "reference"):
        torch.testing.assert_close(torch.compile(call, fullgraph=True, backend=backend)(*arguments), expected)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_torch_func_within_a_compiled_function(name, device):
    # torch compiles the tangents of some of its operations to wrong numbers, or code that crashes, with inductor only.
    check_transforms(name, TRANSFORMS, device, "inductor")


@pytest.mark.parametrize("name", ["bond_to_atom_sum center", "tensor_readout"])
def test_forward_mode_within_compiled_reference_implementations(name, device):
    check_transforms(name, ["jvp", "jacfwd"], device, "inductor", native=False)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad])
def test_tangents_within_functions_compiled_by_the_eager_backend(name, mode, device):
    """This backend runs the traced calls as they are, and enters forward mode without Python's knowledge."""

    def tangents(*given):
        with forward_ad.dual_level():
            first, *rest = given
            result = FUNCTIONS[name].call(forward_ad.make_dual(first, first.cos()), *rest)
            return [forward_ad.unpack_dual(x).tangent for x in outputs(result)]

    arguments = on(FUNCTIONS[name].arguments(batch(2)), device)
    expected = tangents(*arguments)
    with mode():
        torch.testing.assert_close(torch.compile(tangents, fullgraph=True, backend="eager")(*arguments), expected)
        check_transforms(name, ["jvp", "jvp of grad"], device, "eager")


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
