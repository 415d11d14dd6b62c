# SPDX-License-Identifier: MIT
"""The packed form of a data set: crystals, their tensors and where they came from, as NumPy arrays in one .npz.

docs/data.md lists the arrays. Nothing in it is pickled.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..crystals.crystal import Crystal, Rejected, to_cartesian
from ..errors import BadFileError
from ..files import replacing

FRACTIONAL_SCALE = 10**8
LATTICE_SCALE = 10**8
TENSOR_SCALE = 10**6


def to_integers(values: Any, scale: int) -> np.ndarray:
    """Pack decimal numbers as integers over `scale`.

    Args:
        values: numbers with no more decimals than `scale` has zeros. any shape, float64
        scale: a power of ten.

    Returns:
        Integers of 32 bits where they suffice, otherwise 64, in the shape of `values`

    Raises:
        ValueError: unpacking would not give back exactly the same numbers.
    """
    array = np.asarray(values, dtype=np.float64)
    integers = np.rint(array * scale)
    largest = np.abs(integers).max(initial=0)
    if largest >= 2**53 or not np.array_equal(integers / scale, array):
        raise ValueError(f"to_integers: expected `values` with at most the decimals of 1/{scale}, got others")
    return integers.astype(np.int32 if largest < 2**31 else np.int64)


def pack_structures(rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Pack ids, formulas and structures of rows in the form of our .jsonl files.

    Args:
        rows: with the keys id, formula, lattice_angstrom, atomic_numbers, frac_coords.

    Returns:
        Arrays by name, for ``numpy.savez_compressed`` and `unpack_structures`.
    """
    return {
        "id": np.array([row["id"] for row in rows]),
        "formula": np.array([row["formula"] for row in rows]),
        "num_atoms": np.array([len(row["atomic_numbers"]) for row in rows], dtype=np.int32),
        "atomic_numbers": np.concatenate([row["atomic_numbers"] for row in rows]).astype(np.uint8),
        "lattice": to_integers([row["lattice_angstrom"] for row in rows], LATTICE_SCALE),
        "fractional": to_integers(np.concatenate([row["frac_coords"] for row in rows]), FRACTIONAL_SCALE),
    }


def unpack_structures(arrays: Mapping[str, np.ndarray], source: str) -> Iterator[Crystal]:
    """Give the crystals of `pack_structures`, each with its formula in `info`.

    Args:
        arrays: what `pack_structures` returned.
        source: the name of the data set, for messages.
    """
    counts = arrays["num_atoms"]
    ends = np.cumsum(counts, dtype=np.int64)
    numbers = arrays["atomic_numbers"].astype(np.int64)
    cells = arrays["lattice"] / LATTICE_SCALE
    # One conversion of all atoms at once: thousands of small ones take longer than everything else here.
    positions = to_cartesian(arrays["fractional"] / FRACTIONAL_SCALE, np.repeat(cells, counts, axis=0))
    names = zip(arrays["id"].tolist(), arrays["formula"].tolist(), strict=True)
    for (name, formula), cell, count, end in zip(names, cells, counts.tolist(), ends.tolist(), strict=True):
        atoms = slice(end - count, end)
        yield Crystal(
            name,
            numbers[atoms].copy(),
            positions[atoms].copy(),
            cell.copy(),
            source=source,
            info={"formula": formula},
        )


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz; pickled objects are refused."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


FORMAT = "dtnn_fast crystals 1"
TENSORS = ("electronic", "ionic", "total")


class PackedSet(NamedTuple):
    """What a packed file holds.

    Args:
        items: the crystals in the order of the file; a Rejected where one cannot be used.
        provenance: source, version, query and date, and how the crystals were chosen; see docs/data.md.
    """

    items: list[Crystal | Rejected]
    provenance: dict[str, Any]


def write_packed(path: Path, crystals: Sequence[Crystal], provenance: Mapping[str, Any]) -> None:
    """Write crystals in the packed form; an earlier file stays until the new one is whole.

    Args:
        path: a file name that ends in .npz.
        crystals: periodic in all directions; their `targets` and `info` are kept, their `source` is not.
        provenance: anything that JSON can hold.

    Raises:
        ValueError: a crystal is not periodic in all directions, or the name does not end in .npz.
    """
    if path.suffix != ".npz":
        raise ValueError(f"write_packed: expected `path` to end in .npz, got {path}")
    for crystal in crystals:
        if not crystal.pbc.all():
            raise ValueError(f"write_packed: expected periodic `crystals`, got {crystal.label} with pbc {crystal.pbc}")
    arrays = {
        "format": np.array(FORMAT),
        "provenance": np.array(json.dumps(provenance)),
        "id": np.array([crystal.id for crystal in crystals], dtype=np.str_),
        "info": np.array([json.dumps(crystal.info) for crystal in crystals], dtype=np.str_),
        "num_atoms": np.array([crystal.num_atoms for crystal in crystals], dtype=np.int64),
        "atomic_numbers": _joined([crystal.atomic_numbers for crystal in crystals], (0,)).astype(np.int64),
        "positions": _joined([crystal.positions for crystal in crystals], (0, 3)),
        "cell": np.array([crystal.cell for crystal in crystals], dtype=np.float64).reshape(-1, 3, 3),
    }
    unknown = np.full((3, 3), np.nan)
    for name in TENSORS:
        tensors = [crystal.targets.get(name, unknown) for crystal in crystals]
        arrays[name] = np.array(tensors, dtype=np.float64).reshape(-1, 3, 3)
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_packed(path: Path) -> PackedSet:
    """Read a file that `write_packed` wrote.

    Args:
        path: the file.

    Returns:
        Crystals and provenance. Shapes are checked, physics is not (see `check_crystal`).

    Raises:
        BadFileError: the file is missing, damaged, or of another kind.
    """
    arrays = _load(path)
    counts, ids, info = arrays["num_atoms"], arrays["id"].tolist(), arrays["info"].tolist()
    ends = np.cumsum(counts).tolist()
    items: list[Crystal | Rejected] = []
    for index, (name, count, end) in enumerate(zip(ids, counts.tolist(), ends, strict=True)):
        source = f"{path} ({name})"
        atoms = slice(end - count, end)
        try:
            targets = dict(_targets(arrays, index))
            more = json.loads(info[index])
            if not isinstance(more, dict):
                raise ValueError(f"expected its info to be a JSON object, got {type(more).__name__}")
        except ValueError as error:
            items.append(Rejected(name, source, str(error)))
            continue
        items.append(
            Crystal(
                name,
                arrays["atomic_numbers"][atoms].astype(np.int64),
                arrays["positions"][atoms].copy(),
                arrays["cell"][index].copy(),
                source=source,
                targets=targets,
                info=more,
            )
        )
    return PackedSet(items, json.loads(str(arrays["provenance"])))


def _targets(arrays: Mapping[str, np.ndarray], index: int) -> Iterator[tuple[str, np.ndarray]]:
    for name in TENSORS:
        tensor = arrays[name][index]
        if np.isnan(tensor).all():
            continue
        if not np.isfinite(tensor).all():
            raise ValueError(f"the {name} tensor has elements that are NaN or infinite")
        yield name, tensor.copy()


def _load(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise BadFileError(f"{path}: there is no such file")
    try:
        arrays = load_arrays(path)
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    # NumPy's answers to what is no archive, a truncated one, pickled objects and damaged headers.
    except (ValueError, EOFError, KeyError, SyntaxError, zipfile.BadZipFile, zlib.error, AttributeError) as error:
        # Not their words: NumPy's advice for a file of another kind is to unpickle it.
        raise BadFileError(f"{path}: damaged, or no .npz of crystals, as dtnn-fast data fetch writes") from error
    if "format" not in arrays or str(arrays["format"]) != FORMAT:
        raise BadFileError(f"{path}: not a packed set of crystals (format {FORMAT!r}), as dtnn-fast data fetch writes")
    problem = _problem(arrays)
    if problem:
        raise BadFileError(f"{path}: damaged: {problem}")
    return arrays


def _problem(arrays: Mapping[str, np.ndarray]) -> str | None:
    """What is wrong with the arrays as a whole, or None."""
    wanted = ("provenance", "id", "info", "num_atoms", "atomic_numbers", "positions", "cell", *TENSORS)
    missing = [name for name in wanted if name not in arrays]
    if missing:
        return f"it lacks {', '.join(missing)}"
    counts = arrays["num_atoms"]
    if counts.ndim != 1 or counts.dtype.kind not in "iu" or (counts < 0).any():
        return "num_atoms is no list of counts"
    num_crystals, num_atoms = len(counts), int(counts.sum())
    shapes = {"id": (num_crystals,), "info": (num_crystals,), "cell": (num_crystals, 3, 3)}
    shapes |= dict.fromkeys(TENSORS, (num_crystals, 3, 3))
    shapes |= {"atomic_numbers": (num_atoms,), "positions": (num_atoms, 3)}
    kinds = {"id": "U", "info": "U", "atomic_numbers": "iu"}
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape or array.dtype.kind not in kinds.get(name, "f"):
            return f"{name} has shape {list(array.shape)} and dtype {array.dtype}, expected shape {list(shape)}"
    try:
        provenance = json.loads(str(arrays["provenance"]))
    except ValueError as error:
        return f"provenance is not JSON: {error}"
    return None if isinstance(provenance, dict) else "provenance is no JSON object"


def _joined(parts: Sequence[np.ndarray], empty_shape: tuple[int, ...]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(empty_shape)


def read_npz(path: Path, text: str = "") -> Iterator[Crystal | Rejected]:
    """Read the crystals of a packed set.

    Args:
        path: the file.
        text: not used: the file is not text.

    Raises:
        BadFileError: the file is damaged, or of another kind.
    """
    if path.suffix.lower() == ".gz":
        raise BadFileError(f"{path}: an .npz is compressed in itself: unpack the .gz first")
    yield from read_packed(path).items
