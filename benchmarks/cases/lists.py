# SPDX-License-Identifier: MIT
"""Cases of neighbor lists.

Every contender is called as its users call it, from objects that exist already, and returns centers, neighbors and
shifts of the full list at 6 Angstrom.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from typing import Any

import torch

from dtnn_fast import ops, reference

from . import traffic
from .case import FORWARD, Case, Inputs, Peer
from .crystals import BATCHES, CUTOFF, Batch, batch, equal_crystals, large_cell

# What nvalchemi-toolkit-ops publishes for an H100: seconds for 512 crystals at 5 Angstrom, by the number of atoms. One
# pass into a matrix of fixed width, allocation excluded.
PUBLISHED_CUTOFF = 5.0
PUBLISHED = {64: 0.216e-3, 128: 0.349e-3, 256: 0.775e-3}
# Edges of the cells, Angstrom, for the 28, 31 and 42 neighbors an atom of the published crystals.
EDGES = {64: 10.28, 128: 12.7, 256: 14.77}
PUBLISHED_BY = "nvalchemi-toolkit-ops on an H100, published"
# Quantiles of the number density of the labelled crystals.
DENSITIES = {"thin": 0.1, "median": 0.5, "dense": 0.9}


def all_cases() -> list[Case]:
    """Batches of small crystals, three large cells, and crystals of 64 to 256 atoms."""
    cases = [_batch_case(size) for size in BATCHES]
    cases += [_large_case(name, density) for name, density in DENSITIES.items()]
    for num_atoms in PUBLISHED:
        cases += [_equal_case(num_atoms), _equal_fixed_case(num_atoms)]
    return cases


def _inputs(make: Callable[[], Batch], device: torch.device, seed: int, cutoff: float = CUTOFF) -> Inputs:
    crystals = make()
    positions = crystals.positions.to(device) + 0.01 * seed
    cell, pbc, ptr = (x.to(device) for x in (crystals.cell, crystals.pbc, crystals.ptr))
    return Inputs((), (positions, cell, pbc, cutoff, ptr))


@cache
def _num_bonds(make: Callable[[], Batch], cutoff: float = CUTOFF) -> int:
    return _count(ops.neighbor_list(*_inputs(make, torch.device("cpu"), 0, cutoff).constants))


def _count(found: ops.NeighborList) -> int:
    return found.pairs.shape[1]


def _case(name: str, make: Callable[[], Batch], cutoff: float = CUTOFF, **more: Any) -> Case:
    def stages(inputs: Inputs) -> tuple[traffic.Traffic, ...]:
        positions, cell, *_ = inputs.constants
        return traffic.neighbor_list(len(positions), len(cell), _num_bonds(make, cutoff))

    return Case(
        "neighbor_list",
        name,
        partial(_inputs, make, cutoff=cutoff),
        ops.neighbor_list,
        stages=stages,
        passes=(FORWARD,),
        compiled=False,
        reference_devices=("cpu",),
        count=_count,
        **more,
    )


def _batch_case(size: str) -> Case:
    make = partial(batch, size)
    peers = [*_per_crystal_peers(make), *BATCH_PEERS]
    if size != BATCHES[-1]:
        peers.append(_ase(make))
    promising = size == BATCHES[-1]
    return _case(
        size,
        make,
        reference=reference.neighbor_list,
        peers=tuple(peers),
        promises={("cpu", FORWARD): {"pymatgen": 8.0, "matscipy": 8.0, "vesin": 8.0}} if promising else {},
        seconds_promise={"cuda": 0.3e-3} if promising else {},
    )


def _large_case(name: str, density: float) -> Case:
    make = partial(large_cell, density)
    return _case(
        f"large cell, {name}",
        make,
        reference=None,
        peers=(*(peer for peer in _per_crystal_peers(make) if peer.name != "pymatgen"), *BATCH_PEERS),
        promises={("cpu", FORWARD): {"vesin": 2.0}},
        # Its 13 launches and one wait take a third of a millisecond, whatever the bytes.
        seconds_promise={"cuda": 0.5e-3},
    )


@cache
def _equal(num_atoms: int) -> Batch:
    return equal_crystals(num_atoms, EDGES[num_atoms])


def _equal_name(num_atoms: int) -> str:
    return f"512 x {num_atoms} atoms, {PUBLISHED_CUTOFF:g} Angstrom"


def _equal_case(num_atoms: int) -> Case:
    """With allocation and the wait for the number of bonds."""
    return _case(
        _equal_name(num_atoms),
        partial(_equal, num_atoms),
        PUBLISHED_CUTOFF,
        reference=None,
        peers=BATCH_PEERS,
        published={PUBLISHED_BY: PUBLISHED[num_atoms]},
    )


def _equal_fixed_case(num_atoms: int) -> Case:
    """Into arrays of fixed size: as a CUDA graph the like of the published times."""
    make = partial(_equal, num_atoms)

    def inputs(device: torch.device, seed: int) -> Inputs:
        *before, ptr = _inputs(make, device, seed, PUBLISHED_CUTOFF).constants
        return Inputs((), (*before, _num_bonds(make, PUBLISHED_CUTOFF) * 11 // 10, ptr))

    def stages(inputs: Inputs) -> tuple[traffic.Traffic, ...]:
        positions, cell, *_ = inputs.constants
        return traffic.neighbor_list(len(positions), len(cell), _num_bonds(make, PUBLISHED_CUTOFF) * 11 // 10)

    return Case(
        "neighbor_list_fixed",
        _equal_name(num_atoms),
        inputs,
        ops.neighbor_list_fixed,
        None,
        stages,
        passes=(FORWARD,),
        compiled=False,
        published={PUBLISHED_BY: PUBLISHED[num_atoms]},
    )


def _per_crystal_peers(make: Callable[[], Batch]) -> list[Peer]:
    """Return the programs that take one crystal at a time, on the CPU."""

    def pymatgen(_: Inputs) -> tuple[Callable[..., Any], Inputs]:
        structure = import_module("pymatgen.core").Structure
        structures = [
            structure(c.cell, c.atomic_numbers, c.positions, coords_are_cartesian=True) for c in make().crystals
        ]
        return lambda: [s.get_neighbor_list(CUTOFF, exclude_self=True) for s in structures], Inputs(())

    def matscipy(_: Inputs) -> tuple[Callable[..., Any], Inputs]:
        find = import_module("matscipy.neighbours").neighbour_list
        return _crystal_by_crystal(
            make, lambda c: find("ijS", cutoff=CUTOFF, positions=c.positions, cell=c.cell, pbc=c.pbc)
        )

    def vesin(_: Inputs) -> tuple[Callable[..., Any], Inputs]:
        finder = import_module("vesin").NeighborList(cutoff=CUTOFF, full_list=True)
        return _crystal_by_crystal(make, lambda c: finder.compute(c.positions, c.cell, True, "ijS"))

    def tonari(_: Inputs) -> tuple[Callable[..., Any], Inputs]:
        find = import_module("tonari").neighbor_list
        return _crystal_by_crystal(
            make, lambda c: find("ijS", positions=c.positions, cell=c.cell, pbc=c.pbc, cutoff=CUTOFF)
        )

    programs = {"pymatgen": pymatgen, "matscipy": matscipy, "vesin": vesin, "tonari": tonari}
    return [Peer(name, prepare, ("cpu",), (FORWARD,)) for name, prepare in programs.items()]


def _ase(make: Callable[[], Batch]) -> Peer:
    def prepare(_: Inputs) -> tuple[Callable[..., Any], Inputs]:
        find = import_module("ase.neighborlist").primitive_neighbor_list
        return _crystal_by_crystal(make, lambda c: find("ijS", c.pbc, c.cell, c.positions, CUTOFF))

    return Peer("ASE", prepare, ("cpu",), (FORWARD,))


def _crystal_by_crystal(make: Callable[[], Batch], find: Callable[[Any], Any]) -> tuple[Callable[..., Any], Inputs]:
    crystals = make().crystals
    return lambda: [find(crystal) for crystal in crystals], Inputs(())


def _nvalchemi(inputs: Inputs) -> tuple[Callable[..., Any], Inputs]:
    """NVIDIA ALCHEMI toolkit: batched; its kernels run on CPU too. It is told the largest number of neighbors."""
    find = import_module("nvalchemiops.torch.neighbors").neighbor_list
    positions, cell, pbc, cutoff, ptr = inputs.constants
    crystal = torch.repeat_interleave(torch.arange(len(cell), device=ptr.device), ptr.diff()).int()
    room = {"max_neighbors": 512, "return_neighbor_list": True}
    return lambda: find(positions, cutoff, cell, pbc, crystal, ptr.int(), **room), Inputs(())


def _torch_nl(inputs: Inputs) -> tuple[Callable[..., Any], Inputs]:
    """torch-nl: batched, in TorchScript; it needs wrapped positions, which are made beforehand."""
    find = import_module("torch_nl").compute_neighborlist
    positions, cell, pbc, cutoff, ptr = inputs.constants
    crystal = torch.repeat_interleave(torch.arange(len(cell), device=ptr.device), ptr.diff())
    fractional = torch.einsum("ni,nij->nj", positions, torch.linalg.inv(cell)[crystal])
    wrapped = torch.einsum("ni,nij->nj", fractional - fractional.floor(), cell[crystal])
    return lambda: find(cutoff, wrapped, cell.reshape(-1, 3), pbc, crystal), Inputs(())


BATCH_PEERS = (
    Peer("nvalchemi-toolkit-ops", _nvalchemi, passes=(FORWARD,)),
    Peer("torch-nl", _torch_nl, passes=(FORWARD,)),
)
