# SPDX-License-Identifier: MIT
"""Displacements of single atoms from whose forces all force constants at q = 0 follow by symmetry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ..crystals.checks import check_cell
from ..crystals.crystal import Crystal
from ..crystals.operations import SymmetryOperations
from ..errors import BadCrystalError
from .site_directions import site_directions

# Length of the displacements where nothing else is said. Angstrom
DISPLACEMENT = 0.01
# Largest distance that atoms and ends of lattice vectors move to become symmetric: that of `symmetry.find_operations`.
# Angstrom
SYMMETRISE_TOLERANCE = 1e-3


class ForceConstants(NamedTuple):
    """Force constants at q = 0, and how far those that were found break two laws that they must obey.

    Args:
        matrix: second derivatives of the energy per cell by displacements with the period of the lattice, rows and
            columns x, y, z of the first atom and so on; symmetric, and without forces on translations. [3 N, 3 N],
            float64, eV/Angstrom^2.
        asymmetry: largest element of Phi - Phi^T before it was taken out. eV/Angstrom^2
        translation_force: largest element of the sum over the atoms of a column before it was taken out; what a
            translation of the crystal would cost. eV/Angstrom^2
        num_displacements: number of displaced crystals whose forces were computed, without the crystal at rest.
    """

    matrix: np.ndarray
    asymmetry: float
    translation_force: float
    num_displacements: int


@dataclass(frozen=True)
class DisplacementPlan:
    """The crystals whose forces are needed, and what follows from them.

    Args:
        crystal: the crystal, exactly symmetric.
        atoms: displaced atom of each crystal. [M], int64
        vectors: its displacement. [M, 3], float64, Angstrom
        rotations: Cartesian rotations of the operations. [G, 3, 3], float64
        images: atom that each operation takes each atom to. [G, N], int64
    """

    crystal: Crystal
    atoms: np.ndarray
    vectors: np.ndarray
    rotations: np.ndarray
    images: np.ndarray

    @classmethod
    def of(
        cls, crystal: Crystal, displacement: float = DISPLACEMENT, tolerance: float = SYMMETRISE_TOLERANCE
    ) -> DisplacementPlan:
        """Choose one atom of each orbit, and the fewest directions whose images under its site symmetry span space.

        Args:
            crystal: with the operations that `symmetry.with_operations` finds; without, every atom is displaced along
                x, -x, y, -y, z and -z.
            displacement: length of the displacements. Angstrom
            tolerance: largest distance that atoms and ends of lattice vectors move to become symmetric. Angstrom

        Raises:
            BadCrystalError: the crystal has no atoms, no volume or an open direction, or its operations do not map it
                onto itself within the tolerance.
            ValueError: the displacement is not positive.
        """
        if not 0 < displacement < np.inf:
            raise ValueError(f"DisplacementPlan: expected a positive `displacement`, got {displacement}")
        check_cell(crystal)
        symmetric, rotations, images = _made_symmetric(crystal, tolerance)
        atoms, vectors = [], []
        for atom in np.unique(images.min(axis=0)).tolist():
            directions, needs_both = site_directions(rotations[images[:, atom] == atom])
            for direction, both in zip(directions, needs_both, strict=True):
                for sign in (1.0, -1.0) if both else (1.0,):
                    atoms.append(atom)
                    vectors.append(sign * displacement * direction)
        return cls(symmetric, np.array(atoms), np.array(vectors), rotations, images)

    @property
    def needs_rest(self) -> bool:
        """Whether forces of the crystal at rest are needed: where displacements are replaced by their images."""
        return len(self.rotations) > 1

    def crystals(self) -> list[Crystal]:
        """Make the crystals whose forces are needed: at rest if `needs_rest`, then displaced; without labels."""
        made = []
        if self.needs_rest:
            made.append(self._with(self.crystal.positions, "at rest"))
        for number, (atom, vector) in enumerate(zip(self.atoms.tolist(), self.vectors, strict=True)):
            positions = self.crystal.positions.copy()
            positions[atom] += vector
            made.append(self._with(positions, f"displacement {number}"))
        return made

    def _with(self, positions: np.ndarray, what: str) -> Crystal:
        given = self.crystal
        return Crystal(f"{given.id}, {what}", given.atomic_numbers, positions, given.cell, source=given.source)

    def force_constants(self, forces: Sequence[Any], largest_asymmetry: float = 0.1) -> ForceConstants:
        """Compute the force constants from the forces on the atoms of `crystals`.

        Forces F_j(u) on an atom j where atom i is displaced by u give rows of a linear system: an operation with
        rotation R that leaves i in place and takes j to j' says F_j'(R u) = R F_j(u), and so

            Phi(j', i) R u = -R (F_j(u) - F_j(0))

        which is solved by least squares. Displacements come in pairs u and -u, by symmetry or because both are there,
        so that terms of second order in u cancel (central differences). F(0) cancels too in theory. It is subtracted
        since divided by u it would be a large error of potentials that are not quite invariant: SevenNet's under
        reflections, many in float32. Columns of the other atoms of an orbit follow from
        Phi(g j, g i) = R Phi(j, i) R^T.

        Args:
            forces: forces in the order of `crystals`, atoms in the order of the crystal. [N, 3] each, eV/Angstrom
            largest_asymmetry: largest element of Phi - Phi^T, relative to the largest element of Phi.

        Returns:
            The force constants with their violations.

        Raises:
            BadCrystalError: number or shape of the forces do not fit, they are not finite, or Phi is less symmetric
                than that: then the forces are those of atoms in another order, or do not come from an energy.
        """
        name, num_atoms = self.crystal.label, self.crystal.num_atoms
        checked = _checked_forces(forces, (len(self.atoms) + self.needs_rest, num_atoms, 3), name)
        if self.needs_rest:
            checked = checked[1:] - checked[0]
        blocks = np.zeros((num_atoms, num_atoms, 3, 3))
        for atom in np.unique(self.atoms).tolist():
            of_atom = self.atoms == atom
            column = self._column(atom, self.vectors[of_atom], checked[of_atom])
            images, first = np.unique(self.images[:, atom], return_index=True)
            for image, g in zip(images.tolist(), first.tolist(), strict=True):
                rotation = self.rotations[g]
                blocks[self.images[g], image] = rotation @ column @ rotation.T
        matrix = blocks.transpose(0, 2, 1, 3).reshape(3 * num_atoms, 3 * num_atoms)
        asymmetry, largest = float(np.abs(matrix - matrix.T).max()), float(np.abs(matrix).max())
        if asymmetry > largest_asymmetry * largest:
            raise BadCrystalError(
                f"{name}: expected forces of an energy, on atoms in the order of the crystal: force constants between "
                f"two atoms differ by up to {asymmetry:.3g} eV/Angstrom^2 with the atom that is moved, and the largest "
                f"one is {largest:.3g}"
            )
        matrix = 0.5 * (matrix + matrix.T)
        sums = matrix.reshape(num_atoms, 3, -1).sum(0)
        return ForceConstants(_without_translation_forces(matrix), asymmetry, float(np.abs(sums).max()), len(checked))

    def _column(self, atom: int, vectors: np.ndarray, forces: np.ndarray) -> np.ndarray:
        """Solve for Phi(j, atom) of all j. [N, 3, 3]"""
        fixing = self.images[:, atom] == atom
        rotations, images = self.rotations[fixing], self.images[fixing]
        moves = np.einsum("hij,kj->hki", rotations, vectors)
        turned = np.empty((len(rotations), *forces.shape))
        np.put_along_axis(
            turned,
            np.broadcast_to(images[:, None, :, None], turned.shape),
            np.einsum("hij,kaj->hkai", rotations, forces),
            axis=2,
        )
        normal = np.einsum("hki,hkj->ij", moves, moves)
        response = np.einsum("hkai,hkj->aij", turned, moves)
        column: np.ndarray = -np.linalg.solve(normal, response.transpose(0, 2, 1)).transpose(0, 2, 1)
        return column


def _made_symmetric(crystal: Crystal, tolerance: float) -> tuple[Crystal, np.ndarray, np.ndarray]:
    """Make a crystal exactly symmetric; returns Cartesian rotations and images of all atoms too."""
    operations = crystal.operations
    if operations is None or len(operations) == 1:
        return replace(crystal, operations=None), np.eye(3)[None], np.arange(crystal.num_atoms)[None]
    # Imports torch, which readers of phonopy's files do without.
    import torch

    from ..ops.symmetrise_crystals import SYMMETRY_FAULTS, symmetrise_crystals

    rotations = np.asarray(operations.rotations, dtype=np.int32)
    made = symmetrise_crystals(
        torch.tensor(crystal.positions),
        torch.tensor(crystal.cell)[None],
        torch.tensor([0, crystal.num_atoms]),
        torch.tensor(crystal.atomic_numbers),
        torch.tensor(rotations),
        torch.tensor(np.asarray(operations.images, dtype=np.int64)),
        torch.tensor([0, len(operations)]),
        tolerance,
    )
    fault, detail = made.faults[0].tolist()
    if fault:
        raise BadCrystalError(f"{crystal.label}: {SYMMETRY_FAULTS[fault].format(detail)}")
    cell = made.cell[0].numpy()
    columns = cell.T
    symmetric = replace(
        crystal,
        positions=made.positions.numpy(),
        cell=cell,
        operations=SymmetryOperations(rotations, np.asarray(operations.images, dtype=np.int64)),
    )
    images = made.atoms.numpy().reshape(len(operations), crystal.num_atoms).astype(np.int64)
    return symmetric, columns @ rotations @ np.linalg.inv(columns), images


def _checked_forces(forces: Sequence[Any], shape: tuple[int, int, int], name: str) -> np.ndarray:
    if len(forces) != shape[0]:
        raise BadCrystalError(f"{name}: expected forces of {shape[0]} crystals, got {len(forces)}")
    arrays = [np.asarray(array, dtype=np.float64) for array in forces]
    for number, array in enumerate(arrays):
        if array.shape != shape[1:]:
            raise BadCrystalError(
                f"{name}: expected forces of shape {list(shape[1:])}, got {list(array.shape)} in place {number}"
            )
        if not np.isfinite(array).all():
            raise BadCrystalError(f"{name}: forces in place {number} are NaN or infinite")
    return np.stack(arrays)


def _without_translation_forces(matrix: np.ndarray) -> np.ndarray:
    """Project the translations out of a symmetric matrix from both sides, so that it stays symmetric."""
    blocks = matrix.reshape(len(matrix) // 3, 3, -1, 3)
    blocks = blocks - blocks.mean(0, keepdims=True)
    blocks = blocks - blocks.mean(2, keepdims=True)
    projected = blocks.reshape(matrix.shape)
    symmetric: np.ndarray = 0.5 * (projected + projected.T)
    return symmetric
