# SPDX-License-Identifier: MIT
"""The command report, and predict --html."""

import json
import re

import numpy as np
import pytest
import screening_parts


@pytest.fixture(scope="module")
def screening(tmp_path_factory, labelled):
    crystals = [crystal for crystal in labelled if crystal.num_atoms < 8][:40]
    tensors = screening_parts.random_tensors(np.random.default_rng(0), len(crystals))
    rows = [
        screening_parts.part_row(crystal, {name: values[k] for name, values in tensors.items()})
        for k, crystal in enumerate(crystals)
    ]
    return screening_parts.write_screening(tmp_path_factory.mktemp("folder") / "screening", rows)


def content_of(page):
    found = re.search(r'id="content">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_page_is_written_into_the_folder(program, screening):
    result = program("report", screening)
    assert result.exit_code == 0
    assert f"report: {screening / 'report.html'}" in result.stdout
    content = content_of(screening / "report.html")
    assert len(content["crystals"]) == 40
    assert dict(content["provenance"])["report"].startswith("dtnn-fast")


def test_number_of_first_ranks_and_another_place(program, screening, tmp_path):
    page = tmp_path / "new" / "page.html"
    assert program("report", screening, "--top", "7", "-o", page).exit_code == 0
    assert [crystal["rank"] for crystal in content_of(page)["crystals"]] == list(range(1, 8))


def test_a_folder_without_a_screening_is_one_line(program, tmp_path):
    result = program("report", tmp_path)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {tmp_path}: expected files part-*.parquet")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("top", ["0", "1001"])
def test_top_is_limited(program, screening, top):
    result = program("report", screening, "--top", top)
    assert result.exit_code == 2
    assert "--top" in result.stderr


def test_missing_duckdb_says_what_to_install(program, screening, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    result = program("report", screening)
    assert result.exit_code == 2
    assert 'pip install "dtnn-fast[report]"' in result.stderr


def test_predicted_crystals_as_a_page(program, tiny_model, few_crystals, tmp_path):
    page, output = tmp_path / "predicted.html", tmp_path / "predicted.json"
    result = program("predict", few_crystals, "--model", tiny_model, "--html", page, "--output", output)
    assert result.exit_code == 0
    expected, content = json.loads(output.read_text(encoding="utf-8")), content_of(page)
    assert [crystal["id"] for crystal in content["crystals"]] == [crystal["id"] for crystal in expected["crystals"]]
    for shown, crystal in zip(content["crystals"], expected["crystals"], strict=True):
        assert len(shown["structure"]["species"]) == crystal["num_atoms"]
        for target, values in crystal["tensors"].items():
            assert np.allclose(shown["tensors"][target]["tensor"], values["tensor"], rtol=1e-4, atol=1e-6)
    # Without figures there is no plotly.js, which is most of a report.
    assert page.stat().st_size < 1_000_000


def test_rejected_crystals_are_on_the_page(program, tiny_model, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.cif").write_text("nonsense", encoding="utf-8")
    good = "Si\n1.0\n0 2.7 2.7\n2.7 0 2.7\n2.7 2.7 0\nSi\n2\nDirect\n0 0 0\n0.25 0.25 0.25\n"
    (tmp_path / "in" / "POSCAR").write_text(good, encoding="utf-8")
    page = tmp_path / "page.html"
    assert program("predict", tmp_path / "in", "--model", tiny_model, "--html", page).exit_code == 3
    content = content_of(page)
    assert content["counts"] == {"predicted": 1, "rejected": 1}
    assert "bad" in content["rejected"]["rows"][0][0]
