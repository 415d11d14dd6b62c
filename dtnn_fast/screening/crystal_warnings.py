# SPDX-License-Identifier: MIT
"""Warnings about predicted crystals: where the model does not apply, or its numbers cannot be right.

docs/screening.md lists all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from ..crystals.bonding import Bonding, describe_bonding, widest_gap
from ..crystals.charge_balance import is_charge_balanced
from ..crystals.crystal import Crystal
from ..crystals.elements import NOBLE_GASES, NONMETALS, SYMBOLS, covalent_radii
from ..crystals.insulators import is_known_insulator, is_metals_only
from ..model.predictor import Predictor

# Without a model that has one. Angstrom
_USUAL_CUTOFF = 6.0
# Elements in fewer training crystals than this are reported.
FEWEST_TRAINING_CRYSTALS = 5
# Bonds over the sum of the covalent radii: 0.65 to 1.3 in the bundled crystals; 98 % of them have 1.57 to 2.24 after
# their lengths in Bohr are taken for Angstrom, which makes them 1.89 times as long.
_COMPRESSED_BELOW, _BOHR_FROM, _BOHR_TO = 0.64, 1.45, 2.4
# Parts of a crystal that bonds of this many cutoffs connect have no gap between them.
_WIDENED = 1.3
# Volume of the covalent spheres over that of the cell, and volume per atom in cubic Angstrom. The bundled crystals have
# at most 1.7 (Np, Pu), and at most 123 (Cs).
_DENSE_FILLING, _THIN_VOLUME = 1.7, 125.0
# Largest deviation from the degeneracy that the crystal system demands, over the largest principal value. Deviations of
# the bundled crystals are rounding errors, or come from atoms that are up to 0.1 Angstrom off their symmetric places.
_SYMMETRY_TOLERANCE = 0.05
# Smaller negative values are rounding errors.
_NEGATIVE_TOLERANCE = 0.01
# By the rule of T. S. Moss (Proc. Phys. Soc. B 63, 167, 1950), n^4 times the gap is 95 eV: a crystal with a larger
# electronic permittivity n^2 has a gap below 0.24 eV or none. Germanium has 16.
_ELECTRONIC_OF_SMALL_GAP = 20.0


class WarningCode(StrEnum):
    """Stable names of the warnings. Crystals with one of `OFF_THE_LIST` are not ranked unless this is requested."""

    BOHR = "bohr"
    COMPRESSED = "compressed"
    UNUSUAL_DENSITY = "unusual_density"
    METALS_ONLY = "metals_only"
    SINGLE_ELEMENT = "single_element"
    NOT_CHARGE_BALANCED = "not_charge_balanced"
    NO_BONDS = "no_bonds"
    GAP = "gap"
    FEW_TRAINING_CRYSTALS = "few_training_crystals"
    FAR_FROM_TRAINING = "far_from_training"
    SMALL_GAP = "small_gap"
    NEGATIVE_PART = "negative_part"
    SYMMETRY_BREACH = "symmetry_breach"
    ERROR_BAR_EXCEEDS_VALUE = "error_bar_exceeds_value"


# What each warning says, for lists of several crystals.
TITLES = {
    WarningCode.BOHR: "lengths may be in Bohr",
    WarningCode.COMPRESSED: "atoms unusually close to each other",
    WarningCode.UNUSUAL_DENSITY: "unusual density",
    WarningCode.METALS_ONLY: "made of metals only",
    WarningCode.SINGLE_ELEMENT: "a pure element",
    WarningCode.NOT_CHARGE_BALANCED: "no oxidation states that add up to zero: likely a metal",
    WarningCode.NO_BONDS: "atoms without a neighbor within the cutoff of the model",
    WarningCode.GAP: "a slab, wires or molecules with a gap wider than the cutoff of the model",
    WarningCode.FEW_TRAINING_CRYSTALS: "few training crystals with one of the elements",
    WarningCode.FAR_FROM_TRAINING: "unlike all training crystals",
    WarningCode.SMALL_GAP: "an electronic part like that of a metal",
    WarningCode.NEGATIVE_PART: "a principal value below its physical limit",
    WarningCode.SYMMETRY_BREACH: "a tensor that breaks the symmetry of the crystal",
    WarningCode.ERROR_BAR_EXCEEDS_VALUE: "error bar exceeds the value",
}
# The prediction means nothing: the structure is no bulk insulator, or a pure element, of which the model has seen a
# handful and most are metals, or the error bar is larger than the value.
UNRELIABLE = frozenset(
    {
        WarningCode.BOHR,
        WarningCode.COMPRESSED,
        WarningCode.METALS_ONLY,
        WarningCode.SINGLE_ELEMENT,
        WarningCode.NO_BONDS,
        WarningCode.GAP,
        WarningCode.ERROR_BAR_EXCEEDS_VALUE,
    }
)
# Not ranked unless asked for: also what looks like a metal, and what lies outside of what the model has learned.
OFF_THE_LIST = UNRELIABLE | {
    WarningCode.NOT_CHARGE_BALANCED,
    WarningCode.SMALL_GAP,
    WarningCode.FAR_FROM_TRAINING,
}


class CrystalWarning(NamedTuple):
    """A warning about a crystal or its prediction.

    Args:
        code: which warning it is.
        text: one line for the user, without semicolons.
    """

    code: WarningCode
    text: str


def structure_warnings(
    crystals: Sequence[Crystal], model: Predictor, training_distances: np.ndarray | None = None
) -> list[list[CrystalWarning]]:
    """Find warnings about the structures of crystals, which do not depend on the prediction.

    Args:
        crystals: that passed `check_crystal`.
        model: the model that predicts them.
        training_distances: of `TrainingDistances.relative` for these crystals; None where unknown. [B].

    Returns:
        Warnings for each crystal.
    """
    cutoff = model.bond_cutoff or _USUAL_CUTOFF
    counts = _element_counts(model)
    results = []
    for index, (crystal, bonding) in enumerate(zip(crystals, describe_bonding(crystals, cutoff), strict=True)):
        warnings = [
            *_length_warnings(crystal, bonding),
            *_element_warnings(crystal),
            *_charge_warnings(crystal),
            *_bond_warnings(crystal, bonding, cutoff),
            *_rare_element_warnings(crystal, counts),
        ]
        if training_distances is not None and training_distances[index] > 1.0:
            text = "unlike all training crystals: none of them has atoms in similar surroundings"
            warnings.append(CrystalWarning(WarningCode.FAR_FROM_TRAINING, text))
        results.append(warnings)
    return results


def prediction_warnings(
    tensors: Mapping[str, np.ndarray],
    mean_errors: Mapping[str, np.ndarray],
    systems: Sequence[str | None],
    ranked_target: str | None = None,
    known_insulators: Sequence[bool] | None = None,
) -> list[list[CrystalWarning]]:
    """Find warnings about predictions: numbers that cannot be right, or that are meaningless.

    Args:
        tensors: predicted tensors by target. [B, 3, 3] each.
        mean_errors: error bars of the means by target; may be empty. [B] each.
        systems: crystal systems, None where unknown. [B].
        ranked_target: a target whose error bar is judged in any case. The ionic part is not judged otherwise, since it
            is small in many crystals whose electronic and total permittivities are well predicted.
        known_insulators: whether tensors or band gaps of the crystals are published; None where that is unknown. [B].

    Returns:
        Warnings for each crystal.
    """
    results: list[list[CrystalWarning]] = [[] for _ in systems]
    for target, values in tensors.items():
        principal = np.linalg.eigvalsh(values)
        lowest, bound = principal[:, 0], 0.0 if target == "ionic" else 1.0
        for row in np.flatnonzero(lowest < bound - _NEGATIVE_TOLERANCE).tolist():
            limit = "below 0" if target == "ionic" else "below 1, the permittivity of vacuum"
            text = f"a principal value of the {target} tensor is {limit}: {lowest[row]:.2f}"
            results[row].append(CrystalWarning(WarningCode.NEGATIVE_PART, text))
    if "electronic" in tensors:
        electronic = np.trace(tensors["electronic"], axis1=1, axis2=2) / 3.0
        for row in np.flatnonzero(electronic > _ELECTRONIC_OF_SMALL_GAP).tolist():
            if known_insulators is None or not known_insulators[row]:
                text = f"an electronic permittivity of {electronic[row]:.0f} is that of a metal or of a tiny band gap"
                results[row].append(CrystalWarning(WarningCode.SMALL_GAP, text))
    for row, breach in enumerate(_worst_breaches(tensors, systems)):
        if breach is not None:
            results[row].append(breach)
    judged = [target for target in tensors if target != "ionic" or target == ranked_target or len(tensors) == 1]
    for target in judged:
        for row in np.flatnonzero(error_exceeds_value(tensors, mean_errors, target)).tolist():
            mean = np.trace(tensors[target][row]) / 3.0
            text = f"error bar exceeds the value: {target} permittivity {mean:.1f} ± {mean_errors[target][row]:.1f}"
            results[row].append(CrystalWarning(WarningCode.ERROR_BAR_EXCEEDS_VALUE, text))
    return results


def error_exceeds_value(
    tensors: Mapping[str, np.ndarray], mean_errors: Mapping[str, np.ndarray], target: str
) -> np.ndarray:
    """Find the crystals whose error bar is larger than both the mean permittivity and 1, the permittivity of vacuum.

    Args:
        tensors: see `prediction_warnings`.
        mean_errors: see `prediction_warnings`.
        target: the tensor to judge.

    Returns:
        [B], bool; all false without error bars.
    """
    means = np.abs(np.trace(tensors[target], axis1=1, axis2=2) / 3.0)
    if target not in mean_errors:
        return np.zeros(len(means), dtype=bool)
    exceeds: np.ndarray = mean_errors[target] > np.maximum(means, 1.0)
    return exceeds


def _length_warnings(crystal: Crystal, bonding: Bonding) -> list[CrystalWarning]:
    fraction = bonding.bond_fraction
    # Solid noble gases have no bonds, and hydrogen or nitrogen atoms alone do not exist.
    if _BOHR_FROM < fraction < _BOHR_TO and NOBLE_GASES.isdisjoint(crystal.atomic_numbers.tolist()):
        text = f"bonds are about {fraction:.2f} times the usual length: are the lengths in Bohr?"
        return [CrystalWarning(WarningCode.BOHR, text)]
    if fraction < _COMPRESSED_BELOW:
        text = f"bonds are about {fraction:.2f} times the usual length: is the scale of the cell right?"
        return [CrystalWarning(WarningCode.COMPRESSED, text)]
    volume = abs(float(np.linalg.det(crystal.cell)))
    filling = 4 / 3 * np.pi * float((covalent_radii(crystal.atomic_numbers) ** 3).sum()) / volume
    per_atom = volume / crystal.num_atoms
    if filling > _DENSE_FILLING:
        text = f"unusually dense: {per_atom:.1f} cubic Angstrom per atom"
    elif per_atom > _THIN_VOLUME and bonding.dimension == 3:
        text = f"unusually low density: {per_atom:.0f} cubic Angstrom per atom"
    else:
        return []
    return [CrystalWarning(WarningCode.UNUSUAL_DENSITY, text)]


def _element_warnings(crystal: Crystal) -> list[CrystalWarning]:
    elements = set(crystal.atomic_numbers.tolist())
    warnings = []
    if is_metals_only(crystal):
        text = "made of metals only: most such crystals are metals, which have no dielectric constant"
        warnings.append(CrystalWarning(WarningCode.METALS_ONLY, text))
    if len(elements) == 1:
        text = "a pure element: few training crystals are pure elements"
        warnings.append(CrystalWarning(WarningCode.SINGLE_ELEMENT, text))
    return warnings


def _charge_warnings(crystal: Crystal) -> list[CrystalWarning]:
    """Warn of compounds such as FeSi and HfRu2Si, which are metals, unless a gap or tensor is known."""
    numbers = crystal.atomic_numbers.tolist()
    is_compound = len(set(numbers)) > 1 and not NONMETALS.isdisjoint(numbers)
    if not is_compound or is_known_insulator(crystal) or is_charge_balanced(numbers):
        return []
    text = "its elements have no common oxidation states that add up to zero: likely a metal"
    return [CrystalWarning(WarningCode.NOT_CHARGE_BALANCED, text)]


_SHAPES = {2: "layers or a slab", 1: "chains or wires", 0: "molecules or clusters"}


def _bond_warnings(crystal: Crystal, bonding: Bonding, cutoff: float) -> list[CrystalWarning]:
    warnings = []
    if bonding.num_lone_atoms:
        atoms = "1 atom has" if bonding.num_lone_atoms == 1 else f"{bonding.num_lone_atoms} atoms have"
        text = f"{atoms} no neighbor within {cutoff:g} Angstrom, the cutoff of the model"
        warnings.append(CrystalWarning(WarningCode.NO_BONDS, text))
    elif bonding.dimension < 3 and _has_gap(crystal, cutoff):
        text = (
            f"{_SHAPES[bonding.dimension]} more than {cutoff:g} Angstrom apart (empty gap of "
            f"{widest_gap(crystal):.1f} Angstrom): the tensor is not that of a bulk crystal"
        )
        warnings.append(CrystalWarning(WarningCode.GAP, text))
    return warnings


def _has_gap(crystal: Crystal, cutoff: float) -> bool:
    """Tell a gap from a layered crystal whose layers are hardly farther apart than the cutoff, such as CdI2."""
    return widest_gap(crystal) > cutoff or describe_bonding([crystal], _WIDENED * cutoff)[0].dimension < 3


def _rare_element_warnings(crystal: Crystal, counts: Mapping[int, int] | None) -> list[CrystalWarning]:
    if counts is None:
        return []
    rare = {z: counts.get(z, 0) for z in np.unique(crystal.atomic_numbers).tolist()}
    rare = {z: count for z, count in rare.items() if count < FEWEST_TRAINING_CRYSTALS}
    if not rare:
        return []
    listed = ", ".join(f"{SYMBOLS[z]} in {count}" for z, count in rare.items())
    text = f"few training crystals have this element: {listed}"
    return [CrystalWarning(WarningCode.FEW_TRAINING_CRYSTALS, text)]


def _element_counts(model: Predictor) -> dict[int, int] | None:
    """Number of training crystals by element; the largest number where a model has several training sets."""
    training_sets = [training_set for _, training_set in model.encoders_with_training_sets()]
    if not training_sets:
        return None
    counts: dict[int, int] = {}
    for training_set in training_sets:
        for z, count in training_set.element_counts.items():
            counts[z] = max(count, counts.get(z, 0))
    return counts


def _worst_breaches(tensors: Mapping[str, np.ndarray], systems: Sequence[str | None]) -> list[CrystalWarning | None]:
    """Find, for each crystal, the tensor that breaks the symmetry most, and say how; None within the tolerance."""
    if not tensors:
        return [None] * len(systems)
    targets = list(tensors)
    principal = np.stack([np.linalg.eigvalsh(values) for values in tensors.values()])
    breaches = np.stack([_symmetry_breach(values, systems) for values in principal])
    results: list[CrystalWarning | None] = []
    for row, worst in enumerate(breaches.argmax(axis=0).tolist()):
        if breaches[worst, row] <= _SYMMETRY_TOLERANCE:
            results.append(None)
            continue
        demand = "all" if systems[row] == "cubic" else "two"
        values = ", ".join(f"{value:.2f}" for value in principal[worst, row])
        text = (
            f"the {targets[worst]} tensor breaks the symmetry: in a {systems[row]} crystal {demand} principal values "
            f"are equal, here they are {values}"
        )
        results.append(CrystalWarning(WarningCode.SYMMETRY_BREACH, text))
    return results


def _symmetry_breach(principal: np.ndarray, systems: Sequence[str | None]) -> np.ndarray:
    """Measure how far principal values are from the degeneracy of the crystal system, over the largest value. [B]."""
    low, high = principal[:, 1] - principal[:, 0], principal[:, 2] - principal[:, 1]
    is_cubic = np.array([system == "cubic" for system in systems], dtype=bool)
    is_uniaxial = np.array([system in ("tetragonal", "trigonal", "hexagonal") for system in systems], dtype=bool)
    deviation = np.where(is_cubic, low + high, np.where(is_uniaxial, np.minimum(low, high), 0.0))
    # An ionic part near zero is not judged by its own size.
    breach: np.ndarray = deviation / np.maximum(np.abs(principal).max(axis=1, initial=0.0), 1.0)
    return breach
