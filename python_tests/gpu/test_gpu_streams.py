# SPDX-License-Identifier: MIT
"""Streams, CUDA graphs and several devices."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from gpu_samples import MEDIUM, Sample, capture, directions, name_of

from dtnn_fast import DTNN
from dtnn_fast.datasets import load_labelled
from dtnn_fast.symmetry import with_operations

# The default stream is kept busy for this many clock cycles, 0.2 s: a kernel that runs there by mistake comes too late.
BUSY_CYCLES = 400_000_000


@pytest.mark.parametrize("sample", MEDIUM, ids=name_of)
def test_work_goes_to_the_current_stream(sample: Sample, device: torch.device):
    here = sample.on(device, torch.float32)
    expected = here.derivatives()
    if device.type == "cpu":
        found = here.derivatives()
    else:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        torch.cuda._sleep(BUSY_CYCLES)
        with torch.cuda.stream(side):
            found = [x.clone() for x in here.derivatives()]
        side.synchronize()
        if torch.cuda.default_stream().query():
            pytest.skip("the default stream was not busy long enough to tell")
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("sample", MEDIUM, ids=name_of)
def test_forward_and_backward_in_a_cuda_graph(sample: Sample, device: torch.device):
    """The graph reads its inputs where they were at capture: new values there give new results."""
    here = sample.on(device, torch.float32)
    leaves = [x.clone().requires_grad_() for x in here.leaves]
    grads = [directions(out, 1) for out in here.call()]

    def step() -> list[torch.Tensor]:
        outputs = here.call(*leaves)
        return [*(x.detach() for x in outputs), *torch.autograd.grad(outputs, leaves, grads)]

    replay = capture(step, device)
    for seed in (3, 4):
        with torch.no_grad():
            for leaf in leaves:
                leaf.copy_(directions(leaf, seed))
        found = [x.clone() for x in replay()]
        assert all(torch.equal(a, b) for a, b in zip(found, step(), strict=True))


@pytest.mark.parametrize("is_reduced", [False, True])
def test_recorded_predictions_of_the_bundled_model(is_reduced: bool, device: torch.device):
    crystals = load_labelled()[:60]
    if is_reduced:
        pytest.importorskip("moyopy")
        crystals = with_operations(crystals)
    model = DTNN.from_pretrained("dielectric").to(device)
    expected = model.predict_targets(crystals, batch_atoms=100)
    model.use_cuda_graphs()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # where recording fails
        for _ in range(2):
            for target, tensors in model.predict_targets(crystals, batch_atoms=100).items():
                np.testing.assert_allclose(tensors, expected[target], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sample", MEDIUM, ids=name_of)
def test_a_device_that_is_not_the_current_one(sample: Sample, device: torch.device):
    if device.type == "cpu" or torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    expected = sample.on(torch.device("cuda:0"), torch.float32).derivatives()
    with torch.cuda.device(0):
        found = sample.on(torch.device("cuda:1"), torch.float32).derivatives()
    assert all(x.device.index == 1 for x in found)
    assert all(torch.equal(a.cpu(), b.cpu()) for a, b in zip(found, expected, strict=True))
