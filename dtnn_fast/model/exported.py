# SPDX-License-Identifier: MIT
"""Export of a model for torch.export and AOTInductor, whose programs take only tensors.

`export_predictor` makes a program that goes from positions to tensors, `export_model` one that takes ready graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.fx.experimental._config
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..crystals.crystal import Crystal
from ..nn.graph import BondTier, CrystalGraph, nested_tiers
from ..ops import NeighborOrder
from .dtnn import DTNN

# Arguments of an exported predictor, in their order.
PREDICTOR_INPUTS = {
    "atomic_numbers": "[N], int64",
    "positions": "[N, 3], float64, Angstrom",
    "cell": "[B, 3, 3], float64, rows are lattice vectors, Angstrom",
    "pbc": "[B, 3], bool",
    "ptr": "[B+1], int64: crystal b owns the atoms ptr[b] to ptr[b + 1] - 1",
}


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
    return _export(TensorDTNN(model), tuple(tensors), tuple(shapes))


class CrystalDTNN(nn.Module):
    """A model that takes crystals as tensors, `PREDICTOR_INPUTS`, and makes its neighbor lists itself.

    Args:
        model: shares its parameters. Its encoder is a native one.
    """

    def __init__(self, model: DTNN) -> None:
        super().__init__()
        self.model = model
        self.cutoffs = sorted(set(model.encoder.cutoffs))

    def forward(
        self, atomic_numbers: Tensor, positions: Tensor, cell: Tensor, pbc: Tensor, ptr: Tensor
    ) -> tuple[Tensor, ...]:
        """Compute [members, B, 3, 3] for each target, in the order of the model's targets."""
        tiers = nested_tiers(positions, cell, pbc, ptr, self.cutoffs)
        dtype = self.model.dtype
        graph = CrystalGraph(atomic_numbers, positions.to(dtype), cell.to(dtype), ptr, tiers)
        return tuple(self.model.member_tensors(graph).values())


def predictor_inputs(crystals: Sequence[Crystal]) -> tuple[Tensor, ...]:
    """Join crystals into the tensors that an exported predictor takes, `PREDICTOR_INPUTS`."""
    sizes = torch.tensor([0, *(crystal.num_atoms for crystal in crystals)])
    return (
        torch.from_numpy(np.concatenate([crystal.atomic_numbers for crystal in crystals])),
        torch.from_numpy(np.concatenate([crystal.positions for crystal in crystals])),
        torch.from_numpy(np.array([crystal.cell for crystal in crystals])),
        torch.from_numpy(np.array([crystal.pbc for crystal in crystals])),
        sizes.cumsum(0),
    )


def export_predictor(model: DTNN) -> ExportedProgram:
    """Export a model from positions to tensors, with its neighbor lists, for batches of any size.

    Args:
        model: with a native encoder, in evaluation mode.

    Returns:
        A program that takes `PREDICTOR_INPUTS` and returns [members, B, 3, 3] for each target. It does not check
        elements, distances or cells as `DTNN.predict` does, nor make skewed cells compact.

    Raises:
        ValueError: the encoder is not a native one.
    """
    if not model.uses_operations:
        raise ValueError("export_predictor: expected a model with a native encoder, got a pretrained potential")
    # Any crystals serve as the example: three cubic cells of different size, so that no two sizes are equal.
    crystals = [
        Crystal.make(
            f"example {size}", [14] * size, [[1.1 * k, 0.7 * k, 0.4 * k] for k in range(size)], 5.0 * np.eye(3)
        )
        for size in (2, 3, 5)
    ]
    device = model.device
    example = tuple(tensor.to(device) for tensor in predictor_inputs(crystals))
    return _export(CrystalDTNN(model), example, ({0: Dim.DYNAMIC},) * len(example))


def _export(module: nn.Module, arguments: tuple[Tensor, ...], shapes: tuple[dict[int, Any], ...]) -> ExportedProgram:
    # Otherwise torch would fix sizes of 0 and 1, and the program would refuse a single crystal.
    any_size = torch.fx.experimental._config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    is_nested = isinstance(module, TensorDTNN)  # whose tensors are one argument, *tensors
    with torch.no_grad(), any_size:
        return torch.export.export(module, arguments, dynamic_shapes=(shapes,) if is_nested else shapes)
