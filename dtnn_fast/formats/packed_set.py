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

from ..crystals.crystal import Crystal
from ..crystals.rejected import Rejected
from ..errors import BadFileError
from ..replacing import replacing
from .packed import load_arrays

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
