# SPDX-License-Identifier: MIT
"""Large cells are screened in the time of the prediction, and Ctrl-C keeps what was predicted until then."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from crystal_examples import thermal_mgo
from pyarrow import parquet

# Runs dtnn-fast, and says on stderr after each batch, before each search for a symmetry and at the end that it
# got there, with the seconds of CPU time until then.
PROGRAM = """
import atexit, signal, sys, time
from dtnn_fast.cli import main
from dtnn_fast.model.predictor import Predictor
from dtnn_fast.screening import preparation

def say(phase):
    if phase:
        print(phase, time.process_time(), file=sys.stderr, flush=True)

def told(function, before, after):
    def tell(*arguments, **options):
        say(before)
        result = function(*arguments, **options)
        say(after)
        return result
    return tell

# A shell that starts pytest in the background makes its children ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
Predictor.predict_batch_with_errors = told(Predictor.predict_batch_with_errors, "", "batch")
preparation.described = told(preparation.described, "search", "")
atexit.register(say, "end")
main()
"""


def write_rows(path, crystals):
    rows = [
        {
            "id": f"{crystal.id}-{index}",
            "lattice_angstrom": crystal.cell.tolist(),
            "atomic_numbers": crystal.atomic_numbers.tolist(),
            "frac_coords": (crystal.positions @ np.linalg.inv(crystal.cell)).tolist(),
        }
        for index, crystal in enumerate(crystals)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_a_large_thermal_cell(program, tiny_model, tmp_path):
    file, output = (
        write_rows(tmp_path / "large.jsonl", [thermal_mgo((9, 9, 8)), thermal_mgo((1, 1, 1))]),
        tmp_path / "out",
    )
    result = program("screen", file, "--model", tiny_model, "--output", output)
    assert result.exit_code == 0
    rows = parquet.read_table(output / "part-000000-0000.parquet").to_pylist()
    assert [(row["num_atoms"], row["crystal_system"]) for row in rows] == [(5184, None), (8, "cubic")]
    assert "spglib" not in result.stderr
    result = program("predict", file, "--model", tiny_model)
    assert result.exit_code == 0
    assert "MgO   crystal system unknown   5,184 atoms" in result.stdout


@pytest.mark.parametrize(("phase", "count"), [("batch", 5), ("search", 1)])
def test_sigint_stops_screen_within_two_seconds(tiny_model, labelled, tmp_path, phase, count):
    """While crystals are predicted, and while the symmetry of thermal cells is searched for."""
    crystals = labelled if phase == "batch" else [thermal_mgo((5, 5, 4), 0.025)] * 12
    file, output = write_rows(tmp_path / "many.jsonl", crystals), tmp_path / "out"
    arguments = ["screen", file, "--model", tiny_model, "--output", output, "--batch-atoms", 1, "--threads", 1]
    command = [sys.executable, "-P", "-c", PROGRAM, *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        for _ in range(count):
            while not (line := process.stderr.readline()).startswith(phase):
                assert line, "the program ended"
        process.send_signal(signal.SIGINT)
        stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    if phase == "batch":
        predicted = json.loads((output / "summary.json").read_text())["predicted"]
        assert len(parquet.read_table(output / "part-000000-0000.parquet")) == predicted
        assert count - 1 <= predicted < len(crystals)
    else:
        assert "stopped: 0 crystals were predicted" in stderr
    # CPU time, because tests share the machine with others.
    assert float(stderr.split()[-1]) - float(line.split()[1]) < 2
