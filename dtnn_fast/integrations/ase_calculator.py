# SPDX-License-Identifier: MIT
"""A calculator of ASE: dielectric tensor, Born charges, and the energies of a potential."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..crystals.convert import to_crystal
from ..errors import BadCrystalError, DTNNError, optional_import
from ..model.lattice_model import LatticeModel
from ..model.predictor import Predictor
from ..potentials.energy_model import EnergyModel
from ..potentials.energy_potential import EnergyPotential
from ..potentials.load_potential import load_potential
from ..potentials.potential import Potential
from .dielectric_result import DielectricResult, dielectric_of, loaded_lattice, loaded_predictor

_ase: Any = optional_import("ase.calculators.calculator", extra="io", purpose="use the calculator of ASE")
_DIELECTRIC = frozenset({"dielectric_tensor", "born_effective_charges"})
_ENERGY = frozenset({"energy", "free_energy", "forces", "stress"})
# Of a 3x3 tensor, in ASE's order of the six elements.
_VOIGT_ROWS, _VOIGT_COLUMNS = [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]


class DTNNCalculator(_ase.Calculator):
    """ASE calculator that predicts dielectric tensors.

    Properties have ASE's names, units and shapes: ``dielectric_tensor`` [3, 3]; ``born_effective_charges`` [N, 3, 3]
    (Z[atom, field, displacement], e) where a model has them; ``energy`` (eV), ``free_energy`` (the same), ``forces``
    [N, 3] (eV/Angstrom) and ``stress`` [6] (eV/Angstrom^3, xx yy zz yz xz xy) where `energy` is given. `get_dielectric`
    gives all tensors with error bars. Results are kept while positions, numbers, cell and pbc stay the same, and each
    property is computed only when it is requested.

    Args:
        model: name or folder of a model, or a loaded one.
        target: the tensor that ``dielectric_tensor`` returns; by default "total", or the only target of the model.
        lattice: a `LatticeModel` or its name, for ``born_effective_charges``; None for those of `model`, if any.
        energy: for energies, forces and stresses: an `EnergyModel`, a `Potential`, or its name or folder, which
            `load_potential` takes; None if these are not needed.

    Raises:
        ValueError: `target` is not a target of the model.
        DTNNError: there is no potential of the name `energy`, or its files are damaged.
        MissingPackageError: ASE is not installed.

    Example:
        >>> atoms = ase.build.bulk("MgO", "rocksalt", a=4.21)
        >>> atoms.calc = DTNNCalculator()
        >>> atoms.calc.get_property("dielectric_tensor", atoms)
    """

    ignored_changes = frozenset({"initial_charges", "initial_magmoms"})

    def __init__(
        self,
        model: str | Path | Predictor = "dielectric",
        target: str | None = None,
        lattice: str | Path | LatticeModel | None = None,
        energy: EnergyModel | Potential | str | Path | None = None,
    ) -> None:
        super().__init__()
        self.model = loaded_predictor(model)
        self.lattice = None if lattice is None else loaded_lattice(lattice)
        if isinstance(energy, str | Path):
            energy = load_potential(energy)
        self.potential = EnergyPotential(energy) if isinstance(energy, EnergyModel) else energy
        targets = self.model.targets
        default = "total" if "total" in targets or len(targets) > 1 else targets[0]
        self.target = default if target is None else target
        if self.target not in targets:
            raise ValueError(f"DTNNCalculator: expected `target` to be one of {', '.join(targets)}, got {target!r}")
        self.implemented_properties = ["dielectric_tensor"]
        if self.lattice is not None or self.model.has_born_charges:
            self.implemented_properties.append("born_effective_charges")
        if self.potential is not None:
            self.implemented_properties += ["energy", "free_energy", "forces", "stress"]
        self._dielectric: DielectricResult | None = None

    def get_dielectric(self, atoms: Any = None) -> DielectricResult:
        """Return the tensors of all targets, their error bars and the charges.

        Args:
            atoms: the crystal; None for that of the last calculation.

        Raises:
            CalculationFailed: see `calculate`.
        """
        self.get_property("dielectric_tensor", atoms)
        if self._dielectric is None:
            raise _ase.CalculationFailed("get_dielectric: expected `atoms`, got None before any calculation")
        return self._dielectric

    def calculate(
        self,
        atoms: Any = None,
        properties: Sequence[str] = ("dielectric_tensor",),
        system_changes: Sequence[str] = _ase.all_changes,
    ) -> None:
        """Compute properties and add them to `results`; users call ``get_property`` or the methods of Atoms.

        Raises:
            CalculationFailed: the crystal cannot be used: it has elements that the model does not know, is not periodic
                in all directions, or has atoms that overlap.
            PropertyNotImplementedError: no model was given for a property.
        """
        super().calculate(atoms, properties, system_changes)
        wanted = set(properties)
        missing = sorted(wanted - set(self.implemented_properties))
        if missing:
            raise _ase.PropertyNotImplementedError(f"DTNNCalculator: no model was given for {', '.join(missing)}")
        if self.atoms is None:
            raise _ase.CalculationFailed("DTNNCalculator: expected `atoms`, got None before any calculation")
        if system_changes:
            self.results: dict[str, Any] = {}
        try:
            if wanted & _DIELECTRIC:
                self._calculate_dielectric("born_effective_charges" in wanted)
            if wanted & _ENERGY:
                self._calculate_energy()
        except BadCrystalError as error:
            raise _ase.CalculationFailed(f"DTNNCalculator: {error}") from error

    def _calculate_dielectric(self, with_charges: bool) -> None:
        # Both come from one prediction, which is kept as long as the tensor is.
        if self._dielectric is None or "dielectric_tensor" not in self.results:
            self._dielectric = dielectric_of(self.atoms, self.model, self.lattice)
        self.results["dielectric_tensor"] = self._dielectric.tensor(self.target)
        # Only when asked for: ASE cannot write atoms with such results into extxyz files.
        if with_charges and self._dielectric.born_charges is not None:
            self.results["born_effective_charges"] = self._dielectric.born_charges

    def _calculate_energy(self) -> None:
        if self.potential is None:  # `calculate` has checked it
            raise DTNNError("DTNNCalculator: there is no potential")
        crystal = to_crystal(self.atoms)
        self.potential.check(crystal)
        (found,) = self.potential.evaluate([crystal])
        self.results.update(energy=found.energy, free_energy=found.energy, forces=found.forces)
        if found.stress is not None:
            self.results["stress"] = np.array(found.stress)[_VOIGT_ROWS, _VOIGT_COLUMNS]
