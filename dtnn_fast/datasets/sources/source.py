# SPDX-License-Identifier: MIT
"""What every source of labelled crystals has in common: its name, its citation, and what it gives."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...crystals.convert import to_crystal
from ...crystals.crystal import Crystal, Rejected, dielectric_targets
from ...errors import BadCrystalError
from ...files import replacing
from ...formats.pymatgen_json import read_document


class Why(StrEnum):
    """The kinds of reasons, in the order in which rows are judged."""

    ROW = "row cannot be read"
    NO_TENSOR = "no tensor"
    BAD_TENSOR = "tensor not of 3x3 finite numbers, or parts that do not add up"
    BAD_STRUCTURE = "structure cannot be read"
    DUPLICATE = "id occurs twice"
    UNUSABLE = "structure is not a crystal that can be computed"
    ELEMENT = "element unknown to the encoder"
    OUTSIDE = "total tensor outside of the range"
    SYMMETRY = "tensor without the symmetry of the crystal"


class Dropped(NamedTuple):
    """A row that was left out, and which kind of reason it was."""

    rejected: Rejected
    why: Why

    @classmethod
    def of(cls, why: Why, id: str, source: str, reason: str) -> Dropped:
        """Make the record from its parts; see `Rejected`."""
        return cls(Rejected(id, source, reason), why)


def count_dropped(dropped: Iterable[Dropped]) -> dict[str, int]:
    """How many rows were left out for each kind of reason, in the order of `Why`, without those of none."""
    counts = Counter(item.why for item in dropped)
    return {why.value: counts[why] for why in Why if counts[why]}


def write_dropped(path: Path, dropped: Iterable[Dropped]) -> None:
    """Write a CSV file with the columns id, source, why and reason; only these names when nothing was left out."""
    with replacing(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "source", "why", "reason"])
        for rejected, why in dropped:
            writer.writerow([rejected.id, rejected.source, why.value, " ".join(rejected.reason.split())])


class Frame(StrEnum):
    """The Cartesian frame that tensors are given in."""

    cell = "cell"
    ieee = "ieee"


class Source(NamedTuple):
    """A place that labelled crystals come from.

    Args:
        name: as on the command line.
        title: for people.
        frame: the frame of its tensors.
        licence: under which it is published.
        cite: what to cite when its data are used.
    """

    name: str
    title: str
    frame: Frame
    licence: str
    cite: tuple[str, ...]


class Fetched(NamedTuple):
    """What a source gives.

    Args:
        rows: a crystal with its tensors in the source's frame, or why there is none, for each row.
        record: version, query, and file or address, for the provenance.
    """

    rows: Iterable[Crystal | Dropped]
    record: dict[str, Any]


MATERIALS_PROJECT = Source(
    "mp",
    "Materials Project",
    Frame.ieee,
    "CC BY 4.0",
    (
        "A. Jain et al., APL Materials 1, 011002 (2013), https://doi.org/10.1063/1.4812323",
        "I. Petousis et al., Scientific Data 4, 160134 (2017), https://doi.org/10.1038/sdata.2016.134",
    ),
)
MATMINER = Source(
    "matminer",
    "matminer's data set dielectric_constant",
    Frame.cell,
    "CC BY 4.0",
    (
        "I. Petousis et al., Scientific Data 4, 160134 (2017), https://doi.org/10.1038/sdata.2016.134",
        "L. Ward et al., Computational Materials Science 152, 60 (2018), https://doi.org/10.1016/j.commatsci.2018.05.018",
    ),
)
PAPER = Source(
    "paper",
    "JSON of the repository pfnet-research/dielectric-pred",
    Frame.cell,
    "that of the file's origin",
    ("Z. Mao, W. Li and J. Tan, https://doi.org/10.1038/s41524-024-01450-z, https://arxiv.org/abs/2405.09052",),
)
JARVIS = Source(
    "jarvis",
    "JARVIS-DFT, runs of density-functional perturbation theory",
    Frame.cell,
    "see https://doi.org/10.6084/m9.figshare.6815699",
    (
        "K. Choudhary et al., npj Computational Materials 6, 173 (2020), https://doi.org/10.1038/s41524-020-00440-1",
        "K. Choudhary et al., npj Computational Materials 6, 64 (2020), https://doi.org/10.1038/s41524-020-0337-2",
    ),
)
SOURCES = {source.name: source for source in (MATERIALS_PROJECT, MATMINER, PAPER, JARVIS)}


# Published parts are rounded; more than this of the largest element is another calculation.
_LARGEST_MISMATCH = 0.01


class Tensors(NamedTuple):
    """The dielectric tensors of a row as they were given, None where one was not. [3, 3] each"""

    electronic: Any = None
    ionic: Any = None
    total: Any = None


def labelled_crystal(
    id: str, source: str, structure: Any, tensors: Tensors, info: Mapping[str, Any] | None = None
) -> Crystal | Dropped:
    """Make a crystal with the three tensors, symmetrised.

    Args:
        id: a name that is unique in the data set.
        source: the data set, for messages.
        structure: a Crystal, a pymatgen Structure, or the dict of one.
        tensors: the total tensor, or two of the three.
        info: what else is known; values that are None are left out.

    Returns:
        The crystal, or why the row was left out.
    """
    try:
        targets = _targets(tensors)
    except BadCrystalError as error:
        return Dropped.of(Why.BAD_TENSOR, id, source, str(error))
    if "total" not in targets:
        return Dropped.of(Why.NO_TENSOR, id, source, _missing(tensors))
    crystal = _crystal(id, source, structure)
    if isinstance(crystal, Rejected):
        return Dropped(crystal, Why.BAD_STRUCTURE)
    known = {key: value for key, value in (info or {}).items() if value is not None}
    return replace(crystal, id=id, source=source, targets=targets, info=known)


def _targets(tensors: Tensors) -> dict[str, np.ndarray]:
    """All three tensors where two are given; `dielectric_targets` checks each of them."""
    electronic, ionic, total = tensors
    parts = dielectric_targets(electronic, total)
    if ionic is None:
        return parts
    given = _ionic(ionic)
    if electronic is None and total is None:
        return {"ionic": given}
    if total is None:
        return parts | {"ionic": given, "total": parts["electronic"] + given}
    if electronic is None:
        return parts | {"ionic": given, "electronic": parts["total"] - given}
    mismatch = np.abs(parts["ionic"] - given).max()
    if mismatch > _LARGEST_MISMATCH * np.abs(parts["total"]).max():
        raise BadCrystalError(
            f"the total tensor is not the electronic plus the ionic one: they differ by {mismatch:.3g}"
        )
    return parts


def _ionic(tensor: Any) -> np.ndarray:
    try:
        return dielectric_targets(total=tensor)["total"]
    except BadCrystalError as error:
        raise BadCrystalError(str(error).replace("total tensor", "ionic tensor")) from None


def _missing(tensors: Tensors) -> str:
    given = [name for name, tensor in zip(Tensors._fields, tensors, strict=True) if tensor is not None]
    return f"only the {given[0]} tensor is given" if given else "no dielectric tensor is given"


def _crystal(id: str, source: str, structure: Any) -> Crystal | Rejected:
    if structure is None:
        return Rejected(id, source, "no structure is given")
    if isinstance(structure, Mapping):
        return read_document(structure, id, source)
    try:
        return to_crystal(structure, id)
    except (BadCrystalError, TypeError) as error:
        return Rejected.from_error(error, id, source)
