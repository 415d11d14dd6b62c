# SPDX-License-Identifier: MIT
"""Each source, on recorded answers of its server, returns the published crystals and tensors."""

import gzip
import json
import zipfile

import numpy as np
import pytest
from fetch_examples import KEY, LABELLED, RECORDED, MaterialsProjectClient, jarvis_folder, recorded, recorded_client
from pymatgen.core import Structure

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.cleaning import SelectionRules
from dtnn_fast.datasets.fetch import DATA_SOURCES, FetchedSet, FetchRequest, fetch_set
from dtnn_fast.datasets.sources.jarvis import fetch_jarvis
from dtnn_fast.datasets.sources.materials_project import fetch_materials_project
from dtnn_fast.datasets.sources.matminer import fetch_matminer
from dtnn_fast.datasets.sources.paper import fetch_paper
from dtnn_fast.datasets.sources.source import DropReason, count_dropped
from dtnn_fast.errors import BadFileError, DTNNError, FetchError, MissingPackageError
from dtnn_fast.symmetry import find_symmetry


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("MP_API_KEY", KEY)


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def averaged(tensor, crystal):
    """The tensor averaged over the symmetry of the crystal, as the Materials Project publishes it."""
    rotations = find_symmetry(crystal).rotations
    return (rotations @ tensor @ rotations.transpose(0, 2, 1)).mean(axis=0)


def assert_published(found, published, symmetric=False):
    np.testing.assert_array_equal(found.atomic_numbers, published.atomic_numbers)
    np.testing.assert_allclose(found.cell, published.cell, atol=1e-7)
    np.testing.assert_allclose(found.positions, published.positions, atol=1e-6)
    assert found.targets.keys() == {"electronic", "ionic", "total"}
    for name, tensor in found.targets.items():
        expected = published.targets[name]
        expected = averaged(expected, published) if symmetric else expected
        np.testing.assert_allclose(tensor, expected, atol=2e-7)
        np.testing.assert_array_equal(tensor, tensor.T)


def fetch(name, folder, **options) -> FetchedSet:
    return fetch_set(
        FetchRequest(DATA_SOURCES[name], folder, **options), SelectionRules(frame=DATA_SOURCES[name].frame)
    )


# Materials Project


def as_objects(name):
    """Documents as models of mp-api: with attributes and a pymatgen Structure."""
    documents = []
    for document in recorded(name)["data"]:
        entry = type("Document", (), document)
        if "structure" in document:
            entry.structure = Structure.from_dict(document["structure"])
        documents.append(entry)
    return documents


def test_materials_project(tmp_path):
    client = recorded_client()
    counts = []
    found = fetch("mp", tmp_path, open_client=lambda _: client, on_progress=lambda *count: counts.append(count))
    assert found.dropped == []
    assert {c.info["crystal_system"] for c in found.kept} == {LABELLED[c.id].info["crystal_system"] for c in found.kept}
    assert len(found.kept) == 6
    for crystal in found.kept:
        # Rotated from the IEEE frame back into the frame of the cell.
        assert_published(crystal, LABELLED[crystal.id], symmetric=True)
        assert crystal.info["band_gap_ev"] == LABELLED[crystal.id].info["band_gap_ev"]
    assert counts == [("tensors", 6, 6), *(("rows", number, 6) for number in range(1, 7))]
    assert [endpoint for endpoint, _ in client.asked] == ["summary", "dielectric"]
    assert client.asked[0][1]["has_props"] == ["dielectric"]
    provenance = found.provenance
    assert provenance["database_version"] == "2026.10.1"
    assert provenance["query"]["materials.summary"] == {"has_props": ["dielectric"], "deprecated": False}
    assert provenance["frame_of_source"] == "ieee"
    assert KEY not in json.dumps(provenance)


def test_materials_project_tensors_are_not_in_the_frame_of_the_cell(tmp_path):
    """Without the rotation, at least tensors of trigonal, hexagonal or tetragonal crystals lack the symmetry."""
    found = fetch_set(
        FetchRequest(DATA_SOURCES["mp"], tmp_path, open_client=lambda _: recorded_client()), SelectionRules()
    )
    assert [d.drop_reason for d in found.dropped] == [DropReason.WRONG_SYMMETRY] * len(found.dropped)
    assert found.dropped


def test_materials_project_objects_equal_dicts():
    summaries, tensors = as_objects("mp_summary.json"), as_objects("mp_dielectric.json")
    client = MaterialsProjectClient([], [])
    client.materials.summary.search = lambda **_: summaries
    client.materials.dielectric.search = lambda material_ids, **_: tensors
    objects = list(fetch_materials_project(open_client=lambda _: client).rows)
    dicts = list(fetch_materials_project(open_client=lambda _: recorded_client()).rows)
    for from_object, from_dict in zip(objects, dicts, strict=True):
        np.testing.assert_allclose(from_object.positions, from_dict.positions, atol=1e-12)
        np.testing.assert_array_equal(from_object.targets["total"], from_dict.targets["total"])


def test_materials_project_asks_for_ids_in_portions(monkeypatch):
    monkeypatch.setattr("dtnn_fast.datasets.sources.materials_project._IDS_PER_REQUEST", 4)
    client = recorded_client()
    fetched = fetch_materials_project(limit=5, open_client=lambda _: client)
    assert len(list(fetched.rows)) == 5
    assert [len(query["material_ids"]) for endpoint, query in client.asked if endpoint == "dielectric"] == [4, 1]
    assert client.asked[0][1]["num_chunks"] == 1
    assert client.asked[0][1]["chunk_size"] == 5


def test_materials_project_rows_that_cannot_be_used(tmp_path):
    summaries, tensors = recorded("mp_summary.json")["data"], recorded("mp_dielectric.json")["data"]
    del tensors[0]
    tensors[0]["total"] = [[1.0, 0.0, 0.0, 0.0]] * 3
    tensors[1]["ionic"][2][2] = None
    tensors[2]["total"][0][0] += 5.0
    summaries[4]["structure"]["sites"][0]["species"][0]["occu"] = 0.5
    summaries[5]["structure"] = None
    summaries.append(recorded("mp_summary.json")["data"][2])
    client = MaterialsProjectClient(summaries, tensors, version=None)
    found = fetch("mp", tmp_path, open_client=lambda _: client)
    assert found.kept == []
    assert [d.drop_reason for d in found.dropped] == [
        DropReason.NO_TENSOR,
        *[DropReason.BAD_TENSOR] * 3,
        *[DropReason.BAD_STRUCTURE] * 2,
        DropReason.BAD_TENSOR,
    ]
    reasons = [d.rejected.reason for d in found.dropped]
    assert "expected the total tensor of shape [3, 3], got [3, 4]" in reasons[1]
    assert "ionic tensor has elements that are NaN" in reasons[2]
    assert "not the electronic plus the ionic one: they differ by 5" in reasons[3]
    assert "partial occupancy" in reasons[4]
    assert found.provenance["dropped"] == count_dropped(found.dropped)
    assert found.provenance["database_version"] == "not given by the server"


@pytest.mark.parametrize("value", [None, "", "  "])
def test_materials_project_without_a_key(monkeypatch, value):
    if value is None:
        monkeypatch.delenv("MP_API_KEY")
    else:
        monkeypatch.setenv("MP_API_KEY", value)
    with pytest.raises(FetchError, match="environment variable MP_API_KEY"):
        fetch_materials_project(open_client=pytest.fail)


def test_materials_project_without_its_client(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mp_api.client", None)
    with pytest.raises(MissingPackageError, match=r"dtnn-fast\[mp\]"):
        fetch_materials_project()


def test_materials_project_error_hides_the_key():
    def refuse(key):
        raise RuntimeError(f"403 for\nx-api-key: {key}")

    with pytest.raises(FetchError, match="RuntimeError: 403") as caught:
        fetch_materials_project(open_client=refuse)
    assert KEY not in str(caught.value)
    assert caught.value.__suppress_context__


def test_materials_project_connection_breaks_off():
    client = recorded_client()

    def search(**_):
        raise ConnectionResetError(104, "Connection reset by peer")

    client.materials.dielectric.search = search
    with pytest.raises(FetchError, match="Connection reset by peer"):
        fetch_materials_project(open_client=lambda _: client)


# matminer


def test_matminer(tmp_path):
    found = fetch("matminer", tmp_path, file=RECORDED / "dielectric_constant.json")
    assert len(found.kept) == 4
    for crystal in found.kept:
        assert_published(crystal, LABELLED[crystal.id])
    assert found.provenance["file"] == "dielectric_constant.json"
    assert str(RECORDED) not in json.dumps(found.provenance)
    assert len(found.provenance["sha256"]) == 64


def test_matminer_compressed(tmp_path):
    path = tmp_path / "dielectric_constant.json.gz"
    path.write_bytes(gzip.compress((RECORDED / "dielectric_constant.json").read_bytes()))
    assert len(list(fetch_matminer(tmp_path, path, limit=3).rows)) == 3


def test_matminer_rows_that_cannot_be_used(tmp_path):
    table = recorded("dielectric_constant.json")
    column = {name: place for place, name in enumerate(table["columns"])}
    table["data"][0][column["e_total"]] = None
    table["data"][1][column["e_total"]] = "na"
    table["data"][2].pop()
    table["data"][3][column["structure"]] = {"lattice": {}, "sites": [{}]}
    rows = list(fetch_matminer(tmp_path, write(tmp_path / "a.json", table)).rows)
    assert [row.drop_reason for row in rows] == [
        DropReason.NO_TENSOR,
        DropReason.BAD_TENSOR,
        DropReason.UNREADABLE_ROW,
        DropReason.BAD_STRUCTURE,
    ]
    assert rows[0].rejected.reason == "only the electronic tensor is given"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1], "columns"),
        ({"columns": ["a"], "data": []}, "no column material_id"),
        ({"data": []}, "columns"),
        ({"columns": [[]], "data": []}, "columns"),
    ],
)
def test_matminer_other_json(tmp_path, content, reason):
    with pytest.raises(BadFileError, match=reason):
        fetch_matminer(tmp_path, write(tmp_path / "a.json", content))


def test_matminer_damaged_file(tmp_path):
    (tmp_path / "a.json").write_text('{"columns": [')
    with pytest.raises(BadFileError, match="not valid JSON"):
        fetch_matminer(tmp_path, tmp_path / "a.json")
    with pytest.raises(BadFileError, match="no such file"):
        fetch_matminer(tmp_path, tmp_path / "absent.json")


# The paper's repository


def test_paper(tmp_path):
    found = fetch("paper", tmp_path, file=RECORDED / "paper.json")
    assert len(found.kept) == 4
    for crystal in found.kept:
        assert_published(crystal, LABELLED[crystal.id])


def test_paper_rows_that_cannot_be_used(tmp_path):
    entries = recorded("paper.json")
    names = list(entries)
    del entries[names[0]]["total"]  # the sum of the other two
    del entries[names[1]]["structure"]
    entries[names[2]] = "text"
    entries[names[3]] = {"structure": "an ASE database", "total": np.eye(3).tolist()}
    rows = list(fetch_paper(write(tmp_path / "a.json", entries)).rows)
    assert_published(rows[0], LABELLED[names[0]])
    assert [row.drop_reason for row in rows[1:]] == [
        DropReason.BAD_STRUCTURE,
        DropReason.UNREADABLE_ROW,
        DropReason.BAD_STRUCTURE,
    ]


def test_paper_repeated_id_is_dropped(tmp_path):
    entries = recorded("paper.json")
    name = next(iter(entries))
    text = json.dumps(entries)[:-1] + f', "{name}": ' + json.dumps(entries[name]) + "}"
    (tmp_path / "a.json").write_text(text)
    found = fetch("paper", tmp_path, file=tmp_path / "a.json")
    assert len(found.kept) == 4
    assert found.provenance["dropped"] == {"id occurs twice": 1}


def test_paper_needs_a_file_in_its_format(tmp_path):
    with pytest.raises(DTNNError, match="needs a file"):
        fetch("paper", tmp_path)
    with pytest.raises(BadFileError, match="not in the form"):
        fetch_paper(RECORDED / "mp_summary.json")


# JARVIS


def test_jarvis(tmp_path):
    found = fetch("jarvis", jarvis_folder(tmp_path), file=RECORDED / "jarvis_dft_3d.json")
    assert [crystal.id for crystal in found.kept] == ["JVASP-1000", "JVASP-1001"]
    for crystal, original in zip(found.kept, ("mp-1087", "mp-13150"), strict=True):
        assert_published(crystal, LABELLED[original])
    assert found.provenance["entries"] == 3
    assert found.provenance["rows"] == 2


def test_jarvis_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.write(RECORDED / "jarvis_dft_3d.json", "jdft_3d-9-24-2025.json")
    fetched = fetch_jarvis(jarvis_folder(tmp_path), tmp_path / "d.zip", limit=1)
    assert [type(row) for row in fetched.rows] == [Crystal]


def test_jarvis_archives_that_cannot_be_used(tmp_path, monkeypatch):
    entries = recorded("jarvis_dft_3d.json")[:1] * 5
    entries = [entry | {"jid": f"JVASP-{number}"} for number, entry in enumerate(entries)]
    text = (RECORDED / "vasprun_0.xml").read_text()
    contents = [text[:900], text.replace('name="epsilon_ion"', 'name="x"'), text.replace("Sr", "Qq"), text, None]
    for number, content in enumerate(contents):
        with zipfile.ZipFile(tmp_path / f"JVASP-{number}.zip", "w") as archive:
            if content is not None:
                archive.writestr("vasprun.xml", content)
    (tmp_path / "JVASP-3.zip").write_bytes((tmp_path / "JVASP-0.zip").read_bytes()[:200])
    rows = list(fetch_jarvis(tmp_path, write(tmp_path / "a.json", entries)).rows)
    assert [row.drop_reason for row in rows] == [
        DropReason.BAD_STRUCTURE,
        DropReason.NO_TENSOR,
        DropReason.BAD_STRUCTURE,
        DropReason.UNREADABLE_ROW,
        DropReason.UNREADABLE_ROW,
    ]
    reasons = [row.rejected.reason for row in rows]
    assert "damaged or truncated" in reasons[0]
    assert "has no vasprun.xml" in reasons[4]


def test_jarvis_failed_downloads(tmp_path, monkeypatch):
    def fail(url, path, *_):
        if path.exists():
            return path
        raise FetchError(f"{url}: the download failed")

    monkeypatch.setattr("dtnn_fast.datasets.sources.jarvis.download", fail)
    folder = jarvis_folder(tmp_path)
    entries = recorded("jarvis_dft_3d.json")[:2]
    absent = [entries[0] | {"jid": f"JVASP-{number}"} for number in range(5)]
    rows = list(fetch_jarvis(folder, write(tmp_path / "a.json", [*absent[:4], *entries, *absent[:4]])).rows)
    assert [isinstance(row, Crystal) for row in rows] == [False] * 4 + [True] * 2 + [False] * 4
    with pytest.raises(FetchError):
        list(fetch_jarvis(folder, write(tmp_path / "b.json", absent)).rows)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"PK\x03\x04 damaged"])
def test_jarvis_other_file(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(BadFileError):
        fetch_jarvis(tmp_path, tmp_path / "a.zip")
    with pytest.raises(BadFileError, match="cannot be read"):
        fetch_jarvis(tmp_path, tmp_path / "absent.zip")
