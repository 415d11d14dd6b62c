# SPDX-License-Identifier: MIT
"""Read the packed form of data sets that ``dtnn-fast data fetch`` writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..crystals.crystal import Crystal
from ..crystals.rejected import Rejected
from ..errors import BadFileError
from .packed_set import read_packed


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
