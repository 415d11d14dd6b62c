# SPDX-License-Identifier: MIT
from typing import Any

from numpy.typing import NDArray

def neighbor_list(
    positions: NDArray[Any],
    cells: NDArray[Any],
    pbc: NDArray[Any],
    ptr: NDArray[Any],
    cutoffs: NDArray[Any],
    half: bool,
    self_pairs: bool,
    num_threads: int,
    geometry: bool,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None, NDArray[Any] | None]: ...
def compact_cells(cells: NDArray[Any]) -> NDArray[Any]: ...
def wrap_crystals(
    positions: NDArray[Any], cells: NDArray[Any], ptr: NDArray[Any], chosen: NDArray[Any]
) -> NDArray[Any]: ...
def find_sound_crystals(
    positions: NDArray[Any],
    cells: NDArray[Any],
    pbc: NDArray[Any],
    ptr: NDArray[Any],
    atomic_numbers: NDArray[Any],
    is_known: NDArray[Any],
    radii: NDArray[Any],
    volume_per_atom: float,
    radius_fraction: float,
    filling: float,
    coordinate: float,
) -> NDArray[Any]: ...
def nearest_contacts(
    positions: NDArray[Any], cells: NDArray[Any], ptr: NDArray[Any], radii: NDArray[Any], cutoffs: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]: ...
def closest_pair(positions: NDArray[Any], cell: NDArray[Any], max_distance: float) -> tuple[int, int, float] | None: ...
def describe_bonding(
    positions: NDArray[Any], cells: NDArray[Any], ptr: NDArray[Any], radii: NDArray[Any], cutoff: float
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]: ...
def pair_histogram(
    positions: NDArray[Any],
    cell: NDArray[Any],
    elements: NDArray[Any],
    num_elements: int,
    unit: float,
    step: float,
    num_bins: int,
) -> NDArray[Any]: ...
