# SPDX-License-Identifier: MIT
"""Batches of crystals with about the same number of atoms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..crystals.crystal import Crystal


def batches_of_atoms(crystals: Sequence[Crystal], batch_atoms: int) -> Iterable[list[int]]:
    """Groups of about `batch_atoms` atoms, in the order of size so that batches are even."""
    batch: list[int] = []
    atoms = 0
    for index in sorted(range(len(crystals)), key=lambda k: crystals[k].num_atoms):
        if batch and atoms + crystals[index].num_atoms > batch_atoms:
            yield batch
            batch, atoms = [], 0
        batch.append(index)
        atoms += crystals[index].num_atoms
    if batch:
        yield batch
