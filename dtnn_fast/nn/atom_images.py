# SPDX-License-Identifier: MIT
"""How all atoms of symmetric crystals follow from the atoms that a reduced graph stores."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..ops import SymmetrisedCrystals


class AtomImages(NamedTuple):
    """For every atom, the stored atom that it is an image of, and the rotation that makes the image.

    Args:
        source: place of the stored atom in the reduced graph. [N], int64.
        rotation: Cartesian rotation or reflection. [N, 3, 3], float64.
    """

    source: Tensor
    rotation: Tensor

    @classmethod
    def of(
        cls,
        crystals: SymmetrisedCrystals,
        ptr: Tensor,
        rotations: Tensor,
        operation_ptr: Tensor,
        stored: Tensor,
    ) -> AtomImages:
        """Find the stored atom and the rotation of every atom.

        Args:
            crystals: what `symmetrise_crystals` returned, without faults.
            ptr: as for `symmetrise_crystals`. [B+1], int64.
            rotations: as for `symmetrise_crystals`. [G, 3, 3], int32.
            operation_ptr: as for `symmetrise_crystals`. [B+1], int64.
            stored: the atom of each orbit with the lowest number, in rising order. [N'], int64.
        """
        cells, images = crystals.cell.numpy(), crystals.atoms.numpy()
        matrices, atom_ends, operation_ends = rotations.numpy(), ptr.tolist(), operation_ptr.tolist()
        source = np.arange(atom_ends[-1])
        turns = np.tile(np.eye(3), (atom_ends[-1], 1, 1))
        row = 0
        for b, cell in enumerate(cells):
            atoms = slice(atom_ends[b], atom_ends[b + 1])
            operations = slice(operation_ends[b], operation_ends[b + 1])
            num_atoms, num_operations = atoms.stop - atoms.start, operations.stop - operations.start
            moved = images[row : row + num_atoms * num_operations].reshape(num_operations, num_atoms)
            row += num_atoms * num_operations
            if num_operations == 1:
                continue
            first = moved.min(0)
            # Of the operations that take the stored atom there, the first.
            chosen = (moved[:, first] == np.arange(num_atoms)).argmax(0)
            source[atoms] = atoms.start + first
            turns[atoms] = cell.T @ matrices[operations][chosen] @ np.linalg.inv(cell.T)
        return cls(torch.searchsorted(stored, torch.from_numpy(source)), torch.from_numpy(turns))

    def unfold(self, tensors: Tensor) -> Tensor:
        """Turn rank-2 tensors of the stored atoms into those of all atoms. [N', 3, 3] -> [N, 3, 3], float64."""
        return self.rotation @ tensors.double()[self.source] @ self.rotation.transpose(1, 2)
