# SPDX-License-Identifier: MIT
"""Draw candidates: new crystals made of known ones by replacing ions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..crystals.checks import check_crystals
from ..crystals.crystal import Crystal, Rejected
from ..crystals.elements import atomic_number
from ..crystals.structure_index import StructureIndex
from ..crystals.substitution import replace_elements
from ..datasets.bundled import load_all
from ..errors import DTNNError
from ..model.bundled_model import bundled_elements
from .ions import Ion, load_ions
from .prototypes import Prototype, find_prototypes
from .substitutions import Substitutions, list_substitutions

# `Crystal.source` of candidates.
CANDIDATE_SOURCE = "candidates"
# Elements without a stable isotope, bismuth not counted.
RADIOACTIVE = frozenset({atomic_number(name) for name in ("Tc", "Pm", "Po", "At", "Rn")} | set(range(87, 119)))
# Probabilities of substitutions, from likely to unlikely: the first that leaves enough candidates is the limit.
PROBABILITIES = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
# The limit leaves this many times the candidates that are asked for, so that there is a choice.
_CHOICE = 1.1
# Crystals that are checked at once.
_BATCH = 1000


@dataclass(frozen=True)
class CandidateSettings:
    """Settings of the candidates.

    Args:
        count: number of candidates; fewer where fewer exist.
        max_atoms: largest number of atoms in the cell.
        elements: atomic numbers that candidates may have; None for those of the bundled model without radioactive ones.
        exclude: atomic numbers that candidates never have.
        seed: the same seed draws the same candidates.
        smallest_probability: limit of the product of Hautier's probabilities over the elements; None for the first of
            1e-4 to 1e-8 that leaves enough candidates.

    Raises:
        ValueError: a setting is out of range.
    """

    count: int = 10_000
    max_atoms: int = 40
    elements: frozenset[int] | None = None
    exclude: frozenset[int] = frozenset()
    seed: int = 0
    smallest_probability: float | None = None

    def __post_init__(self) -> None:
        limit = self.smallest_probability
        if min(self.count, self.max_atoms) < 1 or self.seed < 0 or not (limit is None or 0 < limit < 1):
            raise ValueError(
                "CandidateSettings: expected `count` and `max_atoms` of 1 or more, a `seed` of 0 or more and "
                f"`smallest_probability` between 0 and 1, got {self}"
            )


class Candidates:
    """New crystals made from given ones; each iteration makes the same crystals again, one batch at a time.

    Args:
        settings: number, size and elements.
        crystals: crystals whose elements are replaced; None for the crystals that come with dtnn_fast.

    Attributes:
        prototypes: structures of the given crystals.
        num_parents: number of crystals in the prototypes.
        left_out: number of given crystals that cannot be parents, by reason.
        rejected: given crystals that failed `check_crystal`.
        available: number of different candidates above the limit of probability.
        smallest_probability: the limit; see `CandidateSettings`.

    Raises:
        DTNNError: the given crystals have no candidates.
        MissingPackageError: pymatgen is not installed, or moyopy for crystals that are not bundled.

    Example:
        >>> candidates = Candidates(CandidateSettings(count=1000, exclude=frozenset({82})))
        >>> for crystal in candidates:
        ...     print(crystal.id, crystal.formula, crystal.info["parent"], crystal.info["substitution"])
    """

    def __init__(self, settings: CandidateSettings, crystals: Sequence[Crystal] | None = None) -> None:
        self.settings = settings
        bundled = load_all()
        given = bundled if crystals is None else list(crystals)
        self.rejected: list[Rejected] = []
        if crystals is not None:
            errors = check_crystals(given)
            pairs = list(zip(given, errors, strict=True))
            self.rejected = [Rejected.from_error(e, c.id, c.source) for c, e in pairs if e is not None]
            given = [crystal for crystal, error in pairs if error is None]
        self._table = load_ions()
        self._allowed = allowed_elements(settings)
        self.prototypes, self.left_out = find_prototypes(given, self._table, settings.max_atoms)
        self.num_parents = sum(len(prototype.parents) for prototype in self.prototypes)
        # In random order, because a user may stop early.
        order = np.random.default_rng(settings.seed).permutation(len(self.prototypes))
        self.prototypes = [self.prototypes[place] for place in order.tolist()]
        known = given if crystals is None else [*given, *bundled]
        self._known_formulas = {crystal.formula for crystal in known}
        self._known = StructureIndex(known)
        self.smallest_probability, self._draws = self._choose_limit()
        self.available = sum(map(len, self._draws))
        if not self.available:
            reasons = "; ".join(f"{count} {reason}" for reason, count in self.left_out.items())
            raise DTNNError(
                f"candidates: no element of the {len(given)} given crystals can be replaced"
                + (f" ({self.num_parents} parents; left out: {reasons})" if reasons else "")
            )

    def __iter__(self) -> Iterator[Crystal]:
        """Make the candidates: grouped by prototype, most likely ones not first. Memory does not grow."""
        draws = np.concatenate(self._draws)
        upper, missing = np.float32(np.inf), self.settings.count
        while missing > 0:
            left = draws[draws < upper]
            if not len(left):
                return
            # The largest draws; where crystals failed a check, the next ones in another round.
            wanted = min(missing, len(left))
            lower = np.partition(left, len(left) - wanted)[len(left) - wanted]
            for crystal in self._between(lower, upper):
                yield crystal
                missing -= 1
                if missing == 0:
                    return
            upper = lower

    def _choose_limit(self) -> tuple[float, list[np.ndarray]]:
        """Draw a number for each substitution: logarithm of its probability, plus a Gumbel random number.

        The candidates with the largest numbers are a sample without replacement in proportion to the probabilities.
        """
        given = self.settings.smallest_probability
        for limit in PROBABILITIES if given is None else (given,):
            draws = []
            for prototype in self.prototypes:
                logs = self._substitutions(prototype, limit).log_probability
                draws.append((logs + self._rng(prototype).gumbel(size=len(logs))).astype(np.float32))
            if sum(map(len, draws)) >= _CHOICE * self.settings.count:
                break
        return limit, draws

    def _rng(self, prototype: Prototype) -> np.random.Generator:
        digest = hashlib.sha256(prototype.name.encode()).digest()
        return np.random.default_rng((self.settings.seed, int.from_bytes(digest[:8], "big")))

    def _substitutions(self, prototype: Prototype, limit: float) -> Substitutions:
        return list_substitutions(prototype, self._table, self._allowed, limit)

    def _between(self, lower: np.float32, upper: np.float32) -> Iterator[Crystal]:
        """Make the candidates whose draws are at least `lower` and below `upper`, and that pass all checks."""
        batch: list[Crystal] = []
        for prototype, draws in zip(self.prototypes, self._draws, strict=True):
            chosen = (draws >= lower) & (draws < upper)
            if not chosen.any():
                continue
            for change in _changes(self._substitutions(prototype, self.smallest_probability).take(chosen)):
                batch.append(self._make(prototype, change))
                if len(batch) == _BATCH:
                    yield from self._sound(batch)
                    batch = []
        yield from self._sound(batch)

    def _make(self, prototype: Prototype, change: _Change) -> Crystal:
        parent = prototype.parents[change.parent]
        old_ions, new_ions = parent.ions, [self._table.ions[place] for place in change.ions]
        pairs = sorted(zip(old_ions, new_ions, strict=True))
        text = " ".join(f"{old}>{new}" for old, new in pairs if old != new)
        new_elements = {old.atomic_number: new.atomic_number for old, new in pairs}
        return replace_elements(
            parent.crystal,
            new_elements,
            change.scale,
            id=candidate_id(parent.crystal.id, text),
            source=CANDIDATE_SOURCE,
            targets={},
            diagonals={},
            means={},
            born_charges=None,
            force_constants=None,
            info={
                "parent": parent.crystal.id,
                "substitution": text,
                "prototype": prototype.name,
                "oxidation_states": " ".join(map(str, sorted(new_ions, key=_by_charge))),
                "volume_scale": change.scale**3,
                "substitution_probability": float(np.exp(change.log_probability)),
            },
        )

    def _sound(self, batch: Sequence[Crystal]) -> Iterator[Crystal]:
        for crystal, error in zip(batch, check_crystals(batch, self._allowed), strict=True):
            if error is None and not self._is_known(crystal):
                yield crystal

    def _is_known(self, crystal: Crystal) -> bool:
        """Tell whether a given or bundled crystal has this structure, perhaps in another cell or prototype."""
        return crystal.formula in self._known_formulas and bool(self._known.find_all(crystal, similar=True))


def allowed_elements(settings: CandidateSettings) -> frozenset[int]:
    """List the elements that candidates may have: the requested ones that the bundled model knows."""
    known = bundled_elements()
    wanted = known - RADIOACTIVE if settings.elements is None else known & settings.elements
    return wanted - settings.exclude


def candidate_id(parent: str, substitution: str) -> str:
    """Return the id of a candidate, a hash of its parent and its substitution that never changes.

    Args:
        parent: id of the parent.
        substitution: such as ``"Ti4+>Hf4+ Ba2+>Sr2+"``, the replaced ions sorted by atomic number.
    """
    return f"sub-{hashlib.sha256(f'{parent}|{substitution}'.encode()).hexdigest()[:16]}"


class _Change(NamedTuple):
    """One row of `Substitutions`, in Python's numbers."""

    ions: list[int]
    parent: int
    log_probability: float
    scale: float


def _changes(substitutions: Substitutions) -> Iterator[_Change]:
    _, ions, parent, log_probability, scale = (values.tolist() for values in substitutions)
    yield from map(_Change, ions, parent, log_probability, scale)


def _by_charge(ion: Ion) -> tuple[bool, int]:
    """Key that sorts cations before anions, by atomic number."""
    return ion.charge < 0, ion.atomic_number
