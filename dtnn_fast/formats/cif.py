# SPDX-License-Identifier: MIT
"""Read CIF with gemmi (an optional package): one or many data blocks. What is not understood is rejected, not guessed.

The Cartesian frame is the one of pymatgen: c along z, a in the plane of x and z.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..crystals.crystal import Crystal, Rejected
from ..crystals.elements import COVALENT_RADII, SYMBOLS, atomic_number, formula
from ..crystals.lattice import closest_pair_within
from ..errors import BadCrystalError, BadFileError, optional_import
from .cif_block import NOT_GIVEN, CifBlock, as_number, items_of, plain_numbers
from .cif_symmetry import Operations, OverlappingCopiesError, StatedSymmetry, expand, find_operations
from .compressed import uncompressed_name

_FORMULA_PART = re.compile(r"([A-Z][a-z]?)(\d*\.?\d*)")
# Formulas are often rounded; a missing atom changes a ratio by more than this in all but the largest cells.
_FORMULA_TOLERANCE = 0.02
# Occupancies such as 0.9999 and 1.0002 are rounded ones.
_OCCUPANCY_TOLERANCE = 1e-3
# An element symbol with or without a charge: Fe, Fe3+, Fe+3, O2-, Cu0.
_ELEMENT = re.compile(r"([A-Za-z]{1,2})(?:\d*\.?\d*[+-]|[+-]\d*\.?\d*|0)?")
# Of two settings of a space group, the one with atoms closer than this fraction of the sum of their covalent radii has
# the wrong origin. The shortest bonds known have about 0.75.
_OVERLAP = 0.6
_ELEMENTS = frozenset(SYMBOLS[1:])
_MODULATED = ("_cell_modulation_dimension", "_space_group_ssg_name", "_cell_wave_vector_seq_id")
_MAGNETIC = ("_space_group_symop_magn_operation_xyz", "_space_group_symop_magn_operation_id")
_OPERATION_TAGS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
_HALL_TAGS = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
_SYMBOL_TAGS = (
    "_space_group_name_h-m_alt",
    "_symmetry_space_group_name_h-m",
    "_space_group_name_h-m_full",
    "_space_group_name_h-m",
    "_symmetry_space_group_name_h-m_alt",
)
_SITE_TAGS = (
    "_atom_site_occupancy",
    "_atom_site_calc_flag",
    "_atom_site_disorder_group",
    "_atom_site_attached_hydrogens",
)
_NOT_GIVEN = frozenset(NOT_GIVEN)
# Values of these tags that say nothing unusual.
_USUAL = {
    tag: frozenset((*NOT_GIVEN, *words))
    for tag, words in zip(
        _SITE_TAGS, (("1", "1.0", "1.00", "1.000", "1.0000"), ("d", "calc"), ("0",), ("0",)), strict=True
    )
}
_SYSTEM_TAGS = ("_space_group_crystal_system", "_symmetry_cell_setting")
_NUMBER_TAGS = ("_space_group_it_number", "_symmetry_int_tables_number")


NO_CRYSTAL = "not a CIF file with a crystal: no atoms (_atom_site_fract_x)"


def read_cif(path: Path, text: str) -> Iterator[Crystal | Rejected]:
    """Read the crystals of a CIF file; symmetry is expanded, disorder is rejected.

    Raises:
        BadFileError: the file is not CIF, or no data block has a cell and atoms.
        MissingPackageError: gemmi is not installed.
    """
    cif = optional_import("gemmi", extra="io", purpose="read CIF files").cif
    try:
        # Level 0: repeated tags are judged below, where they matter.
        document = cif.read_string(text, check_level=0)
    except (ValueError, RuntimeError) as error:
        hint = "; is the file truncated?" if "number of values in loop" in str(error) else ""
        raise BadFileError(f"{path}: not valid CIF: {_plain_error(error)}{hint}") from error
    blocks = [CifBlock(block.name, items_of(block)) for block in document]
    # Journals put text into separate blocks, without a crystal.
    with_atoms = [block for block in blocks if block.has_atoms]
    if not with_atoms:
        if any("_cell_length_a" in block.items for block in blocks):
            raise BadFileError(
                f"{path}: the file is truncated or incomplete: a cell, but no atoms (_atom_site_fract_x)"
            )
        raise BadFileError(f"{path}: {NO_CRYSTAL}")
    stem = uncompressed_name(path.name).rsplit(".", 1)[0]
    repeated = Counter(block.name for block in with_atoms)
    for number, block in enumerate(with_atoms, start=1):
        name = block.name if repeated[block.name] == 1 else f"{block.name}:{number}"
        crystal_id = stem if len(with_atoms) == 1 else f"{stem}:{name}"
        source = str(path) if len(with_atoms) == 1 else f"{path} (data_{name})"
        try:
            yield _read_block(block, crystal_id, source)
        except BadCrystalError as error:
            yield Rejected.from_error(error, crystal_id, source)


class _Site(NamedTuple):
    """One site of the loop of atoms."""

    label: str
    atomic_number: int
    position: Sequence[float]


def _plain_error(error: Exception) -> str:
    """Gemmi's message without the name that it gives to text in memory."""
    return " ".join(str(error).replace("string:", "line ", 1).split())


def _read_block(block: CifBlock, crystal_id: str, source: str) -> Crystal:
    for tag in (*_MODULATED, *_MAGNETIC):
        if tag in block.items and block.value(tag) not in (None, "0"):
            unsupported = "modulated structures" if tag in _MODULATED else "magnetic space groups"
            raise BadCrystalError(f"{unsupported} are not supported ({tag})")
    cell = _cell(block)
    sites = _sites(block)
    stated = _stated_symmetry(block)
    choices = [_without_symmetry(block)] if stated.is_empty else find_operations(stated, cell)
    reasons = []
    structures = []
    for operations in choices:
        try:
            structures.append(_atoms(block, sites, operations, cell, is_choice=len(choices) > 1))
        except BadCrystalError as error:
            reasons.append(f"{operations.name}: {error}" if len(choices) > 1 else str(error))
    if len(structures) > 1:
        names = " and ".join(operations.name.removeprefix("the space group ") for operations in choices)
        stated_group = ", number ".join(str(name) for name in (stated.symbol, stated.number) if name is not None)
        raise BadCrystalError(
            f"the space group {stated_group} has several settings ({names}); the file does not say "
            "which one, and the atoms fit more than one"
        )
    if not structures:
        raise BadCrystalError("; ".join(reasons))
    numbers, fractional = structures[0]
    return Crystal.from_fractional(crystal_id, numbers, fractional, cell, source=source)


def _cell(block: CifBlock) -> np.ndarray:
    """The lattice vectors as rows, in pymatgen's frame. [3, 3], Angstrom."""
    a, b, c = (_number(block, f"_cell_length_{name}") for name in "abc")
    alpha, beta, gamma = (_number(block, f"_cell_angle_{name}") for name in ("alpha", "beta", "gamma"))
    if min(a, b, c) <= 0:
        raise BadCrystalError(f"the lengths of the cell, {a:g}, {b:g} and {c:g} Angstrom, are not all positive")
    if not all(0 < angle < 180 for angle in (alpha, beta, gamma)):
        raise BadCrystalError(f"the angles of the cell, {alpha:g}, {beta:g} and {gamma:g} degrees, make no cell")
    # By cosines, exact for the angles that most crystals have.
    cosines = [0.0 if angle == 90 else float(np.cos(np.radians(angle))) for angle in (alpha, beta, gamma)]
    sines = [1.0 if angle == 90 else float(np.sin(np.radians(angle))) for angle in (alpha, beta, gamma)]
    cos_star = (cosines[0] * cosines[1] - cosines[2]) / (sines[0] * sines[1])
    if abs(cos_star) >= 1:
        raise BadCrystalError(f"the angles of the cell, {alpha:g}, {beta:g} and {gamma:g} degrees, make no cell")
    sin_star = float(np.sqrt(1 - cos_star**2))
    return np.array(
        [
            [a * sines[1], 0.0, a * cosines[1]],
            [-b * sines[0] * cos_star, b * sines[0] * sin_star, b * cosines[0]],
            [0.0, 0.0, c],
        ]
    )


def _number(block: CifBlock, tag: str) -> float:
    value = block.value(tag)
    if value is None:
        raise BadCrystalError(f"{tag} is missing; is the file truncated?")
    return as_number(value, tag)


def _sites(block: CifBlock) -> list[_Site]:
    """The sites of the loop of atoms, each fully occupied by one element."""
    if "_atom_site_fract_x" not in block.items:
        raise BadCrystalError(
            "the atoms have Cartesian coordinates (_atom_site_Cartn_x); fractional ones are needed (_atom_site_fract_x)"
        )
    axes = [block.column(f"_atom_site_fract_{name}") for name in "xyz"]
    count = len(axes[0])
    if not all(len(axis) == count for axis in axes):
        raise BadCrystalError("_atom_site_fract_x, _y and _z are not all given; is the loop of atoms incomplete?")

    def column(tag: str) -> list[str]:
        values = block.column(tag) or ["?"] * count
        if len(values) != count:
            raise BadCrystalError(f"{tag} has {len(values)} values for {count} atoms: is it outside the loop of atoms?")
        return values

    labels = [
        f"atom {place}" if value in NOT_GIVEN else value for place, value in enumerate(column("_atom_site_label"))
    ]
    symbols = column("_atom_site_type_symbol")
    columns = {tag: column(tag) for tag in _SITE_TAGS}
    formula_elements = {name for name, _ in _FORMULA_PART.findall(block.value("_chemical_formula_sum") or "")}
    # Most files have nothing unusual, and then whole columns are judged and read at once.
    is_usual = all(_USUAL[tag].issuperset(values) for tag, values in columns.items())
    numbers = [plain_numbers(axis) for axis in axes]
    if is_usual and None not in numbers and not _NOT_GIVEN.intersection(symbols):
        elements: dict[str, int] = {}
        for symbol, label in zip(symbols, labels, strict=True):
            if symbol not in elements:
                elements[symbol] = _element(symbol, label, formula_elements)
        return [*map(_Site, labels, map(elements.__getitem__, symbols), zip(*numbers, strict=True))]
    sites = []
    for place in range(count):
        label = labels[place]
        _check_site(place, label, columns)
        number = _element(symbols[place], label, formula_elements)
        xyz = [
            _coordinate(axis[place], name, label) if known is None else known[place]
            for name, axis, known in zip("xyz", axes, numbers, strict=True)
        ]
        sites.append(_Site(label, number, xyz))
    if not sites:
        raise BadCrystalError("the loop of atoms is empty")
    return sites


def _coordinate(text: str, name: str, label: str) -> float:
    if text in NOT_GIVEN:
        raise BadCrystalError(f"_atom_site_fract_{name} of {label} is not given")
    return as_number(text, f"_atom_site_fract_{name} of {label}")


def _check_site(place: int, label: str, columns: Mapping[str, Sequence[str]]) -> None:
    """Refuse a site that is not one atom at one place, by the columns of `_SITE_TAGS`."""

    def given(tag: str) -> str | None:
        value = columns[tag][place]
        return None if value in NOT_GIVEN else value

    occupancy, calculated, group, hydrogens = map(given, _SITE_TAGS)
    if calculated is not None and calculated.lower() == "dum":
        raise BadCrystalError(f"{label} is a dummy atom")
    if occupancy is not None:
        value = as_number(occupancy, f"_atom_site_occupancy of {label}")
        if abs(value - 1) > _OCCUPANCY_TOLERANCE:
            raise BadCrystalError(f"partial occupancy: {label} has occupancy {occupancy}; order the structure first")
    if group not in (None, "0"):
        raise BadCrystalError(f"disorder: {label} belongs to disorder group {group}; order the structure first")
    if hydrogens is not None and hydrogens.isdecimal() and int(hydrogens) > 0:
        raise BadCrystalError(f"{label} has {hydrogens} attached hydrogen atoms without coordinates")


def _element(symbol: str, label: str, formula_elements: set[str]) -> int:
    """The element of a site: by its type symbol, else by its label."""
    if symbol not in NOT_GIVEN:
        match = _ELEMENT.fullmatch(symbol)
        name = match.group(1).capitalize() if match else ""
        if name not in ("D", "T") and name not in _ELEMENTS:
            raise BadCrystalError(f"the type symbol {symbol!r} of {label} names no element")
        return atomic_number(name)
    letters = re.match(r"[A-Za-z]*", label)
    text = letters.group() if letters else ""
    # As written (Mg1); in capitals (MG1) only where the formula or a single letter leaves no choice.
    names = [text] if text in _ELEMENTS or text in ("D", "T") else []
    if not names and len(text) == 2 and text.isupper():
        both = [name for name in (text.capitalize(), text[0]) if name in _ELEMENTS]
        names = [name for name in both if name in formula_elements] if formula_elements else both[: len(both) == 1]
        if names == [text[0]]:
            names = []  # a group such as OH
    if len(names) != 1:
        raise BadCrystalError(f"the label {label!r} names no element, and there is no _atom_site_type_symbol")
    return atomic_number(names[0])


def _stated_symmetry(block: CifBlock) -> StatedSymmetry:
    operations: list[str] = []
    for tag in _OPERATION_TAGS:
        if tag in block.items and not operations:
            operations = [value for value in block.column(tag) if value not in NOT_GIVEN]
    number = block.value(*_NUMBER_TAGS)
    if number is not None and not number.isdecimal():
        raise BadCrystalError(f"the space group number is {number!r}, which is not an integer")
    return StatedSymmetry(
        tuple(operations), block.value(*_HALL_TAGS), block.value(*_SYMBOL_TAGS), None if number is None else int(number)
    )


def _without_symmetry(block: CifBlock) -> Operations:
    """The identity alone, which is the meaning of a file without any statement on symmetry.

    Raises:
        BadCrystalError: a crystal system other than triclinic is stated, so that operations are missing.
    """
    system = block.value(*_SYSTEM_TAGS)
    if system is not None and system.lower() != "triclinic":
        raise BadCrystalError(
            f"the crystal system is {system}, but neither symmetry operations nor a space group are stated"
        )
    return Operations(np.eye(3, dtype=np.int64)[None], np.zeros((1, 3)), "no symmetry")


def _atoms(
    block: CifBlock, sites: Sequence[_Site], operations: Operations, cell: np.ndarray, is_choice: bool
) -> tuple[list[int], np.ndarray]:
    """All atoms of the cell, checked against the formula."""
    numbers: list[int] = []
    listed = np.array([site.position for site in sites])
    if len(operations.rotations) == 1:  # the identity
        numbers = [site.atomic_number for site in sites]
        fractional = listed - np.floor(listed)
    else:
        try:
            fractional, counts = expand(listed, operations, cell)
        except OverlappingCopiesError as error:
            raise BadCrystalError(f"{sites[error.site].label}: {error}") from error
        for site, count in zip(sites, counts.tolist(), strict=True):
            numbers += [site.atomic_number] * count
    if is_choice:
        overlap = _overlapping_pair(numbers, fractional, cell)
        if overlap is not None:
            raise BadCrystalError(overlap)
    _check_formula(block, numbers, fractional, cell)
    return numbers, fractional


def _formula_counts(block: CifBlock) -> dict[str, float] | None:
    """The atoms of a formula unit by element, or None where there is no formula of elements."""
    text = block.value("_chemical_formula_sum")
    if text is None:
        return None
    counts: dict[str, float] = {}
    if re.sub(r"[A-Z][a-z]?\d*\.?\d*|[\s,]", "", text):
        return None
    for name, amount in _FORMULA_PART.findall(text):
        element = "H" if name in ("D", "T") else name
        if element not in _ELEMENTS or (amount and float(amount) <= 0):
            return None
        counts[element] = counts.get(element, 0.0) + float(amount or 1)
    return counts or None


def _check_formula(block: CifBlock, numbers: Sequence[int], fractional: np.ndarray, cell: np.ndarray) -> None:
    """Compare the atoms with the formula: a file cut off within its list of atoms is valid CIF otherwise."""
    expected = _formula_counts(block)
    if expected is None:
        return
    stated = block.value("_chemical_formula_sum")
    atom_counts = Counter({SYMBOLS[z]: count for z, count in Counter(numbers).items()})
    ratio = len(numbers) / sum(expected.values())
    for element in sorted(expected.keys() | atom_counts.keys()):
        wanted = ratio * expected.get(element, 0.0)
        if abs(atom_counts[element] - wanted) > _FORMULA_TOLERANCE * wanted:
            made = formula(np.array(numbers))
            reason = _difference(expected, atom_counts, numbers, fractional, cell)
            raise BadCrystalError(f"the atoms make {made}, but _chemical_formula_sum says {stated}: {reason}")
    units = block.value("_cell_formula_units_z")
    if units is None or not units.isdecimal() or not all(count.is_integer() for count in expected.values()):
        return
    # Pymatgen writes the formula of the whole cell beside Z, such as Mg4 O4 beside 4.
    total = sum(expected.values())
    is_of_cell = math.gcd(*map(int, expected.values())) % int(units) == 0 if int(units) else False
    if len(numbers) != int(units) * total and not (is_of_cell and len(numbers) == total):
        raise BadCrystalError(
            f"there are {len(numbers)} atoms in the cell, but _cell_formula_units_Z says {units} times {stated}, "
            f"{int(units) * total:g} atoms: is the symmetry incomplete?"
        )


def _difference(
    expected: Mapping[str, float],
    atom_counts: Mapping[str, int],
    numbers: Sequence[int],
    fractional: np.ndarray,
    cell: np.ndarray,
) -> str:
    """Say what is the likely reason for atoms that do not make the formula."""
    lacking = [element for element in expected if element not in atom_counts]
    if lacking:
        return f"{', '.join(lacking)} atoms are missing"
    overlap = _overlapping_pair(numbers, fractional, cell)
    return f"there are too many atoms: {overlap}" if overlap else "atoms are missing, or the file is truncated"


def _overlapping_pair(numbers: Sequence[int], fractional: np.ndarray, cell: np.ndarray) -> str | None:
    """Describe the closest two atoms if they overlap, or None. Elements without a known radius are left out."""
    radii = np.array([COVALENT_RADII[z] if z < len(COVALENT_RADII) else np.nan for z in numbers])
    positions = fractional @ cell
    for radius in np.unique(radii[~np.isnan(radii)]):
        # Among atoms up to this size, any pair closer than its limit overlaps.
        small = np.flatnonzero(radii <= radius)
        pair = closest_pair_within(positions[small], cell, 2 * _OVERLAP * float(radius))
        if pair is None:
            continue
        first, second = int(small[pair.first]), int(small[pair.second])
        if pair.distance < _OVERLAP * (radii[first] + radii[second]):
            names = " and ".join(f"{place} ({SYMBOLS[numbers[place]]})" for place in (first, second))
            return f"atoms {names} are {pair.distance:.3g} Angstrom apart"
    return None
