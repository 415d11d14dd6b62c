# SPDX-License-Identifier: MIT
"""Compare force constants at q = 0 of the lattice model and of potentials with those of DFT.

python tools/compare_force_constants.py held_out.npz --lattice runs/lattice/model --potential sevennet-0 \
    --potential nequix-oam-1.nqx --most-atoms 16 --most 80

The crystals of the packed sets that have force constants of DFT are compared; the lattice model predicts them for the
functional of their labels. Ionic tensors are made with the Born charges of DFT and compared with the labels up to 100,
which DFT's force constants give with the same charges. With --frames, forces of the potentials are compared with those
of a file, from tools/force_labels.py. Prints a table in Markdown; --output keeps all figures.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dtnn_fast.crystals.crystal import Crystal, Rejected
from dtnn_fast.formats import read_packed
from dtnn_fast.model.lattice_model import LatticeModel
from dtnn_fast.phonons import SOFTEST, ionic_tensor
from dtnn_fast.potentials import Potential, gamma_force_constants, load_potential
from dtnn_fast.training.force_frames import ForceFrame, read_force_frames
from dtnn_fast.training.lattice_loss import FORCE_CONSTANTS_ARE_PREDICTED
from dtnn_fast.training.lattice_run import force_constant_errors, predict_for_functionals
from dtnn_fast.training.metrics import crystal_errors

# The rule of datasets.clean: larger ionic tensors mean a crystal at an instability.
_LARGEST_IONIC = 100.0


def choose(paths: Sequence[Path], elements: Sequence[int], most_atoms: int, most: int) -> list[Crystal]:
    """Choose crystals with force constants of DFT, at random where there are more than `most`."""
    usable = [
        item
        for path in paths
        for item in read_packed(path).items
        if isinstance(item, Crystal)
        and item.force_constants is not None
        and not item.info.get(FORCE_CONSTANTS_ARE_PREDICTED)
        and 1 < item.num_atoms <= most_atoms
        and set(elements).issuperset(item.atomic_numbers.tolist())
    ]
    order = np.random.RandomState(0).permutation(len(usable))[:most]
    return [usable[row] for row in order]


def compare(crystals: Sequence[Crystal], matrices: Sequence[np.ndarray]) -> dict[str, Any]:
    """Compute errors of force constants, and of the ionic tensors that they give with DFT's charges."""
    errors = force_constant_errors(crystals, matrices)
    pairs = []
    for crystal, matrix in zip(crystals, matrices, strict=True):
        expected = crystal.targets.get("ionic")
        if crystal.born_charges is None or expected is None or abs(expected).max() > _LARGEST_IONIC:
            continue
        charges = crystal.born_charges - crystal.born_charges.mean(0)
        volume = float(abs(np.linalg.det(crystal.cell)))
        pairs.append((ionic_tensor(matrix, charges, volume, SOFTEST, condensed=True), expected))
    if pairs:
        computed, labels = (np.array(tensors) for tensors in zip(*pairs, strict=True))
        of_crystals = crystal_errors(computed, labels)["mae_ten"]
        errors["ionic"] = len(pairs)
        errors |= {"mae_ten": float(of_crystals.mean()), "median_ten": float(np.median(of_crystals))}
    return errors


def force_errors(potential: Potential, frames: Sequence[ForceFrame]) -> dict[str, Any]:
    """Compute the mean error of the components of forces, of frames of elements that the potential knows."""
    known = set(potential.elements or range(1, 119))
    usable = [frame for frame in frames if known.issuperset(frame.crystal.atomic_numbers.tolist())]
    if not usable:
        return {}
    found = potential.forces([frame.crystal for frame in usable])
    errors = np.concatenate([one - frame.forces for one, frame in zip(found, usable, strict=True)])
    return {"frames": len(usable), "forces": float(np.abs(errors).mean())}


def main() -> None:
    """Choose, compute, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="packed sets of crystals with force constants")
    parser.add_argument("--lattice", required=True, type=Path, help="lattice model that has not seen them")
    parser.add_argument("--potential", action="append", default=[], help="see dtnn-fast refine --potential")
    parser.add_argument("--most-atoms", type=int, default=16, help="largest number of atoms (16)")
    parser.add_argument("--most", type=int, default=80, help="largest number of crystals (80)")
    parser.add_argument("--frames", type=Path, help="crystals with forces (.extxyz)")
    parser.add_argument("--output", type=Path, help="file for all figures (.json)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    lattice = LatticeModel.from_pretrained(given.lattice)
    crystals = choose(given.files, lattice.elements, given.most_atoms, given.most)
    start = time.perf_counter()
    results: dict[str, list[np.ndarray | Rejected]] = {
        "lattice model": [response.force_constants for response in predict_for_functionals(lattice, crystals)]
    }
    seconds = {"lattice model": time.perf_counter() - start}
    frames = read_force_frames([given.frames])[0] if given.frames else []
    of_forces: dict[str, dict[str, Any]] = {"lattice model": {}}
    for name in given.potential:
        potential = load_potential(name, dtype=torch.float32)
        start = time.perf_counter()
        results[potential.name] = [
            one if isinstance(one, Rejected) else one.matrix for one in gamma_force_constants(crystals, potential)
        ]
        seconds[potential.name] = time.perf_counter() - start
        of_forces[potential.name] = force_errors(potential, frames)
    # All are compared on the crystals that all can compute.
    rows = [
        row
        for row in range(len(crystals))
        if not any(isinstance(matrices[row], Rejected) for matrices in results.values())
    ]
    compared = [crystals[row] for row in rows]
    table = {}
    columns = ["force constants of", "relative error", "softest mode", "frequencies, THz", "unstable found; wrongly"]
    columns += ["ionic mean", "ionic median", "seconds for a crystal", *(["forces, eV/Angstrom"] if frames else [])]
    print(f"| {' | '.join(columns)} |\n| --- |{' ---: |' * (len(columns) - 1)}")
    for name, matrices in results.items():
        known = [matrix for row in rows if not isinstance(matrix := matrices[row], Rejected)]
        cost = {"seconds": seconds[name] / max(1, len(crystals))}
        table[name] = errors = compare(compared, known) | cost | of_forces[name]
        last = f" {errors['forces']:.3f} |" if "forces" in errors else "  |" if frames else ""
        print(
            f"| {name} | {errors['relative_error']:.3f} | {errors['softest_mode_error']:.2f} "
            f"| {errors['frequency_error_thz']:.2f} | {errors['unstable_found']} of {errors['unstable']}; "
            f"{errors['stable_called_unstable']} | {errors.get('mae_ten', np.nan):.2f} "
            f"| {errors.get('median_ten', np.nan):.2f} | {errors['seconds']:.3g} |{last}"
        )
    print(f"{len(compared)} of {len(crystals)} crystals, {errors.get('ionic', 0)} with an ionic tensor")
    if given.output:
        given.output.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
