# SPDX-License-Identifier: MIT
"""Plain NumPy implementations of what native code computes about crystals: one crystal at a time, from lists of pairs.

Up to version 0.3 they were the implementations of `dtnn_fast.crystals`.
"""

from itertools import product

import numpy as np

from dtnn_fast.crystals import structure_index as index
from dtnn_fast.crystals.bonding import Bonding
from dtnn_fast.crystals.checks import (
    SHORTEST_DISTANCE,
    SMALLEST_MEDIAN_FRACTION,
    SMALLEST_RADIUS_FRACTION,
    _atom_label,
    _check_density,
    _check_elements,
    check_cell,
)
from dtnn_fast.crystals.elements import covalent_radii
from dtnn_fast.errors import BadCrystalError
from dtnn_fast.numpy import neighbor_list


def reduced_cell(cell):
    """The most compact cell of the same lattice."""
    rows = [np.array(vector) for vector in cell]
    while True:
        rows.sort(key=lambda vector: vector @ vector)
        shortened = False
        for i, j in ((1, 0), (2, 0), (2, 1)):
            shorter = rows[i] - round(float(rows[i] @ rows[j] / (rows[j] @ rows[j]))) * rows[j]
            if shorter @ shorter < rows[i] @ rows[i] * (1 - 1e-12):
                rows[i] = shorter
                shortened = True
        if rows[0] @ rows[0] < 1e-12:
            return np.array(rows)
        if not shortened:
            a, b, c = rows
            sums = [c + sign_a * a + sign_b * b for sign_a in (-1, 1) for sign_b in (-1, 1)]
            shortest = min(sums, key=lambda vector: vector @ vector)
            if shortest @ shortest >= c @ c * (1 - 1e-12):
                return np.array(rows)
            rows[2] = shortest


def closest_pairs(positions, cell, max_distance):
    """All pairs that are as close as the closest one, and their distance; no pairs where all are farther apart."""
    compact = reduced_cell(cell)
    to_fractional = np.linalg.inv(compact)
    fractional = positions @ to_fractional
    first, second = np.triu_indices(len(positions), k=1)
    difference = fractional[second] - fractional[first]
    nearest_image = difference - np.rint(difference)
    limits = max_distance * np.linalg.norm(to_fractional, axis=0) * (1 + 1e-9)
    ranges = [range(-n, n + 1) for n in np.floor(limits + 0.5).astype(int).tolist()]
    distances = np.full(len(first), np.inf)
    for image in product(*ranges):
        np.minimum(distances, np.linalg.norm((nearest_image + image) @ compact, axis=1), out=distances)
    shortest = distances.min(initial=np.inf)
    if not shortest < max_distance:
        return [], None
    equal = np.flatnonzero(distances <= shortest * (1 + 1e-11) + 1e-12)
    return list(zip(first[equal].tolist(), second[equal].tolist(), strict=True)), float(shortest)


def raised(crystal, known_elements=None):
    """The message of `check_crystal`, None for a crystal that passes."""
    try:
        _check(crystal, known_elements)
    except BadCrystalError as error:
        return str(error)
    return None


def _check(crystal, known_elements):
    check_cell(crystal)
    _check_elements(crystal, known_elements)
    period = float(np.linalg.norm(reduced_cell(crystal.cell)[0]))
    if period < SHORTEST_DISTANCE:
        raise BadCrystalError(f"{crystal.label}: every atom is {period:.3g} Angstrom from its own periodic image")
    pairs, distance = closest_pairs(crystal.positions, crystal.cell, SHORTEST_DISTANCE)
    if pairs:
        i, j = pairs[0]
        is_outside = np.linalg.norm(crystal.positions[i] - crystal.positions[j]) > distance + 1e-8
        raise BadCrystalError(
            f"{crystal.label}: two atoms at one place: atoms {_atom_label(crystal, i)} and {_atom_label(crystal, j)}, "
            f"counted from 0, are {distance:.3g} Angstrom apart" + (" across the border of the cell" * bool(is_outside))
        )
    _check_overlap(crystal)
    _check_density(crystal)


def _check_overlap(crystal):
    radii = covalent_radii(crystal.atomic_numbers)
    cutoff = SMALLEST_MEDIAN_FRACTION * 2.0 * float(radii.max())
    first, second, lengths = neighbor_list("ijd", crystal.positions, cutoff, reduced_cell(crystal.cell), True)
    fractions = lengths / (radii[first] + radii[second])
    if not len(fractions) or fractions.min() >= SMALLEST_MEDIAN_FRACTION:
        return
    nearest = np.ones(crystal.num_atoms)
    np.minimum.at(nearest, first, fractions)
    median = float(np.median(nearest))
    hint = (
        f"; bonds are about {median:.2g} times the usual length: are all lengths in Angstrom, and is the scale right?"
        if median < SMALLEST_MEDIAN_FRACTION
        else ""
    )
    shortest = int(np.argmax(fractions <= fractions.min() * (1 + 1e-11)))
    i, j, length = int(first[shortest]), int(second[shortest]), float(lengths[shortest])
    if fractions[shortest] < SMALLEST_RADIUS_FRACTION:
        subject = (
            f"every image of atom {_atom_label(crystal, i)}, counted from 0, is {length:.3g} Angstrom from the next"
            if i == j
            else f"atoms {_atom_label(crystal, min(i, j))} and {_atom_label(crystal, max(i, j))}, counted from 0, are "
            f"{length:.3g} Angstrom apart"
        )
        raise BadCrystalError(
            f"{crystal.label}: {subject}: less than half the sum of their covalent radii "
            f"({radii[i] + radii[j]:.3g} Angstrom){hint}"
        )
    if hint:
        raise BadCrystalError(f"{crystal.label}: all atoms are too close to each other{hint}")


def bonding(crystal, cutoff):
    """What `describe_bonding` says about one crystal."""
    cell = reduced_cell(crystal.cell)
    fractional = crystal.positions @ np.linalg.inv(cell)
    positions = (fractional - np.floor(fractional)) @ cell
    first, second, lengths, shifts = neighbor_list("ijdS", positions, cutoff, cell, True)
    radii = covalent_radii(crystal.atomic_numbers)
    nearest = np.full(len(positions), np.inf)
    np.minimum.at(nearest, first, lengths / (radii[first] + radii[second]))
    num_lone = int((np.bincount(first, minlength=len(positions)) == 0).sum())
    if not np.isfinite(np.median(nearest)):
        far, near, lengths = neighbor_list("ijd", positions, 6.0 * float(radii.max()), cell, True)
        nearest = np.full(len(positions), np.inf)
        np.minimum.at(nearest, far, lengths / (radii[far] + radii[near]))
    return Bonding(num_lone, _dimension(first, second, shifts, len(positions)), float(np.median(nearest)))


def _dimension(first, second, shifts, num_atoms):
    """Walk through each part bond by bond; bonds to another translation of a known atom are periods of the part."""
    part = np.full(num_atoms, -1)
    offset = np.zeros((num_atoms, 3), dtype=np.int64)
    for start in range(num_atoms):
        if part[start] >= 0:
            continue
        part[start] = start
        while len(leads_on := np.flatnonzero((part[first] >= 0) & (part[second] < 0))):
            reached, place = np.unique(second[leads_on], return_index=True)
            bond = leads_on[place]
            part[reached] = part[first[bond]]
            offset[reached] = offset[first[bond]] + shifts[bond]
    periods = offset[first] + shifts - offset[second]
    ranks = [np.linalg.matrix_rank(periods[part[first] == p]) if (part[first] == p).any() else 0 for p in set(part)]
    return int(min(ranks))


def pair_distribution(crystal):
    """What `structure_index.pair_distribution` computes, from a list of all pairs."""
    unit = (abs(float(np.linalg.det(crystal.cell))) / crystal.num_atoms) ** (1.0 / 3.0)
    cutoff = index._STEP * (index._NUM_BINS - 1)
    first, second, lengths = neighbor_list("ijd", crystal.positions, cutoff * unit, crystal.cell, True, half=True)
    elements, element_of_atom = np.unique(crystal.atomic_numbers, return_inverse=True)
    high, low = np.sort([element_of_atom[first], element_of_atom[second]], axis=0)[::-1]
    scaled = lengths / unit
    weights = (1.0 - np.square(scaled / cutoff)) / crystal.num_atoms
    bins = np.minimum((scaled / index._STEP).astype(np.int64), index._NUM_BINS - 2)
    upper = scaled / index._STEP - bins
    start = (high * (high + 1) // 2 + low) * index._NUM_BINS + bins
    num_pairs = len(elements) * (len(elements) + 1) // 2
    size = num_pairs * index._NUM_BINS
    histogram = np.bincount(start, weights * (1.0 - upper), size) + np.bincount(start + 1, weights * upper, size)
    return histogram.reshape(num_pairs, index._NUM_BINS) @ index._SMOOTHING
