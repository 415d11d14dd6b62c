# SPDX-License-Identifier: MIT
"""The real crystals that others are made of: those of the user's files, or the bundled ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..crystals.crystal import Crystal
from ..crystals.rejected import Rejected
from ..datasets.bundled import load_labelled, load_structures
from ..errors import DTNNError
from ..formats.find_files import find_files, read_files


def load_sources(paths: Sequence[Path] = ()) -> tuple[list[Crystal], list[Rejected]]:
    """Load crystals; labels are not needed.

    Args:
        paths: files and folders; none means all crystals that come with dtnn_fast, each id once.

    Returns:
        The crystals, and what could not be read.

    Raises:
        DTNNError: nothing could be read.
    """
    if not paths:
        crystals = load_labelled()
        known = {crystal.id for crystal in crystals}
        return crystals + [crystal for crystal in load_structures() if crystal.id not in known], []
    found = find_files(paths)
    items: Iterable[Crystal | Rejected] = read_files(found.files)
    read = list(items)
    crystals = [item for item in read if isinstance(item, Crystal)]
    rejected = [*found.rejected, *(item for item in read if isinstance(item, Rejected))]
    if not crystals:
        reasons = [f"{one.source or one.id}: {one.reason}" for one in rejected[:1]]
        more = f" (and {len(rejected) - 1} more)" if len(rejected) > 1 else ""
        found_none = f"distill: no crystals found in {', '.join(map(str, paths))}"
        raise DTNNError("; ".join([found_none, *reasons]) + more)
    return crystals, rejected
