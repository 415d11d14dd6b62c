# SPDX-License-Identifier: MIT
"""The processes that share a distillation: those that torchrun started, or a single one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed

from ..nn.devices import find_device


@dataclass(frozen=True)
class Workers:
    """This process and the others that work with it.

    Args:
        rank: rank of this process, from 0; process 0 writes the files.
        num_processes: number of all processes.
        device: device of this process.
    """

    rank: int
    num_processes: int
    device: torch.device

    @property
    def share(self) -> tuple[int, int]:
        """Rank of this process and number of processes, for functions that split work."""
        return self.rank, self.num_processes

    def wait(self) -> None:
        """Wait until all processes have reached this call."""
        if self.num_processes > 1:
            distributed.barrier()

    def any_process(self, flag: bool) -> bool:
        """Tell whether the flag is set in any of the processes; all processes must call this."""
        if self.num_processes == 1:
            return flag
        total = torch.tensor([int(flag)], device=self.device)
        distributed.all_reduce(total)
        return bool(total.item())


@contextmanager
def join_workers(device: str = "cpu") -> Iterator[Workers]:
    """Join the other processes if torchrun started this one.

    Args:
        device: "cpu" or "cuda"; with several GPUs each process takes the GPU of its local rank.

    Raises:
        DTNNError: there is no such device.
    """
    num_processes, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    own_device = find_device(device, "distill", int(os.environ.get("LOCAL_RANK", "0")))
    if own_device.type == "cuda":
        torch.cuda.set_device(own_device)
    if num_processes == 1:
        yield Workers(0, 1, own_device)
        return
    distributed.init_process_group("nccl" if own_device.type == "cuda" else "gloo")
    try:
        yield Workers(rank, num_processes, own_device)
    finally:
        distributed.destroy_process_group()
