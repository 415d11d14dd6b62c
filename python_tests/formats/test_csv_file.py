# SPDX-License-Identifier: MIT
"""CSV with a column of structures, and tables of properties that are joined to crystals by id."""

import bz2
import csv
import gzip
import io
import json
import zipfile

import numpy as np
import pytest
from crystal_examples import ONE_OF_EACH_SYSTEM, assert_same_frame, to_pymatgen
from pymatgen.io.cif import CifWriter
from test_bad_files import CIF, JSON, POSCAR, ROW

from dtnn_fast.crystals.crystal import Crystal, Rejected
from dtnn_fast.errors import BadFileError
from dtnn_fast.formats.find_files import expand_paths, find_files, read_files
from dtnn_fast.formats.property_table import PropertyTable
from dtnn_fast.formats.reading import read_crystals
from dtnn_fast.screening.sources import open_source


def csv_text(header, rows, **options):
    output = io.StringIO()
    writer = csv.writer(output, **options)
    writer.writerow(header)
    writer.writerows(rows)
    return output.getvalue()


def write(path, text):
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_column_of_cif(tmp_path, name, separator):
    header = ["", "material_id", "formula", "gap", "stable", "cif.conv"]
    rows = [[0, "mp-1", "PtO2", "1.5", "True", CIF], [1, "mp-2", "PtO2", "", "False", CIF.replace("\n", "\r\n")]]
    path = write(tmp_path / name, csv_text(header, rows, delimiter=separator))
    first, second = read_crystals(path)
    assert (first.id, second.id) == ("mp-1", "mp-2")
    assert first.num_atoms == second.num_atoms == 6
    assert first.info == {"formula": "PtO2", "gap": 1.5, "stable": True}
    assert second.info == {"formula": "PtO2", "stable": False}
    assert second.source == f"{path} (row 2)"
    assert expand_paths([tmp_path]).files == [path]


def test_a_column_of_json(tmp_path):
    structures = [to_pymatgen(crystal) for crystal in ONE_OF_EACH_SYSTEM]
    header = ["initial_structure", "structure", "n"]
    rows = [[JSON, structure.to_json(), number] for number, structure in enumerate(structures)]
    items = read_crystals(write(tmp_path / "a.csv", csv_text(header, rows)))
    assert [item.id for item in items] == [f"a:{number}" for number in range(1, len(rows) + 1)]
    for number, (item, crystal) in enumerate(zip(items, ONE_OF_EACH_SYSTEM, strict=True)):
        assert_same_frame(item, crystal, 1e-12)
        assert item.info == {"n": number}


def test_a_cell_of_more_than_python_allows(tmp_path):
    path = write(tmp_path / "a.csv", csv_text(["id", "cif"], [["x", f"# {'x' * 200_000}\n{CIF}"]]))
    (crystal,) = read_crystals(path)
    assert (crystal.id, crystal.num_atoms) == ("x", 6)


def test_bad_rows_among_good_ones(tmp_path):
    half = CIF.replace("  1\n", "  0.5\n")
    assert half != CIF
    bad = {
        "empty": ("", "no structure is given"),
        "half": (half, "partial occupancy"),
        "page": ("<html>", "not valid CIF"),
        "cut": (JSON[:200], "not valid JSON"),
        "two": (f"{CIF}\n{CIF}", None),
    }
    rows = [["good", CIF], *([name, cell] for name, (cell, _) in bad.items()), ["few"], ["last", JSON]]
    text = csv_text(["id", "cif"], rows)
    path = write(tmp_path / "a.csv", text)
    first, *middle, two, again, few, last = read_crystals(path)
    assert (first.id, last.id) == ("good", "last")
    assert (two.id, again.id) == ("two:1", "two:2")
    for row, (item, (name, (_, reason))) in enumerate(zip(middle, bad.items(), strict=False), start=2):
        assert isinstance(item, Rejected)
        assert (item.id, item.source) == (name, f"{path} (row {row})")
        assert reason in item.reason
    line = text[: text.index("few")].count("\n") + 1
    assert (few.id, few.reason) == ("few", f"expected 2 cells in the row that ends on line {line}, got 1")


@pytest.mark.parametrize("text", ["id,cif\n", "id\n1\n", "a,b\n1,2\n", "#\n#\n", 'id,cif\nx,"data_'])
def test_files_without_structures(tmp_path, text):
    path = write(tmp_path / "a.csv", text)
    with pytest.raises(BadFileError, match=r"no column of structures|not a CSV file, or truncated"):
        read_crystals(path)


def test_large_files_are_read_in_parts(tmp_path, monkeypatch):
    rows = [[f"mp-{number}", CIF, number] for number in range(4)]
    path = write(tmp_path / "a.csv", csv_text(["id", "cif", "n"], rows))
    monkeypatch.setattr("dtnn_fast.formats.text_files.WHOLE_BYTES", 0)
    monkeypatch.setattr("dtnn_fast.formats.compressed.CHUNK_BYTES", 97)
    items = read_crystals(path)
    assert [(item.id, item.num_atoms, item.info) for item in items] == [
        (f"mp-{number}", 6, {"n": number}) for number in range(4)
    ]


SUMMARY = (
    "# remark\nMaterialId,Formula,Bandgap,Is Train,Elements\nabc,PtO2,1.5,True,\"['O', 'Pt']\"\nx,NaCl,nan,False,\n"
)


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "csv.bz2"])
def test_a_table_of_properties(tmp_path, ending):
    path = tmp_path / f"summary.{ending}"
    compress = {"csv": bytes, "csv.gz": gzip.compress, "csv.bz2": bz2.compress}[ending]
    path.write_bytes(compress(SUMMARY.encode()))
    table = PropertyTable.read(path)
    assert table.properties_of("abc") == {
        "Formula": "PtO2",
        "Bandgap": 1.5,
        "Is Train": True,
        "Elements": "['O', 'Pt']",
    }
    assert table.properties_of("x") == {"Formula": "NaCl", "Is Train": False}
    assert table.properties_of("y") == {}
    crystal = Crystal.make("abc", [8], [[0, 0, 0]], np.eye(3), info={"Bandgap": 2.0, "n": 1})
    assert table.join(crystal).info == {**table.properties_of("abc"), "Bandgap": 2.0, "n": 1}
    assert len(table.unmatched()) == 1
    assert expand_paths([tmp_path]) == ([], [], [], [path])
    assert expand_paths([path]).tables == [path]


def test_gnome(tmp_path):
    """A zip of CIF files that are named by id, beside the table of their properties."""
    with zipfile.ZipFile(tmp_path / "by_id.zip", "w") as archive:
        archive.writestr("by_id/abc.CIF", CIF)
        archive.writestr("by_id/other.CIF", CIF)
    write(tmp_path / "summary.csv", SUMMARY)
    found = find_files([tmp_path])
    assert (found.files, found.tables) == ([tmp_path / "by_id.zip"], [tmp_path / "summary.csv"])
    table = PropertyTable.read(found.tables[0])
    first, second = read_files(found.files, tables=[table])
    assert first.info["Bandgap"] == 1.5
    assert second.info == {}
    assert len(table.unmatched()) == 1
    assert [item.info for item in read_files(found.files, tables=found.tables)] == [first.info, {}]


def test_screening_joins_tables(tmp_path):
    write(tmp_path / "abc.cif", CIF)
    write(tmp_path / "summary.csv", SUMMARY)
    (crystal,) = open_source([tmp_path / "abc.cif", tmp_path / "summary.csv"], []).read()
    assert crystal.info["Bandgap"] == 1.5


def test_wbm(tmp_path):
    """Lines of entries, and the summary by id."""
    entry = {"@class": "ComputedStructureEntry", "energy": -1.0, "structure": json.loads(JSON)}
    lines = [json.dumps({"material_id": f"wbm-1-{number}", "computed_structure_entry": entry}) for number in (1, 2)]
    write(tmp_path / "wbm-computed-structure-entries.jsonl.gz", "\n".join(lines))
    write(tmp_path / "wbm-summary.csv.gz", "material_id,e_above_hull,bandgap_pbe\nwbm-1-2,0.01,1.5\nwbm-1-1,0.2,0.0\n")
    found = find_files([tmp_path])
    first, second = read_files(found.files, tables=found.tables)
    assert (first.id, first.info) == ("wbm-1-1", {"energy": -1.0, "e_above_hull": 0.2, "bandgap_pbe": 0.0})
    assert (second.id, second.info) == ("wbm-1-2", {"energy": -1.0, "e_above_hull": 0.01, "bandgap_pbe": 1.5})


def test_ids_are_joined_as_they_stand_in_the_files(tmp_path):
    for folder in ("b", "c"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "mp-1.vasp", POSCAR)
    write(tmp_path / "table.csv", "id,gap\nmp-1,1.5\n")
    found = find_files([tmp_path])
    items = list(read_files(found.files, tables=found.tables))
    assert [(item.id, item.info) for item in items] == [("b/mp-1", {"gap": 1.5}), ("c/mp-1", {"gap": 1.5})]


@pytest.mark.parametrize(
    ("id", "gap"),
    [("mp-1", 1), ("a/mp-1", 1), ("x/mp-2/POSCAR", 2), ("mp-2/CONTCAR.gz", 2), ("b/c", 3), ("mp-1/x", None)],
)
def test_ids_with_folders(tmp_path, id, gap):
    table = PropertyTable.read(write(tmp_path / "a.csv", "id,gap\nmp-1,1\nmp-2,2\nb/c,3\nc,4\n"))
    crystal = table.join(Crystal.make(id, [8], [[0, 0, 0]], np.eye(3)))
    assert crystal.info == ({} if gap is None else {"gap": gap})
    assert len(table.unmatched()) == 4 - (gap is not None)


def test_repeated_ids_in_a_table(tmp_path):
    table = PropertyTable.read(write(tmp_path / "a.csv", "id,gap\nx,1\nx,2\ny,3\n"))
    assert table.properties_of("x") == {"gap": 1}
    assert table.num_repeated == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "no column of ids"),
        ("id,b\n1,2\n1,2,3\n", "line 3: expected 2 cells, got 3"),
        ('id,b\n1,"2\n', "truncated: line"),
        ("", "the file is empty"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    path = write(tmp_path / "a.csv", text)
    with pytest.raises(BadFileError, match=message) as caught:
        PropertyTable.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    write(tmp_path / "a.jsonl", ROW)
    rejected, crystal = read_files([tmp_path / "a.jsonl"], tables=[path])
    assert (rejected.id, rejected.source) == ("a.csv", str(path))
    assert crystal.id == "mp-1"


def test_which_files_of_a_folder_are_what(tmp_path):
    texts = {
        "cifs.csv": csv_text(["cif"], [[CIF]]),
        "damaged.csv": 'id,"b\n1,2',
        "notes.csv": "a,b\n1,2\n",
        "ranking.csv": "rank,id,total_mean\n1,x,3\n",
        "rejected.csv": "id,source,reason\n",
        "table.csv": "id,gap\nx,1\n",
        "earlier/manifest.json": '{"format": "dtnn_fast screening 1"}',
        "earlier/x.vasp": POSCAR,
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, text)
    found = find_files([tmp_path])
    assert [file.name for file in found.files] == ["cifs.csv", "damaged.csv"]
    assert [file.name for file in found.tables] == ["table.csv"]
    assert [file.name for file in found.skipped] == ["notes.csv", "ranking.csv", "rejected.csv", "earlier"]
    assert found.notice.startswith("skipped 3 files of unknown format and 1 folder of an earlier screening, such as ")
    assert [item.id for item in read_files(found.files)] == ["cifs:1", "damaged.csv"]
    # A folder of a screening that is given is read.
    assert [file.name for file in find_files([tmp_path / "earlier"]).files] == ["manifest.json", "x.vasp"]


def test_cif_of_every_system(tmp_path):
    rows = [[crystal.id, str(CifWriter(to_pymatgen(crystal)))] for crystal in ONE_OF_EACH_SYSTEM]
    items = read_crystals(write(tmp_path / "a.csv", csv_text(["id", "cif"], rows)))
    for item, (name, text) in zip(items, rows, strict=True):
        (tmp_path / "b.cif").write_text(text)
        (expected,) = read_crystals(tmp_path / "b.cif")
        assert item.id == name
        assert item.positions.tolist() == expected.positions.tolist()
