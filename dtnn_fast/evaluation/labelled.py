# SPDX-License-Identifier: MIT
"""Errors of a model on labelled crystals of any source, apart from what it was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isnan
from pathlib import Path

import numpy as np

from ..crystals.checks import check_crystal
from ..crystals.crystal import Crystal, Rejected
from ..datasets.label_cleaning import LabelRules, clean_labels
from ..errors import BadCrystalError
from ..model.predictor import Predictor, mean_permittivity
from ..model.trained_crystals import trained_on
from ..screening.engine import screen_crystals
from ..screening.store import ScreenedCrystals
from ..training.metrics import HIGH_PERMITTIVITY, RANKING_METRICS, crystal_errors, ranking_of_means
from .error_table import Cell, ErrorTable
from .tables import RANKING_NAMES, write_csv

UNKNOWN_FUNCTIONAL = "not stated"
_FEWEST_FOR_THIRDS = 30
# Published tensors may stand in another frame than the cell; means and principal values do not depend on it.
_RULES = LabelRules(largest_violation=inf)


@dataclass(frozen=True)
class LabelErrors:
    """Errors of the predictions of one target for a group of crystals.

    Args:
        labels: number of crystals whose mean is known.
        tensors: number of those whose tensor is known.
        values: by name. "mae_ten" and "median_ten": mean and median over the crystals of the mean absolute error of the
            tensor's six elements. "principal": mean absolute error of the principal values. "mae_mean" and
            "median_mean": mean and median of the absolute error of the mean. `RANKING_METRICS` of the means. "covered":
            part of the means within their error bars. Missing where there are no such labels or error bars.
        high: number of means above `HIGH_PERMITTIVITY`.
    """

    labels: int
    tensors: int
    values: Mapping[str, float]
    high: int


@dataclass(frozen=True)
class LabelledEvaluation:
    """Predictions of a model for labelled crystals.

    Args:
        model: name of the model.
        crystals: predicted crystals.
        screened: their predictions.
        known: whether the model was trained on them or on similar polymorphs, see `model.trained_crystals`; None if
            unknown. [B], bool.
        rejected: crystals without a label or a prediction, and dropped labels.
    """

    model: str
    crystals: Sequence[Crystal]
    screened: ScreenedCrystals
    known: np.ndarray | None
    rejected: Sequence[Rejected]

    def functionals(self) -> list[str]:
        """Return the functional of each crystal's labels."""
        return [str(crystal.info.get("functional", UNKNOWN_FUNCTIONAL)) for crystal in self.crystals]

    def groups(self) -> dict[str, np.ndarray]:
        """Return the rows of each group of crystals that has any: all, by training, and by functional.

        A group with the same crystals as an earlier one is left out.
        """
        functionals = np.array(self.functionals(), dtype=object)
        groups = {"all": np.ones(len(self.crystals), dtype=bool)}
        if self.known is not None:
            groups |= {"trained on": self.known, "not trained on": ~self.known}
        names = sorted(set(functionals))
        for name in names if len(names) > 1 else []:
            groups[name] = functionals == name
            if self.known is not None:
                groups[f"{name}, not trained on"] = groups[name] & ~self.known
        different: dict[bytes, str] = {}
        for name, rows in groups.items():
            different.setdefault(rows.tobytes(), name)
        return {name: np.flatnonzero(groups[name]) for name in different.values() if groups[name].any()}

    def errors(self, target: str, rows: np.ndarray) -> LabelErrors | None:
        """Compute the errors of one target for some crystals; None where no label is known.

        Args:
            target: the tensor.
            rows: the crystals.
        """
        labels = self.known_means(target)
        of_labels = rows[~np.isnan(labels[rows])]
        if not len(of_labels):
            return None
        tensors = self.screened.tensors[target]
        predicted, expected = mean_permittivity(tensors[of_labels]), labels[of_labels]
        off = np.abs(predicted - expected)
        values = {"mae_mean": float(off.mean()), "median_mean": float(np.median(off))}
        if len(of_labels) > 1:
            quality = ranking_of_means(predicted, expected)
            values |= {name: quality[name] for name in RANKING_METRICS if not isnan(quality[name])}
        bars = self.screened.mean_errors.get(target)
        if bars is not None:
            values["covered"] = float((off <= bars[of_labels]).mean())
        of_tensors = [row for row in rows.tolist() if target in self.crystals[row].targets]
        if of_tensors:
            given = np.array([self.crystals[row].targets[target] for row in of_tensors])
            mae_ten = crystal_errors(tensors[of_tensors], given)["mae_ten"]
            principal = np.abs(np.linalg.eigvalsh(tensors[of_tensors]) - np.linalg.eigvalsh(given))
            values |= {"mae_ten": float(mae_ten.mean()), "median_ten": float(np.median(mae_ten))}
            values["principal"] = float(principal.mean())
        return LabelErrors(len(of_labels), len(of_tensors), values, int((expected > HIGH_PERMITTIVITY).sum()))

    def covered_thirds(self, target: str) -> tuple[float, float, float] | None:
        """Compute which part of the means is within their error bars, in each third by predicted mean.

        Crystals whose tensor is exactly zero by symmetry are left out. None with fewer than 30 others, or without error
        bars.
        """
        bars, labels = self.screened.mean_errors.get(target), self.known_means(target)
        if bars is None:
            return None
        rows = np.flatnonzero(~np.isnan(labels) & (bars > 0))
        if len(rows) < _FEWEST_FOR_THIRDS:
            return None
        predicted = mean_permittivity(self.screened.tensors[target])
        covered = np.abs(predicted - labels) <= bars
        thirds = np.array_split(rows[np.argsort(predicted[rows], kind="stable")], 3)
        low, middle, high = (float(covered[third].mean()) for third in thirds)
        return low, middle, high

    def known_means(self, target: str) -> np.ndarray:
        """Return the mean of each crystal's label, NaN where unknown. [B], float64."""
        return np.array([_known_mean(crystal, target) for crystal in self.crystals])


def _known_mean(crystal: Crystal, target: str) -> float:
    if target in crystal.targets:
        return float(np.trace(crystal.targets[target]) / 3.0)
    if target in crystal.diagonals:
        return float(crystal.diagonals[target].mean())
    return float(crystal.means.get(target, np.nan))


def evaluate_labelled(
    model: Predictor, items: Iterable[Crystal | Rejected], name: str = "dielectric", clean: bool = True
) -> LabelledEvaluation:
    """Predict labelled crystals.

    Args:
        model: the model. Each crystal is predicted for the functional of its labels if the model knows that one,
            otherwise for the functional of the model.
        items: crystals with unique ids and tensors, diagonals or means; what could not be read is passed on.
        name: name of the model for the tables.
        clean: whether labels that cannot be right are dropped, by `clean_labels`; a tensor may be in another frame than
            the cell.

    Raises:
        MissingPackageError: `clean` is set, and moyopy is not installed.
    """
    rejected: list[Rejected] = []
    labelled: dict[str, Crystal] = {}
    elements = frozenset(model.elements) or None
    for item in items:
        if isinstance(item, Rejected):
            rejected.append(item)
            continue
        try:
            check_crystal(item, elements)
        except BadCrystalError as error:
            rejected.append(Rejected.from_error(error, item.id, item.source))
            continue
        crystal, lost = clean_labels(item, _RULES) if clean else (item, [])
        rejected += [
            Rejected(item.id, item.source, f"{label.label} label dropped: {label.fault.value}: {label.explanation}")
            for label in lost
            if label.label in model.targets
        ]
        if all(isnan(_known_mean(crystal, target)) for target in model.targets):
            reason = f"no label: no {' or '.join(model.targets)} tensor, diagonal or mean is left"
            rejected.append(Rejected(crystal.id, crystal.source, reason))
        else:
            labelled[crystal.id] = crystal
    # Crystals of a functional stand together.
    screened, unpredicted = _screen_by_functional(model, labelled.values())
    crystals = [labelled[id] for id in screened.ids]
    known = trained_on(model, crystals) if crystals else None
    return LabelledEvaluation(name, crystals, screened, known, [*rejected, *unpredicted])


def _screen_by_functional(model: Predictor, crystals: Iterable[Crystal]) -> tuple[ScreenedCrystals, list[Rejected]]:
    """Predict each crystal for the functional of its labels, where the model knows that one."""
    by_functional: dict[str, list[Crystal]] = {}
    for crystal in crystals:
        by_functional.setdefault(label_functional(crystal, model), []).append(crystal)
    screened: list[ScreenedCrystals] = []
    rejected: list[Rejected] = []
    for name, of_functional in (by_functional or {model.functional: []}).items():
        one, failed = screen_crystals(model.with_functional(name), of_functional)
        screened.append(one)
        rejected += failed
    return ScreenedCrystals.join(screened), rejected


def label_functional(crystal: Crystal, model: Predictor) -> str:
    """Choose the functional that a labelled crystal is predicted for: that of its labels, or else the model's.

    Args:
        crystal: the crystal, with a "functional" in its `info` if that is known.
        model: the model.
    """
    name = str(crystal.info.get("functional", ""))
    return name if name in model.functionals else model.functional


def refined_evaluation(
    evaluation: LabelledEvaluation,
    name: str,
    tensors: Mapping[str, Mapping[str, np.ndarray]],
    mean_errors: Mapping[str, Mapping[str, float]],
) -> LabelledEvaluation:
    """Put other tensors in place of the predicted ones, of the crystals that have them.

    Args:
        evaluation: the predictions of the direct model.
        name: name for the tables.
        tensors: by target, each by the crystals' ids; the same ids for each target. [3, 3] each.
        mean_errors: error bars of the means, likewise; empty without.
    """
    ids = set(next(iter(tensors.values()), {}))
    rows = [row for row, crystal in enumerate(evaluation.crystals) if crystal.id in ids]
    crystals = [evaluation.crystals[row] for row in rows]
    screened = ScreenedCrystals.of(
        crystals,
        {
            target: np.array([by_id[c.id] for c in crystals], dtype=float).reshape(-1, 3, 3)
            for target, by_id in tensors.items()
        },
        mean_errors={
            target: np.array([by_id[c.id] for c in crystals], dtype=float) for target, by_id in mean_errors.items()
        },
        find_systems=False,
    )
    known = None if evaluation.known is None else evaluation.known[rows]
    return LabelledEvaluation(name, crystals, screened, known, [])


# Columns of the table of a target: heading and name in `LabelErrors.values`.
_COLUMNS = {
    "MAE_ten": "mae_ten",
    "median": "median_ten",
    "principal values": "principal",
    "mean": "mae_mean",
    "mean, median": "median_mean",
    **{RANKING_NAMES[metric]: metric for metric in RANKING_METRICS},
    "within its bar": "covered",
}


def labelled_tables(evaluation: LabelledEvaluation) -> list[ErrorTable]:
    """Make a table of errors for each target, with a row for each group of crystals."""
    return [_target_table(evaluation, target) for target in evaluation.screened.tensors]


def _target_table(evaluation: LabelledEvaluation, target: str) -> ErrorTable:
    rows = {name: evaluation.errors(target, places) for name, places in evaluation.groups().items()}
    known = {name: errors for name, errors in rows.items() if errors is not None}
    columns = {heading: key for heading, key in _COLUMNS.items() if any(key in e.values for e in known.values())}
    high = f"above {HIGH_PERMITTIVITY:.0f}"
    table = ErrorTable(f"{target}: errors of {evaluation.model}", ["crystals", "labels", "tensors", high, *columns])
    for name, errors in known.items():
        numbers = [f"{errors.values[key]:.2f}" if key in errors.values else "-" for key in columns.values()]
        counts = [str(count) for count in (errors.labels, errors.tensors, errors.high)]
        table.rows.append([Cell(text) for text in (name, *counts, *numbers)])
    functionals = sorted(set(evaluation.functionals()))
    table.notes = [
        "MAE_ten, median: mean absolute error of the six elements, mean and median over the tensors",
        "principal values, mean: mean absolute errors, which do not depend on the frame",
        "found: part of the crystals with such labels whose predictions are such, too; true: the reverse",
        f"functional of the labels: {', '.join(functionals)}; each is predicted for its own if the model knows it",
    ]
    if evaluation.known is None:
        table.notes.append("the model does not say what it was trained on")
    else:
        table.notes.append("trained on: also polymorphs with nearly the same surroundings")
        if not evaluation.known.any():
            table.notes.append("the model was trained on none of these crystals")
    thirds = evaluation.covered_thirds(target)
    if thirds is not None:
        parts = ", ".join(f"{third:.2f}" for third in thirds)
        table.notes.append(f"within its bar, thirds by predicted mean: {parts}")
    return table


def write_labelled(path: Path, evaluation: LabelledEvaluation) -> None:
    """Write the mean of each crystal's prediction and label for each target as CSV; unknown values are empty."""
    targets = list(evaluation.screened.tensors)
    header = ["id", "source", "formula", "functional", "trained_on"]
    header += [f"{target}_{column}" for target in targets for column in ("mean", "error_bar", "label", "mae_ten")]
    labels = {target: evaluation.known_means(target) for target in targets}
    rows = []
    for row, (crystal, functional) in enumerate(zip(evaluation.crystals, evaluation.functionals(), strict=True)):
        known = None if evaluation.known is None else bool(evaluation.known[row])
        cells: list[str | float | bool | None] = [crystal.id, crystal.source, crystal.formula, functional, known]
        for target in targets:
            tensor = evaluation.screened.tensors[target][row]
            bars = evaluation.screened.mean_errors.get(target)
            cells += [float(mean_permittivity(tensor)), None if bars is None else float(bars[row])]
            cells.append(None if isnan(labels[target][row]) else float(labels[target][row]))
            given = crystal.targets.get(target)
            cells.append(None if given is None else float(crystal_errors(tensor[None], given[None])["mae_ten"][0]))
        rows.append(["" if cell is None else cell for cell in cells])
    write_csv(path, header, rows)
