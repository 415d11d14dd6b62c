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
