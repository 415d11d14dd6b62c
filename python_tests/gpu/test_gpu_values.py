# SPDX-License-Identifier: MIT
"""Values and derivatives against the CPU operations in float64, and against finite differences."""

from __future__ import annotations

import pytest
import torch
from gpu_samples import EMPTY, MEDIUM, SMALL, Sample, fused_networks, name_of
from helpers import check_first_and_second_derivatives

CPU = torch.device("cpu")
# Of the norm of the result.
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-14}
DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sample", [*MEDIUM, *EMPTY], ids=name_of)
def test_values_and_derivatives_equal_those_of_the_cpu(sample: Sample, dtype: torch.dtype, device: torch.device):
    here = sample.on(device, dtype)
    there = sample.on(CPU, dtype).on(CPU, torch.float64)  # the same rounded inputs
    found, expected = here.derivatives(), there.derivatives()
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.device.type == device.type
        assert ours.dtype == dtype
        error = torch.linalg.vector_norm(ours.cpu().double() - theirs)
        assert error <= TOLERANCE[dtype] * torch.linalg.vector_norm(theirs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sample", [sample for sample in MEDIUM if sample.exact], ids=name_of)
def test_bits_equal_those_of_the_cpu(sample: Sample, dtype: torch.dtype, device: torch.device):
    for ours, theirs in zip(sample.on(device, dtype).call(), sample.on(CPU, dtype).call(), strict=True):
        assert torch.equal(ours.cpu(), theirs)


@pytest.mark.parametrize("sample", MEDIUM, ids=name_of)
def test_inputs_need_not_be_contiguous(sample: Sample, device: torch.device):
    here = sample.on(device, torch.float32)
    apart = here._replace(leaves=tuple(torch.stack([x, x.neg()], -1)[..., 0] for x in here.leaves))
    assert not any(x.is_contiguous() for x in apart.leaves)
    for ours, theirs in zip(apart.derivatives(), here.derivatives(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("sample", SMALL, ids=name_of)
def test_first_and_second_derivatives_equal_finite_differences(sample: Sample, device: torch.device):
    here = sample.on(device, torch.float64)
    check_first_and_second_derivatives(here.call, *here.leaves)


# Of the norm of the result; second derivatives pass through several layers.
NETWORK_TOLERANCE = {torch.float32: 5e-5, torch.float64: 1e-12}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sample", fused_networks(700, 4000, 36) + fused_networks(40, 200, 5), ids=name_of)
def test_fused_networks_equal_those_of_the_cpu(sample: Sample, dtype: torch.dtype, device: torch.device):
    """Values have the same bits in every run; of the derivatives torch's scatter_add on CUDA does not promise that."""
    here = sample.on(device, dtype)
    for ours, again in zip(here.call(), here.call(), strict=True):
        assert torch.equal(ours, again)
    there = sample.on(CPU, dtype).on(CPU, torch.float64)
    for ours, theirs in zip(here.derivatives(), there.derivatives(), strict=True):
        error = torch.linalg.vector_norm(ours.cpu().double() - theirs)
        assert error <= NETWORK_TOLERANCE[dtype] * torch.linalg.vector_norm(theirs)
