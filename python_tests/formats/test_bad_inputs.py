# SPDX-License-Identifier: MIT
"""A folder with bad files of many kinds: every good crystal is read, each bad one listed with file, id and reason."""

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
import zipfile

import pyarrow as pa
import pytest
from pyarrow import parquet
from test_archives import write as write_archive
from test_bad_files import CIF, EXTXYZ, POSCAR, ROW
from test_csv_file import csv_text
from test_json_structures import OPTIMADE, STRUCTURE

from dtnn_fast.crystals.checks import check_crystal
from dtnn_fast.crystals.crystal import Crystal, Rejected
from dtnn_fast.errors import BadCrystalError
from dtnn_fast.formats.compressed import RATIO_FREE_BYTES
from dtnn_fast.formats.find_files import find_files, read_files

GOOD = {**OPTIMADE, "species_at_sites": ["magnesium", "O"]}
LARGE_ROW = json.dumps({**json.loads(ROW), "lattice_angstrom": [[4, 0, 0], [0, 4, 0], [0, 0, 4]]})
BOMB = b" " * (RATIO_FREE_BYTES * 2)
HTML = "<!DOCTYPE html>\n<html><body><h1>404 Not Found</h1></body></html>\n"


def optimade(id, **changes):
    return {"id": id, "type": "structures", "attributes": {**GOOD, **changes}}


def last_line(word, column):
    *lines, last = CIF.rstrip("\n").split("\n")
    words = last.split()
    words[column] = word
    return "\n".join([*lines, " ".join(words)])


HALF = [
    {"name": "magnesium", "chemical_symbols": ["Mg", "vacancy"], "concentration": [0.5, 0.5]},
    OPTIMADE["species"][1],
]
GROUP = [{"name": "magnesium", "chemical_symbols": ["Mg"], "concentration": [1.0], "attached": ["H"], "nattached": [2]}]
# Text or bytes by name, id, and part of the reason.
BAD_FILES = {
    "truncated.cif": (CIF[: len(CIF) // 2], "truncated.cif", "truncated"),
    "cut_atoms.cif": ("\n".join(CIF.splitlines()[:-2]), "cut_atoms", "truncated"),
    "page.cif": (HTML, "page.cif", "not valid CIF"),
    "page.json": (HTML, "page.json", "not valid JSON"),
    "partial.cif": (last_line("0.5", 6), "partial", "partial occupancy"),
    "dummy.cif": (last_line("Xx", 0), "dummy", "names no element"),
    "no_number.cif": (last_line("nan", 3), "no_number", "not a number"),
    "nan.vasp": (POSCAR.replace(".5 .5 .5", "nan .5 .5"), "nan", "NaN or infinite"),
    "unknown.vasp": (POSCAR.replace("Na Cl", "Na Qq"), "unknown.vasp", "'Qq' is not the symbol of an element"),
    "overlap.vasp": (POSCAR.replace(".5 .5 .5", ".01 .01 .01"), "overlap", "atoms 0 (Na) and 1 (Cl)"),
    "flat.vasp": (POSCAR.replace("0 0 1\n", "1 1 0\n"), "flat", "volume"),
    "empty.cif": ("", "empty.cif", "the file is empty"),
    "blank.xyz": ("\n\n", "blank.xyz", "the file is empty"),
    "molecule.xyz": (EXTXYZ.replace('Lattice="4 0 0 0 4 0 0 0 4" ', ""), "molecule", "a molecule, not a crystal"),
    "slab.xyz": (EXTXYZ.replace("T T T", "T T F"), "slab", "periodic"),
    "binary.cif": (bytes(range(256)), "binary.cif", "not a text file"),
    "picture.cif": (b"\x89PNG\r\n\x1a\n", "picture.cif", "a PNG picture"),
    "named.json": (CIF, "named.json", "named as JSON, but it looks like CIF"),
    "cut.cif.gz": (gzip.compress(CIF.encode())[:-9], "cut.cif.gz", "truncated: its gzip data ends too early"),
    "bomb.cif.gz": (gzip.compress(BOMB), "bomb.cif.gz", "decompression bomb"),
    "bomb.json.bz2": (bz2.compress(BOMB), "bomb.json.bz2", "decompression bomb"),
    "bomb.jsonl.xz": (lzma.compress(BOMB), "bomb.jsonl.xz", "decompression bomb"),
    "no_structure.csv.gz": (gzip.compress(b'id,cif\nx,"data_'), "no_structure.csv.gz", "not a CSV file, or truncated"),
    "junk.parquet": (b"PAR1junk", "junk.parquet", "not a Parquet file"),
    "junk.npz": (b"PK\x03\x04junk", "junk.npz", "damaged"),
    "junk.zip": (b"PK\x03\x04junk", "junk.zip", "the archive is damaged or truncated"),
    "junk.db": (b"SQLite format 3\0junk", "junk.db", "not a database of ASE, or damaged"),
    "deep.json": ("[" * 100_000, "deep.json", "nested too deeply"),
}
# Documents that are not crystals, among good ones.
BAD_DOCUMENTS = {
    "disorder": (optimade("disorder", structure_features=["disorder"]), "partial occupancy"),
    "implicit": (optimade("implicit", structure_features=["implicit_atoms"]), "atoms without positions"),
    "attachments": (optimade("attachments", structure_features=["site_attachments"]), "atoms attached to sites"),
    "attached": (optimade("attached", species=[*GROUP, OPTIMADE["species"][1]]), "atoms attached to it"),
    "assembly": (optimade("assembly", structure_features=["assemblies"]), "assemblies"),
    "half": (optimade("half", species=[*HALF, OPTIMADE["species"][1]]), "partial occupancy"),
    "unknown": (optimade("unknown", species=None, species_at_sites=["X", "O"]), "which is not an element"),
    "layered": (optimade("layered", dimension_types=[1, 1, 0]), "periodic"),
    "not finite": (
        optimade("not finite", cartesian_site_positions=[[0, 0, 0], [0, float("nan"), 2]]),
        "NaN or infinite",
    ),
    "sites": (optimade("sites", nsites=3), "nsites is 3"),
}


@pytest.fixture
def folder(tmp_path):
    """Good files, and bad ones of all kinds beside and between them."""
    (tmp_path / "good").mkdir()
    (tmp_path / "directory.cif").mkdir()
    good = {
        "good/a.cif": CIF,
        "good/b.vasp": POSCAR,
        "directory.cif/c.xyz": EXTXYZ,
        "good/row.jsonl": f"{LARGE_ROW}\n{{\n{LARGE_ROW}\n",  # the second has the id of the first
        "good/d.json.xz": json.dumps(STRUCTURE),
        "good/notes.txt": "remarks",
        "summary.csv": "material_id,gap\nb,1.5\nnowhere,2\n",
    }
    for name, text in good.items():
        data = text.encode()
        (tmp_path / name).write_bytes(lzma.compress(data) if name.endswith(".xz") else data)
    (tmp_path / os.fsdecode(b"gr\xfcn.cif")).write_text(CIF)
    for name, (content, _, _) in BAD_FILES.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    documents = [optimade("first"), *(document for document, _ in BAD_DOCUMENTS.values()), optimade("last")]
    (tmp_path / "documents.json").write_text(json.dumps({"data": documents}))
    (tmp_path / "documents.jsonl").write_text("\n".join(map(json.dumps, documents)))
    write_archive(
        tmp_path / "archive.zip",
        [("x.cif", CIF), ("../y.cif", CIF), ("/z.cif", CIF), ("bomb.cif", BOMB), ("last.cif", CIF)],
    )
    with tarfile.open(tmp_path / "archive.tar.gz", "w:gz") as archive:
        for name in ("../y.cif", "t.cif"):
            entry = tarfile.TarInfo(name)
            entry.size = len(CIF)
            archive.addfile(entry, io.BytesIO(CIF.encode()))
    (tmp_path / "table.csv").write_text(csv_text(["id", "cif"], [["r1", CIF], ["r2", HTML], ["r3", CIF]]))
    rows = [
        {key: GOOD[key] for key in ("lattice_vectors", "cartesian_site_positions")} | {"id": f"p{n}"} for n in range(2)
    ]
    rows = [{**row, "species_at_sites": names} for row, names in zip(rows, (["Mg", "O"], ["Mg", "Qq"]), strict=True)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    return tmp_path


def read_all(folder):
    found = find_files([folder])
    items = [*found.rejected, *read_files(found.files, tables=found.tables)]
    crystals, rejected = [], []
    for item in items:
        try:
            if isinstance(item, Crystal):
                check_crystal(item)
                crystals.append(item)
            else:
                rejected.append(item)
        except BadCrystalError as error:
            rejected.append(Rejected.from_error(error, item.id, item.source))
    return found, crystals, rejected


def test_every_good_crystal_is_read_and_each_bad_one_listed(folder):
    found, crystals, rejected = read_all(folder)
    assert [path.name for path in found.skipped] == ["notes.txt"]
    assert [path.name for path in found.tables] == ["summary.csv"]
    ids = r"a b c d gr\udcfcn mp-1 mp-1#2 first last first#2 last#2 x last#3 t r1 r3 p0"
    expected = set(ids.split())
    assert {crystal.id for crystal in crystals} == expected
    assert next(crystal for crystal in crystals if crystal.id == "b").info == {"gap": 1.5}

    by_source = {}
    for item in rejected:
        by_source.setdefault(item.source, []).append(item)
    for name, (_, id, reason) in BAD_FILES.items():
        (item,) = by_source.pop(str(folder / name))
        assert item.id == id, item
        assert reason in item.reason, item
    for name, (_, reason) in BAD_DOCUMENTS.items():
        items = [item for item in rejected if item.id in (name, f"{name}#2") and "documents." in item.source]
        assert len(items) == 2
        assert all(reason in item.reason for item in items), items
    others = {
        "archive.zip/../y.cif": 'leads out of it by ".."',
        "archive.zip//z.cif": "is an absolute path",
        "archive.zip/bomb.cif": "decompression bomb",
        "archive.tar.gz/../y.cif": 'leads out of it by ".."',
        "table.csv (row 2)": "not valid CIF",
        "rows.parquet (row 2)": "'Qq', which is not an element",
        "good/row.jsonl:2": "not valid JSON",
    }
    for source, reason in others.items():
        (item,) = by_source[f"{folder}/{source}"]
        assert reason in item.reason
    assert len(rejected) == len(BAD_FILES) + 2 * len(BAD_DOCUMENTS) + len(others)
    # Each can be written to a CSV of UTF-8.
    for item in rejected:
        f"{item.id},{item.source},{item.reason}".encode()


def test_ids_do_not_depend_on_what_is_bad(folder):
    _, crystals, _ = read_all(folder)
    for name in BAD_FILES:
        (folder / name).unlink()
    assert [crystal.id for crystal in read_all(folder)[1]] == [crystal.id for crystal in crystals]


@pytest.mark.parametrize(
    "name", ["a.cif", "a.json", "a.zip", "a.tar", "a.parquet", "a.db", "a.npz", "a.csv", "a.jsonl.gz"]
)
def test_a_file_without_permission(tmp_path, monkeypatch, name):
    closed = tmp_path / name
    closed.write_text("x")
    (tmp_path / "b.vasp").write_text(POSCAR)
    closed.chmod(0)
    if os.access(closed, os.R_OK):  # root reads every file
        opened = io.open

        def refuse(file, *args, **options):
            if os.fspath(file) == str(closed):
                raise PermissionError(13, "Permission denied", str(closed))
            return opened(file, *args, **options)

        monkeypatch.setattr("pathlib.io.open", refuse)
        monkeypatch.setattr("builtins.open", refuse)
    found = find_files([tmp_path])
    assert found.files == [closed, tmp_path / "b.vasp"]
    rejected, crystal = read_files(found.files)
    assert crystal.id == "b"
    assert (rejected.id, rejected.source) == (name, str(closed))
    assert "Permission denied" in rejected.reason or name == "a.parquet"


def test_archives_never_write_to_the_disk(folder, monkeypatch):
    for owner, method in [(zipfile.ZipFile, "extract"), (tarfile.TarFile, "extract"), (tarfile.TarFile, "extractall")]:
        monkeypatch.setattr(owner, method, None)
    before = sorted(folder.parent.rglob("*"))
    read_all(folder)
    assert sorted(folder.parent.rglob("*")) == before
