# SPDX-License-Identifier: MIT
"""Compute energies, forces and stresses of a potential, so that another one can learn from them.

python tools/force_labels.py frames.extxyz labelled.npz bundled --potential nequix-oam-1.nqx --made 12000
python tools/force_labels.py frames-1.extxyz labelled.npz bundled --potential ... --part 1/2 --minutes 60

"bundled" stands for the crystals of `dtnn-fast screen` without labels. Crystals are those of the files up to 20 atoms,
as they are, and others that are made of these by substituted elements, strain and displacements, as `dtnn-fast distill`
makes them; without crystals of metals only, and in random order, so that a run that is cut short has crystals of all
kinds. OUTPUT, extended XYZ for `dtnn-fast train-potential`, is continued where it exists. Crystals on which the
potential fails are left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from math import inf
from pathlib import Path

import torch
from potential_labels import read_all

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.crystals.insulators import is_metals_only
from dtnn_fast.distillation.made_crystals import CrystalSettings, make_crystals
from dtnn_fast.errors import DTNNError
from dtnn_fast.formats import read_packed
from dtnn_fast.potentials import Potential, load_potential
from dtnn_fast.training.force_frames import ForceFrame, read_force_frames, write_force_frames

# Number of crystals after which their labels are stored.
_CHUNK = 32
_MOST_ATOMS_REAL, _MOST_ATOMS_MADE = 20, 12


def compute(crystals: Sequence[Crystal], potential: Potential) -> list[ForceFrame]:
    """Compute the labels of crystals; those on which the potential fails are left out."""
    try:
        results = potential.evaluate(crystals)
    except DTNNError:
        if len(crystals) == 1:
            return []
        return [frame for crystal in crystals for frame in compute([crystal], potential)]
    pairs = zip(crystals, results, strict=True)
    return [ForceFrame(crystal, one.energy, one.forces, one.stress) for crystal, one in pairs]


def label(crystals: Sequence[Crystal], potential: Potential, output: Path, end: float) -> int:
    """Label crystals until the time `end`, and append them to a file that may have the first ones; returns how many."""
    done = {frame.crystal.id for frame in read_force_frames([output])[0]} if output.exists() else set()
    missing = [crystal for crystal in crystals if crystal.id not in done]
    count = len(done)
    for start in range(0, len(missing), _CHUNK):
        if time.time() > end:
            break
        frames = compute(missing[start : start + _CHUNK], potential)
        write_force_frames(output, frames, append=True)
        count += len(frames)
    return count


def main() -> None:
    """Read crystals, make others, compute, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="file to write (.extxyz)")
    parser.add_argument("crystals", nargs="+", help="packed sets, or bundled")
    parser.add_argument("--potential", required=True, help="a potential; see dtnn-fast refine --potential")
    parser.add_argument("--made", type=int, default=12000, help="number of crystals to make of those (12000)")
    parser.add_argument("--part", default="1/1", help="compute every N-th crystal, for N processes: 1/2 and 2/2")
    parser.add_argument("--minutes", type=float, default=inf, help="stop to compute after this time")
    parser.add_argument("--without", type=Path, help="packed set whose chemical systems are left out")
    given = parser.parse_args()
    torch.set_num_threads(1)
    end = time.time() + 60 * given.minutes
    potential = load_potential(given.potential, dtype=torch.float32)
    sources = [crystal for crystal in read_all(given.crystals) if not is_metals_only(crystal)]
    settings = CrystalSettings(
        made=given.made, most_atoms_real=_MOST_ATOMS_REAL, most_atoms_made=_MOST_ATOMS_MADE, rattle=0.12, strain=0.04
    )
    made = make_crystals(sources, settings, potential.elements or range(1, 119))
    kept_out = {crystal.chemical_system for crystal in read_packed(given.without).items} if given.without else set()
    crystals = [crystal for crystal in made.crystals if crystal.chemical_system not in kept_out]
    number, of = map(int, given.part.split("/"))
    mine = crystals[number - 1 :: of]
    print(f"{len(crystals)} crystals, {len(mine)} of them here; left out: {made.dropped}", flush=True)
    print(f"{label(mine, potential, given.output, end)} of {len(mine)} crystals in {given.output}")


if __name__ == "__main__":
    main()
