# SPDX-License-Identifier: MIT
"""The operations work on the threads of torch's pool and start none of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads in /proc")

# Calls every operation, forward and backward, on inputs that are large enough for all threads.
CALLS = """
import os
import sys
import torch
from dtnn_fast import ops
from dtnn_fast.ops.atom_readout import num_readout_weights
from dtnn_fast.ops.atom_update import num_update_weights
from dtnn_fast.ops.decode import num_decoder_weights

threads = int(sys.argv[1])
torch.set_num_threads(threads)


def count():
    return len(os.listdir("/proc/self/task"))


def call_all():
    positions = 20 * torch.rand(1500, 3)
    bonds = ops.neighbor_list(positions, 20 * torch.eye(3), torch.tensor([True] * 3), 4.0)
    positions.requires_grad_()
    vectors = ops.bond_vectors(positions, 20 * torch.eye(3), bonds.pairs, bonds.shifts)
    atoms = ops.bond_to_atom_sum(vectors, bonds.pairs, bonds.row_ptr, "difference")
    atoms = ops.atom_to_bond_gather(atoms, bonds.pairs, bonds.row_ptr, "difference")
    atoms = ops.bond_to_atom_sum(atoms, bonds.pairs, bonds.row_ptr)
    x = atoms[:, :, None] * torch.ones(32)
    y, norm = ops.rank2_linear(x, torch.eye(32), norm=True)
    y = ops.rank2_gate(y, norm, torch.eye(32), x)
    _, _, envelope, _ = ops.bond_geometry(vectors, 4.0, 8)
    w, b = torch.ones(2, 32, 32), torch.ones(2, 32)
    scalars = torch.ones(bonds.pairs.shape[1], 32)
    sums, _ = ops.bond_perceptron_sum(scalars, envelope, w, b, w, b, bonds.pairs, bonds.row_ptr)
    norm = norm + sums[1]
    ptr = torch.tensor([0, 1500])
    epsilon = ops.tensor_readout(norm, y, torch.cat([y, y], 1), ptr)
    weights = torch.ones(1, num_decoder_weights(32, 32, 32, None, blocks=1, latent=4, readouts=1)) / 100
    decoded = ops.decode(norm, y, torch.cat([y, y], 1), weights, ptr, blocks=1, latent=4, readouts=1)
    atoms = norm, y, torch.cat([y, y], 1)
    atoms = ops.atom_update(*atoms, *atoms, torch.ones(num_update_weights(32, 32, 32)) / 100)
    norm, *_ = ops.atom_readout(*atoms, torch.ones(num_readout_weights(32, 32, 32, 4, 4, 4)) / 100, 4, 4, 4)
    epsilon = epsilon + norm.sum()
    epsilon = epsilon + decoded.sum((0, 1, 2))
    (grad,) = torch.autograd.grad(epsilon.sum(), positions)
    assert torch.isfinite(grad).all()
"""


def run(program: str, threads: int) -> list[int]:
    """Return the numbers that the program prints, from a separate process, because a started pool stays."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", CALLS + program, str(threads)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return [int(word) for word in done.stdout.split()]


def test_one_thread_starts_no_other():
    before, after = run("before = count(); call_all(); print(before, count())", 1)
    assert after == before


def test_three_threads_are_those_of_the_pool():
    """Afterwards there are no threads but those that torch's own operations started."""
    program = """
a = torch.rand(1000, 1000)
(a @ a).exp().sum()
x = torch.rand(10, requires_grad=True)
x.sum().backward()
before = count()
for _ in range(3):
    call_all()
print(before, count())
"""
    before, after = run(program, 3)
    assert after == before


def test_a_worker_of_a_data_loader_starts_no_thread():
    program = """
class Calls(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        before = count()
        call_all()
        return count() - before


started = [int(n) for n in torch.utils.data.DataLoader(Calls(), num_workers=2)]
print(*started)
"""
    assert run(program, 3) == [0, 0]
