# SPDX-License-Identifier: MIT
"""A screening that is killed, stopped, short of disk, damaged or shared goes on, and its results are the same."""

import json
import os
import random
import signal
import time

import numpy as np
import pytest
from screening_processes import Starter, results_of, rows_of

NUM_FILES, IN_FILE = 6, 12
TARGETS = ("electronic", "ionic", "total")


@pytest.fixture(scope="module")
def starter(tmp_path_factory):
    starter = Starter(tmp_path_factory.mktemp("starts"))
    yield starter
    starter.close()


@pytest.fixture(scope="module")
def data(labelled, row_of, tmp_path_factory):
    """Six files with crystals that occur twice, ids that occur twice, and rows that cannot be used."""
    folder = tmp_path_factory.mktemp("crystals")
    small = [crystal for crystal in labelled if crystal.num_atoms < 5]
    for number in range(NUM_FILES):
        rows = [row_of(crystal) for crystal in small[number * IN_FILE : (number + 1) * IN_FILE]]
        rows.append(row_of(small[2 * number]))
        rows.append({**row_of(small[100 + number]), "id": "again"})
        rows.append({**row_of(small[120 + number]), "frac_coords": [[float(number), 0, 0]]})
        (folder / f"{number}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(scope="module")
def arguments(data, tiny_model):
    return ["screen", data, "--model", tiny_model, "--threads", 1, "--top", 0, "--readers", 0]


@pytest.fixture(scope="module")
def undisturbed(starter, arguments, tmp_path_factory):
    """The folder of a screening that nothing stopped."""
    folder = tmp_path_factory.mktemp("undisturbed")
    code, output = starter.run(*arguments, "-o", folder)
    assert code == 3, output
    rows = rows_of(folder)
    assert len(rows) == NUM_FILES * (IN_FILE + 2)
    assert len({row["id"] for row in rows}) == len(rows)
    assert sum(row["duplicate_of"] is not None for row in rows) >= NUM_FILES
    assert len(rows_of(folder, "rejected")) == NUM_FILES
    assert len(list(folder.glob("part-*"))) > 9
    return folder


def test_killed_at_twenty_moments(starter, arguments, undisturbed, tmp_path):
    """kill -9 by the clock, and while a file is renamed, also of the ids and duplicates at the end."""
    chance = random.Random(0)
    kills = 0
    for attempt in range(60):
        if kills >= 20:
            break
        if attempt % 2:
            start = starter.start(*arguments, "-o", tmp_path, die_at=chance.randint(1, 3), die_before=attempt % 4 == 1)
        else:
            start = starter.start(*arguments, "-o", tmp_path)
            time.sleep(chance.uniform(0.02, 0.5))
            start.send(signal.SIGKILL)
        code = start.wait()
        assert code in (-signal.SIGKILL, 3), start.output
        kills += code == -signal.SIGKILL
        if code == 3:
            # It ended sooner: the next kills are of the work at the end, and of parts that are lost.
            assert results_of(tmp_path) == results_of(undisturbed)
            for part in chance.sample(sorted(tmp_path.glob("part-*")), 3):
                part.unlink()
    assert kills >= 20
    code, output = starter.run(*arguments, "-o", tmp_path)
    assert code == 3, output
    assert results_of(tmp_path) == results_of(undisturbed)
    assert not list(tmp_path.glob("*unfinished*"))


def test_stopped_while_the_ranking_is_made(starter, arguments, undisturbed, tmp_path):
    """DuckDB has errors of its own for Ctrl-C."""
    moments = 0
    for attempt in range(8):
        start = starter.start(*arguments, "-o", tmp_path)
        start.wait_for("crystals in" if attempt == 0 else "all crystals were already predicted")
        time.sleep(0.03 * attempt)
        start.send(signal.SIGINT)
        code = start.wait()
        assert code in (130, 3), start.output
        assert "Traceback" not in start.output
        if code == 130:
            assert "stopped: the results are incomplete" in " ".join(start.output.split())
            moments += 1
    assert moments
    assert starter.run(*arguments, "-o", tmp_path)[0] == 3
    assert results_of(tmp_path) == results_of(undisturbed)


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT], [signal.SIGINT, signal.SIGINT]])
def test_stopped(starter, arguments, undisturbed, tmp_path, signals):
    start = starter.start(*arguments, "-o", tmp_path, "--batch-atoms", 1, slow=0.02)
    start.wait_for("batch", 20)
    for number in signals:
        start.send(number)
        time.sleep(0.05)
    assert start.wait() == 130, start.output
    assert "Traceback" not in start.output
    assert 0 < len(rows_of(tmp_path)) < len(rows_of(undisturbed))
    # Another number of atoms in a batch would change the last digits.
    code, output = starter.run(*arguments, "-o", tmp_path, "--batch-atoms", 1)
    assert code == 3, output
    assert_tables_are_close(rows_of(tmp_path), rows_of(undisturbed))


@pytest.mark.parametrize("where", ["parts", "results"])
def test_a_full_disk(starter, arguments, undisturbed, tmp_path, where):
    """A limit of the file's size is the error that a test can make without a disk."""
    sizes = sorted(part.stat().st_size for part in undisturbed.glob("part-*"))
    limit = sizes[len(sizes) // 2] if where == "parts" else sizes[-1] + 2000
    code, output = starter.run(*arguments, "-o", tmp_path, file_bytes=limit)
    assert code == 2, output
    text = " ".join(output.split())
    if where == "parts":
        assert "cannot be written: " in text
        assert "free space and run the same command again" in text
    else:
        assert "cannot be written: " in text
        assert len(rows_of(tmp_path)) == len(rows_of(undisturbed))
    assert "Traceback" not in output
    assert not list(tmp_path.glob("*.unfinished"))
    code, output = starter.run(*arguments, "-o", tmp_path)
    assert code == 3, output
    assert results_of(tmp_path) == results_of(undisturbed)


@pytest.fixture
def finished(starter, arguments, undisturbed, tmp_path):
    """A copy of the screening that nothing stopped."""
    for file in undisturbed.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_damaged_files(starter, arguments, undisturbed, finished):
    told = []
    # Pieces 0, 1 and 3 have no rejected crystals.
    for kind, places in (("part", (0, 1, 3)), ("rejected", (0, 2, 4))):
        files = sorted(finished.glob(f"{kind}-*"))
        for place, keep in zip(places, (700, 0, None), strict=True):
            if keep is None:
                files[place].unlink()
            else:
                files[place].write_bytes(files[place].read_bytes()[:keep])
                told.append(files[place].name)
    code, output = starter.run(*arguments, "-o", finished)
    assert code == 3, output
    assert all(name in "".join(output.split()) for name in told)
    assert "computed again" in " ".join(output.split())
    assert results_of(finished) == results_of(undisturbed)


def test_another_model_changed_files_and_other_options_are_refused(
    starter, arguments, data, undisturbed, finished, tmp_path_factory, labelled, row_of
):
    def refused(*changed):
        code, output = starter.run(*changed, "-o", finished)
        assert code == 2, output
        assert results_of(finished) == results_of(undisturbed)
        return " ".join(output.split())

    assert "contains results of another model" in refused("screen", data, "--model", "dielectric-total")
    more = tmp_path_factory.mktemp("more")
    for file in data.iterdir():
        (more / file.name).write_bytes(file.read_bytes())
    assert "contains results of other files" in refused("screen", more, *arguments[2:])
    file = data / "0.jsonl"
    before = file.stat()
    text = file.read_text()
    file.write_text(text + "\n" + json.dumps(row_of(labelled[0])))
    try:
        assert "contains results of files that have changed since" in refused(*arguments)
    finally:
        file.write_text(text)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    (finished / "manifest.json").write_text("{")
    assert "manifest.json: cannot be read" in refused(*arguments)
    (finished / "manifest.json").unlink()
    assert "part files without their manifest.json" in refused(*arguments)
    code, output = starter.run(*arguments, "-o", finished, "--fresh")
    assert code == 3, output
    assert results_of(finished) == results_of(undisturbed)


def test_fresh_removes_nothing_where_the_input_is_wrong(starter, arguments, undisturbed, finished):
    code, output = starter.run("screen", "/no/such.cif", *arguments[2:], "-o", finished, "--fresh")
    assert code == 2
    assert "there is no such file" in " ".join(output.split())
    assert results_of(finished) == results_of(undisturbed)


def test_two_processes_on_one_folder(starter, arguments, undisturbed, tmp_path):
    first = starter.start(*arguments, "-o", tmp_path, "--batch-atoms", 1, slow=0.06)
    first.wait_for("batch")
    for more in ([], ["--merge"], ["--shard", "1/3"]):
        code, output = starter.run(*arguments, "-o", tmp_path, *more)
        assert code == 2, output
        assert "another process is screening into this folder" in " ".join(output.split())
    assert first.wait() == 3, first.output
    assert_tables_are_close(rows_of(tmp_path), rows_of(undisturbed))


def test_shards_in_any_order_at_the_same_time(starter, arguments, undisturbed, tmp_path):
    running = [starter.start(*arguments, "-o", tmp_path, "--shard", f"{number}/3") for number in (3, 1)]
    running[0].wait_for("batch")
    code, output = starter.run(*arguments, "-o", tmp_path, "--fresh", "--shard", "2/3")
    assert code == 2, output
    assert [start.wait() for start in running] == [0, 0], running[0].output + running[1].output
    code, output = starter.run(*arguments, "-o", tmp_path, "--merge")
    assert code == 2
    assert "1 of 3 chunks are not screened yet (numbers 1)" in " ".join(output.split())
    # What a killed process of another share left is not touched: it may be alive.
    left = [tmp_path / f"part-00000{chunk}-0000.parquet.1.unfinished" for chunk in (0, 1)]
    for file in left:
        file.write_bytes(b"")
    code, output = starter.run(*arguments, "-o", tmp_path, "--shard", "2/3")
    assert code == 0, output
    assert [file.exists() for file in left] == [True, False]
    code, output = starter.run(*arguments, "-o", tmp_path, "--merge")
    assert code == 3, output
    assert results_of(tmp_path) == results_of(undisturbed)


def test_a_shard_without_a_chunk(starter, arguments, tmp_path):
    code, output = starter.run(*arguments, "-o", tmp_path, "--shard", "5/5")
    assert code == 0, output
    assert "nothing to do for this shard: the input has only 3 chunks" in " ".join(output.split())


def test_the_results_are_no_input(starter, arguments, tmp_path, data):
    for file in data.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    output_folder = tmp_path / "screening"
    for _ in range(2):
        code, output = starter.run("screen", tmp_path, *arguments[2:], "-o", output_folder)
        assert code == 3, output
    assert "all crystals were already predicted by an earlier run" in output
    assert len(rows_of(output_folder, "rejected")) == NUM_FILES


def assert_tables_are_close(rows, expected, tolerance=5e-5):
    """Compare all columns: numbers within the tolerance that docs/screening.md states, the rest equal."""
    assert [row["id"] for row in rows] == [row["id"] for row in expected]
    for row, other in zip(rows, expected, strict=True):
        assert row.keys() == other.keys()
        for name, value in row.items():
            if isinstance(value, float):
                largest = max(abs(row[f"{target}_{end}"]) for target in TARGETS for end in ("xx", "yy", "zz"))
                np.testing.assert_allclose(value, other[name], rtol=0, atol=tolerance * largest, err_msg=name)
            else:
                assert value == other[name], name


@pytest.mark.parametrize("readers", [1, 3])
def test_any_number_of_reading_processes(starter, arguments, undisturbed, tmp_path, readers):
    """Also where the first start is killed, and its readers are left alone."""
    start = starter.start(*arguments[:-1], readers, "-o", tmp_path)
    start.wait_for("batch", 2)
    start.send(signal.SIGKILL)
    start.wait()
    code, output = starter.run(*arguments[:-1], readers, "-o", tmp_path)
    assert code == 3, output
    assert results_of(tmp_path) == results_of(undisturbed)


@pytest.mark.parametrize("batch_atoms", [1, 100_000])
def test_any_batch_size(starter, arguments, undisturbed, tmp_path, batch_atoms):
    code, output = starter.run(*arguments, "-o", tmp_path, "--batch-atoms", batch_atoms)
    assert code == 3, output
    assert_tables_are_close(rows_of(tmp_path), rows_of(undisturbed))


@pytest.mark.parametrize("readers", [0, 1])
def test_bad_files_with_names_that_are_not_utf8(starter, arguments, data, tmp_path, readers):
    folder = os.fsencode(tmp_path / "crystals")
    os.mkdir(folder)
    with open(os.path.join(folder, b"good\xff.jsonl"), "wb") as file:
        file.write((data / "0.jsonl").read_bytes())
    for number in range(3):
        with open(os.path.join(folder, b"bad\xfe%d.cif" % number), "w") as file:
            file.write("<html>")
    os.mkdir(os.path.join(folder, b"x.cif"))
    output_folder = tmp_path / "out"
    for _ in range(2):
        code, output = starter.run(
            "screen", tmp_path / "crystals", *arguments[2:-1], readers, "-o", output_folder, "--batch-atoms", 50
        )
        assert code == 3, output
    assert len(rows_of(output_folder)) == IN_FILE + 2
    rejected = rows_of(output_folder, "rejected")
    assert len(rejected) == 4
    assert sum("crystals/bad" in row["source"] for row in rejected) == 3
    assert len((output_folder / "rejected.csv").read_text().splitlines()) == 5
