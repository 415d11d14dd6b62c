# SPDX-License-Identifier: MIT
"""Read structures in the JSON of pymatgen and the Materials Project; pymatgen itself is not needed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..crystals.crystal import Crystal, Rejected
from ..crystals.elements import atomic_number
from ..errors import BadCrystalError, BadFileError

_ID_KEYS = ("material_id", "id", "task_id", "name")


def read_pymatgen_json(path: Path, text: str) -> Iterator[Crystal | Rejected]:
    """Read ``Structure.as_dict()``, a document with such a "structure", a list of these, or a dict of them by id.

    Raises:
        BadFileError: the file is not valid JSON, or has no structure.
    """
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise BadFileError(f"{path}: not valid JSON: nested too deeply") from error
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and error.colno == 1:
            raise BadFileError(f"{path}: looks like JSON lines, whose name should end in .jsonl") from error
        # An error at the very end of the text means that the rest is missing.
        is_truncated = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        reason = "the file is truncated" if is_truncated else "not valid JSON"
        raise BadFileError(f"{path}: {reason}: {error}") from error

    stem = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    documents = list(_documents(document, stem))
    if not any(structure_of(entry) is not None for _, entry in documents):
        raise BadFileError(
            f'{path}: no structure in it: expected pymatgen\'s Structure.as_dict(), or documents with a "structure"'
        )
    for name, entry in documents:
        yield read_document(entry, name, str(path) if len(documents) == 1 else f"{path} ({name})")


def read_document(document: Any, default_id: str, source: str) -> Crystal | Rejected:
    """Read one ``Structure.as_dict()``, or one document with a "structure".

    Args:
        document: parsed JSON.
        default_id: the id, if the document has none.
        source: where it came from, for messages.
    """
    name = _name_of(document, default_id)
    try:
        return _read_structure(structure_of(document), name, source)
    except BadCrystalError as error:
        return Rejected.from_error(error, name, source)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        return Rejected(name, source, f"not a pymatgen structure: {type(error).__name__}: {error}")


def _documents(document: Any, stem: str) -> Iterator[tuple[str, Any]]:
    """Yield (name, document) for each document of a list, a dict by id, a response or a single document."""
    if isinstance(document, Mapping) and structure_of(document) is None:
        if isinstance(document.get("data"), list):
            document = document["data"]
        elif any(structure_of(value) is not None for value in document.values()):
            yield from ((str(key), value) for key, value in document.items())
            return
    if isinstance(document, list):
        yield from ((f"{stem}:{number}", entry) for number, entry in enumerate(document, start=1))
    else:
        yield stem, document


def structure_of(entry: Any) -> Mapping[str, Any] | None:
    """Return the structure in a document, or None."""
    if not isinstance(entry, Mapping):
        return None
    if ("lattice" in entry and "sites" in entry) or entry.get("@class") == "Molecule":
        return entry
    return structure_of(entry.get("structure"))


def _name_of(entry: Any, default: str) -> str:
    if isinstance(entry, Mapping):
        for key in _ID_KEYS:
            if isinstance(entry.get(key), str | int):
                return str(entry[key])
    return default


def _read_structure(structure: Mapping[str, Any] | None, name: str, source: str) -> Crystal:
    if structure is None:
        raise BadCrystalError("no structure in this document")
    if structure.get("@class") == "Molecule":
        raise BadCrystalError("a Molecule has no lattice: a crystal is needed")
    numbers = []
    for index, site in enumerate(structure["sites"]):
        species = site["species"]
        if len(species) != 1 or abs(float(species[0]["occu"]) - 1) > 1e-8:
            occupancies = ", ".join(f"{entry['element']}: {entry['occu']:g}" for entry in species)
            site_label = f"{index} ({site.get('label') or '?'}: {occupancies})"
            raise BadCrystalError(f"partial occupancy at site {site_label}: order the structure first")
        numbers.append(atomic_number(species[0]["element"]))
    lattice = structure["lattice"]
    fractional = [site["abc"] for site in structure["sites"]]
    pbc = lattice.get("pbc", True)
    return Crystal.from_fractional(name, numbers, fractional, lattice["matrix"], pbc=pbc, source=source)
