# SPDX-License-Identifier: MIT
"""Labels beside the tensors: diagonals, means, Born charges and force constants, in JSON lines and packed sets."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from dtnn_fast.crystals.crystal import Crystal, Rejected, dielectric_targets
from dtnn_fast.errors import BadFileError
from dtnn_fast.formats.packed_set import read_packed, write_packed
from dtnn_fast.formats.reading import read_crystals

ROCK_SALT = {
    "lattice_angstrom": [[0, 2.1, 2.1], [2.1, 0, 2.1], [2.1, 2.1, 0]],
    "atomic_numbers": [12, 8],
    "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
}


def symmetric(random, size):
    values = random.normal(size=(size, size))
    return values + values.T


@pytest.fixture
def crystals():
    random = np.random.default_rng(0)
    cells = [Crystal.from_fractional(f"c{n}", [12] * n, random.random((n, 3)), 9 * np.eye(3)) for n in (1, 3, 2, 4)]
    tensor = 2 * np.eye(3)
    return [
        replace(cells[0], diagonals={"electronic": np.array([2.0, 3.0, 4.0])}, means={"total": 7.5}),
        replace(cells[1], born_charges=random.normal(size=(3, 3, 3)), force_constants=symmetric(random, 9)),
        replace(cells[2], targets=dielectric_targets(electronic=tensor), info={"functional": "PBEsol"}),
        replace(cells[3], force_constants=symmetric(random, 12), means={"ionic": 1.0}),
    ]


def test_packed_sets_keep_all_labels(tmp_path, crystals):
    path = tmp_path / "labels.npz"
    write_packed(path, crystals, {})
    for read, written in zip(read_packed(path).items, crystals, strict=True):
        assert read.diagonals.keys() == written.diagonals.keys()
        assert all((read.diagonals[name] == written.diagonals[name]).all() for name in written.diagonals)
        assert read.means == written.means
        assert read.targets.keys() == written.targets.keys()
        assert read.info == written.info
        for name, tolerance in (("born_charges", 0), ("force_constants", 1e-6)):
            expected = getattr(written, name)
            if expected is None:
                assert getattr(read, name) is None
            else:
                np.testing.assert_allclose(getattr(read, name), expected, rtol=tolerance)


def test_sets_without_labels_have_no_arrays_for_them(tmp_path, crystals):
    path = tmp_path / "plain.npz"
    write_packed(path, crystals[2:3], {})
    with np.load(path) as archive:
        assert not {"born_charges", "force_constants", "electronic_diagonal", "total_mean"} & set(archive.files)


@pytest.mark.parametrize(
    ("array", "value"),
    [
        ("born_charges", np.zeros((3, 3, 3))),
        ("force_constants", np.zeros(7)),
        ("has_force_constants", np.zeros(4)),
        ("has_force_constants", None),
        ("electronic_diagonal", np.zeros((4, 2))),
        ("ionic_mean", np.zeros((4, 1))),
    ],
)
def test_damaged_arrays_are_named(tmp_path, crystals, array, value):
    path = tmp_path / "labels.npz"
    write_packed(path, crystals, {})
    with np.load(path) as archive:
        kept = {name: archive[name] for name in archive.files} | {array: value}
    np.savez(path, **{name: values for name, values in kept.items() if values is not None})
    with pytest.raises(BadFileError, match=array):
        read_packed(path)


@pytest.mark.parametrize("array", ["born_charges", "force_constants", "electronic_diagonal"])
def test_values_that_are_not_finite_reject_their_crystal_alone(tmp_path, crystals, array):
    path = tmp_path / "labels.npz"
    write_packed(path, crystals, {})
    with np.load(path) as archive:
        kept = {name: archive[name] for name in archive.files}
    known = np.flatnonzero(np.isfinite(kept[array]))
    kept[array].reshape(-1)[known[0]] = np.inf
    np.savez(path, **kept)
    items = read_packed(path).items
    assert sum(isinstance(item, Rejected) for item in items) == 1
    assert "NaN or infinite" in next(item.reason for item in items if isinstance(item, Rejected))


@pytest.mark.parametrize("name", ["born_charges", "force_constants"])
def test_labels_that_do_not_fit_the_atoms_are_refused(tmp_path, crystals, name):
    bad = replace(crystals[0], **{name: np.zeros((2, 3, 3))})
    with pytest.raises(ValueError, match=rf"expected `{name}` of shape .* of c1"):
        write_packed(tmp_path / "labels.npz", [bad], {})


def read_row(tmp_path, **keys):
    path = tmp_path / "row.jsonl"
    path.write_text(json.dumps(ROCK_SALT | keys) + "\n")
    (item,) = read_crystals(path)
    return item


def test_json_lines_hold_all_labels(tmp_path):
    crystal = read_row(
        tmp_path,
        eps_electronic=np.diag([3, 3, 3.5]).tolist(),
        eps_ionic=np.diag([6, 6, 7.0]).tolist(),
        born_charges=[np.diag([2, 2, 2.0]).tolist(), np.diag([-2, -2, -2.0]).tolist()],
        force_constants=np.eye(6).tolist(),
        functional="PBE",
    )
    np.testing.assert_array_equal(crystal.targets["total"], np.diag([9, 9, 10.5]))
    np.testing.assert_array_equal(crystal.born_charges[:, 0, 0], [2, -2])
    np.testing.assert_array_equal(crystal.force_constants, np.eye(6))
    assert crystal.info == {"functional": "PBE"}


def test_json_lines_hold_parts_of_tensors(tmp_path):
    crystal = read_row(tmp_path, eps_electronic_diagonal=[3, 3, 4], eps_total_mean=9)
    np.testing.assert_array_equal(crystal.diagonals["electronic"], [3, 3, 4])
    assert crystal.means == {"total": 9.0}
    assert not crystal.targets


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("eps_electronic_diagonal", [1, 2], r"eps_electronic_diagonal of shape \[3\], got \[2\]"),
        ("eps_total_mean", [1], r"eps_total_mean of shape \[\], got \[1\]"),
        ("eps_total_mean", "nine", "numbers as eps_total_mean"),
        ("born_charges", np.zeros((3, 3, 3)).tolist(), r"born_charges of shape \[2, 3, 3\], got \[3, 3, 3\]"),
        ("born_charges", np.full((2, 3, 3), np.inf).tolist(), "finite numbers as born_charges"),
        ("force_constants", np.eye(5).tolist(), r"force_constants of shape \[6, 6\]"),
        ("eps_ionic", [1, 2, 3], "ionic tensor of shape"),
    ],
)
def test_bad_labels_reject_the_line(tmp_path, key, value, message):
    item = read_row(tmp_path, **{key: value})
    assert isinstance(item, Rejected)
    assert re.search(message, item.reason), item.reason
