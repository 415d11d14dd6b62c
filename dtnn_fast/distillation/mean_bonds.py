# SPDX-License-Identifier: MIT
"""How many bonds an atom has at a cutoff, by which the encoder scales its sums."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..datasets.bundled import load_labelled
from ..nn.graph import build_graph


def mean_bonds(cutoffs: Sequence[float]) -> tuple[float, ...]:
    """The mean number of bonds of an atom, over the bundled labelled crystals, to a tenth.

    Args:
        cutoffs: Angstrom.

    Returns:
        One per cutoff, at least 0.1.
    """
    graph = build_graph(load_labelled(), cutoffs, torch.float64)
    counts = {tier.cutoff: 2 * tier.num_bonds / graph.num_atoms for tier in graph.tiers}
    return tuple(max(round(counts[cutoff], 1), 0.1) for cutoff in cutoffs)
