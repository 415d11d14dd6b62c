# SPDX-License-Identifier: MIT
"""Names of devices, and batches by the memory of a GPU."""

import pytest
import torch

from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.errors import DTNNError
from dtnn_fast.nn.devices import batch_atoms_on, find_device
from dtnn_fast.nn.graph import build_graph


def test_devices_that_torch_sees(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device("cpu", "predict") == torch.device("cpu")
    assert find_device("cuda", "predict") == torch.device("cuda", 0)
    assert find_device("cuda", "distill", 1) == torch.device("cuda", 1)
    assert find_device("cuda:1", "predict") == torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", "predict: expected the device cpu or cuda, got 'gpu'"),
        ("meta", "predict: expected the device cpu or cuda, got 'meta'"),
        ("cuda:2", "predict: the device 'cuda:2' needs GPU number 2, counted from 0; torch sees 2"),
    ],
)
def test_other_devices_are_errors(monkeypatch, name, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(DTNNError) as error:
        find_device(name, "predict")
    assert str(error.value) == message


@pytest.mark.parametrize(("gibibytes", "atoms"), [(0.5, 1024), (8, 8192), (78, 65536)])
def test_batches_fit_into_the_memory_of_a_gpu(monkeypatch, gibibytes, atoms):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(gibibytes * 2**30), 80 * 2**30))
    assert batch_atoms_on(torch.device("cuda", 0)) == atoms
    assert batch_atoms_on(torch.device("cpu")) == 1024


def test_graphs_are_made_for_a_device():
    crystals = load_labelled()[:3]
    here, there = build_graph(crystals, (3.0, 4.0)), build_graph(crystals, (3.0, 4.0), device="meta")
    assert there.positions.device.type == "meta"
    for tier, copied in zip(here.tiers, there.tiers, strict=True):
        tensors = copied.pairs, copied.shifts, copied.row_ptr, *copied.by_neighbor, copied.inner
        assert {tensor.device.type for tensor in tensors} == {"meta"}
        assert copied.pairs.shape == tier.pairs.shape
