# SPDX-License-Identifier: MIT
"""Loss of a `LatticeModel`: force constants weighted so that soft modes count, Born charges, and the ionic tensor.

The ionic tensor depends on the inverse of the force constants, so an error of 0.1 eV/Angstrom^2 ruins a soft mode and
does nothing to a stiff one. The loss therefore weighs errors by W = Phi^(-1/2) from both sides, and has the ionic
tensor itself, through the same formula that `refine` uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from ..crystals.crystal import Crystal
from ..phonons import E2_OVER_EPS0, SOFTEST, ionic_tensor, without_translations
from .metrics import unique_elements

# What a `LatticeModel` is taught.
TERMS = ("force_constants", "born_charges", "ionic")
# Key of `Crystal.info`, true where the force constants are those of a potential (tools/potential_labels.py).
FORCE_CONSTANTS_ARE_PREDICTED = "force_constants_are_predicted"
# Modes softer than this count as if they had this stiffness in the weights. eV/Angstrom^2
_FLOOR = 1.0
# Charges of this size or less (e) count by their error; larger ones by their relative error.
_CHARGE_SIZE = 0.5


class LatticeLabels(NamedTuple):
    """What is known of a crystal's response; None where unknown.

    Args:
        force_constants: [3 N, 3 N], eV/Angstrom^2.
        weight: W, whose square is the inverse of the force constants, with a floor. [3 N, 3 N], Angstrom/sqrt(eV).
        born_charges: [N, 3, 3], e.
        ionic: the ionic tensor; where force constants and charges are known from one calculation, that which
            `ionic_tensor` gives for them with its bound for soft modes. [3, 3].
        volume: of the cell. Angstrom^3.
    """

    force_constants: Tensor | None
    weight: Tensor | None
    born_charges: Tensor | None
    ionic: Tensor | None
    volume: float

    @property
    def names(self) -> tuple[str, ...]:
        """What is known, by the names of `TERMS`."""
        return tuple(name for name in TERMS if getattr(self, name) is not None)

    def to(self, device: torch.device | str) -> LatticeLabels:
        """Copy the labels to another device."""
        return LatticeLabels._make(x.to(device) if isinstance(x, Tensor) else x for x in self)

    @classmethod
    def of(cls, crystal: Crystal) -> LatticeLabels:
        """Take the labels of a crystal."""
        volume = float(abs(np.linalg.det(crystal.cell)))
        ionic = crystal.targets.get("ionic")
        matrix = weight = charges = None
        if crystal.born_charges is not None:
            charges = np.asarray(crystal.born_charges, dtype=float)
            charges = charges - charges.mean(0)
        if crystal.force_constants is not None and crystal.num_atoms > 1:
            matrix = np.asarray(crystal.force_constants, dtype=float)
            basis = without_translations(crystal.num_atoms)
            stiffness, vectors = np.linalg.eigh(basis.T @ matrix @ basis)
            vectors = basis @ vectors
            weight = (vectors / np.sqrt(np.maximum(stiffness, _FLOOR))) @ vectors.T
            if charges is not None and not crystal.info.get(FORCE_CONSTANTS_ARE_PREDICTED):
                ionic = ionic_tensor(matrix, charges, volume, SOFTEST)
        arrays = (
            None if array is None else torch.from_numpy(np.asarray(array)).float()
            for array in (matrix, weight, charges, ionic)
        )
        return cls._make((*arrays, volume))


class _Compliance(torch.autograd.Function):
    """`dtnn_fast.phonons.compliance` of a symmetric matrix, with the derivative of Daleckii and Krein.

    torch's derivative of eigenvectors divides by differences of eigenvalues, which degenerate modes do not have.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, softest: float) -> Tensor:
        stiffness, vectors = torch.linalg.eigh(matrix)
        root = torch.sqrt(stiffness.square() + 4.0 * softest**2)
        values = (2.0 / (stiffness + root)).clamp(max=1.0 / softest)
        slopes = torch.where(stiffness > 0, -values / root, 0.0)
        ctx.save_for_backward(stiffness, vectors, values, slopes)
        return cast(Tensor, (vectors * values) @ vectors.T)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        stiffness, vectors, values, slopes = ctx.saved_tensors
        (grad,) = grads
        gap = stiffness[:, None] - stiffness
        near = gap.abs() < 1e-6
        quotient = (values[:, None] - values) / torch.where(near, 1.0, gap)
        quotient = torch.where(near, 0.5 * (slopes[:, None] + slopes), quotient)
        inner = vectors.T @ (0.5 * (grad + grad.T)) @ vectors
        return vectors @ (inner * quotient) @ vectors.T, None


def ionic_of(force_constants: Tensor, charges: Tensor, volume: float, softest: float = SOFTEST) -> Tensor:
    """Compute the ionic tensor as `dtnn_fast.phonons.ionic_tensor` does, differentiable in its inputs, in float64.

    Args:
        force_constants: [3 N, 3 N], eV/Angstrom^2.
        charges: [N, 3, 3], e.
        volume: Angstrom^3.
        softest: see `dtnn_fast.phonons.compliance`. eV/Angstrom^2.

    Returns:
        [3, 3].
    """
    basis = torch.from_numpy(without_translations(charges.shape[0])).to(charges.device)
    inner = basis.T @ force_constants.double() @ basis
    flexible: Tensor = _Compliance.apply(0.5 * (inner + inner.T), softest)
    polarity = basis.T @ charges.double().transpose(1, 2).reshape(-1, 3)
    return E2_OVER_EPS0 / volume * polarity.T @ flexible @ polarity


def lattice_terms(matrices: Sequence[Tensor], charges: Tensor, labels: Sequence[LatticeLabels]) -> dict[str, Tensor]:
    """Compute the terms of the loss, each a mean over the crystals with the label.

    "force_constants": norm of W (Phi - label) W over the square root of 3 N. "born_charges": mean error over 0.5 e plus
    the size of the charge. "ionic": mean error of the six elements over 1 plus the mean of the label.

    Args:
        matrices: predicted force constants. [3 N_b, 3 N_b] each.
        charges: predicted Born charges of all atoms. [N, 3, 3].
        labels: of the crystals.

    Returns:
        Scalars by name; without the labels that no crystal has.
    """
    terms: dict[str, list[Tensor]] = {name: [] for name in TERMS}
    parts = charges.split([len(matrix) // 3 for matrix in matrices])
    for matrix, of_crystal, label in zip(matrices, parts, labels, strict=True):
        if label.force_constants is not None and label.weight is not None:
            error = label.weight @ (matrix - label.force_constants) @ label.weight
            terms["force_constants"].append(torch.linalg.vector_norm(error) / len(matrix) ** 0.5)
        if label.born_charges is not None:
            sizes = label.born_charges.abs().mean((1, 2))
            errors = (of_crystal - label.born_charges).abs().mean((1, 2))
            terms["born_charges"].append((errors / (_CHARGE_SIZE + sizes)).mean())
        if label.ionic is not None:
            ionic = ionic_of(matrix, of_crystal, label.volume).to(label.ionic.dtype)
            difference = (unique_elements(ionic) - unique_elements(label.ionic)).abs().mean()
            terms["ionic"].append(difference / (1.0 + label.ionic.trace() / 3.0))
    return {name: torch.stack(values).mean() for name, values in terms.items() if values}
