# SPDX-License-Identifier: MIT
"""Files and folders that cannot be read are recorded, and do not stop the rest."""

import pytest

from dtnn_fast.data import collect
from dtnn_fast.data.readers import Rejected

POSCAR = "Po\n1.0\n3 0 0\n0 3 0\n0 0 3\nPo\n1\nDirect\n0 0 0\n"


@pytest.mark.parametrize(("error", "reason"), [(MemoryError(), "not enough memory"), (RecursionError(), "nested")])
def test_a_file_that_exhausts_the_program_is_rejected(tmp_path, monkeypatch, error, reason):
    read_crystals = collect.read_crystals

    def read(file):
        if file.name == "b.vasp":
            raise error
        return read_crystals(file)

    monkeypatch.setattr(collect, "read_crystals", read)
    files = [tmp_path / name for name in ("a.vasp", "b.vasp", "c.vasp")]
    for file in files:
        file.write_text(POSCAR)
    first, bad, last = collect.read_files(files)
    assert (first.source, last.source) == (str(files[0]), str(files[2]))
    assert isinstance(bad, Rejected)
    assert (bad.id, bad.source) == ("b.vasp", str(files[1]))
    assert reason in bad.reason
