# SPDX-License-Identifier: MIT
"""Symmetry of a CIF: the operations that a file lists or names, and the atoms that they make of the listed sites."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..errors import BadCrystalError, optional_import

# Copies of one site that are closer than this are one atom on a special position that was written with few digits.
MERGE_DISTANCE = 0.05  # Angstrom
# Images of a special position agree to this part of the cell.
_GRID = 100_000
_GRID_WEIGHTS = np.array([_GRID * _GRID, _GRID, 1])
# Images that are made at once: 50 MB.
_IMAGES_TOGETHER = 400_000
# Relative change of the metric under an operation that still counts as keeping the lattice: cells have few digits.
_METRIC_TOLERANCE = 5e-3
# What the ICSD writes behind a Hermann-Mauguin symbol, as extensions of the International Tables.
_EXTENSIONS = {"s": "1", "z": "2", "h": "H", "r": "R", "hr": "H", "rs": "R", "rh": "R"}


class Operations(NamedTuple):
    """Symmetry operations ``x -> rotations @ x + translations`` of fractional coordinates.

    Args:
        rotations: [M, 3, 3], int64.
        translations: [M, 3], float64, in [0, 1).
        name: what they were found from, for messages.
        group: the setting of the space group in gemmi's table, or None where it is not there.
    """

    rotations: np.ndarray
    translations: np.ndarray
    name: str
    group: Any = None


class StatedSymmetry(NamedTuple):
    """Statements of a data block about its symmetry; None or empty where there are none.

    Args:
        operations: triplets such as ``"-x, y+1/2, z"``.
        hall: Hall symbol.
        symbol: Hermann-Mauguin symbol.
        number: number in the International Tables.
    """

    operations: tuple[str, ...]
    hall: str | None
    symbol: str | None
    number: int | None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is said at all."""
        return not self.operations and self.hall is None and self.symbol is None and self.number is None


def find_operations(stated: StatedSymmetry, cell: np.ndarray) -> list[Operations]:
    """Find the operations that a block states.

    Args:
        stated: what the block says.
        cell: rows are lattice vectors. [3, 3], Angstrom.

    Returns:
        The operations; several where the origin or the axes of the named group are open, and the atoms have to decide.

    Raises:
        BadCrystalError: what is stated is not understood, contradicts itself, is not a group, or does not keep the
            lattice.
    """
    if stated.is_empty:
        raise ValueError("find_operations: expected something stated, got nothing")
    candidates = _candidates(stated)
    _check_number(stated, candidates[0])
    metric = cell @ cell.T
    kept = [candidate for candidate in candidates if _violation(candidate, metric) is None]
    if not kept:
        triplet = _violation(candidates[0], metric)
        raise BadCrystalError(
            f"the symmetry operation {triplet} of {candidates[0].name} does not keep the cell: its lengths or angles "
            "do not belong to this space group"
        )
    return kept


def _candidates(stated: StatedSymmetry) -> list[Operations]:
    """Operations from what is stated: those listed, else the first of Hall symbol, symbol and number understood.

    Beside a symbol that is not understood, a number stands for all settings of its group, since the symbol may have
    named any of them; the atoms have to decide.
    """
    if stated.operations:
        return [_listed(stated.operations)]
    steps: list[tuple[Any, Callable[[Any], list[Operations]]]] = [
        (stated.hall, lambda hall: [_from_hall(hall)]),
        (stated.symbol, lambda symbol: [_of_group(group) for group in _groups_of_symbol(symbol)]),
        (stated.number, lambda number: [_of_group(group) for group in _groups_of_number(number, bool(reasons))]),
    ]
    reasons: list[str] = []
    for value, find in steps:
        if value is not None:
            try:
                return find(value)
            except BadCrystalError as error:
                reasons.append(str(error))
    raise BadCrystalError(f"{', and '.join(reasons)}; no symmetry operations are listed")


class OverlappingCopiesError(BadCrystalError):
    """Copies of a site are so close that they can be neither distinguished nor taken for one atom.

    Args:
        site: number of the site.
    """

    def __init__(self, site: int) -> None:
        self.site = site
        super().__init__("it is so close to a special position that its copies by symmetry overlap")


def expand(positions: np.ndarray, operations: Operations, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make all atoms that symmetry makes of some sites.

    A site within 0.05 Angstrom of a special position is moved there, so that its copies are one atom.

    Args:
        positions: fractional. [S, 3].
        operations: operations of the space group.
        cell: rows are lattice vectors. [3, 3], Angstrom.

    Returns:
        Fractional positions of the atoms, in [0, 1), site after site [n, 3], and the number of atoms of each site [S].

    Raises:
        OverlappingCopiesError: see there; for the first such site.
    """
    num_operations = len(operations.rotations)
    together = max(1, _IMAGES_TOGETHER // num_operations)
    if len(positions) > together:
        parts = [positions[start : start + together] for start in range(0, len(positions), together)]
        made, start = [], 0
        for part in parts:
            try:
                made.append(expand(part, operations, cell))
            except OverlappingCopiesError as error:
                raise OverlappingCopiesError(start + error.site) from None
            start += len(part)
        return np.concatenate([atoms for atoms, _ in made]), np.concatenate([counts for _, counts in made])
    images = _images(positions, operations)
    shifts = images - positions[:, None]
    steps = np.rint(shifts)
    offsets = (shifts - steps) @ cell
    fixed = (offsets * offsets).sum(axis=2) < MERGE_DISTANCE**2
    num_fixed = fixed.sum(axis=1)
    kept = np.ones(fixed.shape, dtype=bool)
    if (sites := np.flatnonzero(num_fixed > 1)).size:
        of_fixed = (images[sites] - steps[sites]) * fixed[sites, :, None]
        special = of_fixed.sum(axis=1) / num_fixed[sites, None]
        images[sites] = _images(special, operations)
        kept[sites] = _first_of_each_place(images[sites])
    counts = kept.sum(axis=1)
    if (wrong := np.flatnonzero(counts * num_fixed != num_operations)).size:
        raise OverlappingCopiesError(int(wrong[0]))
    atoms = images[kept]
    return atoms - np.floor(atoms), counts


def _images(positions: np.ndarray, operations: Operations) -> np.ndarray:
    """Apply all operations to all positions. [S, M, 3]"""
    # One product for all: column 3 m + i is row i of operation m.
    columns = operations.rotations.transpose(2, 0, 1).reshape(3, -1).astype(np.float64)
    return (positions @ columns).reshape(len(positions), -1, 3) + operations.translations


def _first_of_each_place(images: np.ndarray) -> np.ndarray:
    """Mark the first of the images of each site that are one place; they agree up to rounding. [S, M] bool"""
    steps_of_grid = np.rint((images - np.floor(images)) * _GRID).astype(np.int64) % _GRID
    keys = steps_of_grid @ _GRID_WEIGHTS
    order = keys.argsort(axis=1, kind="stable")
    order += np.arange(0, keys.size, keys.shape[1])[:, None]
    ordered = keys.ravel()[order]
    is_first = np.ones(keys.shape, dtype=bool)
    is_first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.empty(keys.size, dtype=bool)
    first[order] = is_first
    return first.reshape(keys.shape)


def _gemmi() -> Any:
    return optional_import("gemmi", extra="io", purpose="read CIF files")


@lru_cache(maxsize=256)
def _listed(triplets: tuple[str, ...]) -> Operations:
    gemmi = _gemmi()
    operations = []
    for triplet in (" ".join(text.split()) for text in triplets):
        try:
            operation = gemmi.Op(triplet)
        except (RuntimeError, ValueError) as error:
            raise BadCrystalError(f"the symmetry operation {triplet!r} is not understood: {error}") from error
        if triplet.count(",") != 2 or not set(triplet.lower()) <= set("xyz0123456789+-*/., "):
            raise BadCrystalError(f"the symmetry operation {triplet!r} is not understood")
        operations.append(operation)
    rotations, translations = _checked_group(
        np.array([o.rot for o in operations]), np.array([o.tran for o in operations])
    )
    group = gemmi.find_spacegroup_by_ops(gemmi.GroupOps(operations))
    return Operations(rotations, translations, f"the {len(rotations)} operations listed", group)


def _checked_group(rotations: np.ndarray, translations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Check that operations in gemmi's units of 1/24 are a group, each once. Identity first."""
    den = 24
    whole, parts = np.divmod(rotations, den)
    if parts.any() or not np.isin(np.rint(np.linalg.det(whole)), (-1, 1)).all() or np.abs(whole).max() > 1:
        raise BadCrystalError("a symmetry operation is no rotation or reflection of a lattice")
    translations = translations % den
    keys = _keys(whole, translations)
    _, first = np.unique(keys, return_index=True)
    first = np.sort(first)
    whole, translations, keys = whole[first], translations[first], keys[first]
    products = np.einsum("aij,bjk->abik", whole, whole)
    moved = (np.einsum("aij,bj->abi", whole, translations) + translations[:, None, :]) % den
    missing = ~np.isin(_keys(products.reshape(-1, 3, 3), moved.reshape(-1, 3)), keys)
    if missing.any():
        place = int(np.argmax(missing))
        lacking = _triplet(products.reshape(-1, 3, 3)[place], moved.reshape(-1, 3)[place] / den)
        raise BadCrystalError(
            f"the {len(whole)} symmetry operations are no group: {lacking} follows from them and is not listed"
        )
    return whole, translations / den


def _keys(rotations: np.ndarray, translations: np.ndarray) -> np.ndarray:
    """A number for each operation."""
    weights = 3 ** np.arange(9)
    turned = (np.clip(rotations, -1, 1).reshape(-1, 9) + 1) @ weights
    too_large = np.abs(rotations).max(axis=(1, 2)) > 1
    return np.where(too_large, -1, (turned * 24**3) + translations @ np.array([576, 24, 1]))


def _triplet(rotation: np.ndarray, translation: np.ndarray) -> str:
    """An operation in the form of the International Tables."""
    rows = []
    for row, shift in zip(rotation.astype(int), translation, strict=True):
        words = "".join({1: "+", -1: "-"}[c] + name for c, name in zip(row, "xyz", strict=True) if c)
        fraction = Fraction(float(shift)).limit_denominator(24)
        rows.append(words.removeprefix("+") + (f"+{fraction}" if fraction else ""))
    return ",".join(rows)


def _of_group(group: Any) -> Operations:
    return Operations(*_group_arrays(group.hall), f"the space group {group.xhm()}", group)


def _from_hall(hall: str) -> Operations:
    symbol = " ".join(hall.replace("_", " ").replace("=", '"').split())
    try:
        rotations, translations = _group_arrays(symbol)
    except (RuntimeError, ValueError) as error:
        raise BadCrystalError(f"the Hall symbol {hall!r} is not understood: {error}") from error
    gemmi = _gemmi()
    group = gemmi.find_spacegroup_by_ops(gemmi.symops_from_hall(symbol))
    return Operations(rotations, translations, f"the space group with the Hall symbol {hall}", group)


@lru_cache(maxsize=256)
def _group_arrays(hall: str) -> tuple[np.ndarray, np.ndarray]:
    operations = list(_gemmi().symops_from_hall(hall))
    return np.array([o.rot for o in operations]) // 24, np.array([o.tran for o in operations]) % 24 / 24


def _plain(symbol: str) -> str:
    """A Hermann-Mauguin symbol without what does not tell symbols apart."""
    return re.sub(r"[\s_()]+", "", symbol).lower()


@cache
def _symbols() -> Mapping[str, Sequence[Any]]:
    """The settings of space groups by short, full and extended symbols."""
    gemmi = _gemmi()
    found: dict[str, dict[str, Any]] = {}
    for group in gemmi.spacegroup_table():
        for name in (group.hm, group.short_name()):
            found.setdefault(_plain(name), {})[group.hall] = group
    moyopy = optional_import("moyopy", extra="io", purpose="read space group symbols")
    for number in range(1, 531):
        entry = moyopy.HallSymbolEntry(number)
        group = gemmi.find_spacegroup_by_ops(gemmi.symops_from_hall(entry.hall_symbol.replace("=", '"')))
        if group is not None:
            found.setdefault(_plain(entry.hm_full), {})[group.hall] = group
    return {name: list(groups.values()) for name, groups in found.items()}


@lru_cache(maxsize=1024)
def _groups_of_symbol(symbol: str) -> list[Any]:
    """The settings that a Hermann-Mauguin symbol can mean, the usual one first."""
    text, colon, extension = symbol.partition(":")
    words = text.split()
    if not colon and len(words) > 1 and words[-1].lower() in _EXTENSIONS and len(words) > 2:
        text, extension = " ".join(words[:-1]), words[-1]
    extension = _EXTENSIONS.get(extension.strip().lower(), extension.strip())
    group = _gemmi().find_spacegroup_by_name(text.replace("_", "").replace("(", "").replace(")", ""))
    groups = _settings_like(group) if group is not None else list(_symbols().get(_plain(text), []))
    if extension:
        groups = [group for group in groups if group.ext == extension] or [
            group for group in groups if _plain(group.qualifier) == _plain(extension) and extension
        ]
    if not groups:
        raise BadCrystalError(f"the space group {symbol!r} is not understood")
    return groups


def _settings_like(group: Any) -> list[Any]:
    """A setting, and those that differ from it in origin or axes only (:1 and :2, :H and :R)."""
    if not group.ext.strip("\0 "):
        return [group]
    return [other for other in _gemmi().spacegroup_table() if (other.number, other.hm) == (group.number, group.hm)]


@cache
def _groups_of_number(number: int, all_settings: bool = False) -> list[Any]:
    """The usual setting of a space group with its choices of origin or axes, or all settings."""
    if not 1 <= number <= 230:
        raise BadCrystalError(f"the space group number {number} is outside 1 to 230")
    if all_settings:
        groups = [group for group in _gemmi().spacegroup_table() if group.number == number]
        return list({group.hall: group for group in groups}.values())
    return _settings_like(_gemmi().find_spacegroup_by_number(number))


def _check_number(stated: StatedSymmetry, operations: Operations) -> None:
    """Check that operations, symbol and number name one group."""
    gemmi, group = _gemmi(), operations.group
    named: dict[str, int] = {}
    if stated.number is not None:
        named[f"number {stated.number}"] = stated.number
    if stated.symbol is not None:
        # Beside operations, a symbol that is not understood takes no part.
        with suppress(BadCrystalError):
            named[f"symbol {stated.symbol!r}"] = _groups_of_symbol(stated.symbol)[0].number
    if stated.hall is not None and stated.operations:
        with suppress(RuntimeError, ValueError, BadCrystalError):
            hall_group = _from_hall(stated.hall).group
            if hall_group is not None:
                named[f"Hall symbol {stated.hall!r}"] = hall_group.number
    for what, number in named.items():
        if group is None:
            order = len({r.tobytes() for r in operations.rotations})
            wanted = gemmi.find_spacegroup_by_number(number).operations()
            if order != len({str(o.rot) for o in wanted.sym_ops}):
                raise BadCrystalError(f"{operations.name} do not belong to the space group of {what}")
        elif group.number != number:
            raise BadCrystalError(
                f"{operations.name} make the space group {group.xhm()} (number {group.number}), but the file names "
                f"{what}"
            )


def _violation(operations: Operations, metric: np.ndarray) -> str | None:
    """The first operation that changes the metric of the lattice, or None."""
    if len(operations.rotations) == 1:  # the identity
        return None
    turned = operations.rotations.transpose(0, 2, 1) @ metric @ operations.rotations
    lengths = np.sqrt(np.diag(metric))
    change = np.abs(turned - metric) / np.outer(lengths, lengths)
    wrong = change.max(axis=(1, 2)) > _METRIC_TOLERANCE
    if not wrong.any():
        return None
    place = int(np.argmax(wrong))
    return _triplet(operations.rotations[place], operations.translations[place])
