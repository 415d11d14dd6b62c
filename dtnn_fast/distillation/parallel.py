# SPDX-License-Identifier: MIT
"""The processes that torchrun started, or the only one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed

from ..errors import DTNNError


@dataclass(frozen=True)
class Workers:
    """This process among those that work together.

    Args:
        rank: of this process, from 0; 0 writes the files.
        count: of the processes.
        device: of this process.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def part(self) -> tuple[int, int]:
        """This process and how many there are."""
        return self.rank, self.count

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            distributed.barrier()

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any of the processes."""
        if self.count == 1:
            return flag
        total = torch.tensor([int(flag)], device=self.device)
        distributed.all_reduce(total)
        return bool(total.item())


@contextmanager
def workers(device: str = "cpu") -> Iterator[Workers]:
    """Join the other processes if torchrun started this one.

    Args:
        device: "cpu" or "cuda"; of several GPUs each process takes the one of its local rank.

    Raises:
        DTNNError: there is no such device.
    """
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise DTNNError(f"distill: expected the device cpu or cuda, got {device!r}") from error
    if place.type not in ("cpu", "cuda"):
        raise DTNNError(f"distill: expected the device cpu or cuda, got {device!r}")
    if place.type == "cuda" and not torch.cuda.is_available():
        raise DTNNError(f"distill: the device {device!r} is not there: torch sees no CUDA device")
    if place.type == "cuda" and place.index is None:
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(place)
    if count == 1:
        yield Workers(0, 1, place)
        return
    distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield Workers(rank, count, place)
    finally:
        distributed.destroy_process_group()
