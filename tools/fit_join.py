# SPDX-License-Identifier: MIT
"""Fit the join of direct and physical ionic tensors on crystals that neither model has learned from.

python tools/fit_join.py held_out.npz --model runs/direct/model --lattice runs/lattice/model --folder FOLDER
python tools/fit_join.py held_out.npz --model ... --lattice ... --folder FOLDER --potential nequix-oam-1

The crystals need ionic tensors of the models' functional; others are left out. With --potential, the force constants
are those that the crystals have, from tools/potential_labels.py, times --softening, or with --lattice-share their mean
with those of the lattice model. Errors and coverage are those of
crystals in other folds: whole chemical systems are left out of each fit. FOLDER gets join.json or join-POTENTIAL.json,
fitted to all, and record.json or record-POTENTIAL.json with the errors.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dtnn_fast.crystals.crystal import Crystal, Rejected
from dtnn_fast.formats.find_files import find_files, read_files
from dtnn_fast.model.lattice_model import LatticeModel
from dtnn_fast.model.load_predictor import load_predictor
from dtnn_fast.model.predictor import mean_permittivity
from dtnn_fast.refinement.ionic_join import IonicEstimates, IonicJoin, fit_join, join_file
from dtnn_fast.refinement.refiner import Refinement, Refiner
from dtnn_fast.training.metrics import crystal_errors, ranking_quality

FOLDS = 5


def given_force_constants(crystals: Sequence[Crystal]) -> Iterator[np.ndarray | Rejected]:
    """Return the force constants that crystals have."""
    for crystal in crystals:
        given = crystal.force_constants
        yield Rejected(crystal.id, "", "without force constants") if given is None else given


def estimate(
    crystals: Sequence[Crystal], model: str, lattice: Path, softening: float | None = None, share: float = 0.0
) -> tuple[list[Crystal], IonicEstimates, np.ndarray, list[Refinement]]:
    """Compute both estimates of the crystals that can be refined; returns their labels too.

    With `softening`, the force constants are those that the crystals have, times this; those of the lattice model have
    the weight `share` in the mean with these.
    """
    models = load_predictor(model), LatticeModel.from_pretrained(lattice)
    if softening is None:
        refiner = Refiner(*models)
    else:
        refiner = Refiner(*models, force_constants=given_force_constants, softening=softening, lattice_share=share)
    results = list(refiner.refine(crystals))
    for result in results:
        if isinstance(result, Rejected):
            print(f"left out: {result.id}: {result.reason}")
    kept = [result for result in results if isinstance(result, Refinement)]
    labels = {crystal.id: crystal.targets["ionic"] for crystal in crystals}
    estimates = IonicEstimates(
        np.array([one.direct for one in kept]),
        np.array([one.lattice for one in kept]),
        np.array([one.softest[1] for one in kept]),
    )
    return [one.crystal for one in kept], estimates, np.array([labels[one.crystal.id] for one in kept]), kept


def errors_of(tensors: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Mean and median of the six elements' errors, and how well means are ranked."""
    errors = crystal_errors(tensors, labels)["mae_ten"]
    return {
        "count": len(labels),
        "mae_ten": float(errors.mean()),
        "median_ten": float(np.median(errors)),
        **ranking_quality(tensors, labels),
    }


def folds_by_system(crystals: Sequence[Crystal]) -> np.ndarray:
    """Put crystals into `FOLDS` folds by chemical system. [n], int."""
    systems = sorted({crystal.chemical_system for crystal in crystals})
    order = np.random.RandomState(0).permutation(len(systems))
    fold_of = {systems[place]: number % FOLDS for number, place in enumerate(order)}
    return np.array([fold_of[crystal.chemical_system] for crystal in crystals])


def cross_validate(
    crystals: Sequence[Crystal], estimates: IonicEstimates, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Join each crystal by a fit to the other folds: tensors, error bars of tensors and of means."""
    folds = folds_by_system(crystals)
    tensors = np.empty_like(labels)
    bars = np.zeros((2, len(labels)))
    for fold in range(FOLDS):
        inside = folds == fold
        join = fit_join(IonicEstimates(*(array[~inside] for array in estimates)), labels[~inside])
        part = IonicEstimates(*(array[inside] for array in estimates))
        tensors[inside] = join.join(part)
        found = join.error_bars(part)
        if found is not None:
            bars[:, inside] = found
    return tensors, bars[0], bars[1]


def coverage(errors: np.ndarray, bars: np.ndarray, means: np.ndarray) -> list[float]:
    """Share of errors within their bars: of all, and of the thirds by predicted mean; exact zeros are left out."""
    known = bars > 0
    order = np.flatnonzero(known)[np.argsort(means[known], kind="stable")]
    covered = errors <= bars
    return [float(covered[part].mean()) for part in (order, *np.array_split(order, 3))]


def main() -> None:
    """Fit, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--model", required=True, help="direct model")
    parser.add_argument("--lattice", required=True, type=Path, help="lattice model")
    parser.add_argument("--functional", default="PBE")
    parser.add_argument("--folder", type=Path, required=True, help="folder for the join and its errors")
    parser.add_argument("--potential", default="", help="name of the potential that gave the force constants")
    parser.add_argument("--softening", type=float, default=1.0, help="factor on the potential's force constants (1)")
    parser.add_argument("--lattice-share", type=float, default=0.0, help="weight of the lattice model's (0)")
    options = parser.parse_args()
    items = list(read_files(find_files(options.files).files))
    crystals = [
        item
        for item in items
        if isinstance(item, Crystal)
        and "ionic" in item.targets
        and item.info.get("functional", options.functional) == options.functional
        # The rule of datasets.clean: unstable crystals have ionic tensors without meaning.
        and abs(item.targets["ionic"]).max() <= 100
    ]
    softening = options.softening if options.potential else None
    kept, estimates, labels, _ = estimate(crystals, options.model, options.lattice, softening, options.lattice_share)
    tensors, tensor_bars, mean_bars = cross_validate(kept, estimates, labels)
    means = mean_permittivity(tensors)
    record = {
        "direct": errors_of(estimates.direct, labels),
        "lattice": errors_of(estimates.lattice, labels),
        "joined": errors_of(tensors, labels),
        "coverage_tensor": coverage(crystal_errors(tensors, labels)["mae_ten"], tensor_bars, means),
        "coverage_mean": coverage(np.abs(means - mean_permittivity(labels)), mean_bars, means),
    }
    print(json.dumps(record, indent=1))
    join: IonicJoin = fit_join(estimates, labels)
    print(join)
    options.folder.mkdir(parents=True, exist_ok=True)
    join.save(options.folder, options.potential)
    name = join_file(options.potential).replace("join", "record", 1)
    (options.folder / name).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
