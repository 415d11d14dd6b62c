# SPDX-License-Identifier: MIT
"""Give crystals the force constants of a potential, so that a lattice model can learn from them.

python tools/potential_labels.py taught.npz labelled.npz bundled --potential nequix-oam-1.nqx --most-work 150
python tools/potential_labels.py taught.npz labelled.npz bundled --potential ... --part 1/2 --minutes 60

Crystals of the files that have force constants keep them. To those of the potential's functional the force constants
are added, and their other labels stay; crystals of another functional get a copy that has nothing but the force
constants. "bundled" stands for the crystals of `dtnn-fast screen` without labels. Of several calculations of a crystal
(`info["matches"]`) the first one is taken. Crystals of metals only, and those that need more displaced atoms than
--most-work, are left out. Those with an ionic tensor come first.

Ionic tensors are published for stable crystals alone, so those of the potential's functional would teach that nothing
is soft: --soft K also takes crystals with force constants of another functional whose softest mode is below K.

Published ionic tensors of crystals that are close to an instability, or beyond it, are often far too small (SrTiO3 1.4,
KTaO3 3.3). --charges MODEL drops those that lattice dynamics contradicts: with force constants of the potential or, of
another functional, of DFT, and with the published Born charges or those of MODEL, it gives more than twice as much.

Results are kept in the folder OUTPUT.parts, so that several processes (--part) share the work, and a run that ended can
be continued. Each run writes what is there by then to OUTPUT, a packed set for `dtnn-fast train-lattice`.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import torch
from ensemble_labels import unlabelled_bundled

from dtnn_fast.crystals.crystal import Crystal, Rejected
from dtnn_fast.crystals.insulators import is_metals_only
from dtnn_fast.errors import DTNNError
from dtnn_fast.formats import read_packed, write_packed
from dtnn_fast.model.lattice_model import LatticeModel
from dtnn_fast.phonons import DISPLACEMENT, SOFTEST, DisplacementPlan, gamma_modes, ionic_tensor
from dtnn_fast.potentials import Potential, gamma_force_constants, load_potential
from dtnn_fast.symmetry import with_operations
from dtnn_fast.training.lattice_loss import FORCE_CONSTANTS_ARE_PREDICTED
from dtnn_fast.training.partial_labels import LABELS_ARE_PREDICTED

# An ionic tensor is dropped where lattice dynamics gives more than this many times its mean, plus 2.
_CONTRADICTED = 2.0
# Number of crystals after which their force constants are stored.
_SHARD = 40


def read_all(names: Sequence[str]) -> list[Crystal]:
    """Read packed sets, and "bundled" for the crystals of `dtnn-fast screen` without labels; unique ids."""
    found: dict[str, Crystal] = {}
    for name in names:
        if name == "bundled":
            items = unlabelled_bundled()
        else:
            items = [item for item in read_packed(Path(name)).items if isinstance(item, Crystal)]
        found = {crystal.id: crystal for crystal in items} | found
    return list(found.values())


def needed(
    crystals: Iterable[Crystal], most_work: int, counts: Counter[str], functional: str = "PBE", soft: float = -inf
) -> list[Crystal]:
    """Choose the crystals that lack force constants, one of each structure.

    Args:
        crystals: those that come first are preferred.
        most_work: largest number of displaced crystals times atoms.
        counts: gets the numbers of those that were left out, by reason.
        functional: of the potential.
        soft: crystals with force constants of another functional are chosen, too, where the softest mode is below this.
            eV/Angstrom^2
    """
    crystals = list(crystals)
    computed = {name for crystal in crystals if crystal.force_constants is not None for name in _names(crystal)}
    taken: set[str] = set()
    chosen = []
    for crystal in crystals:
        names = _names(crystal)
        # With an ionic tensor, which two functionals have differently, the same structure is worth it.
        is_known = not computed.isdisjoint(names) and "ionic" not in crystal.targets
        if crystal.force_constants is not None:
            if crystal.info.get("functional") == functional or crystal.num_atoms < 2 or _softest(crystal) > soft:
                continue
            is_known = False
        if is_metals_only(crystal):
            counts["metals"] += 1
        elif is_known or not taken.isdisjoint(names):
            counts["another calculation has them"] += 1
        elif crystal.num_atoms < 2 or _work(crystal) > most_work:
            counts["too much work"] += 1
        else:
            taken |= names
            chosen.append(crystal)
    return chosen


def _softest(crystal: Crystal) -> float:
    """Stiffness of the softest mode of a crystal with force constants. eV/Angstrom^2"""
    charges = np.zeros((crystal.num_atoms, 3, 3))
    return float(gamma_modes(np.asarray(crystal.force_constants), charges).stiffness[0])


def drop_contradicted(
    crystals: Sequence[Crystal], matrices: dict[str, np.ndarray], functional: str, model: LatticeModel
) -> tuple[list[Crystal], list[str]]:
    """Drop ionic tensors, with the total ones, that are far smaller than lattice dynamics says.

    Args:
        crystals: labelled crystals.
        matrices: force constants of the potential by id. [3 N, 3 N], eV/Angstrom^2.
        functional: of the potential; tensors of this one are judged.
        model: predicts Born charges where none are known.

    Returns:
        All crystals, and the ids of those that lost tensors.
    """
    with_matrix = [crystal for crystal in crystals if crystal.force_constants is not None]
    computed = {name: crystal for crystal in with_matrix for name in _names(crystal)}
    judges: dict[str, list[tuple[Crystal, np.ndarray]]] = {}
    for crystal in crystals:
        if "ionic" not in crystal.targets or crystal.info.get("functional", functional) != functional:
            continue
        other = next((computed[name] for name in sorted(_names(crystal)) if name in computed), None)
        if crystal.id in matrices:
            judges.setdefault(crystal.id, []).append((crystal, matrices[crystal.id]))
        if other is not None:
            judges.setdefault(crystal.id, []).append((other, np.asarray(other.force_constants)))
    bare = {
        judge.id: judge
        for pairs in judges.values()
        for judge, _ in pairs
        if judge.born_charges is None and set(model.elements).issuperset(judge.atomic_numbers.tolist())
    }
    charges = dict(zip(bare, (one.born_charges for one in model.predict(list(bare.values()))), strict=True))
    kept, lost = [], []
    for crystal in crystals:
        means = []
        for judge, matrix in judges.get(crystal.id, []):
            born = charges.get(judge.id) if judge.born_charges is None else judge.born_charges
            if born is not None:
                volume = float(abs(np.linalg.det(judge.cell)))
                tensor = ionic_tensor(matrix, born - born.mean(0), volume, SOFTEST, condensed=True)
                means.append(float(np.trace(tensor) / 3))
        if means and max(means) > _CONTRADICTED * float(np.trace(crystal.targets["ionic"]) / 3) + 2.0:
            lost.append(crystal.id)
            electronic = {name: tensor for name, tensor in crystal.targets.items() if name == "electronic"}
            kept.append(replace(crystal, targets=electronic))
        else:
            kept.append(crystal)
    return kept, lost


def _names(crystal: Crystal) -> set[str]:
    """Ids of the same structure, without the name of the set."""
    return {crystal.id.rpartition("/")[2], *crystal.info.get("matches", [])}


def _work(crystal: Crystal) -> float:
    """Count the atoms in all displaced crystals; a displacement against another one counts as one."""
    try:
        return len(DisplacementPlan.of(with_operations([crystal])[0], DISPLACEMENT).atoms) * crystal.num_atoms
    except DTNNError:
        return float("inf")


def compute(crystals: Sequence[Crystal], potential: Potential, folder: Path, part: str, end: float) -> None:
    """Compute force constants in shards that are not there yet, until the time `end`."""
    number, of = map(int, part.split("/"))
    mine = crystals[number - 1 :: of]
    for start in range(0, len(mine), _SHARD):
        path = folder / f"{part.replace('/', '-of-')}-{start:06d}.npz"
        if path.exists():
            continue
        if time.time() > end:
            return
        chosen = mine[start : start + _SHARD]
        results = gamma_force_constants(chosen, potential)
        pairs = zip(chosen, results, strict=True)
        found = {crystal.id: one.matrix for crystal, one in pairs if not isinstance(one, Rejected)}
        unfinished = path.with_suffix(".unfinished.npz")
        np.savez(unfinished, ids=np.array(list(found)), **{str(row): one for row, one in enumerate(found.values())})
        os.replace(unfinished, path)
        print(f"{path.name}: {len(found)} of {len(chosen)} crystals", flush=True)


def collect(folder: Path) -> dict[str, np.ndarray]:
    """Read the shards: force constants by id."""
    found = {}
    for path in sorted(folder.glob("*-of-*-??????.npz")):
        with np.load(path, allow_pickle=False) as shard:
            found |= {id: shard[str(row)] for row, id in enumerate(shard["ids"].tolist())}
    return found


def add_labels(
    crystals: Iterable[Crystal], matrices: dict[str, np.ndarray], functional: str, name: str
) -> list[Crystal]:
    """Add force constants to crystals of the functional, and copies with nothing else for others.

    Args:
        crystals: all crystals; those without any label are left out.
        matrices: force constants by id. [3 N, 3 N], eV/Angstrom^2.
        functional: of the potential.
        name: of the potential; ends the ids of copies.
    """
    result = []
    for crystal in crystals:
        matrix = matrices.get(crystal.id)
        is_labelled = crystal.has_label or crystal.force_constants is not None
        same = crystal.info.get("functional", functional) == functional
        if is_labelled and (matrix is None or not same):
            result.append(crystal)
        if matrix is None:
            continue
        info = {**crystal.info, "functional": functional, FORCE_CONSTANTS_ARE_PREDICTED: True}
        if is_labelled and same:
            result.append(replace(crystal, force_constants=matrix, info=info))
            continue
        bare = {"targets": {}, "diagonals": {}, "means": {}, "born_charges": None, "force_constants": matrix}
        info[LABELS_ARE_PREDICTED] = True
        result.append(replace(crystal, id=f"{crystal.id}/{name}", info=info, **bare))
    return result


def main() -> None:
    """Read crystals, compute, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="packed set to write (.npz)")
    parser.add_argument("crystals", nargs="+", help="packed sets, or bundled")
    parser.add_argument("--potential", required=True, help="a potential; see dtnn-fast refine --potential")
    parser.add_argument("--functional", default="PBE", help="functional of the potential (PBE)")
    parser.add_argument("--most-work", type=int, default=150, help="most atoms in displaced crystals together (150)")
    parser.add_argument("--part", default="1/1", help="compute every N-th crystal, for N processes: 1/2 and 2/2")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop to compute after this time")
    parser.add_argument("--soft", type=float, default=-inf, help="see above; eV/Angstrom^2 (none)")
    parser.add_argument("--charges", help="lattice model whose Born charges judge ionic tensors (none are dropped)")
    parser.add_argument("--without", type=Path, help="packed set whose chemical systems are left out of OUTPUT")
    given = parser.parse_args()
    torch.set_num_threads(1)
    end = time.time() + 60 * given.minutes
    crystals, counts = read_all(given.crystals), Counter[str]()
    folder = given.output.with_suffix(".parts")
    folder.mkdir(parents=True, exist_ok=True)
    potential = load_potential(given.potential, dtype=torch.float32)
    chosen = needed(crystals, given.most_work, counts, given.functional, given.soft)
    # In a random order, so that a run that is cut short has crystals of all kinds; first those with an ionic tensor.
    shuffled = [chosen[row] for row in np.random.default_rng(0).permutation(len(chosen))]
    shuffled.sort(key=lambda crystal: "ionic" not in crystal.targets)
    print(f"{len(chosen)} crystals; left out: {dict(counts)}", flush=True)
    compute(shuffled, potential, folder, given.part, end)
    kept_out = {crystal.chemical_system for crystal in read_packed(given.without).items} if given.without else set()
    matrices = collect(folder)
    if given.charges:
        model = LatticeModel.from_pretrained(given.charges)
        crystals, lost = drop_contradicted(crystals, matrices, given.functional, model)
        print(f"{len(lost)} ionic tensors are contradicted by lattice dynamics: {', '.join(lost)}")
    labelled = add_labels(crystals, matrices, given.functional, potential.name)
    labelled = [crystal for crystal in labelled if crystal.chemical_system not in kept_out]
    print(f"{len(matrices)} of {len(chosen)} crystals have force constants; {len(labelled)} crystals in {given.output}")
    write_packed(given.output, with_operations(labelled), {"name": given.output.stem})


if __name__ == "__main__":
    main()
