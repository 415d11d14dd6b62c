# SPDX-License-Identifier: MIT
"""Loss of a `LatticeModel`: force constants weighted so that soft modes count, Born charges, and the ionic tensor.

The ionic tensor depends on the inverse of the force constants, so an error of 0.1 eV/Angstrom^2 ruins a soft mode and
does nothing to a stiff one. The loss therefore weighs errors by W = Phi^(-1/2) from both sides, and has the ionic
tensor itself, through the same formula that `refine` uses.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from ..crystals.crystal import Crystal
from ..phonons import E2_OVER_EPS0, SOFTEST, compliance, without_translations
from .metrics import unique_elements

# Modes softer than this count as if they had this stiffness in the weights. eV/Angstrom^2
_FLOOR = 1.0
# Charges of this size or less (e) count by their error; larger ones by their relative error.
_CHARGE_SIZE = 0.5


class LatticeLabels(NamedTuple):
    """What is known of a crystal's response.

    Args:
        force_constants: [3 N, 3 N], eV/Angstrom^2.
        weight: W, whose square is the inverse of the force constants, with a floor. [3 N, 3 N], Angstrom/sqrt(eV).
        born_charges: [N, 3, 3], e.
        ionic: the ionic tensor of both by `ionic_tensor`. [3, 3].
        volume: of the cell. Angstrom^3.
    """

    force_constants: Tensor
    weight: Tensor
    born_charges: Tensor
    ionic: Tensor
    volume: float

    @classmethod
    def of(cls, crystal: Crystal) -> LatticeLabels:
        """Take the labels of a crystal that has force constants and Born charges."""
        matrix = np.asarray(crystal.force_constants, dtype=float)
        charges = np.asarray(crystal.born_charges, dtype=float)
        charges = charges - charges.mean(0)
        basis = without_translations(crystal.num_atoms)
        stiffness, vectors = np.linalg.eigh(basis.T @ matrix @ basis)
        vectors = basis @ vectors
        weight = (vectors / np.sqrt(np.maximum(stiffness, _FLOOR))) @ vectors.T
        polarity = np.einsum("aij,ajm->mi", charges, vectors.reshape(crystal.num_atoms, 3, -1))
        volume = float(abs(np.linalg.det(crystal.cell)))
        ionic = E2_OVER_EPS0 / volume * polarity.T @ (compliance(stiffness, SOFTEST)[:, None] * polarity)
        arrays = [torch.from_numpy(array).float() for array in (matrix, weight, charges, ionic)]
        return cls(arrays[0], arrays[1], arrays[2], arrays[3], volume)


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
    basis = torch.from_numpy(without_translations(charges.shape[0]))
    inner = basis.T @ force_constants.double() @ basis
    flexible: Tensor = _Compliance.apply(0.5 * (inner + inner.T), softest)
    polarity = basis.T @ charges.double().transpose(1, 2).reshape(-1, 3)
    return E2_OVER_EPS0 / volume * polarity.T @ flexible @ polarity


def lattice_terms(matrices: list[Tensor], charges: Tensor, labels: list[LatticeLabels]) -> Tensor:
    """Compute the three terms of the loss, each a mean over crystals: force constants, charges, ionic tensor.

    Args:
        matrices: predicted force constants. [3 N_b, 3 N_b] each.
        charges: predicted Born charges of all atoms. [N, 3, 3].
        labels: of the crystals.

    Returns:
        Norms of W (Phi - label) W per mode; errors of charges over 0.5 e + their size; mean errors of the six elements
        of the ionic tensor over 1 + its mean. [3].
    """
    terms = []
    start = 0
    for matrix, label in zip(matrices, labels, strict=True):
        count = label.born_charges.shape[0]
        of_crystal = charges[start : start + count]
        start += count
        error = label.weight @ (matrix - label.force_constants) @ label.weight
        springs = torch.linalg.vector_norm(error) / len(matrix) ** 0.5
        sizes = label.born_charges.abs().mean((1, 2))
        born = ((of_crystal - label.born_charges).abs().mean((1, 2)) / (_CHARGE_SIZE + sizes)).mean()
        ionic = ionic_of(matrix, of_crystal, label.volume).float()
        difference = (unique_elements(ionic) - unique_elements(label.ionic)).abs().mean()
        terms.append(torch.stack([springs, born, difference / (1.0 + label.ionic.trace() / 3.0)]))
    return torch.stack(terms).mean(0)
