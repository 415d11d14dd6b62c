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


def _device(name: str, local_rank: int) -> torch.device:
    try:
        place = torch.device(name)
    except RuntimeError as error:
        raise DTNNError(f"distill: expected the device cpu or cuda, got {name!r}") from error
    if place.type == "cpu":
        return place
    if place.type != "cuda":
        raise DTNNError(f"distill: expected the device cpu or cuda, got {name!r}")
    index = local_rank if place.index is None else place.index
    if index >= (count := torch.cuda.device_count()):
        raise DTNNError(f"distill: the device {name!r} needs GPU number {index}, counted from 0; torch sees {count}")
    return torch.device("cuda", index)


@contextmanager
def workers(device: str = "cpu") -> Iterator[Workers]:
    """Join the other processes if torchrun started this one.

    Args:
        device: "cpu" or "cuda"; of several GPUs each process takes the one of its local rank.

    Raises:
        DTNNError: there is no such device.
    """
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    place = _device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if count == 1:
        yield Workers(0, 1, place)
        return
    distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield Workers(rank, count, place)
    finally:
        distributed.destroy_process_group()
