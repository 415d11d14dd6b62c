# SPDX-License-Identifier: MIT
"""Join published sets of labelled crystals into one packed set for `dtnn-fast train`.

python tools/labelled_sets.py labelled.npz dielectric_petousis2017.jsonl.gz mp_dielectric_2125.jsonl.gz ... phonondb.npz
python tools/labelled_sets.py rest.npz --whole whole.npz --like lat_soft.npz dielectric_petousis2017.jsonl.gz ...

The JSON lines hold a crystal each: source, functional, id, cell (or lattice_angstrom), atomic_numbers, frac (or
frac_coords), and what there is of eps_electronic, eps_ionic, eps_total, born, matches_labelled (ids of the bundled
crystals with the same structure) and electronic_diagonal_only. The .npz holds the phonon database of Kyoto University:
arrays id, ptr, lattice_angstrom, frac_coords, atomic_numbers, eps_electronic, eps_ionic, ionic_usable, born_charges,
force_constants_mev, has_force_constants, lowest_optical_thz and matches_labelled.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dtnn_fast.crystals.checks import check_crystals
from dtnn_fast.crystals.crystal import Crystal, dielectric_targets
from dtnn_fast.datasets.label_cleaning import clean_labels
from dtnn_fast.formats import read_packed, write_packed
from dtnn_fast.symmetry import with_operations


def crystals_of_lines(path: Path) -> Iterator[Crystal]:
    """Read a file of JSON lines."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            source = row.get("source", path.name.partition(".")[0])
            cell, fractional = row.get("cell") or row["lattice_angstrom"], row.get("frac") or row["frac_coords"]
            functional = "PBEsol" if str(row.get("functional", "PBE")).startswith("PBEsol") else "PBE"
            is_bundled = "lattice_angstrom" in row
            name = row["id"] if is_bundled else f"{source.split()[0]}/{row['id']}"
            info = {
                "functional": functional,
                "set": path.name.partition(".")[0],
                "matches": [row["id"]] if is_bundled else row.get("matches_labelled", []),
            }
            gap = row.get("band_gap_ev", row.get("gga_direct_gap"))
            if gap is not None:
                info["band_gap_ev"] = gap
            fields: dict[str, Any] = {"info": info}
            if row.get("electronic_diagonal_only"):
                fields["diagonals"] = {"electronic": np.diag(np.array(row["eps_electronic"], dtype=float)).copy()}
            else:
                given = (row.get(key) for key in ("eps_electronic", "eps_total", "eps_ionic"))
                fields["targets"] = dielectric_targets(*given)
            if row.get("born") is not None:
                fields["born_charges"] = np.array(row["born"], dtype=float)
            yield Crystal.from_fractional(name, row["atomic_numbers"], fractional, cell, **fields)


def crystals_of_phonon_database(path: Path) -> Iterator[Crystal]:
    """Read the .npz of the phonon database."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    used = 0
    for index, name in enumerate(arrays["id"].tolist()):
        atoms = slice(arrays["ptr"][index], arrays["ptr"][index + 1])
        size = 3 * int(atoms.stop - atoms.start)
        matrix = None
        if arrays["has_force_constants"][index]:
            matrix = np.zeros((size, size))
            count = size * (size + 1) // 2
            matrix[np.triu_indices(size)] = arrays["force_constants_mev"][used : used + count] / 1000
            matrix += np.triu(matrix, 1).T
            used += count
        usable = arrays["ionic_usable"][index]
        yield Crystal.from_fractional(
            f"phonondb/{name}",
            arrays["atomic_numbers"][atoms].astype(np.int64),
            arrays["frac_coords"][atoms],
            arrays["lattice_angstrom"][index],
            targets=dielectric_targets(
                arrays["eps_electronic"][index], ionic=arrays["eps_ionic"][index] if usable else None
            ),
            born_charges=arrays["born_charges"][atoms].astype(float),
            force_constants=matrix,
            info={
                "functional": "PBEsol",
                "set": "phonondb",
                "matches": arrays["matches_labelled"][index].split(),
                "lowest_optical_thz": float(arrays["lowest_optical_thz"][index]),
            },
        )


def without_dropped(crystals: Iterable[Crystal], judged: Iterable[Crystal]) -> Iterator[Crystal]:
    """Leave out the ionic and total tensors of crystals that have no ionic tensor in another set any more.

    Args:
        crystals: labelled crystals.
        judged: crystals of `tools/potential_labels.py --charges`, which drops ionic tensors and keeps ids.
    """
    dropped = {crystal.id for crystal in judged if "ionic" not in crystal.targets}
    for crystal in crystals:
        if crystal.id in dropped and "ionic" in crystal.targets:
            kept = {name: tensor for name, tensor in crystal.targets.items() if name not in ("ionic", "total")}
            yield replace(crystal, targets=kept)
        else:
            yield crystal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument(
        "--whole",
        type=Path,
        help="put crystals with all three tensors of PBE, which dtnn-fast train can split, into this file instead",
    )
    parser.add_argument(
        "--like", type=Path, help="set of potential_labels.py --charges: leave out the ionic tensors that it dropped"
    )
    arguments = parser.parse_args()
    kept: list[Crystal] = []
    faults: Counter[str] = Counter()
    for path in arguments.files:
        crystals = list((crystals_of_phonon_database if path.suffix == ".npz" else crystals_of_lines)(path))
        for crystal, error in zip(crystals, check_crystals(crystals), strict=True):
            if error is not None:
                faults[f"{path.name}: {error}"] += 1
                continue
            cleaned, dropped = clean_labels(crystal)
            faults.update(f"{path.name}: {label.label}: {label.fault.value}" for label in dropped)
            if cleaned.has_label:
                kept.append(replace(cleaned, source=""))
    if arguments.like:
        before = sum("ionic" in crystal.targets for crystal in kept)
        judged = [item for item in read_packed(arguments.like).items if isinstance(item, Crystal)]
        kept = list(without_dropped(kept, judged))
        after = sum("ionic" in crystal.targets for crystal in kept)
        print(f"ionic tensors left out as in {arguments.like}: {before - after}")
    kept = with_operations([crystal for crystal in kept if crystal.has_label])
    provenance = {"source": "tools/labelled_sets.py", "dropped": faults}
    if arguments.whole:
        is_whole = [len(crystal.targets) == 3 and crystal.info["functional"] == "PBE" for crystal in kept]
        whole = [crystal for crystal, chosen in zip(kept, is_whole, strict=True) if chosen]
        kept = [crystal for crystal, chosen in zip(kept, is_whole, strict=True) if not chosen]
        write_packed(arguments.whole, whole, provenance)
        print(f"{len(whole)} crystals in {arguments.whole}")
    write_packed(arguments.output, kept, provenance)
    for fault, count in sorted(faults.items()):
        print(f"{count:6} {fault}")
    print(f"{len(kept)} crystals in {arguments.output}")


if __name__ == "__main__":
    main()
