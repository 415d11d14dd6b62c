# SPDX-License-Identifier: MIT
"""Texts are printed as they are: brackets are no markup, ``:smile:`` is no emoji, and Rich never fails on them."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import dtnn_fast.cli
from dtnn_fast.cli import progress
from dtnn_fast.cli.console import counted, stderr, stdout
from dtnn_fast.cli.info import _EXTRAS, _OPTIONAL
from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.formats.packed_set import write_packed

# As an id or a label, each would be eaten, or end in a traceback.
TEXTS = ["[red]", "a[/bold]", "my[relaxed]", "[/]", ":smile:", "[link=x]y", "x[1", "\\[y]"]
CSCL = {"lattice_angstrom": (4 * np.eye(3)).tolist(), "atomic_numbers": [55, 17]}
SMALL = ["--set", "encoder.channels=8,4,4", "--set", "decoder.latent=8", "--epochs", "1", "--layer", "1"]


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 crystals"), (1, "1 crystal"), (2, "2 crystals"), (1234, "1,234 crystals")]
)
def test_numbers_with_their_noun(number, text):
    assert counted(number, "crystal") == text


@pytest.fixture
def crystals(tmp_path):
    """A file of crystals with these ids."""
    rows = [{**CSCL, "id": text, "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]]} for text in TEXTS]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def lines_of(text):
    return [line.strip() for line in text.splitlines()]


@pytest.mark.parametrize("make", [stdout, stderr])
@pytest.mark.parametrize("text", TEXTS)
def test_consoles_print_texts_as_they_are(make, text, monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr("sys.stdout", file)
    monkeypatch.setattr("sys.stderr", file)
    make().print(f"folder {text} of a run", style="yellow")
    assert file.getvalue() == f"folder {text} of a run\n"


def test_info_names_the_extra_to_install(program, monkeypatch):
    monkeypatch.setattr("dtnn_fast.cli.info.find_spec", lambda name: None)
    printed = " ".join(program("info").stdout.split())
    for name in _OPTIONAL:
        assert f'{name} not installed: pip install "dtnn-fast[{_EXTRAS.get(name, "all")}]"' in printed, name


@pytest.mark.parametrize("output", ["out[relaxed]", "res[/x]", "[red]out", ":smile:"])
def test_screen_names_its_folder(program, crystals, tiny_model, tmp_path, output):
    place = tmp_path / output
    result = program("screen", crystals, "--model", tiny_model, "--output", place)
    assert result.exit_code == 0
    assert f"results: {place / 'part-000000-0000.parquet'}, {place / 'ranking.csv'}" in result.stdout
    assert (place / "ranking.csv").exists()


def test_ids_stand_in_the_tables_of_screen_and_predict(program, crystals, tiny_model, tmp_path):
    result = program("screen", crystals, "--model", tiny_model, "--output", tmp_path / "out", "--rank-duplicates")
    assert [line.split()[1] for line in lines_of(result.stdout) if re.match(r"\d+ ", line)] == TEXTS
    result = program("predict", crystals, "--model", tiny_model)
    assert [line.split()[0] for line in lines_of(result.stdout) if "2 atoms" in line] == TEXTS


@pytest.mark.parametrize("name", ["a[/b]", "my[relaxed]", ":smile:"])
def test_folders_and_files_with_brackets(program, tiny_model, tmp_path, name):
    folder = tmp_path / name
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("no crystal")
    (folder / "[red].jsonl").write_text(json.dumps({**CSCL, "id": "good", "frac_coords": [[0, 0, 0], [0.5] * 3]}))
    (folder / "[bad].cif").write_text("")
    result = program("screen", folder, "--model", tiny_model, "--output", tmp_path / "out[/x]")
    assert result.exit_code == 3
    assert f"skipped 1 file of unknown format, such as {folder / 'notes.txt'}" in result.stderr
    assert f"1 rejected: see {tmp_path / 'out[/x]' / 'rejected.csv'}" in result.stderr
    result = program("predict", folder, "--model", tiny_model)
    assert f"rejected: {folder / '[bad].cif'}: " in result.stderr


def test_errors_name_paths_as_they_are(program, tmp_path):
    for name in ("[/b].cif", "[red].cif"):
        result = program("predict", tmp_path / name)
        assert result.stderr.startswith("error: nothing could be predicted: ")
        assert f"{tmp_path / name}: there is no such file" in result.stderr


def test_train_ensemble_and_evaluate(program, few_crystals, tmp_path):
    label = "[red]mine[/bold]"
    runs = [tmp_path / "runs[/x]" / name for name in ("[one]", "[two]")]
    for layer_seed, run in enumerate(runs):
        arguments = [*SMALL, "--label", label, "--set", f"training.learning_rate=0.00{layer_seed + 1}"]
        result = program("train", few_crystals, "--output", run, *arguments)
        assert result.exit_code == 0, result.output
        assert f"run: {run}   seed 0" in result.stderr
        assert f"model: {run / 'model'}   (dtnn-fast screen --model {run / 'model'})" in result.stdout
    both = tmp_path / "both[/x]"
    result = program("ensemble", *runs, "--data", few_crystals, "--label", label, "--output", both)
    assert result.exit_code == 0, result.output
    assert f"model: {both / 'model'}" in result.stderr
    out = tmp_path / "page[red]"
    result = program("evaluate", both, "--data", few_crystals, "--output", out)
    assert result.exit_code == 0, result.output
    assert label in result.stdout
    assert f"results: {out / 'errors.csv'}" in result.stdout


def test_data_info(program, tmp_path):
    crystal = Crystal.from_fractional("[red]", [55, 17], [[0, 0, 0], [0.5] * 3], 4 * np.eye(3))
    crystal.targets.update(total=np.eye(3), electronic=np.eye(3), ionic=np.zeros((3, 3)))
    provenance = {"title": "set [red]", "database_version": "[/x]", "kept": 1, "dropped": {"bad [/y]": 1}}
    write_packed(tmp_path / "[set].npz", [crystal], {**provenance, "cite": ["A [B]"], "url": "[/u]"})
    result = program("data", "info", tmp_path / "[set].npz")
    assert result.exit_code == 0, result.output
    for text in ("set [red], version [/x]", "dropped: bad [/y]", "A [B]", "[/u]"):
        assert text in result.stdout


def test_progress_bars(monkeypatch):
    file = io.StringIO()
    terminal = Console(file=file, force_terminal=True, width=200, markup=False, emoji=False, highlight=False)
    monkeypatch.setattr(progress, "stderr", lambda: terminal)
    with progress.CountProgress() as bar:
        bar.show("tensors[/x] :smile:", 1, 2)
    with progress.ScreeningProgress() as bar:
        bar.on_start(0, 10)
        bar.on_crystals(3)
        bar.on_piece(5, 2)
        bar.on_message("part[/x] :smile:")
    assert "tensors[/x] :smile:" in file.getvalue()
    assert "part[/x] :smile:" in file.getvalue()
    assert "2 rejected" in file.getvalue()
    assert "50%" in file.getvalue()


def test_forced_colours_move_no_bars_in_files(monkeypatch):
    """As in CI services and in the kernels of notebooks, whose processes write into pipes."""
    file = io.StringIO()
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("sys.stderr", file)
    with progress.CountProgress() as bar:
        bar.show("tensors", 1, 2)
    with progress.ScreeningProgress() as bar:
        bar.on_start(0, 10)
        bar.on_crystals(3)
        bar.on_piece(5, 2)
        bar.on_message("a part")
    assert re.fullmatch(r"\x1b\[33ma part\x1b\[0m\n", file.getvalue())


def test_counts_are_lines_in_files(capsys):
    with progress.CountProgress(line_seconds=0) as bar:
        bar.show("crystals", 1, 2000)
        bar.show("bytes", 3072, 0)
    with progress.CountProgress() as bar:
        bar.show("soon", 1, 2)
    assert capsys.readouterr().err == "crystals: 1 of 2,000\nkilobytes: 3\n"


def test_markup_is_off_in_every_command():
    """Consoles are made in one place, columns with texts in another."""
    makers = {}
    for path in Path(dtnn_fast.cli.__file__).parent.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "rich.markup" not in text
        for call in re.findall(r"(?<![\w.])(?:Console|TextColumn)\((?:quiet=True)?", text):
            makers.setdefault(call, []).append(path.name)
    assert makers == {"Console(": ["console.py"], "Console(quiet=True": ["progress.py"], "TextColumn(": ["progress.py"]}
