# SPDX-License-Identifier: MIT
"""Labelled crystals as graphs in memory: neighbor lists are made once, and a batch only joins them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..crystals.crystal import Crystal
from ..encoders.latent_cache import ATOM_ARRAYS, BOND_ARRAYS, LatentTable
from ..errors import BadCrystalError
from ..nn.graph import CrystalGraph, build_graph, collate
from ..nn.latents import EncodedCrystals, Latents


def target_tensors(crystals: Sequence[Crystal], targets: Iterable[str]) -> dict[str, Tensor]:
    """The tensors to learn. [n, 3, 3] for each target, float32.

    Raises:
        BadCrystalError: a crystal lacks one of the targets, or it is no 3x3 tensor of finite numbers.
    """
    targets = tuple(targets)
    for crystal in crystals:
        for target in targets:
            _check_target(crystal, target)
    return {
        target: torch.from_numpy(np.array([crystal.targets[target] for crystal in crystals])).float()
        for target in targets
    }


def _check_target(crystal: Crystal, target: str) -> None:
    if target not in crystal.targets:
        raise BadCrystalError(f"{crystal.label}: no {target} dielectric tensor to learn from")
    tensor = np.asarray(crystal.targets[target])
    if tensor.shape != (3, 3):
        raise BadCrystalError(
            f"{crystal.label}: expected the {target} dielectric tensor of shape [3, 3], got {list(tensor.shape)}"
        )
    if not np.isfinite(tensor).all():
        raise BadCrystalError(f"{crystal.label}: the {target} dielectric tensor has elements that are not finite")


class LabelledGraphs:
    """Crystals with their graphs and target tensors.

    Args:
        crystals: labelled crystals that passed `check_crystal`.
        targets: names of the tensors to learn.
        cutoffs: of the encoder, in Angstrom.

    Raises:
        BadCrystalError: a crystal lacks one of the targets, or it is no 3x3 tensor of finite numbers.
    """

    def __init__(self, crystals: Sequence[Crystal], targets: Iterable[str], cutoffs: Sequence[float]) -> None:
        self.crystals = list(crystals)
        self.targets = tuple(targets)
        self.tensors = target_tensors(self.crystals, self.targets)
        self.graphs = [build_graph([crystal], cutoffs) for crystal in self.crystals]

    def __len__(self) -> int:
        return len(self.crystals)

    def batch(self, indices: Sequence[int]) -> tuple[CrystalGraph, dict[str, Tensor]]:
        """The joined graph of some crystals, and their tensors [B, 3, 3] by target."""
        graph = collate([self.graphs[index] for index in indices])
        return graph, {target: tensors[list(indices)] for target, tensors in self.tensors.items()}


class LabelledLatents:
    """Crystals with latents and target tensors; the counterpart of `LabelledGraphs` for a frozen encoder.

    Args:
        crystals: labelled crystals that passed `check_crystal`.
        targets: names of the tensors to learn.
        cutoffs: of the encoder's layers, from the first. Angstrom.
        table: latents of these crystals, in their order.
        build_bonds: whether bond latents are to be built from those of the atoms, which needs the crystals' graphs.

    Raises:
        BadCrystalError: a crystal lacks one of the targets, or it is no 3x3 tensor of finite numbers.
    """

    def __init__(
        self,
        crystals: Sequence[Crystal],
        targets: Iterable[str],
        cutoffs: Sequence[float],
        table: LatentTable,
        build_bonds: bool = False,
    ) -> None:
        self.crystals, self.targets = list(crystals), tuple(targets)
        self.tensors = target_tensors(self.crystals, self.targets)
        self.cutoffs, self.table = tuple(cutoffs), table
        # The latents of bonds need to know which atoms they connect.
        reached = [self.cutoffs[layer - 1] for layer in (table.layers if build_bonds else table.bond_counts)]
        self.graphs = [build_graph([crystal], reached) for crystal in self.crystals] if reached else []

    def __len__(self) -> int:
        return len(self.crystals)

    def batch(self, indices: Sequence[int]) -> tuple[EncodedCrystals, dict[str, Tensor]]:
        """The latents of some crystals, and their tensors [B, 3, 3] by target."""
        chosen = list(indices)
        graph = collate([self.graphs[index] for index in chosen]) if self.graphs else None
        latents: list[Latents | None] = [None] * max(self.table.layers)
        for layer in self.table.layers:
            parts = self.table.select(layer, chosen)
            tier = graph.tier(self.cutoffs[layer - 1]) if graph and layer in self.table.bond_counts else None
            atoms = [parts[name] for name in ATOM_ARRAYS]
            bonds = [parts.get(name) for name in BOND_ARRAYS]
            latents[layer - 1] = Latents._make((*atoms, *bonds, tier))
        ends = self.table.atom_counts[chosen].cumsum(0)
        encoded = EncodedCrystals(latents, torch.cat([ends.new_zeros(1), ends]), graph)
        return encoded, {target: tensors[chosen] for target, tensors in self.tensors.items()}
