# SPDX-License-Identifier: MIT
"""The baseline M3GNet is matgl's: the same tensors and the same gradients of every parameter."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accuracy.graphs import BondGraph, build_graph, collate
from accuracy.m3gnet import M3GNetTensor
from accuracy.m3gnet_linear import linear, silu
from model_cases import labelled, one_thread  # noqa: F401  a fixture that every test uses

CUTOFF, VOLUME = 5.0, 20.0


def some_graph(dtype: torch.dtype) -> tuple[BondGraph, list[int]]:
    crystals = [crystal for crystal in labelled() if 3 <= crystal.num_atoms <= 6][:4]
    elements = sorted({int(z) for crystal in crystals for z in crystal.atomic_numbers})
    return collate([build_graph(crystal, CUTOFF, dtype) for crystal in crystals]), elements


def matgl_tensors(model: M3GNetTensor, graph: BondGraph) -> torch.Tensor:
    """Compute the tensors with matgl's own forward. [B, 3, 3]."""
    crystal_of_atom = graph.crystal_of_atom
    strain = graph.vectors.new_zeros((graph.num_crystals, 3, 3), requires_grad=True)
    deformation = 0.5 * (strain + strain.mT)[crystal_of_atom[graph.pairs[0]]]
    vectors = graph.vectors + (graph.vectors[:, None] @ deformation)[:, 0]
    bonds = SimpleNamespace(  # all atoms at the origin: matgl's vector of a bond is its offset alone
        node_type=model.index_of_element[graph.atomic_numbers],
        pos=vectors.new_zeros((graph.num_atoms, 3)),
        edge_index=graph.pairs,
        pbc_offshift=vectors,
        batch=crystal_of_atom,
        num_graphs=graph.num_crystals,
    )
    (derivative,) = torch.autograd.grad(model.network(bonds).sum(), strain, create_graph=True)
    return derivative * (VOLUME / graph.volumes)[:, None, None]


def test_tensors_and_gradients_are_those_matgl_tensors(monkeypatch):
    matgl = pytest.importorskip("matgl.models._m3gnet")
    angles = matgl.compute_theta_and_phi  # whose cosines are 1e-7 off in a line, unless told otherwise
    monkeypatch.setattr(matgl, "compute_theta_and_phi", lambda *inputs: angles(*inputs, eps=0.0))
    graph, elements = some_graph(torch.float64)
    torch.manual_seed(0)
    model = M3GNetTensor(CUTOFF, elements, VOLUME).double().train()
    ours, theirs = model(graph)[:, 0], matgl_tensors(model, graph)
    size = theirs.abs().max().item()
    assert size > 1e-6
    np.testing.assert_allclose(ours.detach(), theirs.detach(), rtol=0, atol=1e-11 * size)

    weights = torch.randn(ours.shape, dtype=torch.float64)
    found = torch.autograd.grad((ours * weights).sum(), list(model.parameters()), allow_unused=True)
    expected = torch.autograd.grad((theirs * weights).sum(), list(model.parameters()), allow_unused=True)
    for (name, _), grad, matgl_grad in zip(model.named_parameters(), found, expected, strict=True):
        assert (grad is None) == (matgl_grad is None), name
        if grad is not None:
            close = 1e-10 * matgl_grad.abs().max().item() + 1e-16
            np.testing.assert_allclose(grad, matgl_grad, rtol=0, atol=close, err_msg=name)


def test_single_precision_gives_the_same_gradients():
    pytest.importorskip("matgl")
    found = []
    for dtype in (torch.float64, torch.float32):
        graph, elements = some_graph(dtype)
        torch.manual_seed(0)
        model = M3GNetTensor(CUTOFF, elements, VOLUME).to(dtype).train()
        tensors = model(graph)
        (tensors * torch.arange(9.0).reshape(3, 3)).sum().backward()
        gradients = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
        found.append([tensors.detach().flatten().double(), torch.cat(gradients).double()])
    for exact, single in zip(*found, strict=True):
        assert (exact - single).abs().max() < 1e-4 * exact.abs().max()


def test_every_readout_is_that_of_a_model_of_its_own():
    pytest.importorskip("matgl")
    graph, elements = some_graph(torch.float64)
    torch.manual_seed(0)
    both = M3GNetTensor(CUTOFF, elements, VOLUME, readouts=2).double().eval()
    tensors = both(graph)
    assert (tensors[:, 0] - tensors[:, 1]).abs().max() > 1e-6
    for readout in range(2):
        single = M3GNetTensor(CUTOFF, elements, VOLUME).double().eval()
        sizes = {name: value.shape for name, value in single.state_dict().items()}
        state = {
            name: value if value.shape == sizes[name] else value[readout : readout + 1]
            for name, value in both.state_dict().items()
        }
        single.load_state_dict(state)
        torch.testing.assert_close(single(graph)[:, 0], tensors[:, readout], rtol=1e-10, atol=1e-14)


def test_the_activation_and_the_linear_map_have_their_second_derivatives():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(silu, x)
    single = torch.randn(50, 12, generator=generator)[:, ::2].requires_grad_()  # rows and columns with gaps in between
    weight = torch.randn(7, 18, generator=generator)[:, 6:12].requires_grad_()
    results = []
    for function in (linear, torch.nn.functional.linear):
        (first,) = torch.autograd.grad(function(single, weight).pow(3).sum(), single, create_graph=True)
        results.append(torch.autograd.grad(first.pow(2).sum(), [single, weight]))
    for ours, torchs in zip(*results, strict=True):
        assert (ours - torchs).abs().max() < 1e-5 * torchs.abs().max()
