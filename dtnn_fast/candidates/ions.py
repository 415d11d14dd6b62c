# SPDX-License-Identifier: MIT
"""Ions, their radii, how often they replace each other in known crystals, and the ions of a crystal.

Probabilities are those of G. Hautier et al., Inorg. Chem. 50, 656 (2011), radii those of R. D. Shannon, Acta Cryst.
A32, 751 (1976), and the frequencies of oxidation states are counted in the ICSD; all three tables come with pymatgen.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..crystals.elements import atomic_number, symbol
from ..errors import optional_import

# An oxidation state in less than this part of an element's sites in the ICSD is not guessed for a composition.
SMALLEST_STATE_FRACTION = 0.01
# Of more combinations of states than this, none is searched.
_MOST_COMBINATIONS = 100_000
_PURPOSE = "substitute ions"
# Ions that Shannon's table lacks: L. Pauling, The Nature of the Chemical Bond, 3rd edition (1960). Angstrom
_PAULING_RADII = {("P", -3): 2.12, ("As", -3): 2.22, ("Sb", -3): 2.45}
_NEIGHBORS = "I II III IV V VI VII VIII IX X XI XII XIII XIV"
_ROMAN = {name: number for number, name in enumerate(_NEIGHBORS.split(), start=1)}


class Ion(NamedTuple):
    """An element in an oxidation state.

    Args:
        atomic_number: of the element.
        charge: oxidation state, not zero.
    """

    atomic_number: int
    charge: int

    def __str__(self) -> str:
        size = "" if abs(self.charge) == 1 else str(abs(self.charge))
        return f"{symbol(self.atomic_number)}{size}{'+' if self.charge > 0 else '-'}"


class IonTable(NamedTuple):
    """The ions that are known.

    Args:
        ions: sorted by atomic number and charge. [I]
        radii: Shannon's ionic radii, for six neighbors where they are known. [I], float64, Angstrom
        log_probability: natural logarithm of Hautier's probability that the ion of a row is replaced by the ion of a
            column, minus infinity for ions that his table lacks. [I, I], float64
        states: frequent ions by atomic number, with the logarithm of the fraction of the element's sites in the ICSD
            that have this state.
    """

    ions: tuple[Ion, ...]
    radii: np.ndarray
    log_probability: np.ndarray
    states: Mapping[int, Sequence[tuple[Ion, float]]]

    @property
    def places(self) -> dict[Ion, int]:
        """Place of each ion in `ions`."""
        return {ion: place for place, ion in enumerate(self.ions)}


@functools.cache
def load_ions() -> IonTable:
    """Load the tables of pymatgen (an optional package).

    Raises:
        MissingPackageError: pymatgen is not installed.
    """
    core: Any = optional_import("pymatgen.core", extra="io", purpose=_PURPOSE)
    module = "pymatgen.analysis.structure_prediction.substitution_probability"
    probability = optional_import(module, extra="io", purpose=_PURPOSE).SubstitutionProbability()
    # pymatgen loads its counts of oxidation states with the first guess.
    core.Composition("NaCl").oxi_state_guesses()
    counts = {_ion(species): int(count) for species, count in core.Composition.oxi_prob.items() if species.oxi_state}
    in_table = {_ion(species): species for species in probability.species}
    radii = {ion: radius for ion in {*counts, *in_table} if (radius := _shannon_radius(core, ion)) is not None}
    ions = tuple(sorted(radii))
    log_probability = np.full((len(ions), len(ions)), -np.inf)
    for (row, old), (column, new) in itertools.product(enumerate(ions), repeat=2):
        if old in in_table and new in in_table:
            log_probability[row, column] = math.log(probability.cond_prob(in_table[new], in_table[old]))
    return IonTable(ions, np.array([radii[ion] for ion in ions]), log_probability, _frequent_states(ions, counts))


def _frequent_states(ions: Sequence[Ion], counts: Mapping[Ion, int]) -> dict[int, list[tuple[Ion, float]]]:
    totals: Counter[int] = Counter()
    for ion, count in counts.items():
        totals[ion.atomic_number] += count
    states: defaultdict[int, list[tuple[Ion, float]]] = defaultdict(list)
    for ion in ions:
        fraction = counts.get(ion, 0) / max(totals[ion.atomic_number], 1)
        if fraction >= SMALLEST_STATE_FRACTION:
            states[ion.atomic_number].append((ion, math.log(fraction)))
    return dict(states)


def _ion(species: Any) -> Ion:
    # pymatgen has deuterium as an element.
    return Ion(atomic_number(species.element.symbol), int(species.oxi_state))


def _shannon_radius(core: Any, ion: Ion) -> float | None:
    """Return the ionic radius for six neighbors, or the nearest number of neighbors; high spin where there are both."""
    table = core.Element.from_Z(ion.atomic_number).data.get("Shannon radii") or {}
    by_neighbors = table.get(str(ion.charge))
    if not by_neighbors:
        return _PAULING_RADII.get((symbol(ion.atomic_number), ion.charge))
    numbers = {_ROMAN[name.removesuffix("SQ").removesuffix("PY")]: name for name in by_neighbors}
    nearest = min(numbers, key=lambda number: (abs(number - 6), number))
    by_spin = by_neighbors[numbers[nearest]]
    spin = next(name for name in ("", "High Spin", "Low Spin") if name in by_spin)
    return float(by_spin[spin]["ionic_radius"])


def guess_ions(counts: Mapping[int, int], table: IonTable) -> dict[int, Ion] | None:
    """Guess the oxidation state of each element of a neutral crystal: the states most frequent in the ICSD.

    Each element has one state. Of all combinations that add up to zero, the one with the largest product of frequencies
    is taken; frequencies are fractions of an element's sites in the ICSD, and states below 1 % do not count.

    Args:
        counts: number of atoms by atomic number.
        table: of `load_ions`.

    Returns:
        Ion by atomic number, or None where no combination adds up to zero, as in metals and with mixed valence.
    """
    choices = [table.states.get(z, ()) for z in counts]
    if math.prod(len(states) for states in choices) > _MOST_COMBINATIONS:
        return None
    best: tuple[float, tuple[Ion, ...]] | None = None
    for combination in itertools.product(*choices):
        if sum(n * ion.charge for n, (ion, _) in zip(counts.values(), combination, strict=True)) == 0:
            score = sum(log_fraction for _, log_fraction in combination)
            if best is None or score > best[0]:
                best = score, tuple(ion for ion, _ in combination)
    return None if best is None else dict(zip(counts, best[1], strict=True))
