# SPDX-License-Identifier: MIT
"""Exported predictors: from positions to tensors, in a process without this package, from Python and from C++."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from exporting import BATCHES, small_model

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.model.error_calibration import ErrorCalibration
from dtnn_fast.model.exported import PREDICTOR_INPUTS, export_predictor, predictor_inputs

CPP = Path(__file__).parents[2] / "examples" / "cpp" / "predict.cpp"
BARS = ErrorCalibration((1.0, 4.0, 9.0), (3.0, 2.0, 5.0), size_weight=0.1, vacuum=1.0)
RUNNER = """
import sys
import torch
import torch._inductor.codecache

sys.modules["dtnn_fast"] = None  # makes its import an error
folder, inputs, outputs = sys.argv[1:]
torch.ops.load_library(folder + "/_ops.so")
run = torch._inductor.aoti_load_package(folder + "/model.pt2")
torch.save([run(*arguments) for arguments in torch.load(inputs)], outputs)
"""


def test_the_program_is_the_model():
    model = small_model().double()
    program = export_predictor(model).module()
    for name, crystals in BATCHES.items():
        (members,) = program(*predictor_inputs(crystals))
        assert members.shape == (1, len(crystals), 3, 3), name
        torch.testing.assert_close(members[0], model(model.graph(crystals))["total"], rtol=1e-10, atol=1e-10)


def test_pretrained_encoders_are_refused(monkeypatch):
    model = small_model()
    monkeypatch.setattr(type(model), "uses_operations", False)
    with pytest.raises(ValueError, match="export_predictor: expected a model with a native encoder"):
        export_predictor(model)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The folder that the command writes for a small model, and the model."""
    folder = tmp_path_factory.mktemp("exported")
    model = small_model(layers=1).eval()
    model.config = replace(model.config, tensor_calibrations=(BARS,), mean_error_scales=(3.0,))
    model.save(folder / "model")
    code = f"import sys; sys.argv = {['dtnn-fast', 'export', '-m', str(folder / 'model'), '-o', str(folder)]!r}\n"
    options = "import torch._inductor.config as c; c.aot_inductor.compile_wrapper_opt_level = 'O0'\n"
    code += options + "from dtnn_fast.cli import main; main()"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, model


@pytest.mark.slow
def test_a_process_without_the_package_runs_it(exported, tmp_path):
    folder, model = exported
    description = json.loads((folder / "model.json").read_text())
    assert list(description["inputs"]) == list(PREDICTOR_INPUTS)
    assert list(description["outputs"]) == ["total"]
    assert description["tensor_calibrations"] == {"total": BARS.to_json()}
    assert description["mean_calibrations"] == {"total": ErrorCalibration.plain(3.0).to_json()}
    assert "sqrt(spread^2 + (size_weight * size)^2)" in description["error_bars"]
    batches = list(BATCHES.values())
    torch.save([predictor_inputs(crystals) for crystals in batches], tmp_path / "inputs.pt")
    command = [sys.executable, "-P", "-c", RUNNER, str(folder), tmp_path / "inputs.pt", tmp_path / "outputs.pt"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for (members,), crystals in zip(torch.load(tmp_path / "outputs.pt"), batches, strict=True):
        torch.testing.assert_close(members[0], model(model.graph(crystals))["total"].detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_cpp_program_runs_it(exported, tmp_path):
    folder, model = exported
    torch_folder = Path(torch.__file__).parent
    libraries = torch_folder / "lib"
    includes = [f"-I{torch_folder / 'include'}", f"-I{torch_folder / 'include/torch/csrc/api/include'}"]
    # _ops.so needs libtorch.so, which the program itself does not use.
    linked = ["-Wl,--no-as-needed", f"-L{libraries}", f"-Wl,-rpath,{libraries}"]
    linked += ["-ltorch", "-ltorch_cpu", "-lc10", "-ldl"]
    compiler = (sysconfig.get_config_var("CXX") or "g++").split()[0]
    built = subprocess.run(
        [compiler, "-std=c++20", "-O0", *includes, str(CPP), "-o", "predict", *linked],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    done = subprocess.run(["./predict", str(folder)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if "{" not in line]  # without "[ CPUDoubleType{3,3} ]"
    printed = np.array(rows, dtype=float)
    cell = 0.5 * 4.212 * (np.ones((3, 3)) - np.eye(3))
    magnesia = Crystal.make("MgO", [12, 8], [[0.0, 0.0, 0.0], [2.106, 2.106, 2.106]], cell)
    np.testing.assert_allclose(printed, model.predict(magnesia, "total")[0], rtol=1e-3, atol=1e-4)
