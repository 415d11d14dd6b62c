# SPDX-License-Identifier: MIT
"""Labelled crystals as graphs in memory: neighbor lists are made once, and a batch only joins them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..crystals.crystal import Crystal
from ..errors import BadCrystalError
from ..nn.graph import CrystalGraph, build_graph, collate


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
