# SPDX-License-Identifier: MIT
"""The ionic dielectric tensor of a crystal from its Born effective charges and its force constants at q = 0.

eps_ionic = e^2 / (eps0 V) sum over m of S_m S_m^T / k_m,    S_m = sum over atoms a of Z_a u_ma

u_m and k_m are the eigenvectors and eigenvalues of the force constants without the three translations (X. Gonze and C.
Lee, Phys. Rev. B 55, 10355 (1997), Eq. 53 at zero frequency). Masses cancel: a static response has none.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# e^2 / eps0 in eV Angstrom: 4 pi times 14.3996 eV Angstrom (CODATA 2018).
E2_OVER_EPS0 = 180.95128
# Stiffness below which modes of a predicted crystal count as hardly softer; see `compliance`. eV/Angstrom^2
SOFTEST = 0.3


class GammaModes(NamedTuple):
    """Modes of the force constants at q = 0, without the three translations.

    Args:
        stiffness: eigenvalues k of the force constants, in rising order; negative for an instability. [3 N - 3],
            eV/Angstrom^2.
        polarity: mode charges S_m = sum over atoms of Z_a u_ma. [3 N - 3, 3], e.
    """

    stiffness: np.ndarray
    polarity: np.ndarray


def gamma_modes(force_constants: np.ndarray, born_charges: np.ndarray) -> GammaModes:
    """Find the modes that displacements with the period of the lattice have, apart from translations.

    Args:
        force_constants: symmetric, rows and columns x, y, z of the first atom and so on. [3 N, 3 N], eV/Angstrom^2.
        born_charges: Z[atom, field, displacement]. [N, 3, 3], e.

    Returns:
        The modes; none for a single atom.

    Raises:
        ValueError: the shapes do not fit.
    """
    num_atoms = len(born_charges)
    if born_charges.shape != (num_atoms, 3, 3) or force_constants.shape != (3 * num_atoms, 3 * num_atoms):
        raise ValueError(
            f"gamma_modes: expected `born_charges` of shape [N, 3, 3] and `force_constants` of shape [3 N, 3 N], got "
            f"{list(born_charges.shape)} and {list(force_constants.shape)}"
        )
    basis = without_translations(num_atoms)
    symmetric = 0.5 * (force_constants + force_constants.T)
    stiffness, vectors = np.linalg.eigh(basis.T @ symmetric @ basis)
    displacements = (basis @ vectors).reshape(num_atoms, 3, -1)
    return GammaModes(stiffness, np.einsum("aij,ajm->mi", born_charges, displacements))


def ionic_tensor(
    force_constants: np.ndarray, born_charges: np.ndarray, volume: float, softest: float = 0.0, condensed: bool = False
) -> np.ndarray:
    """Compute the ionic tensor.

    Args:
        force_constants: see `gamma_modes`. [3 N, 3 N], eV/Angstrom^2.
        born_charges: see `gamma_modes`. [N, 3, 3], e.
        volume: of the cell, Angstrom^3.
        softest: stiffness below which modes count as hardly softer; see `compliance`. eV/Angstrom^2.
        condensed: whether unstable modes count as in the minimum that they lead to; see `compliance`.

    Returns:
        Relative permittivity, symmetric. [3, 3]. Where a mode is unstable and `softest` is 0, it means nothing: the
        crystal would move on.

    Raises:
        ValueError: the shapes do not fit, or the volume is not positive.
    """
    if not volume > 0:
        raise ValueError(f"ionic_tensor: expected a positive `volume`, got {volume}")
    modes = gamma_modes(force_constants, born_charges)
    weighted = modes.polarity * compliance(modes.stiffness, softest, condensed)[:, None]
    tensor: np.ndarray = E2_OVER_EPS0 / volume * (modes.polarity.T @ weighted)
    return tensor


def compliance(stiffness: np.ndarray, softest: float = 0.0, condensed: bool = False) -> np.ndarray:
    """Invert the stiffness of modes, with a bound for soft and unstable ones.

    Args:
        stiffness: k. any shape.
        softest: k_0, 0 or more.
        condensed: whether an unstable mode counts with -2 k, its stiffness in the minimum next to it if the energy is
            that of a double well, k u^2 / 2 + b u^4: the crystal that is found is the one where the mode has condensed.

    Returns:
        1 / k for k_0 = 0. Otherwise 2 / (k + sqrt(k^2 + 4 k_0^2)) for k > 0, which is 1 / k far above k_0 and rises to
        1 / k_0 at k = 0. Below, 1 / k_0, or with `condensed` the value for -2 k.
    """
    if condensed:
        stiffness = np.where(stiffness < 0.0, -2.0 * stiffness, stiffness)
    if softest == 0.0:
        return 1.0 / stiffness
    level = 0.5 * (stiffness + np.sqrt(np.square(stiffness) + 4.0 * softest**2))
    bounded: np.ndarray = 1.0 / np.maximum(level, softest)
    return bounded


def without_translations(num_atoms: int) -> np.ndarray:
    """Give an orthonormal basis of the displacements that move the mean of the atoms nowhere. [3 N, 3 N - 3]."""
    # Helmert's matrix: column k compares the atom k with the mean of those before it.
    columns = np.zeros((num_atoms, num_atoms - 1))
    for k in range(1, num_atoms):
        columns[:k, k - 1] = 1.0
        columns[k, k - 1] = -k
        columns[:, k - 1] /= np.sqrt(k * (k + 1))
    return np.kron(columns, np.eye(3))
