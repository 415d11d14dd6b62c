# SPDX-License-Identifier: MIT
"""A model whose inputs are tensors alone, for torch.export and AOTInductor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.fx.experimental._config
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..nn.graph import BondTier, CrystalGraph
from ..ops import NeighborOrder
from .dtnn import DTNN


def graph_tensors(graph: CrystalGraph) -> list[Tensor]:
    """The tensors of a graph in the order in which an exported model takes them.

    Args:
        graph: crystals.

    Returns:
        atomic_numbers, positions, cell, ptr, and for each tier from short to long its pairs, shifts, row_ptr, the order
        by neighbor with its segments, and inner.
    """
    tensors = [graph.atomic_numbers, graph.positions, graph.cell, graph.ptr]
    for tier in graph.tiers:
        tensors += [tier.pairs, tier.shifts, tier.row_ptr, *tier.by_neighbor, tier.inner]
    return tensors


def graph_of_tensors(tensors: Sequence[Tensor], cutoffs: Sequence[float]) -> CrystalGraph:
    """The graph that `graph_tensors` took apart.

    Args:
        tensors: as from `graph_tensors`.
        cutoffs: of the tiers, from short to long, Angstrom.
    """
    tiers = []
    for place, cutoff in enumerate(cutoffs):
        pairs, shifts, row_ptr, order, order_ptr, inner = tensors[4 + 6 * place : 10 + 6 * place]
        tiers.append(BondTier(cutoff, pairs, shifts, row_ptr, NeighborOrder(order, order_ptr), inner))
    atomic_numbers, positions, cell, ptr = tensors[:4]
    return CrystalGraph(atomic_numbers, positions, cell, ptr, tuple(tiers))


class TensorDTNN(nn.Module):
    """A model as a function of tensors: from those of `graph_tensors` to one tensor [B, 3, 3] for each target.

    Args:
        model: the model, whose parameters it shares.
    """

    def __init__(self, model: DTNN) -> None:
        super().__init__()
        self.model = model
        self.cutoffs = sorted(set(model.encoder.cutoffs))

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """[B, 3, 3] for each target, in the order of the model's targets."""
        return tuple(self.model(graph_of_tensors(tensors, self.cutoffs)).values())


def export_model(model: DTNN, example: CrystalGraph) -> ExportedProgram:
    """Export a model for batches of any size.

    Args:
        model: in evaluation mode.
        example: any graph of this model with at least two crystals.

    Returns:
        A program that takes the tensors of `graph_tensors`. ``torch._inductor.aoti_compile_and_package`` makes a
        package of it that needs no Python sources of this package, only its library _ops.so.

    Example:
        >>> program = export_model(model, model.graph(crystals))
        >>> torch._inductor.aoti_compile_and_package(program, package_path="dtnn.pt2")
    """
    tensors = graph_tensors(example)
    # Pairs [2, E], the first of each tier, grow along their second dimension.
    is_pairs = [place >= 4 and (place - 4) % 6 == 0 for place in range(len(tensors))]
    shapes: list[dict[int, Any]] = [{int(second): Dim.DYNAMIC} for second in is_pairs]
    # Without the setting torch would fix sizes of 0 and 1: the program would refuse a single crystal.
    any_size = torch.fx.experimental._config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    with torch.no_grad(), any_size:
        return torch.export.export(TensorDTNN(model), tuple(tensors), dynamic_shapes=(tuple(shapes),))
