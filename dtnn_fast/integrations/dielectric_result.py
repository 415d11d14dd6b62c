# SPDX-License-Identifier: MIT
"""Predictions for one structure, with conversions to the conventions of other packages."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..crystals.checks import check_crystal
from ..crystals.convert import to_crystal
from ..crystals.crystal import Crystal
from ..errors import optional_import
from ..model.lattice_model import LatticeModel
from ..model.load_predictor import load_predictor
from ..model.predictor import Predictor, mean_permittivity


@dataclass(frozen=True)
class DielectricResult:
    """Predicted tensors of a structure, with error bars and Born charges if the models have them.

    Args:
        crystal: the structure; tensors are in the frame of its cell.
        tensors: relative permittivity by target ("electronic", "ionic", "total"). [3, 3] each, float64.
        tensor_errors: error bar of each tensor by target; empty if the model has none.
        mean_errors: error bar of each mean, a third of the trace, by target; empty if the model has none.
        born_charges: Z[atom, field, displacement]; None if no model predicts them. [N, 3, 3], float64, e.
    """

    crystal: Crystal
    tensors: dict[str, np.ndarray]
    tensor_errors: dict[str, float] = field(default_factory=dict)
    mean_errors: dict[str, float] = field(default_factory=dict)
    born_charges: np.ndarray | None = None

    @property
    def electronic(self) -> np.ndarray:
        """The electronic (high-frequency) tensor. [3, 3]."""
        return self.tensor("electronic")

    @property
    def ionic(self) -> np.ndarray:
        """The ionic contribution to the static tensor. [3, 3]."""
        return self.tensor("ionic")

    @property
    def total(self) -> np.ndarray:
        """The static tensor. [3, 3]."""
        return self.tensor("total")

    def tensor(self, target: str) -> np.ndarray:
        """Return the tensor of a target. [3, 3].

        Raises:
            KeyError: the model did not predict it.
        """
        if target not in self.tensors:
            raise KeyError(
                f"DielectricResult: expected one of the predicted tensors {', '.join(self.tensors)}, got {target!r}"
            )
        return self.tensors[target]

    def mean(self, target: str = "total") -> float:
        """Return a third of the trace of a tensor."""
        return float(mean_permittivity(self.tensor(target)))

    def to_pymatgen_tensor(self, target: str = "total") -> Any:
        """Return a tensor as pymatgen's SquareTensor, which has methods for rotations and symmetry.

        Raises:
            MissingPackageError: pymatgen is not installed.
        """
        tensors = optional_import("pymatgen.core.tensors", extra="io", purpose="make tensors of pymatgen")
        return tensors.SquareTensor(self.tensor(target))

    def to_site_properties(self) -> dict[str, list[list[list[float]]]]:
        """Return the Born charges for ``structure.copy(site_properties=...)`` of pymatgen: a 3x3 list for each site.

        Raises:
            ValueError: no Born charges were predicted.
        """
        if self.born_charges is None:
            raise ValueError("to_site_properties: expected a prediction with Born charges: give `lattice` a model")
        return {"born_charges": self.born_charges.tolist()}

    def to_properties(self) -> dict[str, Any]:
        """Return tensors and error bars as plain values, for ``structure.properties`` of pymatgen and for JSON."""
        values: dict[str, Any] = {
            f"{target}_dielectric_tensor": tensor.tolist() for target, tensor in self.tensors.items()
        }
        values |= {f"{target}_tensor_error": error for target, error in self.tensor_errors.items()}
        return values | {f"{target}_mean_error": error for target, error in self.mean_errors.items()}


def dielectric_of(
    structure: Any,
    model: str | Path | Predictor = "dielectric",
    lattice: str | Path | LatticeModel | None = None,
) -> DielectricResult:
    """Predict the tensors, error bars and Born charges of a structure.

    Args:
        structure: a pymatgen Structure, an ASE Atoms or a `Crystal`.
        model: name or folder of a model, or a loaded one. Models given by name are loaded only once.
        lattice: a `LatticeModel`, or its name, for Born charges; None for those of `model`, if it has any.

    Returns:
        The prediction, in the frame of the structure's cell.

    Raises:
        BadCrystalError: the structure cannot be used; the message says why.
        BadFileError: there is no such model.

    Example:
        >>> from pymatgen.core import Lattice, Structure
        >>> mgo = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5] * 3])
        >>> dielectric_of(mgo).mean("total")
    """
    predictor = loaded_predictor(model)
    crystal = to_crystal(structure)
    check_crystal(crystal, frozenset(predictor.elements) or None)
    with_charges = lattice is None and predictor.has_born_charges
    with predictor.evaluating():
        predict = predictor.predict_batch_with_charges if with_charges else predictor.predict_batch_with_errors
        prediction = predict([crystal])
    charges = prediction.born_charges[0] if prediction.born_charges is not None else None
    if lattice is not None:
        charges = loaded_lattice(lattice).predict([crystal])[0].born_charges
    return DielectricResult(
        crystal,
        {target: values[0] for target, values in prediction.tensors.items()},
        {target: float(values[0]) for target, values in prediction.tensor_errors.items()},
        {target: float(values[0]) for target, values in prediction.mean_errors.items()},
        charges,
    )


def loaded_predictor(model: str | Path | Predictor) -> Predictor:
    """Return a model, loaded once for each name."""
    return model if isinstance(model, Predictor) else _predictor_of_name(str(model))


def loaded_lattice(model: str | Path | LatticeModel) -> LatticeModel:
    """Return a lattice model, loaded once for each name."""
    return model if isinstance(model, LatticeModel) else _lattice_of_name(str(model))


@cache
def _predictor_of_name(name: str) -> Predictor:
    return load_predictor(name)


@cache
def _lattice_of_name(name: str) -> LatticeModel:
    return LatticeModel.from_pretrained(name)
