# SPDX-License-Identifier: MIT
"""Batches of labelled crystals, and a thread that makes them ahead of the training."""

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
_QUEUE_SIZE = 4
# A labelled crystal: the tensors of its shard, and its index in the shard.
_Entry = tuple[dict[str, Tensor], int]


@dataclass(frozen=True)
class LabelledBatch:
    """Crystals with their labels.

    Args:
        graph: the crystals.
        labels: by name, such as ``"vector_3"`` or ``"energy"``, in the stored dtype.
    """

    graph: CrystalGraph
    labels: dict[str, Tensor]

    def to(self, device: torch.device | str) -> LabelledBatch:
        """Copy the batch to another device."""
        return LabelledBatch(self.graph.to(device), {name: values.to(device) for name, values in self.labels.items()})


class LabelledShards:
    """The labelled crystals of a folder, read shard by shard.

    Args:
        folder: folder that `label_crystals` filled.
        cutoffs: cutoffs of the student's encoder, in Angstrom.
        label_names: labels to read.
        batch_atoms: maximum number of atoms of a batch, except for one larger crystal.
        num_mixed_shards: number of shards whose crystals are shuffled together.

    Raises:
        BadFileError: a shard is missing or damaged.
        DTNNError: the folder lacks a label, or has no training crystals or no held-out ones.
    """

    def __init__(
        self,
        folder: Path,
        cutoffs: Sequence[float],
        label_names: Sequence[str],
        batch_atoms: int = 256,
        num_mixed_shards: int = 4,
    ) -> None:
        self.folder, self.cutoffs, self.label_names = folder, tuple(cutoffs), tuple(label_names)
        self.batch_atoms, self.num_mixed_shards = batch_atoms, num_mixed_shards
        self.manifest = read_manifest(folder)
        self.num_shards = int(self.manifest["crystals"]["shards"])
        self.num_crystals, self.num_atoms = 0, 0
        num_held_out = 0
        for number in range(self.num_shards):
            shard = read_shard(folder, number)
            missing = [name for name in self.label_names if name not in shard]
            if missing:
                raise DTNNError(f"distill: {folder} has no labels {', '.join(missing)}")
            training = shard["held_out"] == 0
            num_held_out += int((~training).sum())
            self.num_crystals += int(training.sum())
            self.num_atoms += int(shard["ptr"].diff()[training].sum())
        if not self.num_crystals or not num_held_out:
            raise DTNNError(
                f"distill: expected training crystals and crystals of held-out chemical systems in {folder}, "
                f"got {self.num_crystals} and {num_held_out}"
            )

    def training_batches(
        self, seed: int, epoch: int, share: tuple[int, int] = (0, 1), skip: int = 0
    ) -> Iterator[LabelledBatch]:
        """Make the batches of one epoch.

        Args:
            seed: decides on the order, together with the epoch.
            epoch: counted from 0.
            share: rank of this process and number of processes that share the batches; each gets the same number.
            skip: number of batches of this process to leave out at the beginning.
        """
        rank, num_processes = share
        random = np.random.RandomState((seed, epoch))
        order = random.permutation(self.num_shards).tolist()
        for start in range(0, self.num_shards, self.num_mixed_shards):
            shards = [read_shard(self.folder, number) for number in order[start : start + self.num_mixed_shards]]
            entries = [(shard, k) for shard in shards for k in torch.nonzero(shard["held_out"] == 0).flatten().tolist()]
            shuffled = [entries[k] for k in random.permutation(len(entries)).tolist()]
            groups = list(self._groups(shuffled))
            own_groups = groups[rank : len(groups) - len(groups) % num_processes : num_processes]
            for group in own_groups[skip:]:
                yield self._batch(group)
            skip = max(skip - len(own_groups), 0)

    def held_out_batches(self, made: bool) -> Iterator[LabelledBatch]:
        """Make batches of all real or all made crystals of held-out chemical systems, in the order of the shards."""
        for number in range(self.num_shards):
            shard = read_shard(self.folder, number)
            chosen = (shard["held_out"] == 1) & (shard["made"] == made)
            for group in self._groups([(shard, k) for k in torch.nonzero(chosen).flatten().tolist()]):
                yield self._batch(group)

    def _groups(self, entries: Sequence[_Entry]) -> Iterator[list[_Entry]]:
        """Split entries into the groups of a batch each; the order stays."""
        group: list[_Entry] = []
        num_atoms = 0
        for shard, k in entries:
            size = int(shard["ptr"][k + 1] - shard["ptr"][k])
            if group and num_atoms + size > self.batch_atoms:
                yield group
                group, num_atoms = [], 0
            group.append((shard, k))
            num_atoms += size
        if group:
            yield group

    def _batch(self, group: Sequence[_Entry]) -> LabelledBatch:
        crystals = []
        labels: dict[str, list[Tensor]] = {name: [] for name in self.label_names}
        for shard, k in group:
            atoms = slice(int(shard["ptr"][k]), int(shard["ptr"][k + 1]))
            numbers = shard["atomic_numbers"][atoms].long().numpy()
            crystals.append(Crystal("", numbers, shard["positions"][atoms].numpy(), shard["cell"][k].numpy()))
            for name, values in labels.items():
                values.append(shard[name][k : k + 1] if name in PER_CRYSTAL else shard[name][atoms])
        joined = {name: torch.cat(values) for name, values in labels.items()}
        return LabelledBatch(build_graph(crystals, self.cutoffs), joined)


def read_ahead(items: Callable[[], Iterator[T]]) -> Generator[T, None, None]:
    """Make items in a thread, up to four ahead of the consumer.

    Args:
        items: starts the iteration; an error in it is raised to the consumer in place of the item.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(_QUEUE_SIZE)
    stop = threading.Event()

    def put(item: T | None, error: BaseException | None) -> None:
        while not stop.is_set():
            try:
                return ready.put((item, error), timeout=0.1)
            except queue.Full:
                continue

    def make_items() -> None:
        try:
            for item in items():
                put(item, None)
                if stop.is_set():
                    return
            put(None, None)
        except BaseException as error:  # raised in the consumer's thread
            put(None, error)

    thread = threading.Thread(target=make_items, daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        stop.set()
        thread.join()
