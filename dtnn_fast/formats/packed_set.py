# SPDX-License-Identifier: MIT
"""The packed set: crystals, their tensors and their provenance as NumPy arrays in one .npz file.

docs/data.md lists the arrays. None of them is pickled.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..crystals.crystal import Crystal, Rejected
from ..crystals.operations import SymmetryOperations
from ..errors import BadFileError
from ..files import parse_json, replacing
from .compressed import COMPRESSED_ENDING
from .packed_labels import TENSORS, check_labels, find_damaged_labels, label_arrays, split_labels

FORMAT = "dtnn_fast crystals 1"
# Symmetry operations; files of version 0.1.0 lack them.
OPERATION_ARRAYS = ("num_operations", "rotations", "images")
# Of a rotation's entries, as int16; only very skewed cells have larger ones.
_LARGEST_ENTRY = 2**15 - 1


class PackedSet(NamedTuple):
    """The contents of a packed set.

    Args:
        items: the crystals in the order of the file; a Rejected where a crystal cannot be used.
        provenance: source, version, query and date, and how the crystals were chosen; see docs/data.md.
    """

    items: list[Crystal | Rejected]
    provenance: dict[str, Any]


def write_packed(path: Path | str, crystals: Sequence[Crystal], provenance: Mapping[str, Any]) -> None:
    """Write crystals as a packed set; an existing file stays until the new one is complete.

    Args:
        path: a file name that ends in .npz.
        crystals: periodic in all directions; their labels, `info` and `operations` are kept, their `source` is not.
        provenance: values that JSON can hold.

    Raises:
        ValueError: a crystal is not periodic in all directions, its labels do not fit its atoms, or the name does not
            end in .npz.
    """
    path = Path(path)
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
        "atomic_numbers": _concatenate([crystal.atomic_numbers for crystal in crystals], (0,)).astype(np.int64),
        "positions": _concatenate([crystal.positions for crystal in crystals], (0, 3)),
        "cell": np.array([crystal.cell for crystal in crystals], dtype=np.float64).reshape(-1, 3, 3),
    }
    unknown = np.full((3, 3), np.nan)
    for name in TENSORS:
        tensors = [crystal.targets.get(name, unknown) for crystal in crystals]
        arrays[name] = np.array(tensors, dtype=np.float64).reshape(-1, 3, 3)
    arrays |= label_arrays(crystals)
    arrays |= _operation_arrays([crystal.operations for crystal in crystals])
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _operation_arrays(operations: Sequence[SymmetryOperations | None]) -> dict[str, np.ndarray]:
    """Join the operations of crystals; the count is 0 for a crystal whose operations are not known."""
    kept = [None if given is None or np.abs(given.rotations).max() > _LARGEST_ENTRY else given for given in operations]
    known = [given for given in kept if given is not None]
    return {
        "num_operations": np.array([0 if given is None else len(given) for given in kept], dtype=np.int64),
        "rotations": _concatenate([given.rotations for given in known], (0, 3, 3)).astype(np.int16),
        "images": _concatenate([given.images for given in known], (0,)).astype(np.int32),
    }


def _concatenate(arrays: Sequence[np.ndarray], empty_shape: tuple[int, ...]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(empty_shape)


def read_packed(path: Path | str) -> PackedSet:
    """Read a file that `write_packed` wrote.

    Args:
        path: the file.

    Returns:
        Crystals and provenance. Shapes are checked; the physics is not (see `check_crystal`).

    Raises:
        BadFileError: the file is missing, damaged, or of another format.
    """
    path = Path(path)
    arrays = _load_checked(path)
    counts, ids, info = arrays["num_atoms"], arrays["id"].tolist(), arrays["info"].tolist()
    ends = np.cumsum(counts).tolist()
    operations = _split_operations(arrays, len(ids))
    labels = split_labels(arrays)
    items: list[Crystal | Rejected] = []
    for index, (name, count, end) in enumerate(zip(ids, counts.tolist(), ends, strict=True)):
        source = f"{path} ({name})"
        atoms = slice(end - count, end)
        try:
            targets = dict(_known_tensors(arrays, index))
            check_labels(labels[index])
            crystal_info = parse_json(info[index])
            if not isinstance(crystal_info, dict):
                raise ValueError(f"expected its info to be a JSON object, got {type(crystal_info).__name__}")
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
                info=crystal_info,
                operations=operations[index],
                **labels[index],
            )
        )
    return PackedSet(items, parse_json(str(arrays["provenance"])))


def _split_operations(arrays: Mapping[str, np.ndarray], num_crystals: int) -> list[SymmetryOperations | None]:
    if "num_operations" not in arrays:
        return [None] * num_crystals
    counts = arrays["num_operations"].tolist()
    ends = np.cumsum(arrays["num_operations"]).tolist()
    rotations, images = arrays["rotations"].astype(np.int32), arrays["images"].astype(np.int64)
    return [
        SymmetryOperations(rotations[end - count : end], images[end - count : end]) if count else None
        for count, end in zip(counts, ends, strict=True)
    ]


def read_npz(path: Path, text: str = "") -> Iterator[Crystal | Rejected]:
    """Read the crystals of a packed set, as a reader of `reading.FILE_FORMATS`.

    Args:
        path: the file.
        text: not used: the file is not text.

    Raises:
        BadFileError: the file is damaged, or of another format.
    """
    if COMPRESSED_ENDING.search(path.name):
        raise BadFileError(f"{path}: an .npz is compressed already: unpack the {path.suffix} first")
    yield from read_packed(path).items


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz; pickled objects are refused."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _load_checked(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise BadFileError(f"{path}: there is no such file")
    try:
        arrays = load_arrays(path)
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    # NumPy raises these for other files, truncated archives, pickled objects and damaged headers.
    except (ValueError, EOFError, KeyError, SyntaxError, zipfile.BadZipFile, zlib.error, AttributeError) as error:
        # NumPy's message is left out: for other files it advises to unpickle them.
        raise BadFileError(f"{path}: damaged, or not an .npz that dtnn-fast data fetch writes") from error
    if "format" not in arrays or str(arrays["format"]) != FORMAT:
        raise BadFileError(f"{path}: not a packed set of crystals (format {FORMAT!r}), as dtnn-fast data fetch writes")
    damage = _find_damage(arrays)
    if damage:
        raise BadFileError(f"{path}: damaged: {damage}")
    return arrays


def _find_damage(arrays: Mapping[str, np.ndarray]) -> str | None:
    """Describe the first array that is missing or has a wrong shape or dtype; None if all are right."""
    required = ("provenance", "id", "info", "num_atoms", "atomic_numbers", "positions", "cell", *TENSORS)
    missing = [name for name in required if name not in arrays]
    if missing:
        return f"it lacks {', '.join(missing)}"
    counts = arrays["num_atoms"]
    if counts.ndim != 1 or counts.dtype.kind not in "iu" or (counts < 0).any():
        return "num_atoms is not a list of counts"
    num_crystals, num_atoms = len(counts), int(counts.sum())
    shapes = {"id": (num_crystals,), "info": (num_crystals,), "cell": (num_crystals, 3, 3)}
    shapes |= dict.fromkeys(TENSORS, (num_crystals, 3, 3))
    shapes |= {"atomic_numbers": (num_atoms,), "positions": (num_atoms, 3)}
    dtype_kinds = {"id": "U", "info": "U", "atomic_numbers": "iu"}
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape or array.dtype.kind not in dtype_kinds.get(name, "f"):
            return f"{name} has shape {list(array.shape)} and dtype {array.dtype}, expected shape {list(shape)}"
    damage = _find_damaged_operations(arrays, num_crystals) or find_damaged_labels(arrays)
    if damage:
        return damage
    try:
        provenance = parse_json(str(arrays["provenance"]))
    except ValueError as error:
        return f"provenance is not JSON: {error}"
    return None if isinstance(provenance, dict) else "provenance is not a JSON object"


def _find_damaged_operations(arrays: Mapping[str, np.ndarray], num_crystals: int) -> str | None:
    given = [name for name in OPERATION_ARRAYS if name in arrays]
    if not given:
        return None
    if len(given) < len(OPERATION_ARRAYS):
        return f"it has {', '.join(given)} without {', '.join(set(OPERATION_ARRAYS) - set(given))}"
    counts = arrays["num_operations"]
    if counts.shape != (num_crystals,) or counts.dtype.kind not in "iu" or (counts < 0).any():
        return "num_operations is not a list of counts"
    total = int(counts.sum())
    for name, shape in (("rotations", (total, 3, 3)), ("images", (total,))):
        array = arrays[name]
        if array.shape != shape or array.dtype.kind not in "iu":
            return f"{name} has shape {list(array.shape)} and dtype {array.dtype}, expected shape {list(shape)}"
    return None


def _known_tensors(arrays: Mapping[str, np.ndarray], index: int) -> Iterator[tuple[str, np.ndarray]]:
    for name in TENSORS:
        tensor = arrays[name][index]
        if np.isnan(tensor).all():
            continue
        if not np.isfinite(tensor).all():
            raise ValueError(f"the {name} tensor has elements that are NaN or infinite")
        yield name, tensor.copy()
