# SPDX-License-Identifier: MIT
"""Weight gradients of a loss on forces, compiled in every way in docs/compile.md, equal to eager."""

from __future__ import annotations

import pytest
import torch
from compiling import FIRST_SIZE, fresh_compiler, no_recompilation  # noqa: F401  the fixture acts by itself
from op_cases import batch, on
from small_potential import Potential, inputs_of
from torch.func import functional_call, grad, grad_and_value

SIZES = (FIRST_SIZE, 7, 2, 3, 4, 13)
LARGE_SIZES = (40, *range(30, 50))


@pytest.fixture
def potential(device):
    return Potential().to(device)


def loss_of(forces):
    return (forces - 0.3).square().sum()


def eager(potential, arguments):
    """Compute the loss and its weight gradients with torch.autograd alone."""
    positions = arguments[0].detach().requires_grad_()
    energy = potential(positions, *arguments[1:]).sum()
    (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
    loss = loss_of(-gradient)
    return loss, torch.autograd.grad(loss, list(potential.parameters()))


def forces(potential, positions, *rest):
    return -grad(lambda r: potential(r, *rest).sum())(positions)


def forces_compiled(potential, backend):
    compiled = torch.compile(lambda *a: forces(potential, *a), fullgraph=True, dynamic=True, backend=backend)

    def step(*arguments):
        loss = loss_of(compiled(*arguments))
        return loss, torch.autograd.grad(loss, list(potential.parameters()))

    return step


def loss_compiled(potential, backend):
    compiled = torch.compile(lambda *a: loss_of(forces(potential, *a)), fullgraph=True, dynamic=True, backend=backend)

    def step(*arguments):
        loss = compiled(*arguments)
        return loss, torch.autograd.grad(loss, list(potential.parameters()))

    return step


def everything_compiled(potential, backend):
    def loss(weights, positions, *rest):
        def energy(r):
            return functional_call(potential, weights, (r, *rest)).sum()

        return loss_of(-grad(energy)(positions))

    compiled = torch.compile(grad_and_value(loss), fullgraph=True, dynamic=True, backend=backend)
    weights = {name: weight.detach() for name, weight in potential.named_parameters()}

    def step(*arguments):
        gradients, value = compiled(weights, *arguments)
        return value, tuple(gradients.values())

    return step


FORMULATIONS = {"forces": forces_compiled, "loss": loss_compiled, "everything": everything_compiled}


def check(step, potential, size, device):
    arguments = on(inputs_of(batch(size)), device)
    loss, gradients = eager(potential, arguments)
    assert all(gradient.abs().max() > 1e-3 for gradient in gradients)  # the forces depend on every weight
    torch.testing.assert_close(step(*arguments), (loss, gradients), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("compiled", "backend", "sizes"),
    [
        *((name, "aot_eager", SIZES) for name in FORMULATIONS),
        # For loops of fewer than some hundred numbers inductor makes other code, with one more compilation.
        pytest.param("loss", "inductor", LARGE_SIZES, marks=pytest.mark.slow),
    ],
)
def test_weight_gradients_equal_eager(compiled, backend, sizes, potential, device):
    step = FORMULATIONS[compiled](potential, backend)
    check(step, potential, sizes[0], device)
    with no_recompilation():
        for size in sizes[1:]:
            check(step, potential, size, device)


def test_autograd_inside_with_the_setting_of_torch(potential, device):
    """torch.autograd.grad works in the compiled function, for positions that are an input with gradients."""

    def with_autograd(positions, *rest):
        energy = potential(positions, *rest).sum()
        return loss_of(-torch.autograd.grad(energy, positions, create_graph=True)[0])

    compiled = torch.compile(with_autograd, fullgraph=True, dynamic=True, backend="aot_eager")

    def step(positions, *rest):
        loss = compiled(positions.detach().requires_grad_(), *rest)
        return loss, torch.autograd.grad(loss, list(potential.parameters()))

    has_setting = hasattr(torch._dynamo.config, "trace_autograd_ops")  # from torch 2.11 on
    if has_setting:
        with torch._dynamo.config.patch(trace_autograd_ops=True):
            for size in SIZES[:3]:
                check(step, potential, size, device)
        torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match="trace_autograd_ops" if has_setting else "autograd.grad"):
        check(step, potential, FIRST_SIZE, device)


@pytest.mark.parametrize("donated", [False, True])
def test_differentiating_a_compiled_energy_twice_raises(donated, potential, device):
    """torch cannot differentiate a compiled function twice: it must raise, not give a wrong result."""
    compiled = torch.compile(potential, fullgraph=True, dynamic=True, backend="aot_eager")
    positions, *rest = on(inputs_of(batch(FIRST_SIZE)), device)
    positions.requires_grad_()

    def twice():
        (gradient,) = torch.autograd.grad(compiled(positions, *rest).sum(), positions, create_graph=True)
        loss_of(-gradient).backward()

    message = r"donated buffer|double backward"
    with torch._functorch.config.patch(donated_buffer=donated), pytest.raises(RuntimeError, match=message):
        twice()


def test_graphs_of_make_fx_with_torch_func(potential, device):
    """A graph of the forces by make_fx is differentiable in the weights when torch.func made the forces."""
    names = [name for name, _ in potential.named_parameters()]

    def with_weights(weights, positions, *rest):
        def energy(r):
            return functional_call(potential, dict(zip(names, weights, strict=True)), (r, *rest)).sum()

        return -grad(energy)(positions)

    weights = list(potential.parameters())
    make_fx = torch.fx.experimental.proxy_tensor.make_fx
    graph = make_fx(with_weights, tracing_mode="symbolic")(weights, *on(inputs_of(batch(FIRST_SIZE)), device))

    def step(*arguments):
        loss = loss_of(graph(weights, *arguments))
        return loss, torch.autograd.grad(loss, weights)

    for size in SIZES[:4]:
        check(step, potential, size, device)
