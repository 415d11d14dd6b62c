# SPDX-License-Identifier: MIT
"""Read JSON lines, the text format of this package: one crystal as a JSON object on each line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..crystals.crystal import Crystal, Rejected, dielectric_targets
from ..errors import BadCrystalError, BadFileError
from .file_ids import default_id
from .json_file import parse_document
from .json_structures import read_document, structure_of
from .packed_labels import TENSORS
from .text_files import lines_of

_REQUIRED_KEYS = ("atomic_numbers", "lattice_angstrom", "frac_coords")
_LABEL_SHAPES = {f"eps_{name}{part}": shape for name in TENSORS for part, shape in (("_diagonal", (3,)), ("_mean", ()))}
_NOT_INFO = frozenset(
    {"id", *_REQUIRED_KEYS, *(f"eps_{name}" for name in TENSORS), *_LABEL_SHAPES, "born_charges", "force_constants"}
)


def read_jsonl(path: Path, text: str) -> Iterator[Crystal | Rejected]:
    """Read the crystals of JSON lines.

    Each line has the keys lattice_angstrom (3x3, rows are lattice vectors), atomic_numbers and frac_coords, and
    optionally id, labels (see `labels_of_row`), and anything else, which goes to `Crystal.info`. A line may also be a
    document that a JSON file can hold, see `json_structures`.

    Raises:
        BadFileError: the last line is cut off, or no line is a JSON object.
    """
    return stream_jsonl(path, [text], text)


def stream_jsonl(path: Path, chunks: Iterable[str], whole: str = "") -> Iterator[Crystal | Rejected]:
    """Read a large file as `read_jsonl` does, with one line in memory.

    Args:
        path: the file, for names and messages.
        chunks: its text in parts.
        whole: the whole text where it is known, for a hint where no line is a JSON object.
    """
    has_object = False
    stem = default_id(path)
    for number, (line, has_end) in enumerate(lines_of(path, chunks), start=1):
        if not line.strip():
            continue
        source = f"{path}:{number}"
        line_label = f"line {number}"
        try:
            row = parse_document(line)
        except (ValueError, RecursionError) as error:
            if not has_end and has_object:
                raise BadFileError(f"{path}: the file is truncated: line {number} breaks off") from error
            yield Rejected(line_label, source, f"not valid JSON: {error}")
            continue
        has_object = has_object or isinstance(row, Mapping)
        yield _read_row(row, line_label, source, f"{stem}:{number}")
    if not has_object:
        hint = "; it looks like one JSON document, whose name should end in .json" if _is_json_document(whole) else ""
        raise BadFileError(f"{path}: no line is a JSON object{hint}")


def _is_json_document(text: str) -> bool:
    try:
        parse_document(text)
    except (ValueError, RecursionError):
        return False
    return True


def _read_row(row: Any, line_label: str, source: str, default_id: str) -> Crystal | Rejected:
    if not isinstance(row, Mapping):
        return Rejected(line_label, source, f"expected a JSON object, got {type(row).__name__}")
    if structure_of(row) is not None:
        return read_document(row, default_id, source)
    name = str(row.get("id", default_id))
    missing = [key for key in _REQUIRED_KEYS if key not in row]
    if missing:
        return Rejected(str(row.get("id", line_label)), source, f"missing {', '.join(missing)}")
    try:
        return Crystal.from_fractional(
            name,
            row["atomic_numbers"],
            row["frac_coords"],
            row["lattice_angstrom"],
            source=source,
            **labels_of_row(row),
            info={key: value for key, value in row.items() if key not in _NOT_INFO},
        )
    except BadCrystalError as error:
        return Rejected.from_error(error, name, source)


def labels_of_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Read the labels of a JSON object as fields of `Crystal`.

    Keys: eps_electronic, eps_total and eps_ionic hold 3x3 numbers. Where no more is known, eps_electronic_diagonal
    holds three numbers and eps_electronic_mean a third of the trace, and so for the others. born_charges holds
    [N, 3, 3], force_constants [3 N, 3 N] numbers.

    Raises:
        BadCrystalError: a label has another shape, or elements that are not finite numbers.
    """
    num_atoms = len(row["atomic_numbers"])
    shapes = _LABEL_SHAPES | {"born_charges": (num_atoms, 3, 3), "force_constants": (3 * num_atoms, 3 * num_atoms)}
    given = {key: _numbers(key, row[key], shape) for key, shape in shapes.items() if row.get(key) is not None}
    parts = {
        part: {name: given[f"eps_{name}_{part}"] for name in TENSORS if f"eps_{name}_{part}" in given}
        for part in ("diagonal", "mean")
    }
    return {
        "targets": dielectric_targets(**{name: row.get(f"eps_{name}") for name in TENSORS}),
        "diagonals": parts["diagonal"],
        "means": {name: float(mean) for name, mean in parts["mean"].items()},
        "born_charges": given.get("born_charges"),
        "force_constants": given.get("force_constants"),
    }


def json_row(crystal: Crystal) -> dict[str, Any]:
    """Return a crystal as the JSON object of a line, with its labels and `info`; `read_jsonl` gives it back.

    Args:
        crystal: periodic in all directions.
    """
    tensors = {f"eps_{name}": tensor.tolist() for name, tensor in crystal.targets.items()}
    diagonals = {f"eps_{name}_diagonal": values.tolist() for name, values in crystal.diagonals.items()}
    means = {f"eps_{name}_mean": mean for name, mean in crystal.means.items()}
    arrays = {"born_charges": crystal.born_charges, "force_constants": crystal.force_constants}
    return {
        **{key: value for key, value in crystal.info.items() if key not in _NOT_INFO},
        "id": crystal.id,
        "lattice_angstrom": crystal.cell.tolist(),
        "atomic_numbers": crystal.atomic_numbers.tolist(),
        "frac_coords": (crystal.positions @ np.linalg.inv(crystal.cell)).tolist(),
        **tensors,
        **diagonals,
        **means,
        **{key: array.tolist() for key, array in arrays.items() if array is not None},
    }


def _numbers(key: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadCrystalError(f"expected numbers as {key}: {error}") from error
    if array.shape != shape:
        raise BadCrystalError(f"expected {key} of shape {list(shape)}, got {list(array.shape)}")
    if not np.isfinite(array).all():
        raise BadCrystalError(f"expected finite numbers as {key}, got NaN or infinity")
    return array
