# SPDX-License-Identifier: MIT
"""Extended XYZ is read by its specification; keys are compared without regard to case."""

import re

import numpy as np
import pytest

from dtnn_fast.crystals.crystal import Rejected
from dtnn_fast.errors import BadFileError
from dtnn_fast.formats.reading import read_crystals

LATTICE = 'Lattice="4.2 0 0 0 4.3 0 0 0 4.4"'
ATOMS = "Mg 0 0 0\nO 2.1 2.1 2.1\n"


def frame(comment=LATTICE, atoms=ATOMS):
    return f"2\n{comment}\n{atoms}"


def read(tmp_path, text):
    path = tmp_path / "a.xyz"
    path.write_bytes(text.encode())
    return read_crystals(path)


@pytest.mark.parametrize(
    "text",
    [
        frame(),
        # case 18: lower case, as in GPUMD
        frame('lattice="4.2 0 0 0 4.3 0 0 0 4.4" properties=species:S:1:pos:R:3 pbc="t t t"'),
        frame('LATTICE="4.2 0 0 0 4.3 0 0 0 4.4" PBC="1 1 1" Properties=Species:s:1:POS:r:3'),
        frame("Lattice={4.2 0 0 0 4.3 0 0 0 4.4} pbc={T T T}"),
        frame("Lattice=[4.2, 0, 0, 0, 4.3, 0, 0, 0, 4.4] pbc=[True, true, TRUE]"),
        frame("Lattice=[[4.2, 0, 0], [0, 4.3, 0], [0, 0, 4.4]]"),
        frame('"Lattice" = "4.2 0 0 0 4.3 0 0 0 4.4" converged "two words" x=1.5'),
        frame("Lattice='4.2 0 0 0 4.3d0 0 0 0 4.4'"),
        frame(rf'remark="Lattice=\"1 0 0 0 1 0 0 0 1\"" {LATTICE} other="a = b"'),
        frame(f"{LATTICE} scaled=F"),
        frame(f"{LATTICE} Lattice='4.2 0 0 0 4.3 0 0 0 4.4'"),
        # columns
        frame(f"{LATTICE} Properties=pos:R:3:forces:R:3:species:S:1", "0 0 0 1 2 3 Mg\n2.1 2.1 2.1 4 5 6 O\n"),
        frame(f"{LATTICE} Properties=Z:I:1:pos:R:3", "12 0 0 0\n8 2.1 2.1 2.1\n"),
        frame(f"{LATTICE} Properties=species:S:1:pos:R:3:Z:I:1", "Mg 0 0 0 12\nO 2.1 2.1 2.1 8\n"),
        frame(LATTICE, "12 0 0 0\n8 2.1 2.1 2.1\n"),
        # ends of lines
        frame().replace("\n", "\r\n"),
        frame().replace("\n", "\r"),
        frame(f'{LATTICE} remark="a\x0bb\x0cc\x1cd\x85e\u2028f"'),
        frame().rstrip("\n"),
        "\n" + frame() + "\n \n",
    ],
)
def test_magnesium_oxide(tmp_path, text):
    (crystal,) = read(tmp_path, text)
    assert not isinstance(crystal, Rejected), crystal
    assert crystal.id == "a"
    assert crystal.atomic_numbers.tolist() == [12, 8]
    assert crystal.cell.tolist() == np.diag([4.2, 4.3, 4.4]).tolist()
    assert crystal.positions.tolist() == [[0, 0, 0], [2.1, 2.1, 2.1]]
    assert crystal.pbc.all()


def test_frames_with_blank_lines_between(tmp_path):
    crystals = read(tmp_path, frame() + "\n" + frame(f'{LATTICE} ID="mp-7"') + "\n\n" + frame())
    assert [crystal.id for crystal in crystals] == ["a:1", "mp-7", "a:3"]
    assert [crystal.source[-2:] for crystal in crystals] == [":1", ":6", "12"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (frame("energy=1"), "this is a molecule, not a crystal"),
        (frame(f"{LATTICE} scaled=T"), "scaled=T: expected Cartesian positions, as extended XYZ has them"),
        (frame(f'{LATTICE} lattice="5 0 0 0 5 0 0 0 5"'), "lattice= occurs twice"),
        (frame('Lattice="4.2 0 0 0 4.3 0 0 0 x"'), "expected 9 numbers in Lattice, got 8"),
        (frame('Lattice="4.2 0 0 0 4.3 0 0 0 4.4 pbc="T T T"'), "is a quote missing"),
        (frame(f'{LATTICE} pbc="T T 2"'), "expected pbc to be three of T or F"),
        (frame(atoms="mg 0 0 0\nO 2.1 2.1 2.1\n"), "'mg' is not the symbol of an element"),
        (frame(atoms="MG 0 0 0\nO 2.1 2.1 2.1\n"), "'MG' is not the symbol of an element"),
        (frame(atoms="X 0 0 0\nO 2.1 2.1 2.1\n"), "'X' is not the symbol of an element"),
        (frame(atoms="Mg 0 0 0 1 2 3\nO 2.1 2.1 2.1 1 2 3\n"), "line 3: expected 4 columns .*no Properties=.* got 7"),
        (frame(atoms="Mg 0 0 0\n\n"), "line 4: expected an atom, got ''"),
        (frame(atoms="Mg 0 0 0\nO 2.1 2_1 2.1\n"), "line 4: expected a position"),
        (frame(f"{LATTICE} Properties=species:S:1:pos:R:3:Z:I:1", "Mg 0 0 0 12\nO 0 0 1 9\n"), "line 4.*disagree"),
        (frame(f"{LATTICE} Properties=species:S:1:pos:R:2", "Mg 0 0\nO 0 0\n"), "expected species:S:1 .*pos:R:3"),
        (frame(f"{LATTICE} Properties=species:S:2:pos:R:3", "Mg 1 0 0 0\nO 1 0 0 1\n"), "expected species:S:1"),
        (frame(f"{LATTICE} Properties=species:S:1:frac:R:3"), "expected species .* and pos"),
        (
            frame(f"{LATTICE} Properties=species:S:1:pos:R:3:pos:R:3", "Mg 0 0 0 1 1 1\nO 0 0 1 1 1 1\n"),
            "pos occurs twice",
        ),
        (frame(f"{LATTICE} Properties=species:S:1:pos:R:x"), "expected name:type:width in Properties"),
    ],
)
def test_rejected_frames(tmp_path, text, message):
    (rejected,) = read(tmp_path, text)
    assert isinstance(rejected, Rejected), rejected
    assert re.search(message, rejected.reason), rejected.reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (frame(atoms=f"{ATOMS}O 1 1 1\n"), "line 5: expected the number of atoms of frame 2, got 'O 1 1 1'"),
        (frame(atoms="Mg 0 0 0\n") + frame(), "line 5: expected the number of atoms of frame 2"),
        (f"x{frame()}", "line 1: expected the number of atoms"),
        (frame().replace("2\n", "2_0\n", 1), "line 1: expected the number of atoms"),
        (frame().replace("2\n", "9999999999999999999999\n", 1), "line 1: expected the number of atoms"),
        (frame().replace("2\n", "9999999999\n", 1), "truncated"),
    ],
)
def test_refused_files(tmp_path, text, message):
    with pytest.raises(BadFileError, match=message):
        read(tmp_path, text)
