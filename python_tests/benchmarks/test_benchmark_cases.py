# SPDX-License-Identifier: MIT
"""The table of benchmark cases: its bytes are those of the tensors, and everything in it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path

import pytest
import torch
from cases import (
    BACKWARD,
    CASES,
    FORWARD,
    PASSES,
    SECOND,
    Case,
    as_tuple,
    bind,
    compiled_binder,
    networks,
    symmetry,
)
from torch import Tensor

from dtnn_fast import DTNN

ROOT = Path(__file__).parents[2]

SMALL = [case for case in CASES if case.name.startswith(("1 crystal", "32 crystals"))]
CPU = torch.device("cpu")


def num_bytes(*values: object) -> int:
    """Of all tensors in there."""
    size = 0
    for value in values:
        if isinstance(value, Tensor):
            size += value.numel() * value.element_size()
        elif isinstance(value, (tuple, list)):
            size += num_bytes(*value)
    return size


def label(case: Case) -> str:
    return case.label


@pytest.mark.parametrize("case", SMALL, ids=label)
def test_bytes_of_the_forward_pass_are_those_of_its_tensors(case):
    inputs = case.inputs(CPU, 0)
    outputs = as_tuple(case.native(*inputs.leaves, *inputs.constants))
    moved = num_bytes(*inputs.leaves, *inputs.constants, *outputs)
    if case.op == "bond_vectors":  # rows and order serve an implementation of the backward
        moved -= num_bytes(*inputs.constants[3:])
    if case.op == "bond_to_atom_sum":  # by center: the centers themselves need not be read, nor the first row's 0
        pairs, _, _, by_neighbor = inputs.constants
        moved -= num_bytes(pairs, by_neighbor) + 8
    if case.op == "atom_to_bond_gather":  # by center: one end of each bond, and no segments
        pairs, row_ptr, _, by_neighbor = inputs.constants
        moved -= num_bytes(pairs) // 2 + num_bytes(row_ptr, by_neighbor)
    if case.op == "reduce_bonds":  # displacements, strains and faults are not read
        moved -= num_bytes(*inputs.constants[0][4:])
    # What is counted is within the few bytes of B+1 and N+1 of what is there, in up to five arrays.
    assert case.traffic(inputs, FORWARD).bytes == pytest.approx(moved, abs=40)


@pytest.mark.parametrize("case", [case for case in SMALL if SECOND in case.passes], ids=label)
def test_bytes_of_the_backward_pass_are_those_of_its_tensors(case):
    """Gradients of outputs in, gradients of leaves out, and what the derivative depends on."""
    inputs = case.inputs(CPU, 0)
    outputs = as_tuple(case.native(*inputs.leaves, *inputs.constants))
    backward = case.stages(inputs)[1].bytes
    gradients = num_bytes(*outputs, *inputs.leaves)
    needed = {
        "bond_vectors": lambda: num_bytes(*inputs.constants[:3]),
        "bond_to_atom_sum": lambda: num_bytes(inputs.constants[0]) // 2,
        "atom_to_bond_gather": lambda: num_bytes(inputs.constants[1]),
        "bond_messages": lambda: num_bytes(*inputs.leaves, *inputs.constants),
        "rank2_linear": lambda: num_bytes(*inputs.leaves, outputs[0]),
        # The residual is not needed, and its gradient is that of the result.
        "rank2_gate": lambda: num_bytes(*inputs.leaves[:3]) - num_bytes(inputs.leaves[3]),
        "tensor_readout": lambda: num_bytes(inputs.leaves[1], inputs.constants[0]),
    }[case.op]()
    assert backward == pytest.approx(gradients + needed, abs=16)


NETWORKS = ("bond_geometry", "bond_perceptron_sum", "atom_update", "atom_readout", "decode")


@pytest.mark.parametrize("case", [case for case in SMALL if case.op in NETWORKS], ids=label)
def test_bytes_of_the_backward_pass_of_networks_are_those_of_their_tensors(case):
    """Gradients of results and all arguments in, gradients of the leaves out."""
    inputs = case.inputs(CPU, 0)
    outputs = as_tuple(case.native(*inputs.leaves, *inputs.constants))
    moved = num_bytes(*outputs, *inputs.leaves, *inputs.leaves, *inputs.constants)
    assert case.stages(inputs)[1].bytes == pytest.approx(moved, abs=32)


@pytest.mark.parametrize("case", [case for case in SMALL if case.op in NETWORKS], ids=label)
@pytest.mark.parametrize("pass_name", [FORWARD, BACKWARD])
def test_networks_and_their_references_do_the_same_work(case, pass_name):
    inputs = case.inputs(CPU, 0)
    native, by_reference = (as_tuple(bind(pass_name, call, inputs)()) for call in (case.native, case.reference))
    for ours, theirs in zip(native, by_reference, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


def test_widths_are_those_of_the_bundled_model():
    model = DTNN.from_pretrained("dielectric")
    channels, decoder = model.config.encoder.channels, model.config.decoder
    assert astuple(channels) == (networks.SCALARS, networks.VECTORS, networks.TENSORS, networks.RADIAL)
    assert model.config.encoder.readout == networks.READ
    assert (decoder.blocks, decoder.latent) == (networks.BLOCKS, networks.LATENT)
    assert (len(decoder.layers), model.config.members) == (networks.LAYERS, networks.MEMBERS)
    assert networks.CUTOFF == model.encoder.cutoffs[-1] == symmetry.CUTOFFS[-1]


@pytest.mark.parametrize("case", [case for case in SMALL if case.compiled], ids=label)
@pytest.mark.parametrize("pass_name", PASSES)
def test_compiled_reference_does_the_same_work(case, pass_name):
    inputs = case.inputs(CPU, 0)
    native = bind(pass_name, case.native, inputs)()
    compiled = compiled_binder(pass_name, case.reference, "aot_eager")(inputs)()
    for ours, theirs in zip(as_tuple(native), as_tuple(compiled), strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


def test_every_operation_and_size_is_there():
    for op in {case.op for case in CASES}:
        names = [case.name for case in CASES if case.op == op]
        for size in ("1 crystal", "32 crystals", "1024 crystals", "large cell"):
            assert any(name.startswith(size) for name in names), (op, size)
    assert len({case.label for case in CASES}) == len(CASES)


def test_promises_name_sides_of_the_case():
    for case in CASES:
        sides = {peer.name for peer in case.peers} | {"eager", "compiled"}
        for (device, pass_name), promised in case.promises.items():
            assert set(promised) <= sides, case.label
            assert device in ("cpu", "cuda")
            assert pass_name in (FORWARD, BACKWARD, SECOND)


def test_quick_run(tmp_path):
    """`pytest benchmarks --quick` as a user would call it, on the smallest inputs, and its report."""
    result = tmp_path / "quick.json"
    command = [sys.executable, "-P", "-m", "pytest", "benchmarks", "--quick", "-k", "1_crystal or prediction", "-q"]
    command += ["--device", "cpu", "-p", "no:cacheprovider", "-p", "no:xdist", f"--benchmark-json={result}"]
    # As pytest-benchmark measures nothing, and writes no file, in a worker of pytest-xdist.
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    run = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:]
    command = [sys.executable, "-m", "benchmarks.report", str(result)]
    report = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert report.returncode == 0, report.stderr
    page = report.stdout
    for op in {case.op for case in CASES}:
        assert f"| {op} | 1 crystal" in page
    assert "A quick run" in page
