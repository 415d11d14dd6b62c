# SPDX-License-Identifier: MIT
"""Structures in JSON documents, as pymatgen, OPTIMADE, JARVIS and ASE write them; none of these packages is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..crystals.crystal import Crystal, Rejected
from ..crystals.elements import atomic_number
from ..errors import BadCrystalError
from .scalars import Scalar, scalars_of

# Where a document holds its structure, the first that is there. The entries are those of the WBM set.
STRUCTURE_KEYS = (
    *("structure", "final_structure", "relaxed_structure", "atoms", "computed_structure_entry", "cse"),
    *("attributes", "output", "initial_structure"),
)
OPTIMADE_KEYS = ("lattice_vectors", "cartesian_site_positions", "species_at_sites")
# Where a document holds its id, the first that is there.
_ID_KEYS = (
    *("material_id", "entry_id", "mat_id", "structure_id", "jid", "id", "immutable_id"),
    *("task_id", "_id", "name"),
)
# Inner objects that may hold the id: of pymatgen's entries and of ASE's rows.
_ID_HOLDERS = ("data", "key_value_pairs")
# Inner objects whose scalars are kept; those of `symmetry` (Materials Project) with its name in front.
_SCALAR_HOLDERS = {"data": "", "key_value_pairs": "", "properties": "", "symmetry": "symmetry."}
_MOLECULES = ("Molecule", "IMolecule")
_OCCUPANCY_TOLERANCE = 1e-8


def read_document(document: Any, default_id: str, source: str) -> Crystal | Rejected:
    """Read one structure, or one document that holds a structure; scalars beside it go to `Crystal.info`.

    Args:
        document: parsed JSON.
        default_id: the id, if the document has none.
        source: where it came from, for messages.
    """
    name = id_of(document, default_id)
    structure = structure_of(document)
    form = _FORMS[0] if structure is None else _form_of(structure) or _FORMS[0]
    try:
        if structure is None:
            raise BadCrystalError(_why_no_structure(document))
        return replace(form.read(structure, name, source), info=scalars_beside(document, name))
    except BadCrystalError as error:
        return Rejected.from_error(error, name, source)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
        article = "an" if form.name[0] in "AO" else "a"
        return Rejected(name, source, f"not {article} {form.name} structure: {type(error).__name__}: {error}")


def structure_of(document: Any) -> Mapping[str, Any] | None:
    """Return the structure in a document, or None. A Molecule counts, because it is rejected by name.

    Args:
        document: parsed JSON.
    """
    if not isinstance(document, Mapping):
        return None
    if _form_of(document) is not None or document.get("@class") in _MOLECULES:
        return document
    for key in STRUCTURE_KEYS:
        structure = structure_of(document.get(key))
        if structure is not None:
            return structure
    return None


def scalars_beside(document: Mapping[str, Any], id: str) -> dict[str, Scalar]:
    """Return the scalars of a document beside its structure, under the names of the document.

    These are the scalars of every object on the way to the structure, the outer one first where two have one name, and
    of their objects `data`, `key_value_pairs`, `properties` and `symmetry`. The crystal's own id is left out.

    Args:
        document: holds a structure (see `structure_of`).
        id: the id of the crystal.
    """
    kept: dict[str, Scalar] = {}
    level: Mapping[str, Any] | None = document
    while level is not None:
        form = _form_of(level)
        if form is None or form.has_scalars:
            kept = scalars_of(level, form.keys if form else ()) | kept
        for holder, prefix in _SCALAR_HOLDERS.items():
            inner = level.get(holder)
            if isinstance(inner, Mapping) and structure_of(inner) is None:
                kept = scalars_of(inner, prefix=prefix) | kept
        inside = (level.get(key) for key in STRUCTURE_KEYS)
        level = None if form else next((inner for inner in inside if structure_of(inner) is not None), None)
    return {key: value for key, value in kept.items() if not (key in _ID_KEYS and str(value) == id)}


def _form_of(document: Mapping[str, Any]) -> _Form | None:
    return next((form for form in _FORMS if form.keys <= document.keys()), None)


def id_of(document: Any, default: str) -> str:
    """Return the id that a document has at its top, in `data` or in `key_value_pairs`.

    Args:
        document: parsed JSON.
        default: the id where it has none.
    """
    if not isinstance(document, Mapping):
        return default
    for holder in (document, *(document.get(key) for key in _ID_HOLDERS)):
        if not isinstance(holder, Mapping):
            continue
        for key in _ID_KEYS:
            value = holder.get(key)
            if isinstance(value, Mapping):  # MongoDB writes {"$oid": "..."}
                value = value.get("$oid")
            if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
                return str(value)
    return default


def _why_no_structure(document: Any) -> str:
    written_by = document.get("@class") if isinstance(document, Mapping) else None
    if isinstance(written_by, str) and written_by.endswith("Entry"):
        return f"no structure in this document: it is a {written_by}, a ComputedStructureEntry is needed"
    return "no structure in this document"


def _is_ordered(occupancies: Sequence[Any]) -> bool:
    """Return whether there is one species with occupancy 1; NaN is not 1."""
    return len(occupancies) == 1 and abs(float(occupancies[0]) - 1) <= _OCCUPANCY_TOLERANCE


def _occupancy_text(species: Sequence[Any], occupancies: Sequence[Any]) -> str:
    return ", ".join(f"{name}: {float(value):g}" for name, value in zip(species, occupancies, strict=True)) or "vacant"


def _atomic_number(name: str, site: int) -> int:
    try:
        return atomic_number(name)
    except (ValueError, TypeError):
        raise BadCrystalError(f"site {site} holds {name!r}, which is not an element") from None


def _read_pymatgen(structure: Mapping[str, Any], name: str, source: str) -> Crystal:
    if structure.get("@class") in _MOLECULES:
        raise BadCrystalError(f"a {structure['@class']} has no lattice: a crystal is needed")
    numbers = []
    for index, site in enumerate(structure["sites"]):
        elements = [entry["element"] for entry in site["species"]]
        occupancies = [entry["occu"] for entry in site["species"]]
        if not _is_ordered(occupancies):
            described = f"{index} ({site.get('label') or '?'}: {_occupancy_text(elements, occupancies)})"
            raise BadCrystalError(f"partial occupancy at site {described}: order the structure first")
        numbers.append(_atomic_number(elements[0], index))
    lattice = structure["lattice"]
    fractional = [site["abc"] for site in structure["sites"]]
    pbc = lattice.get("pbc", True)
    return Crystal.from_fractional(name, numbers, fractional, lattice["matrix"], pbc=pbc, source=source)


def _read_optimade(structure: Mapping[str, Any], name: str, source: str) -> Crystal:
    """Read the attributes of a "structures" entry; without `species`, the names at the sites must be elements."""
    features = structure.get("structure_features") or []
    for feature, meaning in (
        ("disorder", "partial occupancy"),
        ("implicit_atoms", "atoms without positions"),
        ("site_attachments", "atoms attached to sites"),
        ("assemblies", "disorder (assemblies)"),
    ):
        if feature in features:
            raise BadCrystalError(f"{meaning}: its structure_features have {feature!r}; order the structure first")
    elements: dict[str, str] = {}
    for entry in structure.get("species") or []:
        name_of_species, symbols = entry["name"], entry["chemical_symbols"]
        if entry.get("attached"):
            raise BadCrystalError(f"species {name_of_species!r} has atoms attached to it: {entry['attached']}")
        concentrations = entry.get("concentration", [1.0] * len(symbols))
        if not _is_ordered(concentrations) or symbols == ["vacancy"]:
            described = f"{name_of_species!r} ({_occupancy_text(symbols, concentrations)})"
            raise BadCrystalError(f"partial occupancy of species {described}: order the structure first")
        if name_of_species in elements:
            raise BadCrystalError(f"species {name_of_species!r} is given twice")
        elements[name_of_species] = symbols[0]
    sites = structure["species_at_sites"]
    if elements:
        unknown = [site for site in sites if site not in elements]
        if unknown:
            raise BadCrystalError(f"species_at_sites has {unknown[0]!r}, which is not in species")
        sites = [elements[site] for site in sites]
    nsites = structure.get("nsites")
    if nsites is not None and nsites != len(sites):
        raise BadCrystalError(f"nsites is {nsites}, but species_at_sites has {len(sites)} entries")
    numbers = [_atomic_number(site, index) for index, site in enumerate(sites)]
    dimensions = structure.get("dimension_types")
    num_periodic = structure.get("nperiodic_dimensions")
    if dimensions is None and num_periodic not in (None, 3):
        raise BadCrystalError(f"nperiodic_dimensions is {num_periodic}: a crystal is periodic in three directions")
    pbc = True if dimensions is None else [bool(periodic) for periodic in dimensions]
    positions, cell = structure["cartesian_site_positions"], structure["lattice_vectors"]
    return Crystal.make(name, numbers, positions, cell, pbc, source=source)


def _read_jarvis(structure: Mapping[str, Any], name: str, source: str) -> Crystal:
    numbers = [_atomic_number(element, index) for index, element in enumerate(structure["elements"])]
    if not isinstance(structure["cartesian"], bool):
        raise BadCrystalError(f"expected `cartesian` to be true or false, got {structure['cartesian']!r}")
    make = Crystal.make if structure["cartesian"] else Crystal.from_fractional
    return make(name, numbers, structure["coords"], structure["lattice_mat"], source=source)


def _read_ase(structure: Mapping[str, Any], name: str, source: str) -> Crystal:
    if "cell" not in structure:
        raise BadCrystalError("no cell, so this is a molecule, not a crystal")
    arrays = {key: _ase_array(structure[key]) for key in ("numbers", "positions", "cell", "pbc")}
    return Crystal.make(name, arrays["numbers"], arrays["positions"], arrays["cell"], arrays["pbc"], source=source)


def _ase_array(value: Any) -> Any:
    """Convert ``{"__ndarray__": [shape, dtype, values]}``, which may be the "array" of a cell."""
    if isinstance(value, Mapping):
        if "array" in value:
            return _ase_array(value["array"])
        shape, _, values = value["__ndarray__"]
        return np.reshape(values, shape)
    return value


class _Form(NamedTuple):
    """A form in which structures are written.

    Args:
        name: name of the package or standard, for messages.
        keys: names that such a structure has.
        read: takes structure, id and source; it raises KeyError, ValueError or TypeError for what is not in the form.
        has_scalars: whether scalars beside these keys are properties, not a part of the structure.
    """

    name: str
    keys: frozenset[str]
    read: Callable[[Mapping[str, Any], str, str], Crystal]
    has_scalars: bool


_FORMS = (
    _Form("pymatgen", frozenset({"lattice", "sites"}), _read_pymatgen, False),
    _Form("OPTIMADE", frozenset(OPTIMADE_KEYS), _read_optimade, True),
    _Form("JARVIS", frozenset({"lattice_mat", "coords", "elements"}), _read_jarvis, False),
    _Form("ASE", frozenset({"numbers", "positions"}), _read_ase, True),
)
# Keys of an object that is a structure itself.
FORM_KEYS = frozenset().union(*(form.keys for form in _FORMS))
