# SPDX-License-Identifier: MIT
"""torch.func over every operation: transforms and their compositions, equal to the reference implementations."""

from __future__ import annotations

import pytest
import torch
from op_cases import FUNCTIONS, OPERATIONS, batch, leaves, on, outputs, scalar
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

from dtnn_fast import use_backend

OPS = torch.ops.dtnn_fast


def moving_part(name, device):
    """Return a public function of its floating point inputs alone, the inputs, and tangents for them."""
    case = FUNCTIONS[name]
    arguments = on(case.arguments(batch(2)), device)
    inputs = tuple(x for x in arguments if x.is_floating_point())

    def function(*moving: Tensor):
        rest = iter(moving)
        return case.call(*(next(rest) if x.is_floating_point() else x for x in arguments))

    generator = torch.Generator().manual_seed(5)
    tangents = tuple(torch.randn(x.shape, dtype=x.dtype, generator=generator).to(device) for x in inputs)
    return function, inputs, tangents


TRANSFORMS = {
    "grad": lambda f, x, t: grad(lambda *a: scalar(f(*a)), all_of(x))(*x),
    "vjp": lambda f, x, t: vjp(f, *x)[1](f(*x)),
    "jvp": jvp,
    "jacrev": lambda f, x, t: jacrev(f, all_of(x))(*x),
    "jacfwd": lambda f, x, t: jacfwd(f, all_of(x))(*x),
    "grad of grad": lambda f, x, t: grad(lambda *a: squares(grad(lambda *b: scalar(f(*b)), all_of(x))(*a)))(*x),
    "jvp of grad": lambda f, x, t: jvp(grad(lambda *a: scalar(f(*a)), all_of(x)), x, t),
    "grad of jvp": lambda f, x, t: grad(lambda *a: squares(outputs(jvp(f, a, t)[1])), all_of(x))(*x),
    "jvp of jvp": lambda f, x, t: jvp(lambda *a: jvp(f, a, t)[1], x, t),
    "hessian": lambda f, x, t: hessian(lambda *a: scalar(f(*a)), all_of(x))(*x),
    "vmap": lambda f, x, t: vmap(f)(*samples(x)),
    "vmap of the first input, along its second dimension": lambda f, x, t: vmap(f, (1, *[None] * (len(x) - 1)))(
        torch.stack([x[0], 2 * x[0]], 1), *x[1:]
    ),
    "vmap of the last input": lambda f, x, t: vmap(f, (*[None] * (len(x) - 1), 0))(*x[:-1], samples(x)[-1]),
    "vmap of vmap": lambda f, x, t: vmap(vmap(f))(*samples(samples(x))),
    "vmap of grad": lambda f, x, t: vmap(grad(lambda *a: scalar(f(*a)), all_of(x)))(*samples(x)),
    "grad of vmap": lambda f, x, t: grad(lambda *a: scalar(vmap(f)(*samples(a))), all_of(x))(*x),
    "vmap of jvp": lambda f, x, t: vmap(lambda *a: jvp(f, a, t))(*samples(x)),
}


def all_of(inputs):
    return tuple(range(len(inputs)))


def squares(values):
    return torch.stack([value.square().sum() for value in values]).sum()


def samples(inputs):
    return tuple(torch.stack([x, 2 * x, x - 1]) for x in inputs)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_equals_reference(name, transform, device):
    function, inputs, tangents = moving_part(name, device)
    result = TRANSFORMS[transform](function, inputs, tangents)
    with use_backend("reference"):
        expected = TRANSFORMS[transform](function, inputs, tangents)
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_flow_out_of_a_transform(name, device):
    """torch.autograd.grad must go through the result of torch.func.grad, which must not cut the outer graph."""
    results = []
    for backend in ("native", "reference"):
        function, inputs, _ = moving_part(name, device)
        moving = leaves(inputs)
        with use_backend(backend):
            inner = grad(lambda *a: scalar(function(*a)), all_of(inputs))(*inputs)  # noqa: B023  called at once
            results.append(torch.autograd.grad(squares(inner), moving, materialize_grads=True))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_dual_numbers(name, device):
    function, inputs, tangents = moving_part(name, device)
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, t) for x, t in zip(inputs, tangents, strict=True)]
        result = [forward_ad.unpack_dual(out).tangent for out in outputs(function(*duals))]
    torch.testing.assert_close(tuple(result), outputs(jvp(function, inputs, tangents)[1]))


@pytest.mark.parametrize("name", [name for name in OPERATIONS if "backward" in name or "weight_grad" in name])
def test_forward_mode_through_a_backward_equals_finite_differences(name, device):
    case = OPERATIONS[name]
    arguments = on(case.arguments(batch(2)), device)
    floating = [i for i, x in enumerate(arguments) if isinstance(x, Tensor) and x.is_floating_point()]
    step = 1e-6

    def at(scale: float) -> tuple[Tensor, ...]:
        moved = [x + scale * x.cos() if i in floating else x for i, x in enumerate(arguments)]
        return outputs(case.call(*moved))

    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, x.cos()) if i in floating else x for i, x in enumerate(arguments)]
        tangents = [forward_ad.unpack_dual(out).tangent for out in outputs(case.call(*duals))]
    for tangent, after, before in zip(tangents, at(step), at(-step), strict=True):
        if after.numel():
            torch.testing.assert_close(tangent, (after - before) / (2 * step), rtol=1e-6, atol=1e-7)


def test_rows_and_channels_are_batched_in_one_call():
    """When all samples fit into one call of the kernel, there is one call."""
    calls = []

    class Count(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            calls.append(func)
            return func(*args, **(kwargs or {}))

    x, w = torch.randn(5, 4, 3, 2), torch.randn(6, 2)
    with Count():
        vmap(lambda a: OPS.rank2_linear(a, w))(x)
    assert calls.count(OPS.rank2_linear.default) == 1


def test_vmap_refuses_what_it_cannot_do():
    b = batch(2)
    vector, rank2 = b.atoms(3, 2), b.atoms(6, 2)
    for name in ("neighbor_list", "bonds_within", "bond_reverses"):
        case = OPERATIONS[name]
        first, *rest = case.arguments(b)
        with pytest.raises(RuntimeError, match=rf"{name}: expected one call for all crystals, .* got torch\.vmap"):
            vmap(lambda x: case.call(x, *rest))(torch.stack([first] * 2))  # noqa: B023  called at once
    with pytest.raises(RuntimeError, match=r"tensor_readout: expected at least one sample under torch\.vmap, got none"):
        vmap(lambda s: OPS.tensor_readout(s, vector, rank2, b.ptr))(vector.new_empty(0, 5, 2))
