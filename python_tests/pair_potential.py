# SPDX-License-Identifier: MIT
"""A pair potential with exact force constants, one of many bodies, and crystals of many space groups."""

from __future__ import annotations

from functools import cache

import numpy as np

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.numpy import neighbor_list
from dtnn_fast.symmetry import with_operations

CUTOFF = 6.0


def _pair_terms(crystal: Crystal):
    """Pairs, vectors and lengths, and per pair the energy with its first two derivatives by the length."""
    i, j, vectors = neighbor_list("ijD", crystal.positions, CUTOFF, cell=crystal.cell, pbc=True)
    length = np.linalg.norm(vectors, axis=1)
    z = crystal.atomic_numbers.astype(float)
    # A Morse potential whose depth, width and place depend on both elements, times a cutoff that is smooth to third
    # order.
    depth, width, place = 1.0 + 0.02 * np.abs(z[i] - z[j]), 1.8 + 0.003 * (z[i] + z[j]), 2.4 + 0.004 * (z[i] + z[j])
    decay = np.exp(-width * (length - place))
    value, first, second = (
        depth * (decay**2 - 2 * decay),
        depth * width * (2 * decay - 2 * decay**2),
        depth * width**2 * (4 * decay**2 - 2 * decay),
    )
    x = length / CUTOFF
    cut = (1 - x**2) ** 4
    cut1 = -8 * x * (1 - x**2) ** 3 / CUTOFF
    cut2 = (-8 * (1 - x**2) ** 3 + 48 * x**2 * (1 - x**2) ** 2) / CUTOFF**2
    energy = value * cut
    slope = first * cut + value * cut1
    curvature = second * cut + 2 * first * cut1 + value * cut2
    return i, j, vectors, length, energy, slope, curvature


def pair_energy(crystal: Crystal) -> float:
    return 0.5 * float(_pair_terms(crystal)[4].sum())


def pair_forces(crystal: Crystal) -> np.ndarray:
    i, _, vectors, length, _, slope, _ = _pair_terms(crystal)
    forces = np.zeros((crystal.num_atoms, 3))
    np.add.at(forces, i, (slope / length)[:, None] * vectors)
    return forces


def pair_stress(crystal: Crystal) -> np.ndarray:
    """Derivative of the energy by the strain, over the volume. [3, 3], eV/Angstrom^3"""
    _, _, vectors, length, _, slope, _ = _pair_terms(crystal)
    virial = 0.5 * np.einsum("p,pa,pb->ab", slope / length, vectors, vectors)
    return virial / abs(np.linalg.det(crystal.cell))


def pair_hessian(crystal: Crystal) -> np.ndarray:
    i, j, vectors, length, _, slope, curvature = _pair_terms(crystal)
    unit = vectors / length[:, None]
    along = unit[:, :, None] * unit[:, None, :]
    terms = curvature[:, None, None] * along + (slope / length)[:, None, None] * (np.eye(3) - along)
    blocks = np.zeros((crystal.num_atoms, crystal.num_atoms, 3, 3))
    np.add.at(blocks, (i, j), -terms)
    np.add.at(blocks, (i, i), terms)
    return blocks.transpose(0, 2, 1, 3).reshape(3 * crystal.num_atoms, -1)


def embedded_forces(crystal: Crystal) -> np.ndarray:
    """Forces of E = 10 sum_i sqrt(1 + rho_i), rho_i the sum of the pair energies of atom i, squared.

    Force constants of this many-body potential between two atoms are no symmetric 3x3 blocks.
    """
    i, j, vectors, length, energy, slope, _ = _pair_terms(crystal)
    density = np.bincount(i, energy**2, crystal.num_atoms)
    by_density = 5.0 / np.sqrt(1.0 + density)
    pulls = (by_density[i] + by_density[j]) * 2 * energy * slope / length
    forces = np.zeros((crystal.num_atoms, 3))
    np.add.at(forces, i, pulls[:, None] * vectors)
    return forces


def forces_of(crystals: list[Crystal]) -> list[np.ndarray]:
    return [pair_forces(crystal) for crystal in crystals]


@cache
def crystals_of_many_groups() -> tuple[Crystal, ...]:
    """The smallest bundled crystal of each space group, with operations."""
    smallest: dict[int, Crystal] = {}
    for crystal in sorted(load_labelled(), key=lambda crystal: crystal.num_atoms):
        smallest.setdefault(crystal.info["space_group"], crystal)
    return tuple(with_operations(smallest[group] for group in sorted(smallest)))
