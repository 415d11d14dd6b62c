# SPDX-License-Identifier: MIT
"""Crystals as messages of a reading process: JSON and plain arrays, so that a reader can send data and nothing else.

A message is the length of the JSON (4 bytes, big-endian), the JSON, all float64 and all int64 numbers, little-endian.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np

from ..crystals.crystal import Crystal
from ..crystals.insulators import KNOWN_INSULATOR, is_known_insulator
from ..crystals.operations import SymmetryOperations

LENGTH = struct.Struct("!I")
_FLOATS, _INTEGERS = np.dtype("<f8"), np.dtype("<i8")
# What the predictions use of `Crystal.info`.
_KEPT_INFO = ("space_group", "crystal_system", "prototype")


class RefusalCode(StrEnum):
    """Why a crystal has no prediction."""

    UNREADABLE = "unreadable"
    UNUSABLE = "unusable"
    TOO_LARGE = "too_large"
    TOO_MANY = "too_many"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    MODEL_FAILED = "model_failed"


class Refusal(NamedTuple):
    """A crystal or file without a prediction.

    Args:
        id: its name.
        code: the kind of reason.
        reason: what is wrong, in words for the user.
    """

    id: str
    code: RefusalCode
    reason: str


def pack_items(items: Sequence[Crystal | Refusal]) -> bytes:
    """Write crystals and refusals as a message.

    Of a crystal, these are id, structure, operations and symmetry, and whether it is a known insulator.
    """
    heads: list[Any] = []
    floats: list[np.ndarray] = []
    integers: list[np.ndarray] = []
    for item in items:
        if isinstance(item, Refusal):
            heads.append({"id": item.id, "code": item.code, "reason": item.reason})
            continue
        info = {name: item.info[name] for name in _KEPT_INFO if name in item.info}
        if is_known_insulator(item):
            info[KNOWN_INSULATOR] = True
        num_operations = 0 if item.operations is None else len(item.operations)
        heads.append({"id": item.id, "atoms": item.num_atoms, "operations": num_operations, "info": info})
        floats += [item.cell, item.positions]
        integers.append(item.atomic_numbers)
        if item.operations is not None:
            integers += [item.operations.rotations, item.operations.images]
    head = json.dumps(heads).encode()
    blocks = [_bytes_of(floats, _FLOATS), _bytes_of(integers, _INTEGERS)]
    return b"".join([LENGTH.pack(len(head)), head, *blocks])


def unpack_items(message: bytes) -> list[Crystal | Refusal]:
    """Read a message of `pack_items`.

    Raises:
        ValueError: it is damaged.
    """
    try:
        (length,) = LENGTH.unpack_from(message)
        start = LENGTH.size + length
        heads = json.loads(message[LENGTH.size : start])
        crystals = [head for head in heads if "atoms" in head]
        num_floats = sum(9 + 3 * head["atoms"] for head in crystals)
        floats = _Values(np.frombuffer(message, _FLOATS, num_floats, start))
        integers = _Values(np.frombuffer(message, _INTEGERS, offset=start + num_floats * _FLOATS.itemsize))
        return [_unpack(head, floats, integers) for head in heads]
    except (struct.error, TypeError, KeyError, OverflowError) as error:
        raise ValueError(f"damaged message: {type(error).__name__}: {error}") from error


class _Values:
    """Values that are taken one group after the other."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values
        self._start = 0

    def take(self, *shape: int) -> np.ndarray:
        size = int(np.prod(shape))
        part = self._values[self._start : self._start + size].reshape(shape)
        self._start += size
        # A copy, which does not keep the whole message in memory, and may be written.
        return part.astype(self._values.dtype.newbyteorder("="))


def _unpack(head: dict[str, Any], floats: _Values, integers: _Values) -> Crystal | Refusal:
    if "atoms" not in head:
        return Refusal(str(head["id"]), RefusalCode(head["code"]), str(head["reason"]))
    atoms, count = head["atoms"], head["operations"]
    cell, positions = floats.take(3, 3), floats.take(atoms, 3)
    numbers = integers.take(atoms)
    operations = None
    if count:
        operations = SymmetryOperations(integers.take(count, 3, 3).astype(np.int32), integers.take(count))
    return Crystal(str(head["id"]), numbers, positions, cell, info=dict(head["info"]), operations=operations)


def _bytes_of(arrays: Sequence[np.ndarray], dtype: np.dtype[Any]) -> bytes:
    return b"".join(array.astype(dtype).tobytes() for array in arrays)
