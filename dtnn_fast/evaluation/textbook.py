# SPDX-License-Identifier: MIT
"""Thirty textbook crystals: predicted mean permittivities beside those by theory and by experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..crystals.crystal import Rejected
from ..datasets.textbook_crystals import TextbookCrystal, load_textbook
from ..model.predictor import Predictor, mean_permittivity
from ..model.trained_crystals import trained_on
from ..screening.engine import screen_crystals
from .error_table import Cell, ErrorTable
from .tables import write_csv

# Largest relative error of a mean permittivity that counts as right.
TOLERANCES = {"electronic": 0.15, "total": 0.25}


class Reference(NamedTuple):
    """The value that a prediction is judged by.

    Args:
        value: mean permittivity.
        source: "theory" or "experiment".
    """

    value: float
    source: str


@dataclass(frozen=True)
class TextbookPrediction:
    """Mean permittivities of a textbook crystal by a model.

    Args:
        known: the crystal with its reference values.
        predicted: mean permittivity by target.
        error_bars: error bar of each mean by target; empty for a model without.
        refined: refined mean permittivity, of "ionic" and "total", where there is one; see `evaluate_textbook`.
        trained_on: whether the model was trained on the crystal or on a similar polymorph, see
            `model.trained_crystals`; None if unknown.
    """

    known: TextbookCrystal
    predicted: Mapping[str, float]
    error_bars: Mapping[str, float]
    refined: Mapping[str, float]
    trained_on: bool | None

    def best(self, target: str) -> float | None:
        """Return the refined mean where there is one, or else the predicted one; None if it is not predicted."""
        return self.refined.get(target, self.predicted.get(target))

    def reference(self, target: str) -> Reference | None:
        """Return the value that a target is judged by: theory where there is one, or else experiment.

        The model learns from theory, whose errors against experiment are no errors of the model.
        """
        for value, source in (
            (self.known.theory_mean(target), "theory"),
            (self.known.measured_mean(target), "experiment"),
        ):
            if value is not None:
                return Reference(value, source)
        return None

    def ratio(self, target: str) -> float | None:
        """Return the best value of a target over its reference; None where one of them is missing."""
        value, reference = self.best(target), self.reference(target)
        return None if value is None or reference is None else value / reference.value


class Count(NamedTuple):
    """How many crystals are within the tolerance of a target.

    Args:
        target: "electronic" or "total".
        crystals: which crystals, in words.
        right: number within the tolerance.
        judged: number with a prediction and a reference.
    """

    target: str
    crystals: str
    right: int
    judged: int


@dataclass(frozen=True)
class TextbookEvaluation:
    """A model's predictions for the textbook crystals.

    Args:
        model: name of the model.
        predictions: in the order of `load_textbook`.
        rejected: crystals that the model cannot predict.
    """

    model: str
    predictions: Sequence[TextbookPrediction]
    rejected: Sequence[Rejected]

    def counts(self) -> list[Count]:
        """Count the crystals within `TOLERANCES`: of all, and of parts of them."""
        groups = {
            "all": list(self.predictions),
            "not near an instability": [p for p in self.predictions if not p.known.near_instability],
            "trained on": [p for p in self.predictions if p.trained_on],
            "not trained on": [p for p in self.predictions if p.trained_on is False],
        }
        counts = []
        for target, tolerance in TOLERANCES.items():
            for name, group in groups.items():
                ratios = [ratio for ratio in (p.ratio(target) for p in group) if ratio is not None]
                right = sum(abs(ratio - 1.0) <= tolerance for ratio in ratios)
                if ratios:
                    counts.append(Count(target, name, right, len(ratios)))
        return counts


def evaluate_textbook(
    model: Predictor,
    name: str = "dielectric",
    crystals: Sequence[TextbookCrystal] | None = None,
    refined: Mapping[str, np.ndarray] | None = None,
) -> TextbookEvaluation:
    """Predict the textbook crystals.

    Args:
        model: the model.
        name: its name for the table.
        crystals: the crystals; None for those of `load_textbook`.
        refined: refined ionic tensors by the crystals' ids, where there are any. The refined total is the predicted
            electronic plus the refined ionic tensor. [3, 3] each.

    Raises:
        ValueError: a refined tensor is of no textbook crystal, or is not of shape [3, 3] and finite.
    """
    known = {entry.crystal.id: entry for entry in (load_textbook() if crystals is None else crystals)}
    refined = _checked(refined or {}, known)
    screened, rejected = screen_crystals(model, [entry.crystal for entry in known.values()])
    seen = trained_on(model, [known[id].crystal for id in screened.ids]) if len(screened) else None
    means = {target: mean_permittivity(tensors) for target, tensors in screened.tensors.items()}
    predictions = []
    for row, id in enumerate(screened.ids):
        predicted = {target: float(values[row]) for target, values in means.items()}
        better = {}
        if id in refined:
            better["ionic"] = float(np.trace(refined[id]) / 3.0)
            if "electronic" in predicted:
                better["total"] = predicted["electronic"] + better["ionic"]
        predictions.append(
            TextbookPrediction(
                known[id],
                predicted,
                {target: float(bars[row]) for target, bars in screened.mean_errors.items()},
                better,
                None if seen is None else bool(seen[row]),
            )
        )
    return TextbookEvaluation(name, predictions, rejected)


def _checked(refined: Mapping[str, np.ndarray], known: Mapping[str, TextbookCrystal]) -> dict[str, np.ndarray]:
    tensors = {id: np.asarray(tensor, dtype=np.float64) for id, tensor in refined.items()}
    for id, tensor in tensors.items():
        if id not in known:
            raise ValueError(f"evaluate_textbook: expected `refined` of {', '.join(known)}, got {id!r}")
        if tensor.shape != (3, 3) or not np.isfinite(tensor).all():
            raise ValueError(f"evaluate_textbook: expected finite `refined` tensors [3, 3], got {id}: {tensor}")
    return tensors


def textbook_tables(evaluation: TextbookEvaluation) -> list[ErrorTable]:
    """Make the table of the crystals, and that of the counts."""
    return [_crystal_table(evaluation), _count_table(evaluation)]


def _crystal_table(evaluation: TextbookEvaluation) -> ErrorTable:
    is_refined = any(prediction.refined for prediction in evaluation.predictions)
    models = ["model", "refined"] if is_refined else ["model"]
    header = ["crystal", *(f"electronic, {column}" for column in ("model", "theory", "experiment", "ratio"))]
    header += [f"ionic, {column}" for column in (*models, "theory")]
    header += [*(f"total, {column}" for column in (*models, "theory", "experiment", "ratio")), "remarks"]
    table = ErrorTable(f"Textbook crystals, {evaluation.model}", header)
    for prediction in evaluation.predictions:
        known = prediction.known
        row = [known.crystal.id]
        for target in ("electronic", "ionic", "total"):
            row.append(_with_bar(prediction.predicted.get(target), prediction.error_bars.get(target)))
            if is_refined and target != "electronic":
                row.append(_number(prediction.refined.get(target)))
            row.append(_number(known.theory_mean(target)))
            if target in TOLERANCES:
                row += [_number(known.measured_mean(target)), _ratio_text(prediction, target)]
        remarks = [known.functional] if known.functional else []
        remarks += ["trained on"] if prediction.trained_on else []
        remarks += ["near an instability"] if known.near_instability else []
        table.rows.append([Cell(text) for text in (*row, ", ".join(remarks) or "-")])
    table.notes = [
        "means, a third of the trace",
        "ratio: to theory, or to experiment (e) where there is no theory"
        + ("; of the refined value where there is one" if is_refined else ""),
        "! beyond the tolerance",
        "theory: perturbation theory with the functional named in the remarks",
        "trained on: the model was trained on the crystal, or on a polymorph with nearly the same surroundings",
    ]
    if any(prediction.trained_on is None for prediction in evaluation.predictions):
        table.notes.append("the model does not say what it was trained on")
    return table


def _count_table(evaluation: TextbookEvaluation) -> ErrorTable:
    table = ErrorTable("Textbook crystals within the tolerance", ["crystals", *_count_headings().values()])
    by_group: dict[str, dict[str, str]] = {}
    for count in evaluation.counts():
        by_group.setdefault(count.crystals, {})[count.target] = f"{count.right} of {count.judged}"
    for name, by_target in by_group.items():
        table.rows.append([Cell(name), *(Cell(by_target.get(target, "-")) for target in TOLERANCES)])
    table.notes = ["of the crystals with a prediction and a reference"]
    return table


def _count_headings() -> dict[str, str]:
    return {target: f"{target} within {100 * tolerance:.0f} %" for target, tolerance in TOLERANCES.items()}


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _with_bar(value: float | None, bar: float | None) -> str:
    return _number(value) if value is None or bar is None else f"{_number(value)} ± {_number(bar)}"


def _ratio_text(prediction: TextbookPrediction, target: str) -> str:
    ratio, reference = prediction.ratio(target), prediction.reference(target)
    if ratio is None or reference is None:
        return "-"
    source = " e" if reference.source == "experiment" else ""
    return f"{ratio:.2f}{source}{' !' if abs(ratio - 1.0) > TOLERANCES[target] else ''}"


def write_textbook(path: Path, evaluation: TextbookEvaluation) -> None:
    """Write the table of the crystals as CSV, with the sources of all values; unknown values are empty."""
    header = ["id", "name", "formula", "space_group", "trained_on", "near_instability"]
    for target in ("electronic", "ionic", "total"):
        header += [f"{target}_{column}" for column in ("model", "error_bar", "refined", "theory")]
        if target in TOLERANCES:
            header += [f"{target}_{column}" for column in ("experiment", "reference", "ratio")]
    header += ["functional", "theory", "structure", "experiment_electronic", "experiment_total", "remark"]
    rows = []
    for prediction in evaluation.predictions:
        known, crystal = prediction.known, prediction.known.crystal
        row: list[str | float | int | bool | None] = [crystal.id, known.name, crystal.formula]
        row += [crystal.info["space_group"], prediction.trained_on, known.near_instability]
        for target in ("electronic", "ionic", "total"):
            row += [values.get(target) for values in (prediction.predicted, prediction.error_bars, prediction.refined)]
            row.append(known.theory_mean(target))
            if target in TOLERANCES:
                reference = prediction.reference(target)
                row += [known.measured_mean(target), reference and reference.source, prediction.ratio(target)]
        sources = [known.measured_by.get(target) for target in TOLERANCES]
        row += [known.functional, known.theory, known.structure, *sources, known.remark]
        rows.append(["" if value is None else value for value in row])
    write_csv(path, header, rows)
