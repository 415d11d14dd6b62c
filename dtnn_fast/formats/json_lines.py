# SPDX-License-Identifier: MIT
"""Read JSON lines, the text format of this package: one crystal as a JSON object on each line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..crystals.crystal import Crystal, Rejected, dielectric_targets
from ..errors import BadCrystalError, BadFileError
from .file_ids import default_id
from .json_file import parse_json
from .json_structures import read_document, structure_of
from .text_files import split_lines

_REQUIRED_KEYS = ("atomic_numbers", "lattice_angstrom", "frac_coords")
_NOT_INFO = frozenset({"id", *_REQUIRED_KEYS, "eps_electronic", "eps_total"})


def read_jsonl(path: Path, text: str) -> Iterator[Crystal | Rejected]:
    """Read the crystals of JSON lines.

    Each line has the keys lattice_angstrom (3x3, rows are lattice vectors), atomic_numbers and frac_coords, and
    optionally id, eps_electronic and eps_total. All other keys go to `Crystal.info`. A line may also be a document
    that a JSON file can hold, see `json_structures`.

    Raises:
        BadFileError: the last line is cut off, or no line is a JSON object.
    """
    lines = split_lines(text)
    is_complete = text.endswith(("\n", "\r"))
    has_object = False
    stem = default_id(path)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        source = f"{path}:{number}"
        line_label = f"line {number}"
        try:
            row = parse_json(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines) and has_object and not is_complete:
                raise BadFileError(f"{path}: the file is truncated: line {number} breaks off") from error
            yield Rejected(line_label, source, f"not valid JSON: {error}")
            continue
        has_object = has_object or isinstance(row, Mapping)
        yield _read_row(row, line_label, source, f"{stem}:{number}")
    if not has_object:
        hint = "; it looks like one JSON document, whose name should end in .json" if _is_json_document(text) else ""
        raise BadFileError(f"{path}: no line is a JSON object{hint}")


def _is_json_document(text: str) -> bool:
    try:
        parse_json(text)
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
            targets=dielectric_targets(row.get("eps_electronic"), row.get("eps_total")),
            info={key: value for key, value in row.items() if key not in _NOT_INFO},
        )
    except BadCrystalError as error:
        return Rejected.from_error(error, name, source)
