# SPDX-License-Identifier: MIT
"""Read CIF files with pymatgen (an optional package), one or several data blocks."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..crystals.convert import to_crystal
from ..crystals.crystal import Crystal, Rejected
from ..crystals.elements import SYMBOLS
from ..errors import BadCrystalError, BadFileError, optional_import

_FORMULA = re.compile(
    r"""^_chemical_formula_sum\s+(?:'([^']*)'|"([^"]*)"|([^\s'";]\S*))""", re.MULTILINE | re.IGNORECASE
)
_ATOMS = re.compile(r"^\s*_atom_site_(?:fract|cartn)_x\b", re.MULTILINE | re.IGNORECASE)
_FORMULA_PART = re.compile(r"([A-Z][a-z]?)(\d*\.?\d*)")
# Patterns in pymatgen's messages, and what is wrong with the file.
_EXPLANATIONS = (
    (r"Occupancy \S+ exceeded", "two atoms at one place, or occupancies that add up to more than 1"),
    ("float NaN", "a coordinate is NaN"),
    ("float infinity", "a coordinate is infinite"),
    (r"to float: '[?.]'", "a coordinate, an occupancy or a length of the cell is missing"),
    ("modulo by zero|zip\\(\\)|reshape array", "the cell or the loop of atoms is incomplete; is the file truncated?"),
)
# Formulas are often rounded; a missing atom changes a ratio by more than this in all but the largest cells.
_FORMULA_TOLERANCE = 0.02


def read_cif(path: Path, text: str) -> Iterator[Crystal | Rejected]:
    """Read the crystals of a CIF file; symmetry is expanded, disorder is rejected.

    Raises:
        BadFileError: no data block has a cell and atoms.
        MissingPackageError: pymatgen is not installed.
    """
    parser_class = optional_import("pymatgen.io.cif", extra="io", purpose="read CIF files").CifParser
    # Files of journals have data blocks with text only.
    blocks = [(name, block) for name, block in _data_blocks(text) if _ATOMS.search(block)]
    if not blocks:
        if re.search(r"^_cell_length_a\b", text, re.MULTILINE | re.IGNORECASE):
            raise BadFileError(
                f"{path}: the file is truncated or incomplete: it has a cell, but no atoms (_atom_site_fract_x)"
            )
        raise BadFileError(f"{path}: not a CIF file with a crystal: no atoms (_atom_site_fract_x)")
    stem = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    for name, block in blocks:
        crystal_id = stem if len(blocks) == 1 else f"{stem}:{name}"
        source = str(path) if len(blocks) == 1 else f"{path} (data_{name})"
        try:
            yield _read_block(parser_class, block, crystal_id, source)
        except BadCrystalError as error:
            yield Rejected.from_error(error, crystal_id, source)


def _data_blocks(text: str) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of each data block.

    A block starts at a data_ line outside of text fields, which begin and end with a semicolon at the start of a line.
    """
    name: str | None = None
    block: list[str] = []
    in_text = False
    for line in text.splitlines():
        if line.startswith(";"):
            in_text = not in_text
        match = None if in_text else re.match(r"\s*data_(\S*)", line, re.IGNORECASE)
        if match:
            if name is not None:
                yield name, "\n".join(block)
            name, block = match.group(1), []
        block.append(line)
    if name is not None:
        yield name, "\n".join(block)


def _read_block(parser_class: Any, block: str, crystal_id: str, source: str) -> Crystal:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            structures = parser_class.from_str(block).parse_structures(primitive=False, on_error="raise")
        except Exception as error:  # pymatgen raises many types of errors on files that are not quite CIF
            raise BadCrystalError(_explain(error)) from error
    crystal = to_crystal(structures[0], crystal_id)
    _check_formula(block, crystal)
    return replace(crystal, source=source)


def _check_formula(block: str, crystal: Crystal) -> None:
    """Compare the atoms with the formula: a file that is cut off within its list of atoms is still valid CIF."""
    match = _FORMULA.search(block)
    if match is None:
        return
    formula = next(filter(None, match.groups()), "")
    expected: dict[str, float] = {}
    for name, amount in _FORMULA_PART.findall(formula):
        element = "H" if name in ("D", "T") else name
        expected[element] = expected.get(element, 0.0) + float(amount or 1)
    if not expected or not all(name in SYMBOLS and amount > 0 for name, amount in expected.items()):
        return
    counts = Counter(SYMBOLS[z] for z in crystal.atomic_numbers.tolist())
    ratio = crystal.num_atoms / sum(expected.values())
    for element in expected.keys() | counts.keys():
        expected_count = ratio * expected.get(element, 0.0)
        if abs(counts[element] - expected_count) > _FORMULA_TOLERANCE * expected_count:
            raise BadCrystalError(
                f"the atoms make {crystal.formula}, but _chemical_formula_sum says {formula}: atoms are missing, or "
                "the file is truncated"
            )


def _explain(error: Exception) -> str:
    """Translate pymatgen's message into plain words, followed by the message itself."""
    message = " ".join(str(error).split()).removeprefix("No structure parsed for section 1 in CIF. ")
    for pattern, explanation in _EXPLANATIONS:
        if re.search(pattern, message):
            return f"{explanation} (pymatgen: {message})"
    return f"pymatgen cannot read it: {message or type(error).__name__}"
