# SPDX-License-Identifier: MIT
"""dtnn-fast screen and predict: all good crystals are predicted, each bad one is listed with its reason."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from pyarrow import parquet

from dtnn_fast.formats.reading import FILE_FORMATS, read_crystals
from dtnn_fast.model.dtnn import DTNN

NACL = """data_NaCl
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Na1 Na 0 0 0 1
Na2 Na 0.5 0.5 0 1
Na3 Na 0.5 0 0.5 1
Na4 Na 0 0.5 0.5 1
Cl1 Cl 0.5 0.5 0.5 1
Cl2 Cl 0 0 0.5 1
Cl3 Cl 0 0.5 0 1
Cl4 Cl 0.5 0 0 1
"""
POSCAR = """BaTiO3
1.0
4.0 0 0
0 4.0 0
0 0 4.03
Ba Ti O
1 1 3
Direct
0 0 0
0.5 0.5 0.52
0.5 0.5 -0.01
0.5 0 0.49
0 0.5 0.49
"""
# A word of the reason by file.
BAD = {
    "nan.vasp": (POSCAR.replace("0.5 0.5 0.52", "nan 0.5 0.52"), "NaN"),
    "flat.vasp": (POSCAR.replace("0 0 4.03", "8.0 0 0"), "no volume"),
    "half.cif": (NACL.replace("Na1 Na 0 0 0 1", "Na1 Na 0 0 0 0.5"), "partial occupancy"),
    "argon.vasp": (POSCAR.replace("Ba Ti", "Ar Ti"), "element Ar is unknown"),
    "twice.vasp": (POSCAR.replace("0 0.5 0.49", "0.5 0 0.49"), "two atoms at one place"),
    "empty.cif": ("", "empty"),
    "truncated.cif": (NACL[: NACL.index("loop_")], "truncated"),
    "picture.cif": ("\x89PNG\r\n\x1a\n\0\0\0", "PNG picture"),
}
GOOD = {"nacl.cif", "batio3.vasp", "many.jsonl"}


@pytest.fixture
def folder(tmp_path, labelled, row_of):
    folder = tmp_path / "input"
    folder.mkdir()
    for name, (text, _) in BAD.items():
        (folder / name).write_bytes(text.encode("latin-1"))
    (folder / "nacl.cif").write_text(NACL)
    (folder / "batio3.vasp").write_text(POSCAR)
    (folder / "many.jsonl").write_text("\n".join(json.dumps(row_of(c)) for c in labelled[:40]) + "\n")
    (folder / "README.md").write_text("not a crystal")
    return folder


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_screen_folder_with_good_and_bad(program, folder, tiny_model, tmp_path):
    output = tmp_path / "out"
    result = program("screen", folder, "--model", tiny_model, "--output", output, "--batch-atoms", 100, "--top", 5)
    assert result.exit_code == 3
    assert "8 rejected: see" in result.stderr
    assert "skipped 1 file of unknown format, such as" in result.stderr

    rejected = {row["source"].rsplit("/", 1)[-1]: row["reason"] for row in table(output / "rejected.csv")}
    assert set(rejected) == set(BAD)
    for name, (_, word) in BAD.items():
        assert word in rejected[name], name

    predictions = parquet.read_table(output / "part-000000-0000.parquet")
    crystals = [crystal for name in sorted(GOOD) for crystal in read_crystals(folder / name)]
    by_id = {row["id"]: row for row in predictions.to_pylist()}
    assert len(predictions) == len(by_id) == len(crystals) == 42
    expected = DTNN.from_pretrained(tiny_model).predict_targets(crystals)
    for index, crystal in enumerate(crystals):
        row = by_id[crystal.id]
        assert row["formula"] == crystal.formula
        for target, tensors in expected.items():
            e = tensors[index]
            found = [row[f"{target}_{name}"] for name in ("xx", "yy", "zz", "yz", "xz", "xy")]
            np.testing.assert_allclose(found, e[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], rtol=1e-4, atol=1e-5)
            principal = [row[f"{target}_{name}"] for name in ("e1", "e2", "e3")]
            np.testing.assert_allclose(principal, np.linalg.eigvalsh(e), rtol=1e-4, atol=1e-4)
            assert row[f"{target}_mean"] == pytest.approx(np.trace(e) / 3, rel=1e-4, abs=1e-5)
            assert row[f"{target}_anisotropy"] == pytest.approx(principal[2] - principal[0], abs=1e-12)
    assert by_id["nacl"]["crystal_system"] == "cubic"
    assert by_id["batio3"]["crystal_system"] in ("tetragonal", "cubic")
    metadata = predictions.schema.metadata
    assert metadata[b"model"] == str(tiny_model).encode()
    assert b"permittivity" in predictions.schema.field("total_mean").metadata[b"unit"]

    ranking = table(output / "ranking.csv")
    # Figures of merit first, then means of crystals without a known gap.
    known = [float(row["figure_of_merit"]) for row in ranking if row["figure_of_merit"]]
    assert known == sorted(known, reverse=True)
    means = [float(row["total_mean"]) for row in ranking[len(known) :]]
    assert means == sorted(means, reverse=True)
    assert not any(row["figure_of_merit"] for row in ranking[len(known) :])
    assert [int(row["rank"]) for row in ranking] == list(range(1, 43))
    assert sum(row["labelled"] == "true" for row in ranking) == 40
    assert ranking[0]["formula"] in result.stdout
    assert "†" in result.stdout
    assert "band gap is not predicted" in result.stdout

    picture = imread(output / "plot.png")
    assert min(picture.shape[:2]) > 500
    assert picture[..., :3].std() > 0.05
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["predicted"], summary["rejected"]) == (42, 8)
    assert summary["symmetry_not_used"] == 0
    assert summary["stopped"] is False


def test_screen_again_lowest_anisotropy_first(program, folder, tiny_model, tmp_path):
    output = tmp_path / "out"
    arguments = ["screen", folder / "many.jsonl", "--model", tiny_model, "--output", output]
    assert program(*arguments).exit_code == 0
    result = program(*arguments, "--sort-by", "electronic_anisotropy", "--lowest-first")
    assert result.exit_code == 0
    values = [float(row["electronic_anisotropy"]) for row in table(output / "ranking.csv")]
    assert values == sorted(values)
    assert (output / "rejected.csv").read_text().splitlines() == ["id,source,reason"]


def test_another_functional_is_another_screening(program, few_crystals, tmp_path):
    def screen(*options):
        return program("screen", few_crystals, "-o", tmp_path, "--threads", 1, "--no-find-duplicates", *options)

    assert screen().exit_code == 0
    assert json.loads((tmp_path / "summary.json").read_text())["functional"] == "PBE"
    for options in (["--functional", "PBE"], []):
        assert "already predicted" in screen(*options).stderr  # the main one: the same screening
    result = screen("--functional", "PBEsol")
    assert result.exit_code == 2
    assert "contains results of another model" in " ".join(result.stderr.split())
    assert screen("--functional", "PBEsol", "--fresh").exit_code == 0
    assert json.loads((tmp_path / "summary.json").read_text())["functional"] == "PBEsol"
    assert json.loads((tmp_path / "manifest.json").read_text())["model"]["functional"] == "PBEsol"
    unknown = screen("--functional", "LDA")
    assert unknown.exit_code == 2
    assert "expected one of PBE, PBEsol, got 'LDA'" in " ".join(unknown.stderr.replace("│", " ").split())


def test_names_that_are_not_utf8_lose_nothing(program, tiny_model, tmp_path):
    folder, output = tmp_path / "input", tmp_path / "out"
    folder.mkdir()
    row = {"lattice_angstrom": (4 * np.eye(3)).tolist(), "atomic_numbers": [55, 17]}
    lines = [json.dumps({**row, "id": name, "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]]}) for name in ("\ud800", "b")]
    (folder / "many.jsonl").write_text("\n".join(lines))
    try:
        (folder / "\udcff.vasp").write_text(POSCAR)
        (folder / "\udcfe.cif").write_text("")
    except OSError:
        pytest.skip("file names are UTF-8 on this system")
    result = program("screen", folder, "--model", tiny_model, "--output", output)
    assert result.exit_code == 3
    ranked, unranked = table(output / "ranking.csv"), table(output / "unranked.csv")
    assert {row["id"] for row in [*ranked, *unranked]} == {"\\ud800", "b", "\\udcff"}
    assert len(parquet.read_table(output / "part-000000-0000.parquet")) == 3
    assert [row["id"] for row in table(output / "rejected.csv")] == ["\\udcfe.cif"]


def test_screen_with_nothing_usable(program, folder, tiny_model, tmp_path):
    result = program("screen", folder / "empty.cif", "--model", tiny_model, "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert "the file is empty" in result.stderr
    (tmp_path / "none").mkdir()
    result = program("screen", tmp_path / "none", "--model", tiny_model, "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert "no crystals found" in result.stderr
    assert all(suffix in result.stderr for known in FILE_FORMATS.values() for suffix in known.suffixes)


def test_screen_sees_before_the_work_that_results_cannot_be_written(program, folder, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr("dtnn_fast.screening.engine.screen_crystals", None)  # must not be called
    (tmp_path / "out" / "plot.png").mkdir(parents=True)
    result = program("screen", folder, "--model", tiny_model, "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert "plot.png: is a folder" in result.stderr
    if Path("/proc/self").is_dir():  # where not even root can write
        result = program("screen", folder, "--model", tiny_model, "--output", "/proc/self")
        assert result.exit_code == 2
        assert "/proc/self: results cannot be written there" in result.stderr


def test_predict_prints_what_cannot_be_written(program, folder, tiny_model, tmp_path):
    result = program("predict", folder / "nacl.cif", "--model", tiny_model, "--output", tmp_path / "absent" / "a.json")
    assert result.exit_code == 2
    assert "No such file or directory" in result.stderr
    assert "NaCl   cubic   8 atoms" in result.stdout


@pytest.mark.parametrize("options", [("--sort-by", "total_price"), ("--where", "price <"), ("--elements", "Qq")])
def test_screen_refuses_wrong_rankings_before_the_work(program, tiny_model, tmp_path, monkeypatch, options):
    monkeypatch.setattr("dtnn_fast.screening.screening_run.screen_crystals", None)  # must not be called
    result = program("screen", "--model", tiny_model, "-o", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert options[1].split()[0] in result.stderr


def test_a_column_that_no_source_has_leaves_the_predictions(program, tiny_model, folder, tmp_path):
    """Columns of sources are known at the end only."""
    result = program("screen", folder / "nacl.cif", "--model", tiny_model, "-o", tmp_path, "--sort-by", "price")
    assert result.exit_code == 2
    assert "price" in result.stderr
    assert "rank them with dtnn-fast rank" in " ".join(result.stderr.split())
    result = program("rank", tmp_path, "--sort-by", "e3")
    assert result.exit_code == 0
    assert "NaCl" in result.stdout


def test_predict_prints_tensors(program, folder, tiny_model):
    result = program("predict", folder / "nacl.cif", "--model", tiny_model)
    assert result.exit_code == 0
    expected = DTNN.from_pretrained(tiny_model).predict(read_crystals(folder / "nacl.cif"), "ionic")[0]
    assert "NaCl   cubic   8 atoms" in result.stdout
    assert f"mean {np.trace(expected) / 3:.3f}" in result.stdout
    for word in ("electronic", "ionic", "total", "principal values"):
        assert word in result.stdout


def test_predict_json_and_bad_files(program, folder, tiny_model, tmp_path):
    files = [folder / "nan.vasp", folder / "batio3.vasp", tmp_path / "absent.cif"]
    result = program("predict", *files, "--json", "--model", tiny_model, "--output", tmp_path / "p.json")
    assert result.exit_code == 3
    assert "there is no such file" in result.stderr
    assert "NaN" in result.stderr
    record = json.loads(result.stdout)
    assert record == json.loads((tmp_path / "p.json").read_text())
    assert [crystal["id"] for crystal in record["crystals"]] == ["batio3"]
    expected = DTNN.from_pretrained(tiny_model).predict_targets(read_crystals(folder / "batio3.vasp"))
    for target, tensors in expected.items():
        found = record["crystals"][0]["tensors"][target]["tensor"]
        np.testing.assert_allclose(found, tensors[0], rtol=1e-5, atol=1e-6)
    assert len(record["rejected"]) == 2


def interrupt_after(monkeypatch, calls):
    """Make the model raise KeyboardInterrupt once it was asked `calls` times."""
    member_tensors, done = DTNN.member_tensors, []

    def interrupted(self, *arguments, **options):
        if len(done) == calls:
            raise KeyboardInterrupt
        done.append(1)
        return member_tensors(self, *arguments, **options)

    monkeypatch.setattr(DTNN, "member_tensors", interrupted)


def test_ctrl_c_keeps_what_was_predicted(program, folder, tiny_model, tmp_path, monkeypatch):
    output = tmp_path / "out"
    interrupt_after(monkeypatch, 5)
    result = program("screen", folder, "--model", tiny_model, "--output", output, "--batch-atoms", 1)
    assert result.exit_code == 130
    assert "stopped: 5 crystals were predicted, the remaining crystals were skipped" in " ".join(result.stderr.split())
    assert len(parquet.read_table(output / "part-000000-0000.parquet")) == len(table(output / "ranking.csv")) == 5
    assert len(table(output / "rejected.csv")) == len(BAD)
    assert imread(output / "plot.png").size
    summary = json.loads((output / "summary.json").read_text())
    assert summary["stopped"] is True
    assert summary["predicted"] == 5


def test_repeated_ids_get_suffixes_when_all_parts_are_there(program, few_crystals, tiny_model, tmp_path, monkeypatch):
    """Before, the first of several is not known: other processes may write an earlier part later."""
    row = few_crystals.read_text().splitlines()[0]
    for name in "abc":
        (tmp_path / f"{name}.jsonl").write_text(row)
    monkeypatch.setattr("dtnn_fast.screening.input_chunks.FILES_TOGETHER", 1)
    command = ["screen", *sorted(tmp_path.glob("?.jsonl")), "--model", tiny_model, "--output", tmp_path / "out"]
    name = json.loads(row)["id"]

    def ids():
        return [parquet.read_table(part)["id"].to_pylist() for part in sorted((tmp_path / "out").glob("part-*"))]

    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        assert program(*command).exit_code == 130
    assert ids() == [[name], [name]]
    assert program(*command).exit_code == 0
    assert ids() == [[name], [f"{name}#2"], [f"{name}#3"]]


@pytest.mark.parametrize("where", ["model", "listing"])
def test_ctrl_c_before_the_first_prediction(program, folder, tiny_model, tmp_path, monkeypatch, where):
    def interrupted(paths):
        raise KeyboardInterrupt

    output = tmp_path / "out"
    if where == "model":
        interrupt_after(monkeypatch, 0)
    else:
        monkeypatch.setattr("dtnn_fast.screening.sources.find_files", interrupted)
    result = program("screen", folder, "--model", tiny_model, "--output", output)
    assert result.exit_code == 130
    assert "stopped: 0 crystals were predicted" in result.stderr
    assert not {path.name for path in output.iterdir()} & {"ranking.csv", "plot.png", "summary.json"}
    monkeypatch.undo()
    assert program("screen", folder, "--model", tiny_model, "--output", output).exit_code == 3
    assert len(parquet.read_table(output / "part-000000-0000.parquet")) == 42


def test_links_to_folders_are_said_to_be_skipped(program, folder, tiny_model, tmp_path):
    (folder / "link").symlink_to(tmp_path, target_is_directory=True)
    result = program("screen", folder, "--model", tiny_model, "--output", tmp_path / "out")
    assert "skipped 1 file of unknown format and 1 link to a folder, such as" in " ".join(result.stderr.split())
