# SPDX-License-Identifier: MIT
"""screen --matmul-precision: the setting reaches the products, and results of two settings are not mixed."""

from __future__ import annotations

import json

import pytest
import torch
from helpers import CallsOf
from test_screen import NACL


@pytest.fixture
def files(tmp_path):
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "nacl.cif").write_text(NACL)
    return tmp_path


def test_setting_reaches_the_products_and_ends_with_the_screening(program, tiny_model, files):
    arguments = ("screen", files / "input", "--model", tiny_model, "--output", files / "out")
    with CallsOf(torch.ops.dtnn_fast.decode.default) as calls:
        assert program(*arguments, "--matmul-precision", "medium").exit_code == 0
    assert {call[-1] for call in calls.arguments} == {2}
    assert torch.get_float32_matmul_precision() == "highest"
    assert json.loads((files / "out" / "manifest.json").read_text())["settings"]["matmul_precision"] == "medium"


@pytest.mark.parametrize("first", ["highest", "medium"])
def test_a_folder_holds_results_of_one_setting(program, tiny_model, files, first):
    arguments = ("screen", files / "input", "--model", tiny_model, "--output", files / "out", "--matmul-precision")
    other = "medium" if first == "highest" else "highest"
    assert program(*arguments, first).exit_code == 0
    refused = program(*arguments, other)
    assert refused.exit_code == 2
    assert "results of other settings" in " ".join(refused.stderr.split())
    assert program(*arguments, first).exit_code == 0


def test_unknown_setting(program, tiny_model, files):
    result = program("screen", files / "input", "--model", tiny_model, "--matmul-precision", "low")
    assert result.exit_code == 2
    assert "'highest', 'high', 'medium'" in " ".join(result.stderr.split())
