# SPDX-License-Identifier: MIT
from numpy import bool_, float64, int32, int64
from numpy.typing import NDArray

def neighbor_list(
    positions: NDArray[float64],
    cells: NDArray[float64],
    pbc: NDArray[bool_],
    ptr: NDArray[int64],
    cutoffs: NDArray[float64],
    half: bool,
    self_pairs: bool,
    num_threads: int,
    geometry: bool,
) -> tuple[NDArray[int64], NDArray[int32], NDArray[float64] | None, NDArray[float64] | None]: ...
def compact_cells(cells: NDArray[float64]) -> NDArray[float64]: ...
def wrap_crystals(
    positions: NDArray[float64], cells: NDArray[float64], ptr: NDArray[int64], chosen: NDArray[bool_]
) -> NDArray[float64]: ...
def find_sound_crystals(
    positions: NDArray[float64],
    cells: NDArray[float64],
    pbc: NDArray[bool_],
    ptr: NDArray[int64],
    atomic_numbers: NDArray[int64],
    is_known: NDArray[bool_],
    radii: NDArray[float64],
    volume_per_atom: float,
    radius_fraction: float,
    filling: float,
    coordinate: float,
) -> NDArray[bool_]: ...
def nearest_contacts(
    positions: NDArray[float64],
    cells: NDArray[float64],
    ptr: NDArray[int64],
    radii: NDArray[float64],
    cutoffs: NDArray[float64],
) -> tuple[NDArray[float64], NDArray[int64]]: ...
def closest_pair(
    positions: NDArray[float64], cell: NDArray[float64], max_distance: float
) -> tuple[int, int, float] | None: ...
def describe_bonding(
    positions: NDArray[float64], cells: NDArray[float64], ptr: NDArray[int64], radii: NDArray[float64], cutoff: float
) -> tuple[NDArray[int64], NDArray[int64], NDArray[float64]]: ...
def pair_histogram(
    positions: NDArray[float64],
    cell: NDArray[float64],
    elements: NDArray[int64],
    num_elements: int,
    unit: float,
    step: float,
    num_bins: int,
) -> NDArray[float64]: ...
