# SPDX-License-Identifier: MIT
"""Products of the fused operations in bfloat16 on the CPU: bits, errors, and float32 where the processor has none.

How products are computed is chosen when a process starts, so each way runs in its own process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import test_atom_networks
import test_bond_messages
import test_bond_perceptron_sum
import test_decode
import torch
from helpers import num_threads
from torch import Tensor

from dtnn_fast import ops

# Values of DTNN_BF16; with "" the instruction is used if there is one.
WAYS = ("", "emulated", "off")
CPU_INFO = Path("/proc/cpuinfo")
HAS_INSTRUCTION = CPU_INFO.exists() and "avx512_bf16" in CPU_INFO.read_text()
Results = dict[str, list[Tensor]]


@contextmanager
def matmul_precision(setting: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(setting)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def converted(values: Sequence[Any], dtype: torch.dtype) -> list[Any]:
    """Convert the floating-point tensors among the values."""
    return [x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x for x in values]


def with_gradients(function: Any, arguments: list[Any]) -> list[Tensor]:
    """Outputs, and gradients of all floating-point arguments."""
    moving = [place for place, x in enumerate(arguments) if isinstance(x, Tensor) and x.is_floating_point()]
    leaves = [x.clone().requires_grad_() if place in moving else x for place, x in enumerate(arguments)]
    outputs = function(*leaves)
    outputs = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
    grad_outputs = [torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view(x.shape) for x in outputs]
    grads = torch.autograd.grad(outputs, [leaves[place] for place in moving], grad_outputs, materialize_grads=True)
    return [x.detach() for x in (*outputs, *grads)]


def results(dtype: torch.dtype = torch.float32) -> Results:
    """Run the operations on channels that fill vectors and that do not, and on more than one part of a long sum."""
    found: Results = {}
    for number, (atoms, bonds, sizes) in enumerate([(40, 200, (32, 16, 8, 32)), (7, 60, (16, 17, 3, 33))]):
        messages = test_bond_messages.random_inputs(atoms, bonds, sizes, turned=number == 1)
        found[f"bond_messages {sizes}"] = with_gradients(test_bond_messages.public_call, converted(messages, dtype))
    pairs, row_ptr = test_bond_perceptron_sum.random_bonds([5, 8])
    for shape in ((2, 33, 16, 17), (1, 1031, 37, 5), (1, 2, 1, 2)):
        inputs = test_bond_perceptron_sum.random_inputs(pairs.shape[1], *shape)
        found[f"bond_perceptron_sum {shape}"] = with_gradients(
            ops.bond_perceptron_sum, [*converted(inputs, dtype), pairs, row_ptr]
        )
    for name, (make, native, _) in test_atom_networks.CASES.items():
        for shape in ((7, 5, 3, 2), (50, 128, 32, 32)):
            found[f"{name} {shape}"] = with_gradients(native, converted(make(*shape), dtype))
    decoders = test_decode.random_inputs([3, 1, 30])
    tensors = [name for name, x in decoders.items() if isinstance(x, Tensor)]
    rest = {name: x for name, x in decoders.items() if name not in tensors}

    def decode(*values: Tensor) -> Tensor:
        return ops.decode(**dict(zip(tensors, values, strict=True)), **rest)

    found["decode"] = with_gradients(decode, converted([decoders[name] for name in tensors], dtype))
    return found


def whole_numbers() -> list[Tensor]:
    """Arguments of bond_perceptron_sum of which silu changes nothing, and whose sums float32 holds exactly.

    The bonds' values have up to 10 bits and the hidden values more, of which bfloat16 keeps 8.
    """
    pairs, row_ptr = test_bond_perceptron_sum.random_bonds([3])
    generator = torch.Generator().manual_seed(0)

    def whole(most: int, *shape: int) -> Tensor:
        return torch.randint(1, most + 1, shape, generator=generator).float()

    weights = whole(3, 2, 15, 45), whole(9, 2, 45), whole(2, 2, 45, 35), whole(9, 2, 35)
    return [whole(600, pairs.shape[1], 15), torch.ones(pairs.shape[1]), *weights, pairs, row_ptr]


def numbers_at_the_ends() -> Tensor:
    """Values of bond perceptrons, silu(silu(x) / 2), for infinite, undefined, large and small x."""
    values = torch.tensor([float("inf"), float("nan"), 3.4e38, 1e-41, 0.0])[:, None]
    weights = torch.ones(1, 1, 2), torch.zeros(1, 2), torch.full((1, 2, 2), 0.25), torch.zeros(1, 2)
    pairs = torch.arange(10).view(2, 5)
    row_ptr = torch.arange(11).clamp(max=5)
    sums, _ = ops.bond_perceptron_sum(values, torch.ones(5), *weights, pairs, row_ptr)
    return sums[0, :5, 0]


def save_results(path: str) -> None:
    """Run everything; called in a process of its own."""
    found: dict[str, Any] = {}
    for setting in ("highest", "high", "medium"):
        with matmul_precision(setting):
            found[setting] = results()
            found[f"{setting}, whole numbers"] = ops.bond_perceptron_sum(*whole_numbers())[0]
            found[f"{setting}, ends"] = numbers_at_the_ends()
    with matmul_precision("medium"):
        with num_threads(1 if torch.get_num_threads() > 1 else 2):
            found["medium, other threads"] = results()
        for name, (make, native, _) in test_atom_networks.CASES.items():
            *values, flat = (x.float() for x in make(50, 20, 16, 8))
            found[f"{name}, all"] = native(*values, flat)
            found[f"{name}, some"] = native(*(x[23:] for x in values), flat)
    torch.save(found, path)


@pytest.fixture(scope="module")
def by_way(tmp_path_factory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ways")
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parent), *sys.path]
    code = "import sys; from test_bf16_products import save_results; save_results(sys.argv[1])"
    found = {}
    for way in WAYS:
        file = folder / f"{way or 'instruction'}.pt"
        environment = {name: value for name, value in os.environ.items() if name not in ("DTNN_SIMD", "DTNN_BF16")}
        environment |= {"PYTHONPATH": os.pathsep.join(paths)} | ({"DTNN_BF16": way} if way else {})
        subprocess.run([sys.executable, "-P", "-c", code, str(file)], env=environment, check=True)
        found[way] = torch.load(file)
    return found


def check_equal(found: Results, expected: Results) -> None:
    assert found.keys() == expected.keys()
    for name, tensors in found.items():
        assert all(torch.equal(a, b) for a, b in zip(tensors, expected[name], strict=True)), name


@pytest.mark.skipif(not HAS_INSTRUCTION, reason="the processor has no AVX-512 BF16")
def test_the_instruction_has_the_bits_of_the_emulation(by_way):
    check_equal(by_way[""]["medium"], by_way["emulated"]["medium"])
    assert torch.equal(by_way[""]["medium, whole numbers"], by_way["emulated"]["medium, whole numbers"])


def test_without_the_instruction_products_stay_in_float32(by_way):
    check_equal(by_way["off"]["medium"], by_way["off"]["highest"])


@pytest.mark.parametrize("way", WAYS)
def test_other_settings_change_nothing(by_way, way):
    check_equal(by_way[way]["highest"], by_way["off"]["highest"])
    check_equal(by_way[way]["high"], by_way["off"]["highest"])


def test_errors_are_those_of_rounded_factors(by_way):
    """A factor is off by at most 2^-9, a product by 2^-8 = 0.004; several layers add up."""
    exact = results(torch.float64)
    for name, tensors in by_way["emulated"]["medium"].items():
        errors = [
            float((found.double() - true).norm() / true.norm())
            for found, true in zip(tensors, exact[name], strict=True)
            if true.norm() > 0
        ]
        assert max(errors) < 0.015, (name, errors)
        assert max(errors) > 3e-4, (name, errors)
        single = by_way["emulated"]["highest"][name]
        assert all(
            (found.double() - true).norm() <= 1e-5 * true.norm()
            for found, true in zip(single, exact[name], strict=True)
        ), name


def test_factors_are_rounded_to_the_nearest_and_sums_are_exact(by_way):
    bonds, _, weight1, bias1, weight2, bias2, pairs, row_ptr = whole_numbers()

    def rounded(x: Tensor) -> Tensor:
        return x.bfloat16().double()

    hidden = rounded(bonds) @ rounded(weight1) + bias1[:, None]
    values = rounded(hidden.float()) @ rounded(weight2) + bias2[:, None]
    assert values.max() < 2**24
    expected = torch.zeros(2, len(row_ptr) - 1, 35, dtype=torch.float64)
    for end in pairs:
        expected.index_add_(1, end, values)
    assert expected.max() < 2**24
    assert torch.equal(by_way["emulated"]["medium, whole numbers"].double(), expected)
    assert not torch.equal(by_way["emulated"]["highest, whole numbers"].double(), expected)


@pytest.mark.parametrize("way", WAYS)
def test_same_bits_for_any_number_of_threads(by_way, way):
    check_equal(by_way[way]["medium"], by_way[way]["medium, other threads"])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", test_atom_networks.CASES)
def test_atoms_do_not_depend_on_each_other(by_way, way, name):
    whole, some = by_way[way][f"{name}, all"], by_way[way][f"{name}, some"]
    assert all(torch.equal(a[23:], b) for a, b in zip(whole, some, strict=True))


def test_numbers_at_the_ends(by_way):
    """Rounding keeps infinities and what is no number, large numbers become infinite, and subnormal ones zero."""
    expected = torch.tensor([float("inf"), float("nan"), float("inf"), 0.0, 0.0])
    torch.testing.assert_close(by_way["emulated"]["medium, ends"], expected, rtol=0, atol=0, equal_nan=True)
    assert by_way["emulated"]["highest, ends"][2].isfinite()
    if HAS_INSTRUCTION:
        torch.testing.assert_close(by_way[""]["medium, ends"], expected, rtol=0, atol=0, equal_nan=True)
