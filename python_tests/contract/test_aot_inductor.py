# SPDX-License-Identifier: MIT
"""AOTInductor packages of an operation and the model, run by a process with only torch and _ops.so."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from exporting import BATCHES, exported, small_model
from model_cases import small_crystals
from op_cases import FUNCTIONS, batch

from dtnn_fast import _library
from dtnn_fast.model.exported import export_model, graph_tensors

RUNNER = """
import sys
import torch
import torch._inductor.codecache

sys.modules["dtnn_fast"] = None  # makes its import an error
library, package, inputs, outputs = sys.argv[1:]
torch.ops.load_library(library)
run = torch._inductor.aoti_load_package(package)
torch.save([run(*arguments) for arguments in torch.load(inputs)], outputs)
"""


def run_elsewhere(program, batches, folder):
    """Run the package of a program in another process, and return its results for each batch of arguments."""
    package, inputs, outputs = (str(folder / name) for name in ("package.pt2", "inputs.pt", "outputs.pt"))
    # Here a fast compilation matters more than fast code.
    options = {"aot_inductor.compile_wrapper_opt_level": "O0"}
    torch._inductor.aoti_compile_and_package(program, package_path=package, inductor_configs=options)
    torch.save(batches, inputs)
    command = [sys.executable, "-P", "-c", RUNNER, str(_library.LIBRARY), package, inputs, outputs]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return torch.load(outputs)


@pytest.mark.slow
def test_operation(tmp_path):
    case = FUNCTIONS["rank2_linear with norm"]
    batches = [case.arguments(batch(size)) for size in (10, 2, 1, 0)]
    for result, arguments in zip(run_elsewhere(exported(case), batches, tmp_path), batches, strict=True):
        torch.testing.assert_close(tuple(result), case.call(*arguments))


@pytest.mark.slow
def test_model(tmp_path):
    model = small_model(layers=1)
    program = export_model(model, model.graph(small_crystals(6, max_atoms=4)))
    graphs = [model.graph(crystals) for crystals in BATCHES.values()]
    results = run_elsewhere(program, [graph_tensors(graph) for graph in graphs], tmp_path)
    for (tensors,), graph in zip(results, graphs, strict=True):
        torch.testing.assert_close(tensors, model(graph)["total"].detach())
