# SPDX-License-Identifier: MIT
"""Crystals of which only some labels are known: their graphs, their labels as tensors, and the loss on what is known.

A tensor may be unknown, or known by its diagonal or its mean alone; Born charges may be unknown; labels may come from
several functionals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..crystals.crystal import Crystal
from ..errors import BadCrystalError
from ..model.dtnn import DTNN
from ..nn.graph import CrystalGraph, collate
from ..nn.reduced_graph import reduce_crystals
from .metrics import unique_elements

# Key of `Crystal.info`, true where all labels of a crystal are predictions of other models (tools/ensemble_labels.py).
LABELS_ARE_PREDICTED = "labels_are_predicted"
# Charges of this size or less (e) count by their error; larger ones by their relative error.
_CHARGE_SIZE = 0.5


class PartialLabels(NamedTuple):
    """Labels of a batch of crystals; NaN where unknown.

    Args:
        tensors: by target. [B, 3, 3] each.
        means: thirds of the traces where no more is known, by target. [B] each.
        born_charges: of the stored atoms; None if no crystal of the data set has any. [N, 3, 3], e.
        functional: index of each crystal's functional; None if the data set has one. [B], int64.
        known: number of crystals of the step with a label of each target, and number of atoms with Born charges under
            "born_charges", in all processes.
    """

    tensors: dict[str, Tensor]
    means: dict[str, Tensor]
    born_charges: Tensor | None
    functional: Tensor | None
    known: Mapping[str, float]


class PartiallyLabelledGraphs:
    """Crystals with their graphs and the labels that are known; the counterpart of `LabelledGraphs`.

    Args:
        crystals: crystals that passed `check_crystal`. Those with `operations` are reduced to one atom and one bond of
            each orbit.
        targets: names of the tensors to learn.
        cutoffs: cutoffs of the encoder's layers, from the first. Angstrom.
        functionals: names of the functionals, the main one first; `Crystal.info["functional"]` names a crystal's, and
            is the first where it is missing. Empty: labels are not distinguished.

    Raises:
        BadCrystalError: a crystal has an unknown functional.
    """

    def __init__(
        self,
        crystals: Sequence[Crystal],
        targets: Iterable[str],
        cutoffs: Sequence[float],
        functionals: Sequence[str] = (),
    ) -> None:
        self.crystals, self.targets = list(crystals), tuple(targets)
        self.tensors = {target: _stacked_tensors(self.crystals, target) for target in self.targets}
        self.means = {
            target: torch.tensor([crystal.means.get(target, np.nan) for crystal in self.crystals])
            for target in self.targets
        }
        self.functional = _functional_indices(self.crystals, functionals) if functionals else None
        self.graphs: list[CrystalGraph] = []
        charges: list[Tensor] = []
        for crystal in self.crystals:
            graph, stored = reduce_crystals([crystal], cutoffs, on_failure=lambda index, reason: None)
            self.graphs.append(graph)
            unknown = np.full((crystal.num_atoms, 3, 3), np.nan)
            of_atoms = unknown if crystal.born_charges is None else crystal.born_charges
            charges.append(torch.from_numpy(of_atoms).float()[stored])
        has_charges = any(crystal.born_charges is not None for crystal in self.crystals)
        self.born_charges = charges if has_charges else None
        # Numbers of known labels, for the means of a step: one row a crystal.
        self._known = {target: self.is_known(target).numpy() for target in self.targets}
        self._known["born_charges"] = np.array(
            [0 if crystal.born_charges is None else crystal.num_atoms for crystal in self.crystals]
        )

    def __len__(self) -> int:
        return len(self.crystals)

    def is_known(self, target: str) -> Tensor:
        """Tell of each crystal whether anything is known of its tensor. [n], bool."""
        return ~(self.tensors[target].isnan().all(-1).all(-1) & self.means[target].isnan())

    def batch(
        self, indices: Sequence[int], step_indices: Sequence[int] | None = None
    ) -> tuple[CrystalGraph, PartialLabels]:
        """Join the graphs of some crystals, and return them with their labels.

        Args:
            indices: crystals of this process.
            step_indices: crystals of the step in all processes; None for the same.
        """
        rows = list(indices)
        step = rows if step_indices is None else list(step_indices)
        labels = PartialLabels(
            {target: tensors[rows] for target, tensors in self.tensors.items()},
            {target: means[rows] for target, means in self.means.items()},
            None if self.born_charges is None else torch.cat([self.born_charges[row] for row in rows]),
            None if self.functional is None else self.functional[rows],
            {name: max(float(known[step].sum()), 1.0) for name, known in self._known.items()},
        )
        return collate([self.graphs[row] for row in rows]), labels


def _stacked_tensors(crystals: Sequence[Crystal], target: str) -> Tensor:
    """Collect the tensors of a target; a diagonal alone leaves the other elements NaN. [n, 3, 3]."""
    tensors = np.full((len(crystals), 3, 3), np.nan, dtype=np.float32)
    for tensor, crystal in zip(tensors, crystals, strict=True):
        if target in crystal.targets:
            tensor[:] = crystal.targets[target]
        elif target in crystal.diagonals:
            np.fill_diagonal(tensor, crystal.diagonals[target])
    return torch.from_numpy(tensors)


def _functional_indices(crystals: Sequence[Crystal], functionals: Sequence[str]) -> Tensor:
    places = {name: place for place, name in enumerate(functionals)}
    indices = []
    for crystal in crystals:
        name = crystal.info.get("functional", functionals[0])
        if name not in places:
            raise BadCrystalError(f"{crystal.label}: expected a functional of {', '.join(functionals)}, got {name!r}")
        indices.append(places[name])
    return torch.tensor(indices)


def partial_loss(
    model: DTNN,
    graph: CrystalGraph,
    labels: PartialLabels,
    scales: Mapping[str, float],
    power: float,
    born_weight: float,
) -> Tensor:
    """Compute the loss on the known labels.

    For each target, the mean over the crystals with a label, and over the members, of |prediction - label| (the mean
    over the known elements of the six) over the scale s, times (s / (s + |mean of the label|))^power. So a few huge
    tensors do not rule. For Born charges, the mean over the atoms of |prediction - label| over 0.5 e + |label|.

    Args:
        model: the model.
        graph: the crystals of this process.
        labels: their labels.
        scales: s of each target.
        power: 0 for absolute errors, 1 for relative ones.
        born_weight: weight of the Born charges; 0 leaves them out.

    Returns:
        Sums over this process divided by the numbers of all processes; they add up to the loss of the step.
    """
    encoded = model.encode(graph)._replace(functional=labels.functional)
    predicted = model.member_tensors(encoded)
    terms = [
        _tensor_term(predicted[target], labels.tensors[target], labels.means[target], scale, power)
        / labels.known[target]
        for target, scale in scales.items()
    ]
    if born_weight > 0 and labels.born_charges is not None:
        charges = _charge_term(model.born_charges(encoded), labels.born_charges, graph.atom_weight)
        terms.append(born_weight / labels.known["born_charges"] * charges)
    return torch.stack(terms).sum()


def _tensor_term(predicted: Tensor, tensors: Tensor, means: Tensor, scale: float, power: float) -> Tensor:
    """Sum the weighted errors over the crystals, as means over the members. [M, B, 3, 3], [B, 3, 3], [B] -> []."""
    values, expected = unique_elements(predicted), unique_elements(tensors)
    known = ~expected.isnan()
    expected = torch.where(known, expected, 0.0)
    count = known.sum(-1)
    errors = ((values - expected).abs() * known).sum(-1) / count.clamp(min=1)
    of_means = (values[..., :3].mean(-1) - means).abs()
    is_mean = (count == 0) & ~means.isnan()
    errors = torch.where(is_mean, torch.where(is_mean, of_means, 0.0), errors)
    size = torch.where(is_mean, means.nan_to_num(0.0), expected[..., :3].mean(-1)).abs()
    weight = (scale / (scale + size)) ** power / scale
    return (weight * errors).sum(-1).mean()


def _charge_term(predicted: Tensor, expected: Tensor, atom_weight: Tensor | None) -> Tensor:
    """Sum the relative errors of Born charges over all atoms. [N, 3, 3] twice -> []."""
    known = ~expected.isnan()
    expected = torch.where(known, expected, 0.0)
    errors = ((predicted - expected).abs() * known).mean((1, 2)) / (_CHARGE_SIZE + expected.abs().mean((1, 2)))
    return errors.sum() if atom_weight is None else errors @ atom_weight
