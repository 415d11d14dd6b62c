# SPDX-License-Identifier: MIT
"""All neutral substitutions of a prototype, each once, with the parent that is closest in chemistry."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from ..crystals.checks import LARGEST_FILLING
from ..crystals.elements import covalent_radii
from ..crystals.substitution import SMALLEST_RATIO
from .ions import IonTable
from .prototypes import Parent, Prototype

# Atomic numbers are below this; six of them make a code of 48 bits.
_CODE_BASE = 256


class Substitutions(NamedTuple):
    """Substitutions of a prototype.

    Args:
        codes: the elements of the roles as one number, the same for equivalent orders. [T], int64, ascending
        ions: place of the ion of each role in `IonTable.ions`. [T, K], int16
        parent: place of the parent in `Prototype.parents`. [T], int32
        log_probability: natural logarithm of the product of Hautier's probabilities over the roles. [T], float64
        scale: factor of the parent's lattice vectors. [T], float64
    """

    codes: np.ndarray
    ions: np.ndarray
    parent: np.ndarray
    log_probability: np.ndarray
    scale: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, chosen: np.ndarray) -> Substitutions:
        """Return the chosen ones, by a mask or places."""
        return Substitutions(*(values[chosen] for values in self))


def list_substitutions(
    prototype: Prototype, table: IonTable, elements: Collection[int], smallest_probability: float
) -> Substitutions:
    """List the substitutions of a prototype that are neutral, likely, new and without overlapping atoms.

    A cation replaces cations and an anion anions, all roles have different elements, and the charges add up to zero;
    the charge of a role may change where another role makes up for it. Where several parents lead to the same crystal,
    the one with the largest probability is taken.

    Args:
        prototype: the prototype.
        table: of `load_ions`.
        elements: atomic numbers that may come in; other elements can only stay where they are.
        smallest_probability: less likely substitutions are left out.

    Returns:
        The substitutions without the prototype's own crystals.
    """
    found = [
        _of_parent(place, parent, prototype, table, elements, smallest_probability)
        for place, parent in enumerate(prototype.parents)
    ]
    joined = Substitutions(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))
    # Sorted by code, the most likely first; the first of each code stays.
    joined = joined.take(np.lexsort((joined.parent, -joined.log_probability, joined.codes)))
    is_first = np.ones(len(joined), dtype=bool)
    is_first[1:] = joined.codes[1:] != joined.codes[:-1]
    known = _codes(np.array([parent.elements for parent in prototype.parents]), prototype)
    return joined.take(is_first & ~np.isin(joined.codes, known))


def _of_parent(
    place: int,
    parent: Parent,
    prototype: Prototype,
    table: IonTable,
    elements: Collection[int],
    smallest_probability: float,
) -> Substitutions:
    ions, log_probability = _neutral_choices(parent, prototype, table, elements, np.log(smallest_probability))
    numbers = np.array([ion.atomic_number for ion in table.ions])[ions]
    old = np.array([table.places[ion] for ion in parent.ions])
    scale = (table.radii[ions] @ parent.bonds) / (table.radii[old] @ parent.bonds)
    is_sound = _is_sound(numbers, scale, parent)
    return Substitutions(
        _codes(numbers, prototype),
        ions.astype(np.int16),
        np.full(len(ions), place, dtype=np.int32),
        log_probability,
        scale,
    ).take(is_sound)


def _neutral_choices(
    parent: Parent, prototype: Prototype, table: IonTable, elements: Collection[int], log_smallest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Combine the choices of the roles, one role after the other. [T, K], int64, and [T], float64"""
    numbers = np.array([ion.atomic_number for ion in table.ions])
    charges = np.array([ion.charge for ion in table.ions])
    is_allowed = np.isin(numbers, list(elements))
    choices = []
    for ion in parent.ions:
        own = table.places[ion]
        logs = table.log_probability[own].copy()
        logs[~is_allowed | (charges * ion.charge < 0)] = -np.inf
        if ion.atomic_number in elements and not np.isfinite(logs[own]):
            logs[own] = 0.0  # an ion that Hautier's table lacks stays
        place = np.flatnonzero(logs >= log_smallest)
        choices.append((place, logs[place]))
    # What the roles to come can add at best, to probability and charge: so that hopeless branches end early.
    combined = np.zeros((1, 0), dtype=np.int64)
    log_probability = np.zeros(1)
    charge = np.zeros(1, dtype=np.int64)
    best = [logs.max(initial=-np.inf) for _, logs in choices]
    extremes = [
        (n * charges[place].min(initial=0), n * charges[place].max(initial=0))
        for n, (place, _) in zip(prototype.counts, choices, strict=True)
    ]
    for role, (place, logs) in enumerate(choices):
        log_probability = (log_probability[:, None] + logs).ravel()
        charge = (charge[:, None] + prototype.counts[role] * charges[place]).ravel()
        lowest = sum(low for low, _ in extremes[role + 1 :])
        highest = sum(high for _, high in extremes[role + 1 :])
        keep = log_probability + sum(best[role + 1 :]) >= log_smallest
        keep &= (charge + lowest <= 0) & (charge + highest >= 0)
        rows, columns = np.divmod(np.flatnonzero(keep), max(len(place), 1))
        new = place[columns]
        is_new_element = (numbers[combined[rows]] != numbers[new][:, None]).all(axis=1)
        kept = np.flatnonzero(keep)[is_new_element]
        combined = np.concatenate([combined[rows[is_new_element]], new[is_new_element][:, None]], axis=1)
        log_probability, charge = log_probability[kept], charge[kept]
    return combined, log_probability


def _is_sound(numbers: np.ndarray, scale: np.ndarray, parent: Parent) -> np.ndarray:
    """Tell where no two atoms overlap and the cell is large enough: what `check_crystal` asks for, or more. [T]"""
    radii = covalent_radii(numbers)
    sound = np.isfinite(scale) & (scale > 0)
    for first in range(numbers.shape[1]):
        for second in range(first, numbers.shape[1]):
            if np.isfinite(parent.shortest[first, second]):
                ratio = scale * parent.shortest[first, second] / (radii[:, first] + radii[:, second])
                sound &= ratio >= SMALLEST_RATIO
    counts = np.array([np.count_nonzero(parent.crystal.atomic_numbers == z) for z in parent.elements])
    volume = abs(float(np.linalg.det(parent.crystal.cell))) * scale**3
    filled: np.ndarray = 4 / 3 * np.pi * (radii**3 @ counts) <= LARGEST_FILLING * volume
    return sound & filled


def _codes(numbers: np.ndarray, prototype: Prototype) -> np.ndarray:
    """Number the elements of the roles, alike for orders that a symmetry of the prototype relates. [T, K] -> [T]"""
    powers = _CODE_BASE ** np.arange(numbers.shape[1], dtype=np.int64)
    codes = [numbers[:, list(order)] @ powers for order in prototype.symmetries]
    smallest: np.ndarray = np.min(codes, axis=0)
    return smallest
