# SPDX-License-Identifier: MIT
"""The part of the energies that follows from the composition alone: one constant per element, by least squares."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..crystals.elements import MAX_ATOMIC_NUMBER
from ..errors import DTNNError
from .labels import ENERGY, read_manifest, read_shard

# In eV per atom: less than this is rounding of the potential, and nothing to learn.
_SMALLEST_DEVIATION = 1e-3


class CompositionFit(NamedTuple):
    """The constants of the elements, and what they leave.

    Args:
        constants: by atomic number, 0 for elements that no crystal has. [119], float64, eV.
        deviation: root mean square of the energy per atom that is left. eV.
        elements: atomic numbers of the crystals.
    """

    constants: Tensor
    deviation: float
    elements: tuple[int, ...]


def element_counts(atomic_numbers: Tensor, ptr: Tensor) -> Tensor:
    """How many atoms of each element each crystal has.

    Args:
        atomic_numbers: of all atoms. [N], int64.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``. [B+1], int64.

    Returns:
        By atomic number. [B, 119], float64.
    """
    width = MAX_ATOMIC_NUMBER + 1
    crystal = torch.repeat_interleave(ptr.diff())
    counts = torch.bincount(crystal * width + atomic_numbers, minlength=(len(ptr) - 1) * width)
    return counts.view(-1, width).double()


def fit_compositions(counts: Tensor, energies: Tensor) -> CompositionFit:
    """Fit constants c to the energies per atom.

    minimise  sum_b (E_b / n_b - sum_Z x_bZ c_Z)^2,    x_bZ = n_bZ / n_b

    Of the constants that fit equally well, as where two elements only occur together, the smallest are taken.

    Args:
        counts: `element_counts` of the crystals, at least one. [B, 119].
        energies: of the crystals. [B], float64, eV.

    Returns:
        The fit.

    Example:
        >>> fit = fit_compositions(element_counts(graph.atomic_numbers, graph.ptr), energies)
        >>> left = energies - element_counts(graph.atomic_numbers, graph.ptr) @ fit.constants
    """
    sizes = counts.sum(1)
    present = torch.nonzero(counts.sum(0)).flatten()
    fractions, per_atom = counts[:, present] / sizes[:, None], energies / sizes
    found = torch.linalg.lstsq(fractions, per_atom[:, None], driver="gelsd").solution.squeeze(1)
    constants = counts.new_zeros(counts.shape[1]).index_copy(0, present, found)
    left = per_atom - fractions @ found
    deviation = max(float(left.square().mean().sqrt()), _SMALLEST_DEVIATION)
    return CompositionFit(constants, deviation, tuple(present.tolist()))


def fit_labels(folder: Path) -> CompositionFit:
    """Fit the energies of the labelled training crystals; see `fit_compositions`.

    Args:
        folder: what `labels.label` filled.

    Raises:
        BadFileError: a shard is missing or damaged.
        DTNNError: the labels are from before energies were stored.
    """
    counts, energies = [], []
    for number in range(int(read_manifest(folder)["crystals"]["shards"])):
        shard = read_shard(folder, number)
        if ENERGY not in shard:
            raise DTNNError(
                f"distill: the labels in {folder} have no energies, since they were made before energies were stored: "
                f"label again in another folder, or train with an energy weight of 0"
            )
        training = shard["held_out"] == 0
        counts.append(element_counts(shard["atomic_numbers"].long(), shard["ptr"])[training])
        energies.append(shard[ENERGY][training])
    if not sum(map(len, energies)):
        raise DTNNError(f"distill: expected crystals to learn from in {folder}, got none")
    return fit_compositions(torch.cat(counts), torch.cat(energies))
