# SPDX-License-Identifier: MIT
"""Start-up, help, errors, and the command info."""

import subprocess
import sys

import pytest
import torch

from dtnn_fast import __version__
from dtnn_fast.cli.options import CRYSTAL_FILES
from dtnn_fast.files import read_json_object
from dtnn_fast.formats.reading import FILE_FORMATS
from dtnn_fast.model.bundled_model import bundled_folder
from dtnn_fast.model.dtnn_config import TARGETS


def python(code):
    return subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["screen"],
        ["predict"],
        ["report"],
        ["serve"],
        ["train"],
        ["train-lattice"],
        ["refine"],
        ["ensemble"],
        ["tune"],
        ["evaluate"],
        ["export"],
        ["distill"],
        ["candidates"],
        ["dfpt"],
        ["info"],
        ["data", "fetch"],
    ],
)
def test_help_does_not_import_torch(command):
    arguments = ["dtnn-fast", *command, "--help"]
    code = (
        f"import sys; sys.argv = {arguments!r}\n"
        "from dtnn_fast.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: print('exit', end.code, 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = python(code)
    assert done.stdout.splitlines()[-1] == "exit 0 False False", done.stderr


def test_the_help_lists_all_file_formats_and_shows_defaults_without_parentheses(program):
    names = {"jsonl": ".jsonl", "cif": "CIF", "poscar": "POSCAR", "extxyz": "extxyz", "json": "JSON", "npz": ".npz"}
    names |= {"parquet": "Parquet", "archive": ".zip, .tar", "csv": "CSV", "ase_db": ".db"}
    assert names.keys() == FILE_FORMATS.keys()
    assert all(name in CRYSTAL_FILES for name in names.values())
    for command in ("screen", "predict"):
        assert " ".join(CRYSTAL_FILES.split()[:6]) in program(command, "--help").stdout
    shown = program("train", "--help").stdout
    assert "[default: 1000]" in shown
    assert "default: (" not in shown


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_missing_package_says_what_to_install(package):
    done = python(f"import sys; sys.modules[{package!r}] = None\nfrom dtnn_fast.cli import main\nmain()")
    assert done.returncode == 2
    assert 'pip install "dtnn-fast[cli]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_version(program):
    assert program("--version").stdout.strip() == f"dtnn-fast {__version__}"


def test_unknown_model_is_one_line(program, tmp_path):
    result = program("screen", "--model", tmp_path / "absent")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: from_pretrained: expected one of dielectric")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["screen"], "--output"),
        (["train"], "--output"),
        (["train"], "--cache"),
        (["tune"], "--output"),
        (["tune"], "--cache"),
        (["distill"], "--output"),
        (["distill"], "--labels"),
        (["ensemble", "one", "two"], "--output"),
        (["evaluate", "runs"], "--output"),
        (["data", "fetch", "mp"], "--downloads"),
    ],
)
def test_a_file_where_a_folder_goes_is_named(program, tmp_path, command, option):
    path = tmp_path / "a.jsonl"
    path.write_text("")
    result = program(*command, option, path)
    assert result.exit_code == 2
    said = " ".join(result.stderr.replace("│", " ").split())
    assert f"Invalid value for '{option}'" in said
    assert "is a file" in said
    assert path.read_text() == ""


def test_notes_that_are_not_there_are_named(program, tmp_path):
    result = program("evaluate", tmp_path, "--notes", tmp_path / "absent.md", "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert "Invalid value for '--notes'" in result.stderr
    assert not (tmp_path / "out").exists()


def test_info(program):
    lines = program("info").stdout
    assert __version__ in lines
    assert "CUDA kernels" in lines
    assert "dielectric-total" in lines


def test_info_says_which_errors_are_of_crystals_that_the_encoder_had_seen(program):
    printed = " ".join(program("info").stdout.split())
    errors = {target: printed.partition(f"{target} error")[2].partition(" error")[0] for target in TARGETS}
    assert all("kept for testing" in text for text in errors.values())
    seen = read_json_object(bundled_folder() / "training.json")["encoder_saw"]
    assert {target for target, text in errors.items() if "had learned from" in text} == set(seen) == {"ionic", "total"}


def test_info_names_the_extra_of_a_missing_package(program, monkeypatch):
    monkeypatch.setattr("dtnn_fast.cli.info.find_spec", lambda name: None)
    lines = program("info").stdout.splitlines()
    extras = {line.split()[0]: line.partition("[")[2].partition("]")[0] for line in lines if "not installed" in line}
    assert extras["gemmi"] == "all"
    assert (extras["sevenn"], extras["nequix"]) == ("sevennet", "nequix")


@pytest.mark.parametrize("command", ["train", "tune", "train-lattice", "refine"])
@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu7", "expected the device cpu or cuda, got 'gpu7'"),
        ("cuda:3", "the device 'cuda:3' needs GPU number 3, counted from 0; torch sees 0"),
    ],
)
def test_commands_refuse_devices_before_they_begin(
    program, command, device, message, few_crystals, tmp_path, monkeypatch
):
    if command == "tune":
        pytest.importorskip("optuna")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    output = tmp_path / ("out.csv" if command == "refine" else "out")
    result = program(command, few_crystals, "--device", device, "--output", output)
    assert result.exit_code == 2
    assert f"{command}: {message}" in result.stderr
    assert not output.exists()


@pytest.mark.parametrize("command", ["predict", "screen"])
def test_devices_that_torch_does_not_see_are_errors(program, command, tiny_model, tmp_path):
    crystal = tmp_path / "POSCAR"
    crystal.write_text("Cu\n1.0\n3 0 0\n0 3 0\n0 0 3\nCu\n1\nDirect\n0 0 0\n", encoding="utf-8")
    output = ["--output", tmp_path / "out"]
    result = program(command, crystal, "--model", tiny_model, "--device", "cuda:99", *output)
    assert result.exit_code == 2
    assert f"{command}: the device 'cuda:99' needs GPU number 99, counted from 0; torch sees" in result.stderr
    assert program(command, crystal, "--model", tiny_model, "--device", "cpu", *output).exit_code == 0
