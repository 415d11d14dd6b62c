# SPDX-License-Identifier: MIT
"""Batches of labelled crystals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..crystals.crystal import Crystal
from ..crystals.operations import SymmetryOperations
from ..errors import DTNNError
from ..nn.graph import CrystalGraph, build_graph
from ..nn.reduced_graph import reduce_crystals
from ..symmetry import with_operations
from .labels import PER_CRYSTAL, read_manifest, read_shard


@dataclass(frozen=True)
class _Shard:
    """A shard in memory.

    Args:
        tensors: its arrays, by name.
        crystals: its crystals, with their operations where the batches are reduced.
    """

    tensors: dict[str, Tensor]
    crystals: list[Crystal]


# A labelled crystal: its shard, and its index in the shard.
_Entry = tuple[_Shard, int]


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
        reduced: whether symmetric crystals get one atom and one bond of each orbit. The labels are then those of the
            stored atoms, which `CrystalGraph.atom_weight` counts.

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
        reduced: bool = False,
    ) -> None:
        self.folder, self.cutoffs, self.label_names = folder, tuple(cutoffs), tuple(label_names)
        self.batch_atoms, self.num_mixed_shards, self.reduced = batch_atoms, num_mixed_shards, reduced
        # Found when a shard is first read: the search takes as long as a tenth of a training step.
        self._operations: dict[int, list[SymmetryOperations | None]] = {}
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
            shards = [self._read(number) for number in order[start : start + self.num_mixed_shards]]
            entries = [
                (shard, k) for shard in shards for k in torch.nonzero(shard.tensors["held_out"] == 0).flatten().tolist()
            ]
            shuffled = [entries[k] for k in random.permutation(len(entries)).tolist()]
            groups = list(self._groups(shuffled))
            own_groups = groups[rank : len(groups) - len(groups) % num_processes : num_processes]
            for group in own_groups[skip:]:
                yield self._batch(group)
            skip = max(skip - len(own_groups), 0)

    def held_out_batches(self, made: bool) -> Iterator[LabelledBatch]:
        """Make batches of all real or all made crystals of held-out chemical systems, in the order of the shards."""
        for number in range(self.num_shards):
            shard = self._read(number)
            chosen = (shard.tensors["held_out"] == 1) & (shard.tensors["made"] == made)
            for group in self._groups([(shard, k) for k in torch.nonzero(chosen).flatten().tolist()]):
                yield self._batch(group)

    def _read(self, number: int) -> _Shard:
        """Read a shard with its crystals."""
        tensors = read_shard(self.folder, number)
        numbers, positions = tensors["atomic_numbers"].long().numpy(), tensors["positions"].numpy()
        crystals = [
            Crystal("", numbers[first:last], positions[first:last], cell)
            for first, last, cell in zip(tensors["ptr"][:-1], tensors["ptr"][1:], tensors["cell"].numpy(), strict=True)
        ]
        if not self.reduced:
            return _Shard(tensors, crystals)
        if number not in self._operations:
            self._operations[number] = [crystal.operations for crystal in with_operations(crystals)]
        known = zip(crystals, self._operations[number], strict=True)
        return _Shard(tensors, [replace(crystal, operations=operations) for crystal, operations in known])

    def _groups(self, entries: Sequence[_Entry]) -> Iterator[list[_Entry]]:
        """Split entries into the groups of a batch each; the order stays."""
        group: list[_Entry] = []
        num_atoms = 0
        for shard, k in entries:
            size = shard.crystals[k].num_atoms
            if group and num_atoms + size > self.batch_atoms:
                yield group
                group, num_atoms = [], 0
            group.append((shard, k))
            num_atoms += size
        if group:
            yield group

    def _batch(self, group: Sequence[_Entry]) -> LabelledBatch:
        crystals = [shard.crystals[k] for shard, k in group]
        labels: dict[str, list[Tensor]] = {name: [] for name in self.label_names}
        for shard, k in group:
            atoms = slice(int(shard.tensors["ptr"][k]), int(shard.tensors["ptr"][k + 1]))
            for name, values in labels.items():
                values.append(shard.tensors[name][k : k + 1] if name in PER_CRYSTAL else shard.tensors[name][atoms])
        joined = {name: torch.cat(values) for name, values in labels.items()}
        if not self.reduced:
            return LabelledBatch(build_graph(crystals, self.cutoffs), joined)
        graph, stored = reduce_crystals(crystals, self.cutoffs, on_failure=lambda index, reason: None)
        kept = {name: values if name in PER_CRYSTAL else values[stored] for name, values in joined.items()}
        return LabelledBatch(graph, kept)
