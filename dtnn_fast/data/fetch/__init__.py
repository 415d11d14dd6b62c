# SPDX-License-Identifier: MIT
"""Labelled crystals from public sources, cleaned, in one packed form; docs/data.md describes the sources."""

from .dropped import Dropped, Why, count_dropped, write_dropped
from .run import FetchedSet, Request, fetch_set
from .selection import Frame, Selection, select
from .sources import SOURCES, Source

__all__ = [
    "SOURCES",
    "Dropped",
    "FetchedSet",
    "Frame",
    "Request",
    "Selection",
    "Source",
    "Why",
    "count_dropped",
    "fetch_set",
    "select",
    "write_dropped",
]
