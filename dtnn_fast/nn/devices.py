# SPDX-License-Identifier: MIT
"""Devices to compute on: their names, and how many atoms fit into a batch there."""

from __future__ import annotations

import torch

from ..errors import DTNNError

# Larger batches save no time on the CPU. On a GPU they hide what the host needs to call hundreds of kernels.
_CPU_BATCH_ATOMS, _MOST_BATCH_ATOMS = 1024, 65536
# What a forward pass takes on CUDA, with a margin: a large cell of MgO needs a third of it.
_CUDA_BYTES_PER_ATOM = 2**20


def find_device(name: str, command: str, default_index: int = 0) -> torch.device:
    """Return the device with this name, and check that torch sees it.

    Args:
        name: "cpu", "cuda" or "cuda:N".
        command: what the error message starts with.
        default_index: number of the GPU that "cuda" means.

    Raises:
        DTNNError: the name is not of this form, or torch sees no such GPU.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DTNNError(f"{command}: expected the device cpu or cuda, got {name!r}") from error
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise DTNNError(f"{command}: expected the device cpu or cuda, got {name!r}")
    index = default_index if device.index is None else device.index
    if index >= (count := torch.cuda.device_count()):
        raise DTNNError(f"{command}: the device {name!r} needs GPU number {index}, counted from 0; torch sees {count}")
    return torch.device("cuda", index)


def batch_atoms_on(device: torch.device) -> int:
    """Choose the largest number of atoms of a batch: fixed on the CPU, as the free memory allows on a GPU."""
    if device.type != "cuda":
        return _CPU_BATCH_ATOMS
    free, _ = torch.cuda.mem_get_info(device)
    return max(_CPU_BATCH_ATOMS, min(_MOST_BATCH_ATOMS, free // _CUDA_BYTES_PER_ATOM))
