# SPDX-License-Identifier: MIT
"""Folders as `dtnn-fast screen` writes them, with made-up tensors, so that tests of a report need no model."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.crystals.elements import SYMBOLS
from dtnn_fast.screening.store import tensor_columns

# Names of files and crystals that would be dangerous as markup.
HOSTILE_ID = "</script><script>window.hacked = 1</script>"
HOSTILE_TEXT = "<img src=x onerror='window.hacked = 2'> & <a href='javascript:window.hacked = 3'>&lt;b&gt;</a>"
_TYPES = {
    "id": pa.string(),
    "formula": pa.string(),
    "source": pa.string(),
    "num_atoms": pa.int64(),
    "crystal_system": pa.string(),
    "space_group": pa.int64(),
    "prototype": pa.string(),
    "duplicate_of": pa.string(),
    "lattice_vectors": pa.list_(pa.list_(pa.float64())),
    "species_at_sites": pa.list_(pa.string()),
    "cartesian_site_positions": pa.list_(pa.list_(pa.float64())),
    "labelled": pa.bool_(),
    "warnings": pa.string(),
    "warning_codes": pa.string(),
}


def random_tensors(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """Make symmetric tensors with positive principal values; the total is the sum of the other two. [count, 3, 3]."""

    def around(means: np.ndarray) -> np.ndarray:
        noise = rng.normal(size=(count, 3, 3))
        return means[:, None, None] * (np.eye(3) + 0.06 * (noise + noise.transpose(0, 2, 1)))

    electronic = around(np.exp(rng.normal(1.4, 0.35, count)) + 1.0)
    ionic = around(np.exp(rng.normal(2.0, 0.7, count)))
    return {"electronic": electronic, "ionic": ionic, "total": electronic + ionic}


def part_row(crystal: Crystal, tensors: Mapping[str, np.ndarray], **values: Any) -> dict[str, Any]:
    """Make a row of a part.

    Args:
        crystal: with its structure, and what is known of it in `info`.
        tensors: predicted, by target. [3, 3] each.
        values: other columns, and such that differ from the crystal's.
    """
    row = {
        "id": crystal.id,
        "formula": crystal.formula,
        "source": crystal.source,
        "num_atoms": crystal.num_atoms,
        "crystal_system": crystal.info.get("crystal_system"),
        "space_group": crystal.info.get("space_group"),
        "prototype": None,
        "duplicate_of": None,
        "lattice_vectors": crystal.cell.tolist(),
        "species_at_sites": [SYMBOLS[z] for z in crystal.atomic_numbers.tolist()],
        "cartesian_site_positions": crystal.positions.tolist(),
        "labelled": bool(crystal.targets),
        "warnings": "",
        "warning_codes": "",
        "training_distance": 0.5,
        "band_gap": crystal.info.get("band_gap_ev"),
        "e_above_hull": crystal.info.get("e_above_hull_ev_per_atom"),
    }
    for target, tensor in tensors.items():
        row |= {f"{target}_{name}": float(value[0]) for name, value in tensor_columns(tensor[None]).items()}
        row |= {
            f"{target}_tensor_error": 0.05 * row[f"{target}_mean"],
            f"{target}_mean_error": 0.08 * row[f"{target}_mean"],
        }
    if "electronic" in tensors:
        row["refractive_index"] = float(np.sqrt(max(row["electronic_mean"], 0.0)))
    return row | values


def write_part(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as a part; columns that are not in `_TYPES` are numbers."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    arrays = [pa.array([row.get(name) for row in rows], type=_TYPES.get(name, pa.float64())) for name in names]
    parquet.write_table(pa.table(arrays, names=names), path)


def merit_order(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rank by gap times total permittivity, then crystals without a gap by permittivity; returns ids."""
    ranked = [row for row in rows if not row["warning_codes"] and row["duplicate_of"] is None]

    def key(row: Mapping[str, Any]) -> tuple[bool, float]:
        unknown = row["band_gap"] is None
        return unknown, -row["total_mean"] * (1.0 if unknown else row["band_gap"])

    return [row["id"] for row in sorted(ranked, key=key)]


def write_screening(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    rejected: Sequence[tuple[str, str, str]] = (),
    ranked: Sequence[str] | None = None,
    rows_of_part: int = 400,
) -> Path:
    """Write a complete folder: parts, rejected, ranking.csv, manifest.json and summary.json.

    Args:
        folder: is created.
        rows: of `part_row`.
        rejected: id, source and reason of each.
        ranked: ids from the first rank; by default `merit_order`.
        rows_of_part: largest number of rows in a part.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for piece, first in enumerate(range(0, len(rows), rows_of_part)):
        write_part(folder / f"part-000000-{piece:04d}.parquet", rows[first : first + rows_of_part])
    if rejected:
        columns = [pa.array(list(values), type=pa.string()) for values in zip(*rejected, strict=True)]
        parquet.write_table(
            pa.table(columns, names=["id", "source", "reason"]), folder / "rejected-000000-0000.parquet"
        )
    order = merit_order(rows) if ranked is None else list(ranked)
    with (folder / "ranking.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["rank", "id", "formula"])
        formulas = {row["id"]: row["formula"] for row in rows}
        for rank, id in enumerate(order, start=1):
            writer.writerow([rank, id, formulas[id]])
    left = [(id, row) for row in rows if (id := row["id"]) not in set(order)]
    with (folder / "unranked.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["why_not_ranked", "id"])
        for id, row in left:
            codes = [*row["warning_codes"].split(), *(["duplicate"] if row["duplicate_of"] else [])]
            writer.writerow([" ".join(codes), id])
    manifest = {
        "format": "dtnn_fast screening 1",
        "model": {"name": "dielectric", "sha256": "0" * 64},
        "source": {"paths": ["crystals"], "num_chunks": 1, "sha256": "1" * 64},
        "settings": {"batch_atoms": 1024},
        "versions": {"dtnn_fast": "0.1.0", "torch": "2.13.0"},
        "command": "dtnn-fast screen crystals -o screening",
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    summary = {"predicted": len(rows), "rejected": len(rejected), "sorted_by": "figure of merit"}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return folder
