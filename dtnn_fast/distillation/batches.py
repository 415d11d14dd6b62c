# SPDX-License-Identifier: MIT
"""Batches of labelled crystals, read shard by shard in a thread that stays ahead of the training."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..crystals.crystal import Crystal
from ..errors import DTNNError
from ..nn.graph import CrystalGraph, build_graph
from .labels import PER_CRYSTAL, read_manifest, read_shard

T = TypeVar("T")
_AHEAD = 4


@dataclass(frozen=True)
class Batch:
    """Crystals with the latents that they should get.

    Args:
        graph: the crystals.
        labels: by name, such as ``"vector_3"`` or ``"energy"``, as they are stored.
    """

    graph: CrystalGraph
    labels: dict[str, Tensor]

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(self.graph.to(device), {name: values.to(device) for name, values in self.labels.items()})


class LabelledShards:
    """The batches of a folder of labels.

    Args:
        folder: what `labels.label` filled.
        cutoffs: of the encoder that learns, in Angstrom.
        names: labels to read.
        batch_atoms: about how many atoms a batch has.
        mixed: how many shards are mixed with each other.

    Raises:
        BadFileError: a shard is missing or damaged.
        DTNNError: a label is not there, or no crystal is left to learn from or to test on.
    """

    def __init__(
        self, folder: Path, cutoffs: Sequence[float], names: Sequence[str], batch_atoms: int = 256, mixed: int = 4
    ) -> None:
        self.folder, self.cutoffs, self.names = folder, tuple(cutoffs), tuple(names)
        self.batch_atoms, self.mixed = batch_atoms, mixed
        self.manifest = read_manifest(folder)
        self.num_shards = int(self.manifest["crystals"]["shards"])
        self.num_crystals, self.num_atoms = 0, 0
        held_out = 0
        for number in range(self.num_shards):
            shard = read_shard(folder, number)
            missing = [name for name in self.names if name not in shard]
            if missing:
                raise DTNNError(f"distill: {folder} has no labels {', '.join(missing)}")
            training = shard["held_out"] == 0
            held_out += int((~training).sum())
            self.num_crystals += int(training.sum())
            self.num_atoms += int(shard["ptr"].diff()[training].sum())
        if not self.num_crystals or not held_out:
            raise DTNNError(
                f"distill: expected crystals to learn from and crystals of held-out chemical systems in {folder}, "
                f"got {self.num_crystals} and {held_out}"
            )

    def training(self, seed: int, epoch: int, part: tuple[int, int] = (0, 1), skip: int = 0) -> Iterator[Batch]:
        """The batches of one epoch.

        Args:
            seed: with the epoch it decides on the order.
            epoch: counted from 0.
            part: this process and how many of them share the batches; each gets as many as the others.
            skip: how many batches to leave out at the beginning.
        """
        random = np.random.RandomState((seed, epoch))
        order = random.permutation(self.num_shards).tolist()
        for start in range(0, self.num_shards, self.mixed):
            shards = [read_shard(self.folder, number) for number in order[start : start + self.mixed]]
            places = [(shard, k) for shard in shards for k in torch.nonzero(shard["held_out"] == 0).flatten().tolist()]
            shuffled = [places[k] for k in random.permutation(len(places)).tolist()]
            plan = list(self._cut(shuffled))
            mine = plan[part[0] : len(plan) - len(plan) % part[1] : part[1]]
            for members in mine[skip:]:
                yield self._batch(members)
            skip = max(skip - len(mine), 0)

    def held_out(self, made: bool) -> Iterator[Batch]:
        """All real or all made crystals of the held-out chemical systems, in the order of the shards."""
        for number in range(self.num_shards):
            shard = read_shard(self.folder, number)
            places = [
                (shard, k) for k in torch.nonzero((shard["held_out"] == 1) & (shard["made"] == made)).flatten().tolist()
            ]
            for members in self._cut(places):
                yield self._batch(members)

    def _cut(self, places: Sequence[tuple[dict[str, Tensor], int]]) -> Iterator[list[tuple[dict[str, Tensor], int]]]:
        members: list[tuple[dict[str, Tensor], int]] = []
        atoms = 0
        for shard, k in places:
            size = int(shard["ptr"][k + 1] - shard["ptr"][k])
            if members and atoms + size > self.batch_atoms:
                yield members
                members, atoms = [], 0
            members.append((shard, k))
            atoms += size
        if members:
            yield members

    def _batch(self, members: Sequence[tuple[dict[str, Tensor], int]]) -> Batch:
        crystals = []
        parts: dict[str, list[Tensor]] = {name: [] for name in self.names}
        for shard, k in members:
            atoms = slice(int(shard["ptr"][k]), int(shard["ptr"][k + 1]))
            numbers = shard["atomic_numbers"][atoms].long().numpy()
            crystals.append(Crystal("", numbers, shard["positions"][atoms].numpy(), shard["cell"][k].numpy()))
            for name, values in parts.items():
                values.append(shard[name][k : k + 1] if name in PER_CRYSTAL else shard[name][atoms])
        return Batch(build_graph(crystals, self.cutoffs), {name: torch.cat(values) for name, values in parts.items()})


def read_ahead(items: Callable[[], Iterator[T]]) -> Generator[T, None, None]:
    """Make items in a thread that stays a few ahead of who takes them.

    Args:
        items: starts the iteration; an error in it is raised where the item is taken.
    """
    waiting: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(_AHEAD)
    stop = threading.Event()

    def put(item: T | None, error: BaseException | None) -> None:
        while not stop.is_set():
            try:
                return waiting.put((item, error), timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items():
                put(item, None)
                if stop.is_set():
                    return
            put(None, None)
        except BaseException as error:  # raised in the thread that takes
            put(None, error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        stop.set()
        thread.join()
