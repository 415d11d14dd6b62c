# SPDX-License-Identifier: MIT
"""The processes that share a training: those that torchrun started, or a single one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

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

    def sum(self, values: Tensor) -> Tensor:
        """Add a tensor of all processes in place, and return it; all processes must call this."""
        if self.num_processes > 1:
            distributed.all_reduce(values)
        return values

    @contextmanager
    def first_goes_ahead(self) -> Iterator[None]:
        """Run the block in the first process, then in the others: they find the files that the first one wrote."""
        if self.rank > 0:
            self.wait()
        yield
        if self.rank == 0:
            self.wait()

    def parallel(self, module: nn.Module) -> nn.Module:
        """Wrap a module whose forward is a loss, so that each process gets the mean of all processes' gradients.

        The module itself, where there is one process. Each step must use the same parameters as the first one.
        """
        if self.num_processes == 1:
            return module
        # The last layer of an encoder has weights that no result depends on. With `find_unused_parameters` each step
        # would wait for the GPU to learn which.
        return DistributedDataParallel(module, broadcast_buffers=False, static_graph=True)


ALONE = Workers(0, 1, torch.device("cpu"))


@contextmanager
def join_workers(device: str = "cpu", command: str = "train") -> Iterator[Workers]:
    """Join the other processes if torchrun started this one.

    Args:
        device: "cpu" or "cuda"; with several GPUs each process takes the GPU of its local rank.
        command: what error messages start with.

    Raises:
        DTNNError: there is no such device.
    """
    num_processes, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    own_device = find_device(device, command, int(os.environ.get("LOCAL_RANK", "0")))
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
