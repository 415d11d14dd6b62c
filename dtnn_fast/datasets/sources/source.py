# SPDX-License-Identifier: MIT
"""What every source of labelled crystals has in common: its name, its citation, and what it gives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from ...crystals.crystal import Crystal
from ..selection import Frame
from .dropped import Dropped


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
