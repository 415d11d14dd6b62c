# SPDX-License-Identifier: MIT
"""Export of a model for torch.export and AOTInductor, whose programs take only tensors."""

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
    """List the tensors of a graph in the order in which an exported model takes them.

    Args:
        graph: a plain graph.

    Returns:
        atomic_numbers, positions, cell, ptr, and for each tier from short to long its pairs, shifts, row_ptr, the order
        by neighbor with its segments, and inner.

    Raises:
        ValueError: the graph is reduced.
    """
    if graph.is_reduced:
        raise ValueError("graph_tensors: expected a plain `graph`, got a reduced one; use build_graph")
    tensors = [graph.atomic_numbers, graph.positions, graph.cell, graph.ptr]
    for tier in graph.tiers:
        tensors += [tier.pairs, tier.shifts, tier.row_ptr, *tier.by_neighbor, tier.inner]
    return tensors


def graph_from_tensors(tensors: Sequence[Tensor], cutoffs: Sequence[float]) -> CrystalGraph:
    """Rebuild a graph from the list of `graph_tensors`.

    Args:
        tensors: as from `graph_tensors`.
        cutoffs: cutoffs of the tiers, from short to long, Angstrom.
    """
    tiers = []
    for level, cutoff in enumerate(cutoffs):
        pairs, shifts, row_ptr, order, order_ptr, inner = tensors[4 + 6 * level : 10 + 6 * level]
        tiers.append(BondTier(cutoff, pairs, shifts, row_ptr, NeighborOrder(order, order_ptr), inner))
    atomic_numbers, positions, cell, ptr = tensors[:4]
    return CrystalGraph(atomic_numbers, positions, cell, ptr, tuple(tiers))


class TensorDTNN(nn.Module):
    """A model whose inputs are the tensors of `graph_tensors`, and whose outputs are [B, 3, 3] for each target.

    Args:
        model: shares its parameters.
    """

    def __init__(self, model: DTNN) -> None:
        super().__init__()
        self.model = model
        self.cutoffs = sorted(set(model.encoder.cutoffs))

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Compute [B, 3, 3] for each target, in the order of the model's targets."""
        return tuple(self.model(graph_from_tensors(tensors, self.cutoffs)).values())


def export_model(model: DTNN, example: CrystalGraph) -> ExportedProgram:
    """Export a model for batches of any size.

    Args:
        model: in evaluation mode.
        example: any graph of this model with at least two crystals.

    Returns:
        A program that takes the tensors of `graph_tensors`. ``torch._inductor.aoti_compile_and_package`` packages it;
        running the package needs no Python sources of dtnn_fast, only its library _ops.so.

    Example:
        >>> program = export_model(model, model.graph(crystals))
        >>> torch._inductor.aoti_compile_and_package(program, package_path="dtnn.pt2")
    """
    tensors = graph_tensors(example)
    # Pairs [2, E], the first of each tier, grow along their second dimension.
    is_pairs = [index >= 4 and (index - 4) % 6 == 0 for index in range(len(tensors))]
    shapes: list[dict[int, Any]] = [{int(second): Dim.DYNAMIC} for second in is_pairs]
    # Otherwise torch would fix sizes of 0 and 1, and the program would refuse a single crystal.
    any_size = torch.fx.experimental._config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    with torch.no_grad(), any_size:
        return torch.export.export(TensorDTNN(model), tuple(tensors), dynamic_shapes=(tuple(shapes),))
