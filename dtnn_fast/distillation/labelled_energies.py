# SPDX-License-Identifier: MIT
"""Constants of the elements, fitted to the energies in a folder of labels."""

from __future__ import annotations

from pathlib import Path

import torch

from ..errors import DTNNError
from ..training.energy_readout import CompositionFit, element_counts, fit_compositions
from .labels import ENERGY, read_manifest, read_shard


def fit_labelled_energies(folder: Path) -> CompositionFit:
    """Fit the energies of the training crystals in a folder of labels; see `fit_compositions`.

    Args:
        folder: folder that `label_crystals` filled.

    Raises:
        BadFileError: a shard is missing or damaged.
        DTNNError: an older version made the labels without energies, or there are no training crystals.
    """
    counts, energies = [], []
    for number in range(int(read_manifest(folder)["crystals"]["shards"])):
        shard = read_shard(folder, number)
        if ENERGY not in shard:
            raise DTNNError(
                f"distill: the labels in {folder} have no energies, because an older version made them: "
                f"label again in another folder, or train with an energy weight of 0"
            )
        training = shard["held_out"] == 0
        counts.append(element_counts(shard["atomic_numbers"].long(), shard["ptr"])[training])
        energies.append(shard[ENERGY][training])
    if not sum(map(len, energies)):
        raise DTNNError(f"distill: expected training crystals in {folder}, got none")
    return fit_compositions(torch.cat(counts), torch.cat(energies))
