# SPDX-License-Identifier: MIT
"""Graphs of symmetric crystals with one atom and one bond of each symmetry orbit.

Equivalent atoms have rotated latents, so an equivariant encoder computes one of each orbit (`BondTurns`). Crystals are
first made exactly symmetric, which moves atoms and lattice vectors by the tolerance at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..crystals.crystal import Crystal
from ..crystals.operations import SymmetryOperations
from ..errors import BadCrystalError
from ..ops import (
    SYMMETRY_FAULTS,
    BondTurns,
    ReducedBonds,
    SymmetrisedCrystals,
    neighbor_list,
    neighbor_order,
    reduce_bonds,
    symmetrise_crystals,
)
from ..symmetry import SNAP_TOLERANCE
from .atom_images import AtomImages
from .graph import BondTier, CrystalGraph, SiteProjectors, build_graph


def build_reduced_graph(
    crystals: Sequence[Crystal],
    cutoffs: Sequence[float],
    dtype: torch.dtype = torch.float32,
    tolerance: float = SNAP_TOLERANCE,
    on_failure: Callable[[int, str], None] | None = None,
) -> CrystalGraph:
    """Put one atom and one bond of each orbit of symmetric crystals into a graph on the CPU.

    Crystals without `operations` keep all atoms and bonds. Positions of a reduced graph carry no gradients.

    Args:
        crystals: at least one; `find_operations` finds their operations.
        cutoffs: Angstrom; equal cutoffs share a tier.
        dtype: dtype of positions, cell, bond vectors and turns. The orbits are found in float64.
        tolerance: largest distance that an atom or the end of a lattice vector moves to become symmetric. Angstrom
        on_failure: called with the index of a crystal whose operations do not fit, and the reason; the crystal keeps
            all atoms and bonds. None raises the error.

    Returns:
        The graph; a plain one where no crystal has operations.

    Raises:
        BadCrystalError: no crystals were given, a crystal has no atoms, or, without `on_failure`, its operations do
            not map it onto itself within the tolerance.
        RuntimeError: `tolerance` is below rounding.
    """
    return _reduce(crystals, cutoffs, dtype, tolerance, on_failure).graph


def reduce_crystals(
    crystals: Sequence[Crystal],
    cutoffs: Sequence[float],
    dtype: torch.dtype = torch.float32,
    tolerance: float = SNAP_TOLERANCE,
    on_failure: Callable[[int, str], None] | None = None,
) -> tuple[CrystalGraph, Tensor]:
    """Build a graph as `build_reduced_graph` does, and also return the indices of the stored atoms. [N], int64."""
    reduced = _reduce(crystals, cutoffs, dtype, tolerance, on_failure)
    return reduced.graph, reduced.stored


class ReducedCrystals(NamedTuple):
    """Crystals reduced to one atom of each orbit, and all their atoms, exactly symmetric.

    Args:
        graph: the graph; a plain one where no crystal has operations.
        images: how all atoms follow from the stored ones; None for a plain graph.
        positions: positions of all atoms. [N, 3], float64, Angstrom.
        cell: lattice vectors as rows. [B, 3, 3], float64, Angstrom.
    """

    graph: CrystalGraph
    images: AtomImages | None
    positions: Tensor
    cell: Tensor


def reduce_with_images(
    crystals: Sequence[Crystal],
    cutoffs: Sequence[float],
    dtype: torch.dtype = torch.float32,
    tolerance: float = SNAP_TOLERANCE,
    on_failure: Callable[[int, str], None] | None = None,
) -> ReducedCrystals:
    """Build a graph as `build_reduced_graph` does, and also return how all atoms follow from the stored ones."""
    reduced = _reduce(crystals, cutoffs, dtype, tolerance, on_failure)
    if reduced.applied is None:
        positions = torch.from_numpy(np.concatenate([crystal.positions for crystal in crystals]))
        cell = torch.from_numpy(np.array([crystal.cell for crystal in crystals]))
        return ReducedCrystals(reduced.graph, None, positions, cell)
    symmetrised = reduced.applied[0]
    return ReducedCrystals(reduced.graph, reduced.images(), symmetrised.positions, symmetrised.cell)


class _Reduced(NamedTuple):
    """A graph, which of all atoms it stores [N'], and the operations of `AtomImages.of`; None for a plain graph."""

    graph: CrystalGraph
    stored: Tensor
    applied: tuple[SymmetrisedCrystals, Tensor, Tensor, Tensor] | None = None

    def images(self) -> AtomImages | None:
        """Find the images of the stored atoms; None for a plain graph."""
        return None if self.applied is None else AtomImages.of(*self.applied, self.stored)


def _reduce(
    crystals: Sequence[Crystal],
    cutoffs: Sequence[float],
    dtype: torch.dtype,
    tolerance: float,
    on_failure: Callable[[int, str], None] | None,
) -> _Reduced:
    operations = [crystal.operations for crystal in crystals]
    for index, crystal in enumerate(crystals):
        if crystal.num_atoms == 0:
            raise BadCrystalError(f"{crystal.label}: expected at least one atom for a reduced graph, got none")
        reason = _find_fault(crystal)
        if reason:
            _report(crystals, index, reason, on_failure)
            operations[index] = None
    if all(given is None for given in operations):
        graph = build_graph(crystals, cutoffs, dtype)
        return _Reduced(graph, torch.arange(graph.num_atoms))

    ptr = torch.tensor([0, *(crystal.num_atoms for crystal in crystals)]).cumsum(0)
    symmetrised, rotations, operation_ptr = _symmetrise(crystals, operations, ptr, tolerance)
    faulty = symmetrised.faults[:, 0].nonzero().flatten().tolist()
    if faulty:
        for index in faulty:
            number, detail = symmetrised.faults[index].tolist()
            _report(crystals, index, SYMMETRY_FAULTS[number].format(detail), on_failure)
            operations[index] = None
        symmetrised, rotations, operation_ptr = _symmetrise(crystals, operations, ptr, tolerance)
    ordered = sorted(set(cutoffs))
    pbc = torch.from_numpy(np.array([crystal.pbc for crystal in crystals]))
    bonds = neighbor_list(symmetrised.positions, symmetrised.cell, pbc, ordered[-1], ptr, half=True)
    reduced = reduce_bonds(symmetrised, ptr, bonds, True, rotations, operation_ptr, ordered)
    numbers = torch.from_numpy(np.concatenate([crystal.atomic_numbers for crystal in crystals]))
    graph = CrystalGraph(
        numbers[reduced.stored],
        symmetrised.positions[reduced.stored].to(dtype),
        symmetrised.cell.to(dtype),
        reduced.stored_ptr,
        _nested_tiers(reduced, ordered, dtype),
        reduced.weight.to(dtype),
        reduced.projector.to(dtype),
    )
    return _Reduced(graph, reduced.stored, (symmetrised, ptr, rotations, operation_ptr))


# Labels of crystals whose operations could not be used, and the reasons, of the innermost `collected_failures`.
_FAILURES: ContextVar[dict[str, str] | None] = ContextVar("failures", default=None)


@contextmanager
def collected_failures() -> Iterator[dict[str, str]]:
    """Collect, by label, why the operations of crystals could not be used by `build_inference_graph` in the block."""
    failures: dict[str, str] = {}
    token = _FAILURES.set(failures)
    try:
        yield failures
    finally:
        _FAILURES.reset(token)


def report_failures(failures: Mapping[str, str]) -> None:
    """Add failures of another process to those of the innermost `collected_failures`, if there is one.

    Args:
        failures: reasons by label.
    """
    collected = _FAILURES.get()
    if collected is not None:
        collected.update(failures)


def build_inference_graph(
    crystals: Sequence[Crystal], cutoffs: Sequence[float], dtype: torch.dtype = torch.float32
) -> CrystalGraph:
    """Build a reduced graph of the crystals with operations, and fall back to all atoms and bonds on any failure.

    Args:
        crystals: see `build_reduced_graph`.
        cutoffs: see `build_reduced_graph`. Angstrom
        dtype: see `build_reduced_graph`.

    Returns:
        The graph; `collected_failures` tells which crystals kept all atoms and bonds although they have operations.
    """
    return _reduce_for_inference(crystals, cutoffs, dtype).graph


def build_unfolding_graph(
    crystals: Sequence[Crystal], cutoffs: Sequence[float], dtype: torch.dtype = torch.float32
) -> tuple[CrystalGraph, AtomImages | None]:
    """Build the graph of `build_inference_graph`, and the images of its atoms; None for a graph of all atoms.

    Args:
        crystals: see `build_inference_graph`.
        cutoffs: see `build_inference_graph`. Angstrom
        dtype: see `build_inference_graph`.
    """
    reduced = _reduce_for_inference(crystals, cutoffs, dtype)
    return reduced.graph, reduced.images()


def _reduce_for_inference(crystals: Sequence[Crystal], cutoffs: Sequence[float], dtype: torch.dtype) -> _Reduced:
    failures = _FAILURES.get()

    def note(index: int, reason: str) -> None:
        if failures is not None:
            failures[crystals[index].label] = reason

    try:
        return _reduce(crystals, cutoffs, dtype, SNAP_TOLERANCE, note)
    except Exception as error:
        for index, crystal in enumerate(crystals):
            if crystal.operations is not None:
                note(index, str(error))
        graph = build_graph(crystals, cutoffs, dtype)
        return _Reduced(graph, torch.arange(graph.num_atoms))


def _find_fault(crystal: Crystal) -> str | None:
    """Say what is wrong with the arrays of a crystal's operations, before they are joined with others."""
    operations = crystal.operations
    if operations is None:
        return None
    if not crystal.pbc.all():
        return f"expected a crystal that is periodic in all directions to have `operations`, got pbc {crystal.pbc}"
    rotations, images = (np.asarray(array) for array in operations)
    if images.ndim != 1 or len(images) == 0 or rotations.shape != (len(images), 3, 3):
        return (
            f"expected `operations` with rotations of shape [G, 3, 3] and images of shape [G], got "
            f"{list(rotations.shape)} and {list(images.shape)}"
        )
    if rotations.dtype.kind not in "iu" or images.dtype.kind not in "iu":
        return f"expected `operations` of integers, got {rotations.dtype} and {images.dtype}"
    return None


def _report(
    crystals: Sequence[Crystal], index: int, reason: str, on_failure: Callable[[int, str], None] | None
) -> None:
    if on_failure is None:
        raise BadCrystalError(f"{crystals[index].label}: {reason}")
    on_failure(index, reason)


def _symmetrise(
    crystals: Sequence[Crystal], operations: Sequence[SymmetryOperations | None], ptr: Tensor, tolerance: float
) -> tuple[SymmetrisedCrystals, Tensor, Tensor]:
    """Make the crystals symmetric; returns rotations and segments of their operations too."""
    identity = SymmetryOperations.identity()
    known = [identity if given is None else given for given in operations]
    rotations = torch.from_numpy(np.concatenate([given.rotations for given in known], dtype=np.int32, casting="unsafe"))
    images = torch.from_numpy(np.concatenate([given.images for given in known], dtype=np.int64, casting="unsafe"))
    operation_ptr = torch.tensor([0, *(len(given) for given in known)]).cumsum(0)
    symmetrised = symmetrise_crystals(
        torch.from_numpy(np.concatenate([crystal.positions for crystal in crystals])),
        torch.from_numpy(np.array([crystal.cell for crystal in crystals])),
        ptr,
        torch.from_numpy(np.concatenate([crystal.atomic_numbers for crystal in crystals])),
        rotations,
        images,
        operation_ptr,
        tolerance,
    )
    return symmetrised, rotations, operation_ptr


def _nested_tiers(reduced: ReducedBonds, cutoffs: Sequence[float], dtype: torch.dtype) -> tuple[BondTier, ...]:
    num_atoms = reduced.stored.shape[0]
    turns = BondTurns(reduced.rotation.to(dtype), reduced.counts.to(dtype))
    sites = SiteProjectors(reduced.site_vector.to(dtype), reduced.site_rank2.to(dtype))
    vectors = reduced.vectors.to(dtype)
    longest = BondTier(
        cutoffs[-1],
        reduced.pairs,
        reduced.bond_shifts,
        reduced.row_ptr,
        neighbor_order(reduced.pairs, num_atoms),
        torch.empty(0, dtype=torch.int64),
        turns,
        sites,
        vectors,
    )
    tiers = [longest]
    # From long to short: places of the kept bonds in the longest list.
    places = torch.arange(reduced.pairs.shape[1])
    for number in reversed(range(len(cutoffs) - 1)):
        inner = (reduced.level[places] <= number).nonzero().flatten()
        tiers[-1] = replace(tiers[-1], inner=inner)
        places = places[inner]
        pairs = reduced.pairs[:, places]
        row_ptr = torch.searchsorted(pairs[0], torch.arange(num_atoms + 1))
        order = neighbor_order(pairs, num_atoms)
        tiers.append(
            BondTier(
                cutoffs[number],
                pairs,
                reduced.bond_shifts[places],
                row_ptr,
                order,
                torch.empty(0, dtype=torch.int64),
                BondTurns(turns.rotation[places], turns.counts[:, places]),
                sites,
                vectors[places],
            )
        )
    return tuple(reversed(tiers))
