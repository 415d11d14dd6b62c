# SPDX-License-Identifier: MIT
"""What is screened: given files and folders, or else the bundled crystals of elements that the model knows."""

from dtnn_fast.crystals.crystal import Rejected
from dtnn_fast.datasets.bundled import load_screening
from dtnn_fast.screening.sources import open_source

POSCAR = "{0}\n1.0\n4 0 0\n0 4 0\n0 0 4\nCs Cl\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n"


def test_files_are_read_one_after_the_other_and_tracked(tmp_path):
    for name in ("b.vasp", "a.vasp"):
        (tmp_path / name).write_text(POSCAR.format(name))
    (tmp_path / "broken.cif").write_text("")
    (tmp_path / "notes.md").write_text("not a crystal")
    source = open_source([tmp_path, tmp_path / "absent.cif"], known_elements=(11,))
    assert (source.unit, source.total, source.num_left_out) == ("files", 3, 0)
    assert [reject.source for reject in source.rejected] == [str(tmp_path / "absent.cif")]
    assert source.notice == f"skipped 1 file of unknown format, such as {tmp_path / 'notes.md'}"
    passed = []

    def track(files):
        for file in files:
            yield file
            passed.append(file.name)

    items = source.read(track)
    assert next(items).id == "a"
    assert passed == []
    crystal, broken = items
    assert (crystal.id, crystal.formula) == ("b", "CsCl")
    assert isinstance(broken, Rejected)
    assert passed == ["a.vasp", "b.vasp", "broken.cif"]


def test_bundled_crystals_of_unknown_elements_are_left_out():
    bundled = load_screening()
    source = open_source([], known_elements=())
    assert (source.unit, source.total, source.num_left_out) == ("crystals", len(bundled), 0)
    assert [crystal.id for crystal in source.read()] == [crystal.id for crystal in bundled]
    known = {8, 12, 20}
    source = open_source([], known_elements=known)
    chosen = [crystal.id for crystal in bundled if set(crystal.atomic_numbers.tolist()) <= known]
    assert [crystal.id for crystal in source.read()] == chosen
    assert chosen
    assert source.num_left_out == len(bundled) - len(chosen)
    assert source.notice.startswith(f"screening {len(chosen):,} of the {len(bundled):,} bundled crystals")
