# SPDX-License-Identifier: MIT
"""Label crystals by the mean of several models, so that one model can learn what they know together.

python tools/ensemble_labels.py taught.npz rest.npz bundled --model runs/one/model --model runs/other/model
python tools/ensemble_labels.py taught.npz rest.npz candidates.npz --most 4000 --without held_out.npz --model ...
python tools/ensemble_labels.py taught.npz rest.npz bundled --model ... --model ... --lattice runs/lattice/model

Tensors that a crystal lacks are filled with predictions, for the functional of its labels; known labels stay. "bundled"
stands for the crystals of `dtnn-fast screen` without labels. Crystals with an element that a model does not know are
left out, and so are those of the chemical systems of --without. The result is a packed set for `dtnn-fast train --set
data.more=`.

With --lattice, ionic tensors also learn from lattice dynamics by the Born charges and force constants of that model,
which errs in other crystals than direct predictions do: the label is their mean, with the geometric mean of their
sizes, because either may be several times too large for a soft crystal.

This is the distillation of G. Hinton, O. Vinyals and J. Dean, arXiv 1503.02531, for tensors.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.crystals.insulators import is_metals_only
from dtnn_fast.datasets.bundled import load_labelled, load_screening
from dtnn_fast.evaluation.labelled import label_functional
from dtnn_fast.formats import read_packed, write_packed
from dtnn_fast.model.lattice_model import LatticeModel
from dtnn_fast.model.load_predictor import load_predictor
from dtnn_fast.model.predictor import Predictor, mean_permittivity
from dtnn_fast.refinement.refiner import Refinement, Refiner
from dtnn_fast.screening.engine import screen_crystals
from dtnn_fast.symmetry import with_operations
from dtnn_fast.training.partial_labels import LABELS_ARE_PREDICTED

FILLED = ("electronic", "ionic")


def mean_tensors(
    models: Sequence[Predictor], crystals: Sequence[Crystal], lattice: LatticeModel | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """Predict crystals by all models, each for the functional of its labels.

    Args:
        models: models of electronic and ionic tensors.
        crystals: with unique ids.
        lattice: model of Born charges and force constants, which has a say in the ionic tensors of crystals that it can
            predict; None for the direct models alone.

    Returns:
        The mean over the models, by id and target, of the crystals that all models predict.
    """
    groups: dict[str, list[Crystal]] = {}
    for crystal in crystals:
        groups.setdefault(label_functional(crystal, models[0]), []).append(crystal)
    means: dict[str, dict[str, np.ndarray]] = {}
    for functional, group in groups.items():
        tables = [screen_crystals(model.with_functional(functional), group)[0] for model in models]
        by_model = [
            {id: {target: table.tensors[target][row] for target in FILLED} for row, id in enumerate(table.ids)}
            for table in tables
        ]
        for id in set.intersection(*map(set, by_model)):
            means[id] = {target: np.mean([known[id][target] for known in by_model], axis=0) for target in FILLED}
        if lattice is not None:
            of_functional = [model.with_functional(functional) for model in (models[0], lattice)]
            for result in Refiner(*of_functional).refine([crystal for crystal in group if crystal.id in means]):
                if isinstance(result, Refinement):
                    means[result.crystal.id]["ionic"] = mean_of_both(means[result.crystal.id]["ionic"], result.lattice)
    return means


def mean_of_both(direct: np.ndarray, physical: np.ndarray) -> np.ndarray:
    """Average two tensors, with the geometric mean of their means as its mean; zero if one of them is. [3, 3]."""
    sizes = [max(0.0, float(mean_permittivity(tensor))) for tensor in (direct, physical)]
    if not all(sizes):
        return np.zeros((3, 3))
    scaled: np.ndarray = (direct + physical) * (np.sqrt(sizes[0] * sizes[1]) / sum(sizes))
    return scaled


def unlabelled_bundled() -> list[Crystal]:
    """Load the crystals of `dtnn-fast screen` that have no labels."""
    labelled = {crystal.id for crystal in load_labelled()}
    return [crystal for crystal in load_screening() if crystal.id not in labelled]


def has_labels(crystal: Crystal) -> bool:
    """Tell whether any label of a crystal is known."""
    return bool(crystal.targets or crystal.diagonals or crystal.means) or crystal.born_charges is not None


def fill_labels(crystals: Iterable[Crystal], means: dict[str, dict[str, np.ndarray]]) -> list[Crystal]:
    """Fill the tensors that crystals lack; crystals without labels also get the total tensor."""
    filled = []
    for crystal in crystals:
        predicted = means.get(crystal.id)
        if predicted is None:
            if has_labels(crystal):
                filled.append(crystal)
            continue
        known = {*crystal.targets, *crystal.diagonals, *crystal.means}
        targets = {target: tensor for target, tensor in predicted.items() if target not in known}
        if not known:
            targets["total"] = predicted["electronic"] + predicted["ionic"]
        info = crystal.info if has_labels(crystal) else {**crystal.info, LABELS_ARE_PREDICTED: True}
        filled.append(replace(crystal, targets={**crystal.targets, **targets}, info=info))
    return filled


def main() -> None:
    """Read crystals, predict, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="packed set to write (.npz)")
    parser.add_argument("crystals", nargs="+", help="packed sets, or bundled")
    parser.add_argument("--model", action="append", required=True, help="a model; give two or more")
    parser.add_argument("--most", type=int, help="take at most this many unlabelled crystals of each file, at random")
    parser.add_argument("--without", type=Path, help="packed set whose chemical systems are left out")
    parser.add_argument("--lattice", type=Path, help="a lattice model, for ionic tensors by both ways")
    given = parser.parse_args()
    models = [load_predictor(model) for model in given.model]
    lattice = LatticeModel.from_pretrained(given.lattice) if given.lattice else None
    kept_out = {crystal.chemical_system for crystal in read_packed(given.without).items} if given.without else set()
    counts: Counter[str] = Counter()
    chosen: dict[str, Crystal] = {}
    for name in given.crystals:
        items = unlabelled_bundled() if name == "bundled" else read_packed(Path(name)).items
        usable = []
        for crystal in items:
            if not isinstance(crystal, Crystal):
                counts["not readable"] += 1
            elif crystal.chemical_system in kept_out:
                counts["of a chemical system that is left out"] += 1
            elif is_metals_only(crystal):
                counts["metals"] += 1
            else:
                usable.append(crystal)
        bare = [crystal for crystal in usable if not has_labels(crystal)]
        if given.most is not None and len(bare) > given.most:
            rows = np.random.default_rng(0).choice(len(bare), given.most, replace=False)
            bare = [bare[row] for row in sorted(rows)]
        labelled = [crystal for crystal in usable if has_labels(crystal)]
        chosen |= {crystal.id: crystal for crystal in [*labelled, *bare] if crystal.id not in chosen}
    crystals = with_operations(list(chosen.values()))
    filled = fill_labels(crystals, mean_tensors(models, crystals, lattice))
    counts["not predicted"] = len(crystals) - len(filled)
    print(f"{len(filled)} crystals; left out: {dict(counts)}")
    write_packed(given.output, filled, {"name": given.output.stem})


if __name__ == "__main__":
    main()
