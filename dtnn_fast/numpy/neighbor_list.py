# SPDX-License-Identifier: MIT
"""Periodic neighbor lists, called like ASE's function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

try:
    from . import _core
except ImportError as error:
    raise ImportError(
        f"dtnn_fast.numpy: the compiled module is missing or does not load ({error}): run `pip install .` in the "
        "source folder, and start Python outside of it"
    ) from error

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

QUANTITIES = "ijdDS"
_MOST_THREADS = 1024  # further threads would only wait


def neighbor_list(
    quantities: str,
    atoms: Any,
    cutoff: float | ArrayLike,
    cell: ArrayLike | None = None,
    pbc: ArrayLike | None = None,
    *,
    ptr: ArrayLike | None = None,
    half: bool = False,
    self_interaction: bool = False,
    num_threads: int | None = None,
    batch_idx: ArrayLike | None = None,
) -> NDArray[Any] | tuple[NDArray[Any], ...]:
    """Find all bonds shorter than the cutoff, exactly, sorted by center i, then neighbor j, then shift S.

    Call it as ASE's function of the same name, ``neighbor_list("ijS", atoms, 6.0)``, or with arrays,
    ``neighbor_list("ijS", positions, 6.0, cell, pbc)``. The bond vector is ``D = r_j - r_i + S @ cell``, and its length
    d is less than the cutoff.

    Args:
        quantities: the arrays to return, in this order: letters out of "i" (centers), "j" (neighbors), "d" (lengths,
            Angstrom), "D" (bond vectors, Angstrom) and "S" (shifts).
        atoms: an ASE Atoms object, or Cartesian positions, which need not be inside the cell. [N, 3], float, Angstrom.
        cutoff: bonds are shorter than this length; 0 for no bonds. float, or with `ptr` one value per crystal, [B],
            Angstrom. (ASE's radii for atoms or elements are not supported.)
        cell: lattice vectors as rows, [B, 3, 3], or [3, 3] for all crystals, Angstrom. Only with positions; None for
            isolated atoms.
        pbc: periodic directions, [B, 3], or [3] for all crystals, or one bool. Only with positions; None for all
            directions of a given cell.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``; None for one crystal. [B+1], integer.
        half: keep each bond once: i < j, or i == j and the first nonzero component of S positive.
        self_interaction: also return each atom as its own neighbor with S = 0, as in ASE, and here also with cutoff 0.
        num_threads: number of threads; None for all processors. The list is the same for any number.
        batch_idx: index of each atom's crystal, in ascending order; give it instead of `ptr`. The number of crystals B
            is the number of rows of `cell`, `pbc` or `cutoff`, the first of these that has one row per crystal,
            otherwise the last index plus 1. [N], integer.

    Returns:
        One array for each letter; a tuple of arrays for several letters: i and j [E] int64, d [E] float64, D [E, 3]
        float64, S [E, 3] int32.

    Raises:
        ValueError: an argument has a wrong shape, dtype or value, or the list does not fit into memory.

    Example:
        >>> i, d = neighbor_list("id", [[0.0, 0.0, 0.0]], 3.5, cell=3 * np.eye(3))
        >>> d.tolist()
        [3.0, 3.0, 3.0, 3.0, 3.0, 3.0]
    """
    if not isinstance(quantities, str) or not quantities or set(quantities) - set(QUANTITIES):
        raise ValueError(f"neighbor_list: expected `quantities` of the letters {QUANTITIES}, got {quantities!r}")
    if hasattr(atoms, "get_positions"):
        if cell is not None or pbc is not None:
            raise ValueError("neighbor_list: expected no `cell` and `pbc` beside an Atoms object, which has its own")
        positions, cell, pbc = atoms.get_positions(), np.asarray(atoms.cell), np.asarray(atoms.pbc)
    else:
        positions = atoms
        if cell is None and pbc is not None and np.any(pbc):
            raise ValueError("neighbor_list: expected a `cell` for periodic directions, got None")
        pbc = cell is not None if pbc is None else pbc
        cell = np.zeros((3, 3)) if cell is None else cell
    r = _floats("positions", positions)
    if r.ndim != 2 or r.shape[1] != 3:
        raise ValueError(f"neighbor_list: expected `positions` of shape [N, 3], got {list(r.shape)}")
    cells = _floats("cell", cell)
    periodic = np.asarray(pbc)
    if batch_idx is not None:
        if ptr is not None:
            raise ValueError("neighbor_list: expected `ptr` or `batch_idx`, got both")
        ptr = _ptr_of_batch(batch_idx, len(r), cells, periodic, np.asarray(cutoff))
    bounds = _bounds(ptr, len(r))
    if periodic.dtype != np.bool_:
        raise ValueError(f"neighbor_list: expected `pbc` of dtype bool, got {periodic.dtype}")
    if periodic.ndim == 0:
        periodic = np.full(3, periodic)
    _check_shape("cell", cells, (3, 3), len(bounds) - 1)
    _check_shape("pbc", periodic, (3,), len(bounds) - 1)
    cutoffs = _cutoffs(cutoff, ptr is not None, len(bounds) - 1)
    threads = _threads(num_threads)
    geometry = "d" in quantities or "D" in quantities
    try:
        pairs, shifts, lengths, vectors = _core.neighbor_list(
            r,
            cells,
            np.ascontiguousarray(periodic),
            bounds,
            cutoffs,
            bool(half),
            bool(self_interaction),
            threads,
            geometry,
        )
    except (ValueError, MemoryError) as error:
        raise ValueError(f"neighbor_list: {error}") from error
    arrays = {"i": pairs[0], "j": pairs[1], "d": lengths, "D": vectors, "S": shifts}
    requested = tuple(arrays[letter] for letter in quantities)
    return requested if len(requested) > 1 else requested[0]


def _floats(name: str, values: ArrayLike) -> NDArray[np.float64]:
    try:
        array = np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"neighbor_list: expected `{name}` to be an array of numbers: {error}") from error
    if array.size and array.dtype.kind not in "fiu":
        raise ValueError(f"neighbor_list: expected `{name}` to be an array of numbers, got dtype {array.dtype}")
    if array.size == 0 and array.ndim == 1:
        array = array.reshape(0, 3)  # an empty list of positions
    return np.ascontiguousarray(array, dtype=np.float64)


def _cutoffs(cutoff: float | ArrayLike, is_batch: bool, num_crystals: int) -> NDArray[np.float64]:
    """Check the cutoff: shape [], or with `ptr` [B]; without `ptr` an array would be ASE's radii of atoms."""
    array = np.asarray(cutoff)
    if array.dtype.kind not in "fiu" or (array.ndim > 0 and not is_batch):
        raise ValueError(
            f"neighbor_list: expected one number as `cutoff`, or beside `ptr` one for each crystal, got "
            f"{type(cutoff).__name__}"
        )
    if array.ndim > 0 and array.shape != (num_crystals,):
        raise ValueError(f"neighbor_list: expected `cutoff` of shape [{num_crystals}], got {list(array.shape)}")
    return np.array(array, dtype=np.float64)  # not ascontiguousarray, which turns 0-d arrays into 1-d


def _bounds(ptr: ArrayLike | None, num_atoms: int) -> NDArray[np.int64]:
    if ptr is None:
        return np.array([0, num_atoms], dtype=np.int64)
    bounds = np.asarray(ptr)
    if bounds.ndim != 1 or len(bounds) == 0 or bounds.dtype.kind not in "iu":
        raise ValueError(
            f"neighbor_list: expected `ptr` of shape [B+1], integer, got {list(bounds.shape)} {bounds.dtype}"
        )
    bounds = np.ascontiguousarray(bounds, dtype=np.int64)
    if bounds[0] != 0 or bounds[-1] != num_atoms or np.any(np.diff(bounds) < 0):
        raise ValueError(f"neighbor_list: expected `ptr` that rises from 0 to the number of atoms, {num_atoms}")
    return bounds


def _ptr_of_batch(batch_idx: ArrayLike, num_atoms: int, *per_crystal: NDArray[Any]) -> NDArray[np.int64]:
    """Return the `ptr` of a batch; the first of cell, pbc and cutoff with a row for each crystal tells their number."""
    index = np.asarray(batch_idx)
    if index.shape != (num_atoms,) or (num_atoms and index.dtype.kind not in "iu"):
        raise ValueError(
            f"neighbor_list: expected `batch_idx` of shape [{num_atoms}], integer, "
            f"got {list(index.shape)} {index.dtype}"
        )
    index = index.astype(np.int64)
    rows = [len(values) for values, dimension in zip(per_crystal, (3, 2, 1), strict=True) if values.ndim == dimension]
    num_crystals = rows[0] if rows else int(index[-1]) + 1 if num_atoms else 0
    if np.any(np.diff(index) < 0):
        raise ValueError("neighbor_list: expected `batch_idx` sorted by crystal: sort the atoms by it first")
    if num_atoms and index[0] < 0:
        raise ValueError(f"neighbor_list: expected `batch_idx` of 0 or more, got {index[0]}")
    if num_atoms and index[-1] >= num_crystals:
        raise ValueError(
            f"neighbor_list: expected `batch_idx` below {num_crystals}, the number of crystals, got {index[-1]}"
        )
    return np.searchsorted(index, np.arange(num_crystals + 1)).astype(np.int64)


def _check_shape(name: str, array: NDArray[Any], shape: tuple[int, ...], num_crystals: int) -> None:
    if array.shape not in (shape, (num_crystals, *shape)):
        raise ValueError(
            f"neighbor_list: expected `{name}` of shape {list(shape)} or {[num_crystals, *shape]}, "
            f"got {list(array.shape)}"
        )


def _threads(num_threads: int | None) -> int:
    if num_threads is None:
        return 0
    if not isinstance(num_threads, (int, np.integer)) or num_threads < 1:
        raise ValueError(f"neighbor_list: expected `num_threads` of at least 1, an integer, got {num_threads!r}")
    return int(min(num_threads, _MOST_THREADS))
