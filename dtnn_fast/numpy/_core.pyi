# SPDX-License-Identifier: MIT
from typing import Any

from numpy.typing import NDArray

def neighbor_list(
    positions: NDArray[Any],
    cells: NDArray[Any],
    pbc: NDArray[Any],
    ptr: NDArray[Any],
    cutoff: float,
    half: bool,
    num_threads: int,
    geometry: bool,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None, NDArray[Any] | None]: ...
