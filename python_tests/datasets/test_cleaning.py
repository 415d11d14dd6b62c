# SPDX-License-Identifier: MIT
"""Crystals that are kept, and the reasons for dropping the others."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.datasets.cleaning import SelectionRules, clean, select_crystals
from dtnn_fast.datasets.sources.source import (
    DroppedRow,
    DropReason,
    PublishedTensors,
    count_dropped,
    labelled_crystal,
    write_dropped,
)

CRYSTALS = load_labelled()
FIRST = CRYSTALS[0]
WITHOUT_CHECK = SelectionRules(check_symmetry=False)


def of_element(number):
    numbers = FIRST.atomic_numbers.copy()
    numbers[0] = number
    return replace(FIRST, id=f"z{number}", atomic_numbers=numbers)


def test_the_papers_rule_keeps_940_crystals():
    kept, dropped = select_crystals(CRYSTALS, WITHOUT_CHECK)
    assert [c.id for c in kept] == [c.id for c in clean(CRYSTALS)[0]]
    assert len(kept) == 940
    assert count_dropped(dropped) == {DropReason.OUTSIDE_RANGE.value: 15}
    assert len(select_crystals(CRYSTALS, WITHOUT_CHECK._replace(tensor_range=None)).kept) == 955


@pytest.mark.parametrize(("encoder", "kept"), [("native", 2), ("sevennet-0", 1), ("sevennet-l3i5", 1)])
def test_elements(encoder, kept):
    found = select_crystals([of_element(83), of_element(84)], WITHOUT_CHECK._replace(encoder=encoder))
    assert len(found.kept) == kept
    if found.dropped:
        assert found.dropped[0].drop_reason is DropReason.UNKNOWN_ELEMENT
        assert found.dropped[0].rejected.reason == f"the encoder {encoder} does not know Po"


def test_each_drop_reason(tmp_path):
    together = FIRST.positions.copy()
    together[1] = together[0]
    rows = [
        DroppedRow.make(DropReason.UNREADABLE_ROW, "row 3", "test", "no\nvalues"),
        FIRST,
        FIRST,
        replace(FIRST, id="close", positions=together),
        replace(FIRST, id="nan", positions=FIRST.positions * np.nan),
        of_element(88),
        replace(FIRST, id="large", targets={"total": np.diag([101.0, 5.0, 5.0])}),
        replace(FIRST, id="asymmetric", targets={"total": np.full((3, 3), 10.0) + np.diag([1.0, 2.0, 30.0])}),
    ]
    kept, dropped = select_crystals(rows, SelectionRules(encoder="sevennet-0"))
    assert [c.id for c in kept] == [FIRST.id]
    expected = [
        DropReason.UNREADABLE_ROW,
        DropReason.DUPLICATE_ID,
        DropReason.UNUSABLE_CRYSTAL,
        DropReason.UNUSABLE_CRYSTAL,
        DropReason.UNKNOWN_ELEMENT,
        DropReason.OUTSIDE_RANGE,
    ]
    assert [d.drop_reason for d in dropped] == [*expected, DropReason.WRONG_SYMMETRY]
    assert list(count_dropped(dropped)) == [
        reason.value for reason in DropReason if reason in {d.drop_reason for d in dropped}
    ]

    write_dropped(tmp_path / "dropped.csv", dropped)
    with (tmp_path / "dropped.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["why"] for line in lines] == [d.drop_reason.value for d in dropped]
    assert lines[0] == {"id": "row 3", "source": "test", "why": "row cannot be read", "reason": "no values"}
    assert "two atoms at one place" in lines[2]["reason"]


E, T = np.diag([2.0, 3.0, 4.0]), np.diag([7.0, 8.0, 9.0])


@pytest.mark.parametrize(
    "tensors",
    [
        PublishedTensors(E, None, T),
        PublishedTensors(E, T - E),
        PublishedTensors(None, T - E, T),
        PublishedTensors(E.tolist(), (T - E).tolist(), T.tolist()),
    ],
)
def test_two_tensors_give_the_third(tensors):
    crystal = labelled_crystal("a", "test", FIRST, tensors, {"formula": "AB", "band_gap_ev": None})
    for name, expected in (("electronic", E), ("ionic", T - E), ("total", T)):
        np.testing.assert_allclose(crystal.targets[name], expected)
    assert crystal.info == {"formula": "AB"}
    assert crystal.id == "a"


@pytest.mark.parametrize(
    ("tensors", "drop_reason", "explanation"),
    [
        (PublishedTensors(), DropReason.NO_TENSOR, "no dielectric tensor is given"),
        (PublishedTensors(electronic=E), DropReason.NO_TENSOR, "only the electronic tensor is given"),
        (PublishedTensors(ionic=E), DropReason.NO_TENSOR, "only the ionic tensor is given"),
        (PublishedTensors(total=[[1, 0, 0, 0]] * 3), DropReason.BAD_TENSOR, "got [3, 4]"),
        (PublishedTensors(total=[[1, 0], [0, 1, 0]]), DropReason.BAD_TENSOR, "total tensor as 3x3 numbers"),
        (PublishedTensors(total=T * np.nan), DropReason.BAD_TENSOR, "NaN or infinite"),
        (PublishedTensors(total=np.full((3, 3), np.inf)), DropReason.BAD_TENSOR, "NaN or infinite"),
        (PublishedTensors(total=T, electronic=3.0), DropReason.BAD_TENSOR, "electronic tensor of shape [3, 3], got []"),
        (PublishedTensors(total=T, ionic="na"), DropReason.BAD_TENSOR, "ionic tensor as 3x3 numbers"),
        (PublishedTensors(E, E, T), DropReason.BAD_TENSOR, "differ by 3"),
    ],
)
def test_bad_tensors(tensors, drop_reason, explanation):
    row = labelled_crystal("a", "test", FIRST, tensors)
    assert row.drop_reason is drop_reason
    assert explanation in row.rejected.reason


@pytest.mark.parametrize("structure", [None, {}, {"lattice": {}, "sites": [{}]}, 5, "text"])
def test_bad_structures(structure):
    row = labelled_crystal("a", "test", structure, PublishedTensors(total=T))
    assert row.drop_reason is DropReason.BAD_STRUCTURE
    assert row.rejected.id == "a"


def test_only_the_total_tensor_is_enough():
    crystal = labelled_crystal("a", "test", FIRST, PublishedTensors(total=T))
    assert isinstance(crystal, Crystal)
    assert list(crystal.targets) == ["total"]
