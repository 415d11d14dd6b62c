# SPDX-License-Identifier: MIT
"""Training data in memory: labelled crystals as graphs, or as latents that a frozen encoder computed once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..crystals.crystal import Crystal
from ..encoders.latent_cache import ATOM_ARRAYS, BOND_ARRAYS, LatentTable, labelled_graph
from ..encoders.native import NativeEncoderConfig
from ..errors import BadCrystalError, DTNNError
from ..nn.graph import CrystalGraph, collate
from ..nn.latents import AtomOrbits, EncodedCrystals, Latents
from .partial_labels import PartiallyLabelledGraphs
from .training_settings import TrainingSettings


class LabelledGraphs:
    """Crystals with their graphs and target tensors; neighbor lists are computed once, and a batch only joins them.

    Args:
        crystals: labelled crystals that passed `check_crystal`.
        targets: names of the tensors to learn.
        cutoffs: cutoffs of the encoder's layers, from the first. Angstrom.
        reduced: see `labelled_graph`.

    Raises:
        BadCrystalError: a crystal lacks a target, or a target is not a 3x3 tensor of finite numbers.
    """

    def __init__(
        self, crystals: Sequence[Crystal], targets: Iterable[str], cutoffs: Sequence[float], reduced: bool = False
    ) -> None:
        self.crystals = list(crystals)
        self.targets = tuple(targets)
        self.tensors = target_tensors(self.crystals, self.targets)
        self.graphs = [labelled_graph([crystal], cutoffs, reduced) for crystal in self.crystals]

    def __len__(self) -> int:
        return len(self.crystals)

    def batch(
        self, indices: Sequence[int], step_indices: Sequence[int] | None = None
    ) -> tuple[CrystalGraph, dict[str, Tensor]]:
        """Join the graphs of some crystals, and return them with their tensors [B, 3, 3] by target.

        Args:
            indices: the crystals.
            step_indices: not used; see `PartiallyLabelledGraphs.batch`.
        """
        graph = collate([self.graphs[index] for index in indices])
        return graph, {target: tensors[list(indices)] for target, tensors in self.tensors.items()}


class LabelledLatents:
    """Crystals with latents and target tensors; the counterpart of `LabelledGraphs` for a frozen encoder.

    Args:
        crystals: labelled crystals that passed `check_crystal`.
        targets: names of the tensors to learn.
        cutoffs: cutoffs of the encoder's layers, from the first. Angstrom.
        latents: latents of these crystals, in their order.
        build_bonds: whether the model builds bond latents from atom latents, which needs the crystals' graphs.
        reduced: whether the encoder read reduced graphs; see `labelled_graph`.

    Raises:
        BadCrystalError: a crystal lacks a target, or a target is not a 3x3 tensor of finite numbers.
    """

    def __init__(
        self,
        crystals: Sequence[Crystal],
        targets: Iterable[str],
        cutoffs: Sequence[float],
        latents: LatentTable,
        build_bonds: bool = False,
        reduced: bool = False,
    ) -> None:
        self.crystals, self.targets = list(crystals), tuple(targets)
        self.tensors = target_tensors(self.crystals, self.targets)
        self.cutoffs, self.latents = tuple(cutoffs), latents
        # Bond latents need the graph: it says which atoms each bond connects.
        bond_layers = latents.layers if build_bonds else latents.bond_counts
        bond_cutoffs = [self.cutoffs[layer - 1] for layer in bond_layers]
        if not bond_cutoffs and reduced and any(crystal.operations for crystal in self.crystals):
            # The graph also says what the stored atoms stand for.
            bond_cutoffs = [self.cutoffs[0]]
        self.graphs = (
            [labelled_graph([crystal], bond_cutoffs, reduced) for crystal in self.crystals] if bond_cutoffs else []
        )

    def __len__(self) -> int:
        return len(self.crystals)

    def batch(
        self, indices: Sequence[int], step_indices: Sequence[int] | None = None
    ) -> tuple[EncodedCrystals, dict[str, Tensor]]:
        """Join the latents of some crystals, and return them with their tensors [B, 3, 3] by target.

        Args:
            indices: the crystals.
            step_indices: not used; see `PartiallyLabelledGraphs.batch`.
        """
        rows = list(indices)
        graph = collate([self.graphs[row] for row in rows]) if self.graphs else None
        by_layer: list[Latents | None] = [None] * max(self.latents.layers)
        for layer in self.latents.layers:
            arrays = self.latents.select(layer, rows)
            bonds = graph.tier(self.cutoffs[layer - 1]) if graph and layer in self.latents.bond_counts else None
            atom_latents = [arrays[name] for name in ATOM_ARRAYS]
            bond_latents = [arrays.get(name) for name in BOND_ARRAYS]
            by_layer[layer - 1] = Latents._make((*atom_latents, *bond_latents, bonds))
        ends = self.latents.atom_counts[rows].cumsum(0)
        orbits = None if graph is None else AtomOrbits.of(graph)
        encoded = EncodedCrystals(by_layer, torch.cat([ends.new_zeros(1), ends]), graph, orbits)
        return encoded, {target: tensors[rows] for target, tensors in self.tensors.items()}


LabelledData = LabelledGraphs | LabelledLatents | PartiallyLabelledGraphs


def make_labelled_data(
    settings: TrainingSettings,
    crystals: Sequence[Crystal],
    latents: LatentTable | None,
    more: Sequence[Crystal] = (),
) -> LabelledData:
    """Prepare the input of training: graphs for an encoder that is trained, latents for a frozen encoder.

    Args:
        settings: settings of the run.
        crystals: labelled, cleaned and checked.
        latents: latents of the crystals by the frozen encoder; None where the encoder is trained.
        more: further crystals, of which only some labels are known; they follow `crystals`. With them, or with a model
            of Born charges or of several functionals, the encoder must be a native one that is trained.

    Raises:
        BadCrystalError: a crystal has no tensor to learn from.
        DTNNError: there are partial labels, and the encoder is frozen or a pretrained one.
    """
    targets, decoder = settings.model.targets, settings.model.decoder
    cutoffs = settings.model.encoder.cutoffs[: decoder.layer]
    reduced = isinstance(settings.model.encoder, NativeEncoderConfig)
    if more or settings.model.born_charges or settings.model.functionals:
        if latents is not None or not reduced:
            raise DTNNError(
                "train: partial labels, Born charges and several functionals need a native encoder that is trained "
                "(--encoder distilled --finetune)"
            )
        target_tensors(crystals, targets)  # those of the split must have all labels
        return PartiallyLabelledGraphs([*crystals, *more], targets, cutoffs, settings.model.functionals)
    if latents is None:
        return LabelledGraphs(crystals, targets, cutoffs, reduced)
    return LabelledLatents(crystals, targets, cutoffs, latents, decoder.bonds and not latents.bond_counts, reduced)


def target_tensors(crystals: Sequence[Crystal], targets: Iterable[str]) -> dict[str, Tensor]:
    """Collect the tensors to learn. [n, 3, 3] for each target, float32.

    Raises:
        BadCrystalError: a crystal lacks a target, or a target is not a 3x3 tensor of finite numbers.
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
        raise BadCrystalError(f"{crystal.label}: expected the {target} dielectric tensor to be finite, got NaN or inf")
