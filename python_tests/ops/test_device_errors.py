# SPDX-License-Identifier: MIT
"""Settings for index errors on CUDA; the errors of the kernels are tested in cuda/test_device_errors_cuda.py."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from dtnn_fast.ops import atom_to_bond_gather, check_device_errors, immediate_device_errors

OPS = torch.ops.dtnn_fast


@pytest.fixture
def setting():
    """Turn immediate errors off, and restore the setting after the test."""
    before = OPS.set_immediate_device_errors(False)
    yield
    OPS.set_immediate_device_errors(before)


@pytest.mark.skipif(not OPS.has_cuda_kernels(), reason="this build has no CUDA kernels")
@pytest.mark.usefixtures("setting")
def test_immediate_errors_end_with_the_block_also_after_an_exception():
    with immediate_device_errors():
        with pytest.raises(KeyError), immediate_device_errors():
            raise KeyError
        assert OPS.set_immediate_device_errors(True)
    assert not OPS.set_immediate_device_errors(False)


@pytest.mark.skipif(not OPS.has_cuda_kernels(), reason="this build has no CUDA kernels")
@pytest.mark.parametrize(("value", "is_on"), [("1", True), ("0", False), ("", False)])
def test_immediate_errors_by_environment(value, is_on):
    program = "import torch, dtnn_fast.ops; print(torch.ops.dtnn_fast.set_immediate_device_errors(False))"
    environment = {**os.environ, "DTNN_FAST_IMMEDIATE_DEVICE_ERRORS": value}
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(is_on)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_there_is_nothing_to_raise():
    check_device_errors()
    check_device_errors("cuda:1")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_an_index_error_on_a_gpu():
    values = torch.ones(3, 2, device="cuda")
    pairs = torch.tensor([[0, 7], [1, 1]], device="cuda")
    row_ptr = torch.tensor([0, 1, 2, 2], device="cuda")
    message = r"atom_to_bond_gather: expected `pairs` with atoms in \[0, 3\), got an index outside: 7 at pairs\[0, 1\]"
    gathered = atom_to_bond_gather(values, pairs, row_ptr)
    assert gathered.isnan().all(1).tolist() == [False, True]
    with pytest.raises(RuntimeError, match=message + r" \(an earlier call on cuda:0"):
        check_device_errors()
    check_device_errors()
    atom_to_bond_gather(values, pairs, row_ptr)
    torch.cuda.synchronize()
    with pytest.raises(RuntimeError, match=message + r" \(an earlier call on cuda:0"):
        atom_to_bond_gather(values, pairs[:, :1], row_ptr)
    with immediate_device_errors(), pytest.raises(RuntimeError, match=message + "$"):
        atom_to_bond_gather(values, pairs, row_ptr)
    check_device_errors()
