# SPDX-License-Identifier: MIT
"""Store the raw data files compactly in dtnn_fast/datasets/bundled; run from the project's root, with the extra "io".

python tools/compact_bundled.py dielectric_petousis2017.jsonl.gz structures_mp2015.jsonl.gz
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from dtnn_fast.crystals.charge_balance import is_charge_balanced
from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import (
    LABELLED_FILE,
    SOURCE_NAMES,
    STRUCTURES_FILE,
    TENSOR_SCALE,
    compact_structures,
    expand_structures,
    to_integers,
)
from dtnn_fast.symmetry import crystal_system_of_group, space_group_number


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a .jsonl.gz file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def compact_labelled(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Store the rows with dielectric tensors, which stay as published: the loader symmetrises them."""
    return compact_structures(rows) | {
        "space_group": np.array([row["space_group"] for row in rows], dtype=np.uint8),
        "crystal_system": np.array([row["crystal_system"] for row in rows]),
        "charge_balanced": np.array([is_charge_balanced(row["atomic_numbers"]) for row in rows]),
        "band_gap_ev": np.array([row["band_gap_ev"] for row in rows], dtype=np.float64),
        "eps_electronic": to_integers([row["eps_electronic"] for row in rows], TENSOR_SCALE),
        "eps_total": to_integers([row["eps_total"] for row in rows], TENSOR_SCALE),
    }


def compact_unlabelled(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Store the rows without tensors, with their space groups from moyopy.

    The files in the package were made with spglib, which finds another group for 32 of 6,631 crystals.
    """
    arrays = compact_structures(rows)
    groups = [_space_group(crystal) for crystal in expand_structures(arrays, "raw")]
    bits = [sum(1 << SOURCE_NAMES.index(name) for name in row["sources"]) for row in rows]
    energies = [row.get("e_above_hull_ev_per_atom", np.nan) for row in rows]
    return arrays | {
        "space_group": np.array(groups, dtype=np.uint8),
        "crystal_system": np.array([crystal_system_of_group(group) for group in groups]),
        "charge_balanced": np.array([is_charge_balanced(row["atomic_numbers"]) for row in rows]),
        "sources": np.array(bits, dtype=np.uint8),
        "e_above_hull_ev_per_atom": np.array(energies, dtype=np.float64),
    }


def _space_group(crystal: Crystal) -> int:
    number = space_group_number(crystal)
    if number is None:
        raise ValueError(f"{crystal.label}: moyopy finds no space group")
    return number


def main() -> None:
    """Write both compact files and print what is in them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labelled", type=Path, help="dielectric_petousis2017.jsonl.gz")
    parser.add_argument("structures", type=Path, help="structures_mp2015.jsonl.gz")
    arguments = parser.parse_args()
    compact = {
        LABELLED_FILE: compact_labelled(read_rows(arguments.labelled)),
        STRUCTURES_FILE: compact_unlabelled(read_rows(arguments.structures)),
    }
    for path, arrays in compact.items():
        path.parent.mkdir(exist_ok=True)
        np.savez_compressed(path, allow_pickle=False, **arrays)
        balanced = int(arrays["charge_balanced"].sum())
        print(f"{path.name}: {len(arrays['id'])} crystals, {balanced} charge-balanced, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
