# SPDX-License-Identifier: MIT
"""Ids of crystals that are named after their file, unique among all files of one call."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..crystals.crystal import Crystal, Rejected
from .compressed import uncompressed_name

# VASP calls all its files POSCAR or CONTCAR, so the folder tells which crystal it is.
_NAMED_BY_FOLDER = re.compile(r"(?:POSCAR|CONTCAR)(?:\.(?:gz|bz2|xz))?", re.IGNORECASE)
# POSCAR.mp-149 and CONTCAR.relaxed have no ending that says what they are.
_ENDS_IN_NAME = re.compile(r"(?:POSCAR|CONTCAR)\.", re.IGNORECASE)


def default_id(path: Path) -> str:
    """Return the id of a crystal that its file does not name.

    It is the file's name without ending; POSCAR and CONTCAR have the folder's name in front.

    Args:
        path: the file.
    """
    if _NAMED_BY_FOLDER.fullmatch(path.name):
        folder = path.resolve().parent.name
        return f"{folder}/{path.name}" if folder else path.name
    name = uncompressed_name(path.name)
    if _ENDS_IN_NAME.match(name) and not name.lower().endswith((".vasp", ".poscar", ".json", ".cif")):
        return name
    return name.rsplit(".", 1)[0]


def unique_default_ids(files: Iterable[Path]) -> dict[Path, str]:
    """Name files so that no two have the same name, whatever their order.

    Where default ids repeat, as many parent folders as needed are put in front to distinguish the files. Files in one
    folder that differ in their ending only keep it: ``a.cif`` and ``a.json``.

    Args:
        files: all files of a call.

    Returns:
        The id of each file. Two spellings of one path have the same id.
    """
    groups: defaultdict[str, dict[Path, None]] = defaultdict(dict)
    for file in files:
        groups[default_id(file)][file] = None
    ids = {}
    for default, group in groups.items():
        if len(group) == 1:
            ids[next(iter(group))] = default
            continue
        in_folder: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
        folders = {file: file.absolute().parent.parts for file in group}
        for file in group:
            in_folder[folders[file]].add(file.name)
        parts = {
            file: (*folders[file], default.rsplit("/", 1)[-1] if len(in_folder[folders[file]]) == 1 else file.name)
            for file in group
        }
        num_folders = default.count("/") + (len(set(folders.values())) > 1)
        ids.update(_shortest_ends(parts, num_folders + 1))
    return ids


def _shortest_ends(parts: dict[Path, tuple[str, ...]], num_parts: int) -> dict[Path, str]:
    """Join the last parts of each path: at least `num_parts`, and as many as no other path ends in."""
    ends: dict[Path, str] = {}
    longest = max(map(len, parts.values()))
    waiting = set(parts)
    while waiting:
        owners = defaultdict(set)
        for path_parts in parts.values():
            owners[path_parts[-num_parts:]].add(path_parts)
        for file in list(waiting):
            end = parts[file][-num_parts:]
            if len(owners[end]) == 1 or num_parts >= longest:
                ends[file] = "/".join(part.strip("/") for part in end)
                waiting.discard(file)
        num_parts += 1
    return ends


def with_file_id(item: Crystal | Rejected, default: str, file_id: str) -> Crystal | Rejected:
    """Rename what is named after its file, or after its file and a number or name within it.

    Args:
        item: read from the file.
        default: the default id of the file.
        file_id: the unique id of the file.
    """
    if default != file_id and (item.id == default or item.id.startswith(f"{default}:")):
        return replace(item, id=file_id + item.id.removeprefix(default))
    return item


class RepeatedIds:
    """Suffixes for ids that occur again: ``mp-1``, ``mp-1#2``, ``mp-1#3``."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._counts: dict[str, int] = {}

    def rename(self, crystal: Crystal) -> Crystal:
        """Return the crystal, with a suffix where its id was seen before."""
        name = crystal.id
        while name in self._known:
            self._counts[crystal.id] = self._counts.get(crystal.id, 1) + 1
            name = f"{crystal.id}#{self._counts[crystal.id]}"
        self._known.add(name)
        return crystal if name == crystal.id else replace(crystal, id=name)
