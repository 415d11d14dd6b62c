# SPDX-License-Identifier: MIT
"""Frequencies of phonons at q = 0, without the splitting of longitudinal and transverse modes."""

from __future__ import annotations

import numpy as np

# sqrt(eV / (Angstrom^2 u)) / (2 pi) in THz (CODATA 2022).
THZ = 15.633304
# Wavenumber of 1 THz, in 1/cm.
WAVENUMBER_OF_THZ = 33.35640952


def frequencies(force_constants: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Compute the frequencies of the optical modes at q = 0.

    omega^2 are the eigenvalues of Phi_ai,bj / sqrt(m_a m_b) without the three translations.

    Args:
        force_constants: symmetric, rows and columns x, y, z of the first atom and so on. [3 N, 3 N], eV/Angstrom^2.
        masses: of the atoms. [N], atomic mass units.

    Returns:
        Frequencies in rising order; -|omega| where omega^2 is negative, as for an instability. [3 N - 3], float64, THz.

    Raises:
        ValueError: the shapes do not fit, a mass is not positive, or a force constant is not finite.

    Example:
        >>> frequencies(matrix, atomic_masses(crystal.atomic_numbers)) * WAVENUMBER_OF_THZ
    """
    _, matrix = without_mass_weighted_translations("frequencies", force_constants, masses)
    return signed_frequencies(np.linalg.eigvalsh(matrix))


def signed_frequencies(squares: np.ndarray) -> np.ndarray:
    """Take frequencies from the eigenvalues of the dynamical matrix; -|omega| for negative ones.

    Args:
        squares: omega^2. any shape, eV/(Angstrom^2 u).

    Returns:
        The shape of `squares`, THz.
    """
    found: np.ndarray = THZ * np.sign(squares) * np.sqrt(np.abs(squares))
    return found


def without_mass_weighted_translations(
    op: str, force_constants: np.ndarray, masses: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Project the dynamical matrix at q = 0 onto what is no translation.

    Args:
        op: name of the function, for messages.
        force_constants: see `frequencies`. [3 N, 3 N], eV/Angstrom^2.
        masses: see `frequencies`. [N], atomic mass units.

    Returns:
        An orthonormal basis of the mass-weighted displacements without translations, [3 N, 3 N - 3], and the matrix in
        this basis, [3 N - 3, 3 N - 3], eV/(Angstrom^2 u).

    Raises:
        ValueError: see `frequencies`.
    """
    matrix, mass = np.asarray(force_constants, dtype=np.float64), np.asarray(masses, dtype=np.float64)
    size = 3 * len(mass) if mass.ndim == 1 else -1
    if matrix.shape != (size, size):
        raise ValueError(
            f"{op}: expected `masses` of shape [N] and `force_constants` of shape [3 N, 3 N], got "
            f"{list(mass.shape)} and {list(matrix.shape)}"
        )
    if not (np.isfinite(mass).all() and (mass > 0).all()):
        raise ValueError(f"{op}: expected positive `masses`, got {mass.tolist()}")
    if not np.isfinite(matrix).all():
        raise ValueError(f"{op}: expected finite `force_constants`, got NaN or infinite ones")
    roots = np.sqrt(mass)
    # Rows that translations span, then an orthonormal basis of the rest.
    translations = np.kron((roots / np.linalg.norm(roots))[:, None], np.eye(3))
    basis = np.linalg.qr(np.concatenate([translations, np.eye(size)], axis=1))[0][:, 3:]
    scaled = 0.5 * (matrix + matrix.T) / np.repeat(roots, 3)[:, None] / np.repeat(roots, 3)
    return basis, basis.T @ scaled @ basis
