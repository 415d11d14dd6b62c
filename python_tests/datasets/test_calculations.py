# SPDX-License-Identifier: MIT
"""Calculations on this machine as data sources: archives, folders of them, VASP runs, and what is dropped."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from phonopy_examples import CHARGE

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.cleaning import SelectionRules
from dtnn_fast.datasets.fetch import DATA_SOURCES, FetchRequest, fetch_set
from dtnn_fast.datasets.sources.source import DropReason
from dtnn_fast.errors import BadFileError, DTNNError


def fetched(source, file):
    return fetch_set(FetchRequest(DATA_SOURCES[source], Path("unused"), Path(file)), SelectionRules())


def tar(folder, path, mode):
    with tarfile.open(path, mode) as archive:
        archive.add(folder, arcname=folder.name)


class TestPhonopy:
    """Folders and archives of phonopy."""

    def test_archives_and_folders_give_the_same(self, folder, tmp_path):
        place = tmp_path / "database"
        place.mkdir()
        tar(folder, place / "mp-1.tar.gz", "w:gz")
        tar(folder, place / "mp-2.tar.xz", "w:xz")
        with zipfile.ZipFile(place / "mp-3.zip", "w") as archive:
            for path in folder.iterdir():
                archive.write(path, path.name)
        folder.rename(place / "mp-4")
        data = fetched("phonopy", place)
        assert [crystal.id for crystal in data.kept] == ["mp-1", "mp-2", "mp-3", "mp-4"]
        assert not data.dropped
        for crystal in data.kept:
            assert crystal.info["space_group"] == 225
            np.testing.assert_allclose(crystal.targets["ionic"], data.kept[0].targets["ionic"])

    def test_damaged_archives_and_foreign_folders_are_dropped_alone(self, folder, tmp_path):
        place = folder.parent
        (place / "broken.tar.gz").write_bytes(b"no archive")
        (place / "nothing").mkdir()
        with zipfile.ZipFile(place / "other.zip", "w") as archive:
            archive.writestr("readme.txt", "nothing here")
        data = fetched("phonopy", place)
        assert [crystal.id for crystal in data.kept] == ["mp-1265"]
        reasons = {row.rejected.id: row.rejected.reason for row in data.dropped}
        assert "cannot be unpacked" in reasons["broken"]
        assert "holds no phonopy calculation" in reasons["other"]
        assert "no unit cell" in reasons["nothing"]

    def test_members_do_not_leave_the_folder(self, folder, tmp_path):
        path = folder.parent / "evil.tar"
        with tarfile.open(path, "w") as archive:
            member = tarfile.TarInfo("../../escaped.txt")
            member.size = 4
            archive.addfile(member, io.BytesIO(b"text"))
        data = fetched("phonopy", folder.parent)
        assert [row.rejected.id for row in data.dropped] == ["evil"]
        assert not list(folder.parent.parent.glob("**/escaped.txt"))

    def test_bad_labels_are_dropped_alone(self, folder):
        text = (folder / "BORN").read_text().replace("3.00000000", "0.50000000")
        (folder / "BORN").write_text(text)
        data = fetched("phonopy", folder)
        assert data.kept[0].targets.keys() == {"ionic"}
        assert [row.drop_reason for row in data.dropped] == [DropReason.BAD_LABEL]
        assert "electronic: " in data.dropped[0].rejected.reason

    def test_missing_places_are_errors(self, tmp_path):
        with pytest.raises(BadFileError, match="no such file or folder"):
            fetched("phonopy", tmp_path / "missing")
        with pytest.raises(BadFileError, match="no calculation was found"):
            fetched("phonopy", tmp_path)
        with pytest.raises(DTNNError, match="needs --file"):
            fetch_set(FetchRequest(DATA_SOURCES["phonopy"], tmp_path), SelectionRules())


def varray(name, rows, tag="varray"):
    lines = "".join(f"<v> {' '.join(f'{value:.8f}' for value in row)} </v>" for row in rows)
    return f'<{tag} name="{name}">{lines}</{tag}>' if name else f"<{tag}>{lines}</{tag}>"


def vasprun(charges=(CHARGE, -CHARGE), electronic=3.0):
    born = "".join(varray("", charge * np.eye(3), "set") for charge in charges)
    return f"""<?xml version="1.0"?><modeling>
<atominfo><array name="atoms"><set><rc><c>Mg</c><c>1</c></rc><rc><c>O </c><c>2</c></rc></set></array></atominfo>
<calculation>{varray("epsilon", electronic * np.eye(3))}{varray("epsilon_ion", 6 * np.eye(3))}
<array name="born_charges"><dimension dim="1">ion</dimension>{born}</array></calculation>
<structure name="finalpos"><crystal>{varray("basis", 2.1 * (np.ones((3, 3)) - np.eye(3)))}</crystal>
{varray("positions", [[0, 0, 0], [0.5, 0.5, 0.5]])}</structure></modeling>"""


class TestVasp:
    """vasprun.xml files."""

    def test_runs_at_any_depth(self, tmp_path):
        for name, data in (("MgO-a", vasprun().encode()), ("deep/MgO-b", gzip.compress(vasprun().encode()))):
            (tmp_path / name).mkdir(parents=True)
            (tmp_path / name / ("vasprun.xml" if name == "MgO-a" else "vasprun.xml.gz")).write_bytes(data)
        data = fetched("vasp", tmp_path)
        assert sorted(crystal.id for crystal in data.kept) == ["MgO-a", "MgO-b"]
        for crystal in data.kept:
            assert isinstance(crystal, Crystal)
            np.testing.assert_allclose(crystal.targets["total"], 9 * np.eye(3))
            np.testing.assert_allclose(crystal.born_charges[0], CHARGE * np.eye(3))

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (vasprun(charges=(1.0,)), r"Born charges of shape \[1, 3, 3\] for 2 atoms"),
            (vasprun()[:300], "damaged or truncated"),
        ],
    )
    def test_damaged_runs_are_dropped(self, tmp_path, text, reason):
        (tmp_path / "good").mkdir()
        (tmp_path / "bad").mkdir()
        (tmp_path / "good" / "vasprun.xml").write_text(vasprun())
        (tmp_path / "bad" / "vasprun.xml").write_text(text)
        data = fetched("vasp", tmp_path)
        assert [crystal.id for crystal in data.kept] == ["good"]
        assert [row.rejected.id for row in data.dropped] == ["bad"]
        assert re.search(reason, data.dropped[0].rejected.reason)

    def test_charges_that_break_the_sum_rule_are_dropped_alone(self, tmp_path):
        (tmp_path / "vasprun.xml").write_text(vasprun(charges=(2.0, -1.0)))
        data = fetched("vasp", tmp_path / "vasprun.xml")
        assert data.kept[0].born_charges is None
        assert data.kept[0].targets.keys() == {"electronic", "ionic", "total"}
        assert "Born charges that do not sum to zero" in data.dropped[0].rejected.reason
