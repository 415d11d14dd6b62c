# SPDX-License-Identifier: MIT
"""The non-analytical correction of phonopy from predicted charges and the electronic tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..crystals.crystal import Crystal
from ..errors import optional_import
from ..model.lattice_model import LatticeModel
from ..model.predictor import Predictor
from .dielectric_result import DielectricResult, dielectric_of

# e^2 / (4 pi eps0), with the digits of phonopy's unit system of VASP. eV Angstrom
NAC_FACTOR = 14.399652


def attach_nac(
    phonon: Any,
    model: str | Path | Predictor = "dielectric",
    lattice: str | Path | LatticeModel | None = None,
) -> DielectricResult:
    """Predict Born charges and the electronic tensor of phonopy's primitive cell, and set ``phonon.nac_params``.

    Phonon bands then show the splitting of longitudinal and transverse optical modes at Gamma. phonopy averages charges
    and tensor over the space group. ``dtnn-fast predict --born`` writes a BORN file instead.

    Args:
        phonon: a `phonopy.Phonopy` of a crystal that is periodic in all directions, in Angstrom and eV.
        model: name or folder of a model of the electronic tensor, or a loaded one.
        lattice: a `LatticeModel` or its name, for the charges; None for those of `model`.

    Returns:
        The prediction for the primitive cell, before the average over the space group.

    Raises:
        ValueError: no model has Born charges, or `model` has no electronic tensor.
        BadCrystalError: the cell cannot be used; the message says why.
        MissingPackageError: phonopy is not installed.

    Example:
        >>> phonon = phonopy.load("phonopy_params.yaml")
        >>> attach_nac(phonon)
        >>> phonon.run_mesh([20, 20, 20])
    """
    symmetry = optional_import("phonopy.structure.symmetry", extra="phonopy", purpose="correct phonons of phonopy")
    primitive = phonon.primitive
    crystal = Crystal.make("primitive cell", primitive.numbers, primitive.positions, primitive.cell)
    result = dielectric_of(crystal, model, lattice)
    if result.born_charges is None:
        raise ValueError("attach_nac: expected a model of Born charges: give `lattice` a model, for example 'lattice'")
    if "electronic" not in result.tensors:
        known = ", ".join(result.tensors)
        raise ValueError(f"attach_nac: expected a model of the electronic tensor, got one of {known}")
    charges, electronic = symmetry.symmetrize_borns_and_epsilon(
        result.born_charges, result.electronic, primitive, symprec=phonon.symmetry.tolerance
    )
    phonon.nac_params = {"born": np.array(charges), "dielectric": np.array(electronic), "factor": NAC_FACTOR}
    return result
