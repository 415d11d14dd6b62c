# SPDX-License-Identifier: MIT
"""Collect finished calculations: compare them with the predictions, and make labels of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..crystals.checks import check_crystal
from ..crystals.crystal import Crystal, Rejected, dielectric_targets
from ..datasets.label_cleaning import clean_labels
from ..errors import BadCrystalError
from ..files import replacing
from ..formats.json_lines import json_row
from .frames import find_rotation, to_frame_of_crystal
from .predicted import TARGETS, PredictedCrystal, read_plan
from .vasp_inputs import RELAX_FOLDER
from .vasp_run import VaspRun, find_runs, rejected_run

LABEL_SOURCE = "dtnn-fast dfpt"
_ELEMENTS = (("xx", 0, 0), ("yy", 1, 1), ("zz", 2, 2), ("yz", 1, 2), ("xz", 0, 2), ("xy", 0, 1))


@dataclass(frozen=True)
class Comparison:
    """A prediction and its calculation.

    Args:
        predicted: crystal and predicted tensors.
        label: relaxed crystal of the calculation, with computed tensors and Born charges in its own frame.
        computed: computed tensors by target, in the frame of the predicted crystal's cell; empty where the two cells
            have no common frame. [3, 3] each, float64
        volume_change: volume per atom of the calculation over that of the predicted crystal, minus 1.
        remarks: labels that were dropped and why, and a missing frame.
    """

    predicted: PredictedCrystal
    label: Crystal
    computed: dict[str, np.ndarray]
    volume_change: float
    remarks: tuple[str, ...]

    def means(self, target: str) -> tuple[float | None, float | None]:
        """Return a third of the trace of the predicted and of the computed tensor; None where unknown."""
        tensors = (self.predicted.tensors.get(target), self.label.targets.get(target))
        predicted, computed = (None if tensor is None else float(np.trace(tensor)) / 3 for tensor in tensors)
        return predicted, computed

    def tensor_error(self, target: str) -> float | None:
        """Return the mean absolute difference over the six elements, in one frame; None where unknown."""
        predicted, computed = self.predicted.tensors.get(target), self.computed.get(target)
        if predicted is None or computed is None:
            return None
        return float(np.mean([abs(predicted[i, j] - computed[i, j]) for _, i, j in _ELEMENTS]))


class CollectedRuns(NamedTuple):
    """What the runs of a folder gave.

    Args:
        comparisons: calculations that can be used.
        rejected: crystals without a usable calculation, and the reason.
    """

    comparisons: list[Comparison]
    rejected: list[Rejected]


def collect_runs(folder: Path) -> CollectedRuns:
    """Read the runs of a folder that `write_inputs` made.

    Of each crystal, the last run with tensors counts, in the order of folder names. Labels pass
    `label_cleaning.clean_labels`: an ionic tensor with a negative principal value, for example, is dropped.

    Args:
        folder: with ``dfpt.json``, and vasprun.xml or OUTCAR anywhere in the folders of the crystals.

    Raises:
        BadFileError: ``dfpt.json`` is missing or damaged.
        MissingPackageError: moyopy is not installed, or pymatgen, where it is needed.
    """
    comparisons, rejected = [], []
    for name, predicted in read_plan(folder).items():
        found = _collect(folder / name, predicted)
        if isinstance(found, Rejected):
            rejected.append(found)
        else:
            comparisons.append(found)
    return CollectedRuns(comparisons, rejected)


def _collect(folder: Path, predicted: PredictedCrystal) -> Comparison | Rejected:
    id = predicted.crystal.id
    run = _usable_run(find_runs(folder), id, folder)
    if isinstance(run, Rejected):
        return run
    assert run.run is not None
    source = str(run.file)
    try:
        targets = dielectric_targets(run.run.tensors.electronic, ionic=run.run.tensors.ionic)
        crystal = replace(
            run.run.crystal,
            id=id,
            source=source,
            targets=targets,
            born_charges=run.run.born_charges,
            info={"formula": run.run.crystal.formula, "source": LABEL_SOURCE, "functional": "PBE"},
        )
        check_crystal(crystal)
        if crystal.formula != predicted.crystal.formula:
            raise BadCrystalError(f"{id}: a run of {crystal.formula}, expected {predicted.crystal.formula}")
        label, dropped = clean_labels(crystal)
    except BadCrystalError as error:
        return Rejected.from_error(error, id, source)
    faults = [f"{one.label}: {one.explanation}" for one in dropped]
    if not label.targets:
        return Rejected(id, source, "; ".join(faults) or "the run has no dielectric tensor")
    rotation = find_rotation(predicted.crystal, label)
    if rotation is None:
        faults.append("the relaxed structure has no common frame with the prediction: only means are compared")
        computed = {}
    else:
        computed = {target: to_frame_of_crystal(tensor, rotation) for target, tensor in label.targets.items()}
    return Comparison(predicted, label, computed, _volume_change(predicted.crystal, label), tuple(faults))


def _usable_run(runs: Sequence[VaspRun], id: str, folder: Path) -> VaspRun | Rejected:
    """Choose the last run with tensors. A relaxation that did not converge spoils what follows it."""
    if not runs:
        return Rejected(id, str(folder), "not calculated yet: no vasprun.xml and no OUTCAR")
    with_tensors = [run for run in runs if run.has_tensors]
    usable = [run for run in with_tensors if not run.fault]
    bad_relaxation = next((run for run in runs if run.file.parent.name == RELAX_FOLDER and run.fault), None)
    if bad_relaxation is not None:
        return rejected_run(bad_relaxation, id)
    if usable:
        return usable[-1]
    faulty = next((run for run in [*with_tensors[::-1], *runs[::-1]] if run.fault), None)
    if faulty is not None:
        return rejected_run(faulty, id)
    return Rejected(id, str(runs[-1].file), "no run has a dielectric tensor yet")


def _volume_change(crystal: Crystal, computed: Crystal) -> float:
    volumes = [abs(float(np.linalg.det(one.cell))) / one.num_atoms for one in (crystal, computed)]
    return volumes[1] / volumes[0] - 1


def write_labels(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Write the calculated crystals as JSON lines, which `dtnn-fast train` reads."""
    with replacing(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        for one in comparisons:
            file.write(json.dumps(json_row(one.label)) + "\n")


def write_comparison(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Write a CSV file with predicted and computed means and tensors, in the frame of the predicted crystal."""
    elements = [f"{target}_{element}" for target in TARGETS for element, _, _ in _ELEMENTS]
    header = ["id", "formula", "volume_change"]
    for target in TARGETS:
        header += [f"{target}_mean_predicted", f"{target}_mean_error", f"{target}_mean_computed"]
    header += [f"{name}_{kind}" for name in elements for kind in ("predicted", "computed")] + ["remarks"]
    with replacing(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for one in comparisons:
            row: list[object] = [one.label.id, one.label.formula, one.volume_change]
            for target in TARGETS:
                predicted, computed = one.means(target)
                row += [predicted, one.predicted.mean_errors.get(target), computed]
            for target in TARGETS:
                pair = one.predicted.tensors.get(target), one.computed.get(target)
                for _, i, j in _ELEMENTS:
                    row += [None if tensor is None else float(tensor[i, j]) for tensor in pair]
            writer.writerow([*row, "; ".join(one.remarks)])
