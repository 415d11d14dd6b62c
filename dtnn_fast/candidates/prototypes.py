# SPDX-License-Identifier: MIT
"""Prototypes: structures that several crystals share with other elements.

A prototype has roles, which ions fill: one role for each element, with all the sites of that element.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, permutations, product
from math import gcd
from typing import NamedTuple

import numpy as np

from ..crystals.crystal import Crystal
from ..crystals.structure_index import LARGEST_DISTANCE, SIMILAR_DISTANCE, pair_distribution
from ..numpy import neighbor_list
from ..symmetry.bounded_search import SYMPREC
from ..symmetry.space_group import search_symmetry
from .ions import Ion, IonTable, guess_ions

_BOND_CUTOFF = 5.0  # Angstrom
# A cation and an anion are bonded up to this many times the distance to the nearest ion of opposite charge.
_BONDED = 1.25
# Crystals that differ by less have one prototype, whatever their space group. Substitution does not change distances of
# this kind, so candidates of different prototypes are never the same crystal by `StructureIndex.find`.
_SAME_DISTANCE = 2 * LARGEST_DISTANCE
# Crystals of more elements than this are no parents: their substitutions are too many to list.
MOST_ROLES = 6
# Parents of one anonymous formula, which are all compared with each other. Of the bundled crystals, about 300 have the
# most common one.
MOST_OF_A_KIND = 3_000


class Parent(NamedTuple):
    """A crystal whose elements can be replaced.

    Args:
        crystal: the crystal.
        elements: atomic number of each role of its prototype.
        ions: ion of each role.
        bonds: number of bonds between cations and anions that end at each role. [K], float64
        shortest: shortest distance between two roles, infinite beyond 5 Angstrom. [K, K], float64, Angstrom
    """

    crystal: Crystal
    elements: tuple[int, ...]
    ions: tuple[Ion, ...]
    bonds: np.ndarray
    shortest: np.ndarray


@dataclass
class Prototype:
    """Crystals of one structure with other elements.

    Args:
        name: anonymous formula, space group, and id of its first crystal, such as ``"ABC3 221 mp-5229"``.
        counts: number of atoms of each role in the reduced formula.
        symmetries: permutations of the roles that leave the structure as it is, the identity first.
        parents: the crystals.
    """

    name: str
    counts: tuple[int, ...]
    symmetries: tuple[tuple[int, ...], ...]
    parents: list[Parent] = field(default_factory=list)


class _Anonymous(NamedTuple):
    """A crystal without its elements, which are sorted by `kinds`: number in the reduced formula and sign.

    Args:
        crystal: the crystal.
        ions: ion by atomic number.
        elements: atomic numbers, by kind. [K]
        kinds: of the elements. [K]
        lattice: space group and number of atoms of the primitive cell, None where unknown.
        pairs: distribution of distances between each two elements. [K, K, bins], float64
    """

    crystal: Crystal
    ions: dict[int, Ion]
    elements: tuple[int, ...]
    kinds: tuple[tuple[int, int], ...]
    lattice: tuple[int, int] | None
    pairs: np.ndarray


def find_prototypes(
    crystals: Iterable[Crystal], table: IonTable, max_atoms: int
) -> tuple[list[Prototype], dict[str, int]]:
    """Sort crystals by prototype: same counts of cations and anions, and same distances.

    Distances are compared in units of the cube root of the volume per atom, as `structure_index` does. Crystals with
    the same distances have one prototype, mirror images and tiny distortions included. So have crystals of one space
    group and size of the primitive cell with similar distances (`structure_index.SIMILAR_DISTANCE`). Prototypes are the
    connected groups.

    Args:
        crystals: crystals that passed `check_crystal`.
        table: of `load_ions`.
        max_atoms: larger crystals are left out.

    Returns:
        The prototypes in the order of their first crystals, and the number of crystals left out by reason.
    """
    by_kind: defaultdict[tuple[tuple[int, int], ...], list[tuple[int, _Anonymous]]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    for place, crystal in enumerate(crystals):
        reason, ions = _ions_of_parent(crystal, table, max_atoms)
        if ions is None:
            left_out[reason] += 1
            continue
        kinds = _kinds(crystal, ions)
        if len(by_kind[kinds]) == MOST_OF_A_KIND:
            left_out[f"a formula that {MOST_OF_A_KIND:,} parents have already"] += 1
            continue
        by_kind[kinds].append((place, _without_elements(crystal, ions)))
    prototypes: list[tuple[int, Prototype]] = []
    for members in by_kind.values():
        places, anonymous_crystals = zip(*members, strict=True)
        prototypes += [(places[first], prototype) for first, prototype in _group(anonymous_crystals)]
    return [prototype for _, prototype in sorted(prototypes, key=lambda pair: pair[0])], dict(left_out)


def _group(members: Sequence[_Anonymous]) -> Iterator[tuple[int, Prototype]]:
    """Yield the prototypes of crystals of one kind, each with the place of its first crystal."""
    kinds = members[0].kinds
    counts = tuple(count for count, _ in kinds)
    orders = _orders(kinds)
    nearest, best, own = _nearest(members, orders)
    names = {member.lattice for member in members if member.lattice is not None}
    number_of_name = {name: number for number, name in enumerate(sorted(names))}
    # Crystals without a known lattice have different negative numbers.
    lattices = np.array([number_of_name.get(m.lattice, -1 - k) for k, m in enumerate(members)])  # type: ignore[arg-type]
    is_linked = (nearest <= _SAME_DISTANCE) | ((nearest <= SIMILAR_DISTANCE) & (lattices[:, None] == lattices))
    done: set[int] = set()
    for first, member in enumerate(members):
        if first in done:
            continue
        places = _connected(first, is_linked, best, orders)
        done |= places.keys()
        group = "P?" if member.lattice is None else member.lattice[0]
        name = f"{_anonymous_formula(counts)} {group} {member.crystal.id}"
        symmetries = tuple(order for order, d in zip(orders, own[:, first], strict=True) if d <= SIMILAR_DISTANCE)
        yield first, Prototype(name, counts, symmetries, [_parent(members[k], places[k]) for k in sorted(places)])


def _connected(
    first: int, is_linked: np.ndarray, best: np.ndarray, orders: Sequence[tuple[int, ...]]
) -> dict[int, tuple[int, ...]]:
    """Follow the links from one crystal to all that have its structure, and hand the roles on from each to the next."""
    found = {first: orders[0]}
    queue = [first]
    while queue:
        known = queue.pop()
        for other in np.flatnonzero(is_linked[known]).tolist():
            if other not in found:
                step = orders[best[known, other]]
                found[other] = tuple(step[place] for place in found[known])
                queue.append(other)
    return found


def _orders(kinds: Sequence[tuple[int, int]]) -> list[tuple[int, ...]]:
    """List the permutations of elements of equal kind, which are neighbors; the identity first."""
    blocks: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for place, kind in enumerate(kinds):
        blocks[kind].append(place)
    return [tuple(chain.from_iterable(choice)) for choice in product(*map(permutations, blocks.values()))]


def _nearest(
    members: Sequence[_Anonymous], orders: Sequence[tuple[int, ...]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute `structure_index.distribution_distance` of each two crystals, the second one in the best order.

    Returns:
        The distances [N, N], float64; the place of the best order [N, N], int64; and the distance of each crystal from
        itself in each order [P, N], float64.
    """
    half = np.tril_indices(len(orders[0]))
    pairs = np.stack([member.pairs for member in members])
    pairs /= np.linalg.norm(pairs[:, half[0], half[1]], axis=(1, 2))[:, None, None, None]
    as_is = pairs[:, half[0], half[1]].reshape(len(members), -1)
    nearest = np.full((len(members), len(members)), np.inf)
    best = np.zeros(nearest.shape, dtype=np.int64)
    own = np.empty((len(orders), len(members)))
    for place, order in enumerate(orders):
        moved = pairs[:, np.array(order)[half[0]], np.array(order)[half[1]]].reshape(as_is.shape)
        distances = 1.0 - as_is @ moved.T
        is_better = distances < nearest
        nearest[is_better] = distances[is_better]
        best[is_better] = place
        own[place] = np.diagonal(distances)
    return nearest, best, own


def _ions_of_parent(crystal: Crystal, table: IonTable, max_atoms: int) -> tuple[str, dict[int, Ion] | None]:
    if crystal.num_atoms > max_atoms:
        return "too many atoms", None
    counts = Counter(sorted(crystal.atomic_numbers.tolist()))
    if not 2 <= len(counts) <= MOST_ROLES:
        return f"not 2 to {MOST_ROLES} elements", None
    ions = guess_ions(counts, table)
    if ions is None:
        return "no oxidation states that add up to zero, one for each element", None
    return "", ions


def _lattice(crystal: Crystal) -> tuple[int, int] | None:
    found = search_symmetry(crystal, SYMPREC)
    return None if found is None else (found.space_group, len(found.primitive().fractional))


def _kind_of_element(crystal: Crystal, ions: dict[int, Ion]) -> list[tuple[int, int]]:
    """Return number in the reduced formula and sign of each element, by atomic number."""
    present, counts = np.unique(crystal.atomic_numbers, return_counts=True)
    divisor = gcd(*counts.tolist())
    signs = [1 if ions[z].charge > 0 else -1 for z in present.tolist()]
    return [(count // divisor, sign) for count, sign in zip(counts.tolist(), signs, strict=True)]


def _kinds(crystal: Crystal, ions: dict[int, Ion]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(_kind_of_element(crystal, ions)))


def _without_elements(crystal: Crystal, ions: dict[int, Ion]) -> _Anonymous:
    present = np.unique(crystal.atomic_numbers)
    kinds = _kind_of_element(crystal, ions)
    order = sorted(range(len(kinds)), key=lambda place: (kinds[place], place))
    rows = pair_distribution(crystal)
    pairs = np.empty((len(present), len(present), rows.shape[-1]))
    first, second = np.tril_indices(len(present))  # the order of `pair_distribution`
    pairs[first, second] = rows
    pairs[second, first] = rows
    return _Anonymous(
        crystal,
        ions,
        tuple(present[order].tolist()),
        tuple(kinds[place] for place in order),
        _lattice(crystal),
        pairs[np.ix_(order, order)],
    )


def _parent(member: _Anonymous, order: Sequence[int]) -> Parent:
    crystal = member.crystal
    elements = tuple(member.elements[place] for place in order)
    ions = tuple(member.ions[z] for z in elements)
    role_of_element = {z: role for role, z in enumerate(elements)}
    role = np.array([role_of_element[z] for z in crystal.atomic_numbers.tolist()])
    charges = np.array([ion.charge for ion in ions])
    center, neighbor, length = neighbor_list(
        "ijd", crystal.positions, _BOND_CUTOFF, crystal.cell, crystal.pbc, num_threads=1
    )
    shortest = np.full((len(elements), len(elements)), np.inf)
    np.minimum.at(shortest, (role[center], role[neighbor]), length)
    is_opposite = charges[role[center]] * charges[role[neighbor]] < 0
    nearest = np.full(crystal.num_atoms, np.inf)
    np.minimum.at(nearest, center[is_opposite], length[is_opposite])
    is_bond = is_opposite & (length <= _BONDED * nearest[center])
    ends = np.concatenate([role[center[is_bond]], role[neighbor[is_bond]]])
    bonds = np.bincount(ends, minlength=len(elements)).astype(np.float64)
    return Parent(crystal, elements, ions, bonds, shortest)


def _anonymous_formula(counts: Sequence[int]) -> str:
    letters = "ABCDEFGHIJ"
    return "".join(
        letter + (str(count) if count > 1 else "") for letter, count in zip(letters, sorted(counts), strict=False)
    )
