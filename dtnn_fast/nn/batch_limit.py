# SPDX-License-Identifier: MIT
"""Batches of crystals by the memory that they need: by atoms and estimated bonds, and less after it ran out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ..crystals.crystal import Crystal

# Bonds of an atom, each stored once, up to which memory is counted by atoms: `batch_atoms_on` allows three times what
# MgO needs, which has 28 at the cutoff of the bundled models, 5 Angstrom. The bundled crystals have 15 (median) to 47.
BONDS_PER_ATOM = 64.0
_OUT_OF_MEMORY_TEXTS = ("out of memory", "not enough memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


def estimate_bonds(crystal: Crystal, cutoff: float) -> float:
    """Estimate the number of bonds of a crystal, each counted once, from its density.

    Args:
        crystal: a crystal that is periodic in all directions.
        cutoff: longest bond. Angstrom.
    """
    volume = abs(float(np.linalg.det(crystal.cell)))
    in_sphere = crystal.num_atoms * 4 / 3 * math.pi * cutoff**3 / volume if volume > 0 else math.inf
    return crystal.num_atoms * in_sphere / 2


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory of the host or of a GPU ran out.

    Args:
        error: raised by torch or Python.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY_TEXTS)


class BatchLimit:
    """Maximum size of batches on a device; it is lowered permanently when memory runs out.

    The size of a crystal is its number of atoms, or more where it has more than `BONDS_PER_ATOM` bonds for each.

    Args:
        batch_atoms: largest size of a batch, except for one larger crystal.
        cutoff: longest bond, Angstrom; None where it is unknown, and only atoms count.
    """

    def __init__(self, batch_atoms: int, cutoff: float | None = None) -> None:
        self.largest = float(batch_atoms)
        self.cutoff = cutoff

    def size(self, crystal: Crystal) -> float:
        """Return the size of a crystal, in atoms of usual density."""
        if self.cutoff is None:
            return float(crystal.num_atoms)
        return max(float(crystal.num_atoms), estimate_bonds(crystal, self.cutoff) / BONDS_PER_ATOM)

    def lower(self, crystals: Sequence[Crystal]) -> None:
        """Lower the limit to half the size of a batch for which memory ran out, for all batches to come.

        Args:
            crystals: the batch.
        """
        self.largest = max(1.0, min(self.largest, sum(map(self.size, crystals)) / 2))

    def batches(self, crystals: Sequence[Crystal]) -> Iterator[list[int]]:
        """Yield the indices of crystals in batches, each within the limit at that time.

        Crystals are taken in the order of their size, so that the crystals of a batch are of similar size.

        Args:
            crystals: the crystals.
        """
        batch: list[int] = []
        filled = 0.0
        sizes = [self.size(crystal) for crystal in crystals]
        for index in sorted(range(len(crystals)), key=sizes.__getitem__):
            if batch and filled + sizes[index] > self.largest:
                yield batch
                batch, filled = [], 0.0
            batch.append(index)
            filled += sizes[index]
        if batch:
            yield batch
