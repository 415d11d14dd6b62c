# SPDX-License-Identifier: MIT
"""Phonons at q = 0 with their shares of the ionic dielectric tensor.

eps_ionic = sum over m of e^2 / (eps0 V) S_m S_m^T / omega_m^2,    S_m = sum over atoms a of Z_a e_ma / sqrt(m_a)

e_m and omega_m are eigenvectors and frequencies of the dynamical matrix without the three translations (X. Gonze and C.
Lee, Phys. Rev. B 55, 10355 (1997), Eq. 53 at zero frequency). `ionic_tensor` gives the same sum without masses.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .frequencies import signed_frequencies, without_mass_weighted_translations
from .ionic_tensor import E2_OVER_EPS0


class PolarModes(NamedTuple):
    """Modes at q = 0, without the splitting of longitudinal and transverse modes.

    Args:
        frequencies: in rising order; negative for an instability. [3 N - 3], THz.
        ionic: the share of each mode in the ionic tensor. Zero where the mode does not couple to a field; negative, and
            without a meaning, for an instability. [3 N - 3, 3, 3].
    """

    frequencies: np.ndarray
    ionic: np.ndarray


def polar_modes(force_constants: np.ndarray, born_charges: np.ndarray, masses: np.ndarray, volume: float) -> PolarModes:
    """Split the ionic tensor into the shares of the phonons at q = 0.

    The shares of modes of the same frequency depend on how they are mixed; their sum does not.

    Args:
        force_constants: symmetric, rows and columns x, y, z of the first atom and so on. [3 N, 3 N], eV/Angstrom^2.
        born_charges: Z[atom, field, displacement], which sum to zero over the atoms. [N, 3, 3], e.
        masses: of the atoms. [N], atomic mass units.
        volume: of the cell, Angstrom^3.

    Returns:
        Frequencies and shares; none for a single atom. The dielectric function below the band gap, without damping, is
        the electronic tensor plus the sum of ``ionic[m] / (1 - (f / frequencies[m]) ** 2)`` at the frequency f.

    Raises:
        ValueError: the shapes do not fit, a mass or the volume is not positive, or a force constant is not finite.

    Example:
        >>> response = LatticeModel.from_pretrained("lattice").predict([crystal])[0]
        >>> masses, volume = atomic_masses(crystal.atomic_numbers), abs(np.linalg.det(crystal.cell))
        >>> modes = polar_modes(response.force_constants, response.born_charges, masses, volume)
    """
    basis, matrix = without_mass_weighted_translations("polar_modes", force_constants, masses)
    charges, mass = np.asarray(born_charges, dtype=np.float64), np.asarray(masses, dtype=np.float64)
    if charges.shape != (len(mass), 3, 3):
        raise ValueError(
            f"polar_modes: expected `born_charges` of shape [{len(mass)}, 3, 3], got {list(charges.shape)}"
        )
    if not volume > 0:
        raise ValueError(f"polar_modes: expected a positive `volume`, got {volume}")
    squares, vectors = np.linalg.eigh(matrix)
    displacements = (basis @ vectors).reshape(len(mass), 3, -1) / np.sqrt(mass)[:, None, None]
    polarity = np.einsum("aij,ajm->mi", charges, displacements)
    dyads = polarity[:, :, None] * polarity[:, None, :]
    return PolarModes(signed_frequencies(squares), E2_OVER_EPS0 / volume * dyads / squares[:, None, None])
