# SPDX-License-Identifier: MIT
"""Refined dielectric tensors: the ionic part by lattice dynamics, joined with the direct prediction.

eps_ionic = e^2 / (eps0 V) sum over m of S_m S_m^T / k_m with the Born charges and the force constants at q = 0 of
predicted or computed response (`dtnn_fast.phonons`), which is the route of A. Takigawa, S. Kiyohara and Y. Kumagai,
arXiv 2509.26022. The modes also tell whether the crystal is stable, which a direct prediction cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..crystals.checks import check_crystals
from ..crystals.crystal import Crystal, Rejected
from ..crystals.elements import atomic_masses
from ..crystals.insulators import is_metals_only
from ..model.lattice_model import LatticeModel, LatticeResponse
from ..model.predictor import Predictor, mean_permittivity
from ..model.training_set import TrainingDistances
from ..phonons import E2_OVER_EPS0, SOFTEST, compliance, frequencies, gamma_modes, ionic_tensor
from ..screening.crystal_warnings import CrystalWarning, prediction_warnings, structure_warnings
from ..symmetry import find_forbidden_ionic_responses, known_crystal_system, with_operations
from .ionic_join import IonicEstimates, IonicJoin

# Larger cells are rejected: the modes of 1,200 displacements take minutes, and such crystals were never learned.
MAX_ATOMS = 400
# Squared mode charge, per primitive cell, from which a mode counts as polar. e^2
_POLAR = 0.05
# Stiffness below which a mode counts as unstable, and below which it counts as soft. Instabilities of 0.1 are within
# the errors of force constants. eV/Angstrom^2
UNSTABLE_BELOW, SOFT_BELOW = -0.1, 1.0
# A crystal is close to a ferroelectric instability where soft modes make more than this part of the permittivity, or a
# single mode more than this of the ionic mean. docs/refine.md has the errors of the crystals that this marks.
SOFT_PART, LARGE_SHARE = 0.3, 15.0
_BATCH_ATOMS = 512

# Force constants of crystals by a potential, in their order; `Rejected` says why there are none.
ForceConstantSource = Callable[[Sequence[Crystal]], Iterator["np.ndarray | Rejected"]]


@dataclass(frozen=True)
class Refinement:
    """A crystal with its refined tensors.

    Args:
        crystal: the crystal.
        electronic: predicted electronic tensor. [3, 3].
        electronic_mean_error: error bar of its mean; None without.
        direct: ionic tensor of the direct prediction. [3, 3].
        lattice: ionic tensor by Born charges and force constants. [3, 3].
        ionic: the refined ionic tensor: both joined, or that of the lattice. [3, 3].
        ionic_error: error bar of the refined ionic tensor; None without.
        ionic_mean_error: error bar of its mean; None without.
        modes: frequencies of the modes at q = 0, in rising order; negative for an instability. [3 N - 3], THz.
        softest: stiffness of the softest mode, and of the softest polar mode; infinite without one. eV/Angstrom^2.
        largest_share: largest part that a mode has in the mean of the lattice's ionic tensor.
        soft_share: the part that all soft modes, those below `SOFT_BELOW`, have in it together.
        born_charges: [N, 3, 3], e.
        remarks: remarks about the modes for the user, one line each.
        warnings: warnings about structure and tensors, as for `screen_crystals`; the crystal system is known only if
            the crystal states it.
    """

    crystal: Crystal
    electronic: np.ndarray
    electronic_mean_error: float | None
    direct: np.ndarray
    lattice: np.ndarray
    ionic: np.ndarray
    ionic_error: float | None
    ionic_mean_error: float | None
    modes: np.ndarray
    softest: tuple[float, float]
    largest_share: float
    soft_share: float
    born_charges: np.ndarray
    remarks: list[str] = field(default_factory=list)
    warnings: list[CrystalWarning] = field(default_factory=list)

    @property
    def total(self) -> np.ndarray:
        """The refined total tensor: electronic and refined ionic. [3, 3]."""
        return self.electronic + self.ionic

    @property
    def total_mean_error(self) -> float | None:
        """Error bar of the mean of the total tensor, of independent parts; None without."""
        if self.electronic_mean_error is None or self.ionic_mean_error is None:
            return None
        return float(np.hypot(self.electronic_mean_error, self.ionic_mean_error))

    @property
    def is_unstable(self) -> bool:
        """Whether a displacement with the period of the cell lowers the energy."""
        return self.softest[0] < UNSTABLE_BELOW

    @property
    def is_nearly_ferroelectric(self) -> bool:
        """Whether unstable or soft modes contribute so much to the permittivity that it depends on details."""
        static = float(mean_permittivity(self.electronic + self.lattice))
        return self.soft_share > SOFT_PART * static or self.largest_share > LARGE_SHARE


class Refiner:
    """Refines crystals in batches.

    Args:
        predictor: direct model of electronic and ionic tensors.
        lattice: model of Born charges and force constants.
        join: combination of both ionic tensors; None for the tensor of lattice dynamics alone.
        force_constants: computes force constants instead of the lattice model; None for those of the lattice model.
        softening: factor that multiplies these force constants, because potentials are too soft.
        max_atoms: largest number of atoms of a cell.
        lattice_share: weight of the lattice model's force constants in the mean with these, from 0 to 1. Two models of
            the same quality that were trained in different ways err in different ways.

    Raises:
        ValueError: the direct model lacks the electronic or the ionic tensor, or a number is out of its range.
    """

    def __init__(
        self,
        predictor: Predictor,
        lattice: LatticeModel,
        join: IonicJoin | None = None,
        force_constants: ForceConstantSource | None = None,
        softening: float = 1.0,
        max_atoms: int = MAX_ATOMS,
        lattice_share: float = 0.0,
    ) -> None:
        missing = {"electronic", "ionic"} - set(predictor.targets)
        if missing:
            raise ValueError(f"Refiner: expected a model of {' and '.join(sorted(missing))} tensors, got one without")
        if not 0 <= lattice_share <= 1:
            raise ValueError(f"Refiner: expected `lattice_share` from 0 to 1, got {lattice_share}")
        self.predictor, self.lattice, self.join = predictor, lattice, join
        self.lattice_share = lattice_share
        self.force_constants, self.softening, self.max_atoms = force_constants, softening, max_atoms
        known = [set(elements) for elements in (predictor.elements, lattice.elements) if elements]
        self.elements = frozenset(set.intersection(*known)) if known else None

    def refine(self, items: Sequence[Crystal | Rejected]) -> Iterator[Refinement | Rejected]:
        """Refine crystals, in their order; those that cannot be refined are rejected with a reason."""
        usable = [item for item in items if isinstance(item, Crystal)]
        errors = iter(check_crystals(usable, self.elements))
        checked: list[Crystal | Rejected] = []
        for item in items:
            if isinstance(item, Rejected):
                checked.append(item)
                continue
            error = next(errors)
            reason = self.reason_against(item) if error is None else None
            if error is not None:
                checked.append(Rejected.from_error(error, item.id, item.source))
            else:
                checked.append(item if reason is None else Rejected(item.id, item.source, reason))
        for batch in parts_by_atoms(checked, _BATCH_ATOMS):
            yield from self._refine_batch(batch)

    def reason_against(self, crystal: Crystal) -> str | None:
        """Say why a crystal that the models could read cannot be refined."""
        if crystal.num_atoms > self.max_atoms:
            return f"too large to refine: expected at most {self.max_atoms} atoms in the cell, got {crystal.num_atoms}"
        if is_metals_only(crystal):
            return (
                "made of metals only: a metal has no static dielectric tensor (an insulator such as CsAu needs a band "
                "gap or a published tensor in its file)"
            )
        return None

    def _refine_batch(self, batch: Sequence[Crystal | Rejected]) -> Iterator[Refinement | Rejected]:
        crystals = with_operations([item for item in batch if isinstance(item, Crystal)])
        refined: list[Refinement | Rejected] = self._refine_crystals(crystals) if crystals else []
        of_crystals = iter(refined)
        for item in batch:
            yield next(of_crystals) if isinstance(item, Crystal) else item

    def _refine_crystals(self, crystals: Sequence[Crystal]) -> list[Refinement | Rejected]:
        caught = TrainingDistances(self.predictor.encoders_with_training_sets())
        with self.predictor.evaluating(), caught as distances:
            predicted = self.predictor.predict_batch_with_errors(crystals)
        warnings = structure_warnings(crystals, self.predictor, distances.relative())
        responses = self.lattice.predict(list(crystals))
        failures: dict[int, Rejected] = {}
        if self.force_constants is not None:
            for index, found in enumerate(self.force_constants(crystals)):
                if isinstance(found, Rejected):
                    failures[index] = found
                else:
                    own = responses[index]
                    mixed = (1.0 - self.lattice_share) * self.softening * found
                    if self.lattice_share:
                        mixed = mixed + self.lattice_share * own.force_constants
                    responses[index] = LatticeResponse(mixed, own.born_charges)
        forbidden = find_forbidden_ionic_responses(list(crystals))
        results: list[Refinement | Rejected] = []
        for index, crystal in enumerate(crystals):
            if index in failures:
                results.append(failures[index])
                continue
            bars = predicted.mean_errors.get("electronic")
            refinement = self._refine_one(
                crystal,
                predicted.tensors["electronic"][index],
                None if bars is None else float(bars[index]),
                predicted.tensors["ionic"][index],
                responses[index],
                bool(forbidden[index]),
            )
            refinement.remarks.extend(_remarks(refinement))
            refinement.warnings.extend([*warnings[index], *_prediction_warnings(refinement)])
            results.append(refinement)
        return results

    def _refine_one(
        self,
        crystal: Crystal,
        electronic: np.ndarray,
        electronic_mean_error: float | None,
        direct: np.ndarray,
        response: LatticeResponse,
        forbidden: bool,
    ) -> Refinement:
        volume = float(abs(np.linalg.det(crystal.cell)))
        modes = gamma_modes(response.force_constants, response.born_charges)
        zero = np.zeros((3, 3))
        lattice = zero
        if not forbidden and crystal.num_atoms > 1:
            lattice = ionic_tensor(response.force_constants, response.born_charges, volume, SOFTEST, condensed=True)
        # Squared charges of a mode grow with the cell: a supercell has the polar modes of its primitive cell.
        polar = np.square(modes.polarity).sum(1) > _POLAR * _num_primitive_cells(crystal)
        softest = (_least(modes.stiffness), _least(modes.stiffness[polar] if not forbidden else polar[:0]))
        flexible = compliance(modes.stiffness, SOFTEST, condensed=True)
        shares = np.square(modes.polarity).sum(1) * flexible * E2_OVER_EPS0 / (3.0 * volume)
        if forbidden:
            shares = np.zeros_like(shares)
        ionic, bars = lattice, None
        if self.join is not None:
            estimates = IonicEstimates(direct[None], lattice[None], np.array([softest[1]]))
            ionic = self.join.join(estimates)[0]  # zero where symmetry forbids both
            bars = self.join.error_bars(estimates)
        return Refinement(
            crystal,
            electronic,
            electronic_mean_error,
            direct,
            lattice,
            ionic,
            None if bars is None else float(bars[0][0]),
            None if bars is None else float(bars[1][0]),
            frequencies(response.force_constants, atomic_masses(crystal.atomic_numbers)),
            softest,
            float(shares.max(initial=0.0)),
            float(shares[modes.stiffness < SOFT_BELOW].sum()),
            response.born_charges,
        )


def parts_by_atoms(items: Sequence[Crystal | Rejected], most_atoms: int) -> Iterator[list[Crystal | Rejected]]:
    """Split crystals, in their order, into parts of at most `most_atoms` atoms, or of one larger crystal."""
    part: list[Crystal | Rejected] = []
    num_atoms = 0
    for item in items:
        size = item.num_atoms if isinstance(item, Crystal) else 0
        if part and num_atoms + size > most_atoms:
            yield part
            part, num_atoms = [], 0
        part.append(item)
        num_atoms += size
    if part:
        yield part


def _num_primitive_cells(crystal: Crystal) -> int:
    """Count the primitive cells in the cell, by the operations that only translate; 1 where they are unknown."""
    if crystal.operations is None:
        return 1
    return max(1, int((crystal.operations.rotations == np.eye(3, dtype=np.int32)).all((1, 2)).sum()))


def _least(stiffness: np.ndarray) -> float:
    return float(stiffness.min()) if len(stiffness) else float("inf")


def _prediction_warnings(refinement: Refinement) -> list[CrystalWarning]:
    tensors = {"electronic": refinement.electronic, "ionic": refinement.ionic, "total": refinement.total}
    bars = {"electronic": refinement.electronic_mean_error, "total": refinement.total_mean_error}
    system = known_crystal_system(refinement.crystal, search=False)
    (warnings,) = prediction_warnings(
        {name: tensor[None] for name, tensor in tensors.items()},
        {name: np.array([bar]) for name, bar in bars.items() if bar is not None},
        [system],
    )
    return warnings


def _remarks(refinement: Refinement) -> Iterator[str]:
    direct, lattice = (float(mean_permittivity(tensor)) for tensor in (refinement.direct, refinement.lattice))
    if refinement.is_unstable:
        yield (
            f"unstable: a mode of {refinement.modes[0]:.2f} THz lowers the energy, so the crystal has another "
            "structure at low temperature, and the ionic tensor is not reliable"
        )
    if refinement.is_nearly_ferroelectric:
        is_soft = refinement.soft_share > refinement.largest_share
        share = refinement.soft_share if is_soft else refinement.largest_share
        which = f"modes below {SOFT_BELOW:g} eV/Angstrom^2 make" if is_soft else "one mode makes"
        yield (
            f"close to a ferroelectric instability: {which} {share:.1f} of the ionic mean of {lattice:.1f} (lattice "
            "dynamics), which is sensitive to details such as functional and temperature"
        )
    if abs(lattice - direct) > 0.5 * max(lattice, direct, 2.0):
        yield f"the direct prediction ({direct:.1f}) and lattice dynamics ({lattice:.1f}) disagree"
