# SPDX-License-Identifier: MIT
"""The crystals that a training run learns from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..crystals.checks import check_crystal
from ..crystals.crystal import Crystal
from ..crystals.rejected import Rejected
from ..datasets.bundled import load_labelled
from ..datasets.cleaning import clean
from ..errors import BadCrystalError, DTNNError
from ..formats.find_files import find_files, known_crystal_system, read_files


def load_training_data(
    paths: Sequence[Path], targets: Sequence[str], use_cleaning_rule: bool, elements: frozenset[int] | None = None
) -> tuple[list[Crystal], list[Rejected]]:
    """Load labelled crystals that can be learned from.

    Args:
        paths: files and folders; none means the labelled crystals that come with dtnn_fast.
        targets: tensors that each crystal must have.
        use_cleaning_rule: whether crystals with a total tensor outside of [-10, 100] are dropped.
        elements: atomic numbers that the encoder knows; None for all.

    Returns:
        The crystals, each with its crystal system in `info` where that can be found, and those that were left out.

    Raises:
        DTNNError: nothing is left.
    """
    items: Iterable[Crystal | Rejected]
    rejected: list[Rejected] = []
    if paths:
        found = find_files(paths)
        rejected += found.rejected
        items = read_files(found.files)
    else:
        items = load_labelled()
    crystals: list[Crystal] = []
    ids: set[str] = set()
    for item in items:
        usable = item if isinstance(item, Rejected) else _check(item, targets, ids, elements)
        if isinstance(usable, Rejected):
            rejected.append(usable)
            continue
        ids.add(usable.id)
        crystals.append(usable)
    if use_cleaning_rule:
        crystals, outside = clean(crystals)
        rejected += outside
    if not crystals:
        raise DTNNError(f"train: no crystal to learn from{_first_reasons(rejected)}")
    for crystal in crystals:
        crystal.info["crystal_system"] = known_crystal_system(crystal) or "unknown"
    return crystals, rejected


def _check(
    crystal: Crystal, targets: Sequence[str], ids: set[str], elements: frozenset[int] | None
) -> Crystal | Rejected:
    missing = [target for target in targets if target not in crystal.targets]
    if missing:
        return Rejected(crystal.id, crystal.source, f"no label: the {missing[0]} dielectric tensor is not given")
    if crystal.id in ids:
        return Rejected(crystal.id, crystal.source, "its id occurs twice, so it could be in training and test")
    try:
        check_crystal(crystal, elements)
    except BadCrystalError as error:
        return Rejected.because(error, crystal.id, crystal.source)
    return crystal


def _first_reasons(rejected: Sequence[Rejected]) -> str:
    if not rejected:
        return ""
    more = f" (and {len(rejected) - 1} more)" if len(rejected) > 1 else ""
    return f": {rejected[0].source or rejected[0].id}: {rejected[0].reason}{more}"
