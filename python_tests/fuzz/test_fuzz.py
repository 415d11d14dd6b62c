# SPDX-License-Identifier: MIT
"""The fuzzer on the ordinary build, and checks that it finds errors; .ci/fuzz runs it under the sanitizers."""

from __future__ import annotations

import inspect
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fuzzing import judge
from fuzzing.calls import Call, MismatchError
from fuzzing.cases import CASES

from dtnn_fast import ops, reference

FOLDER = Path(__file__).parent
# Called by other operations with a user's arguments, or without tensor arguments.
NOT_CALLED_ALONE = {"neighbor_order", "check_device_errors", "immediate_device_errors"}


@pytest.fixture(autouse=True)
def _keep_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_every_operation_has_a_case() -> None:
    functions = {name for name in ops.__all__ if inspect.isfunction(getattr(ops, name))}
    assert {case.__name__ for case in CASES} == functions - NOT_CALLED_ALONE


def test_calls_go_well() -> None:
    outcomes = [judge.run_call(seed) for seed in range(400)]
    assert set(outcomes) == {"good", "refused", "harmless"}
    assert outcomes.count("refused") > 50


def test_a_nearly_flat_cell_does_not_stop_the_run() -> None:
    """The reference implementation would test 1e8 images of each of its 52 atoms."""
    start = time.monotonic()
    assert judge.run_call(963488) == "harmless"
    assert time.monotonic() - start < 20


def linear_call() -> Call:
    arguments = {"x": torch.randn(4, 3, 5), "weight": torch.randn(2, 5), "norm": False, "eps": 0.01}
    return Call(ops.rank2_linear, reference.rank2_linear, arguments)


def test_finds_a_wrong_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def rank2_linear(x, weight, norm, eps):
        return ops.rank2_linear(x, weight) * 1.001

    monkeypatch.setattr(
        judge, "CASES", {(lambda: Call(rank2_linear, reference.rank2_linear, linear_call().arguments)): 1}
    )
    monkeypatch.setattr(judge, "SHARE_OF_BAD_CALLS", 0.0)
    with pytest.raises(MismatchError, match="values differ from the reference implementation's"):
        judge.run_call(0)


def test_finds_a_wrong_derivative(monkeypatch: pytest.MonkeyPatch) -> None:
    def rank2_linear(x, weight, norm, eps):
        return x.detach() @ weight.t() + 0 * x.sum()

    monkeypatch.setattr(
        judge, "CASES", {(lambda: Call(rank2_linear, reference.rank2_linear, linear_call().arguments)): 1}
    )
    monkeypatch.setattr(judge, "SHARE_OF_BAD_CALLS", 0.0)

    def outcomes():
        for seed in range(20):
            judge.run_call(seed)

    with pytest.raises(MismatchError, match="the reference implementation"):
        outcomes()


def test_finds_bad_input_that_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    def rank2_linear(x, weight, norm, eps):
        return torch.zeros(4, 3, 2)

    call = Call(rank2_linear, reference.rank2_linear, linear_call().arguments | {"x": torch.randn(4, 3, 6)})
    monkeypatch.setattr(judge, "CASES", {(lambda: call): 1})
    monkeypatch.setattr(judge, "mutate", lambda call: call)
    monkeypatch.setattr(judge, "SHARE_OF_BAD_CALLS", 1.0)
    with pytest.raises(MismatchError, match="accepted, but the reference implementation says"):
        judge.run_call(0)


def test_finds_an_error_without_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def rank2_linear(x, weight, norm, eps):
        raise RuntimeError("The size of tensor a must match the size of tensor b")

    monkeypatch.setattr(
        judge, "CASES", {(lambda: Call(rank2_linear, reference.rank2_linear, linear_call().arguments)): 1}
    )
    monkeypatch.setattr(judge, "SHARE_OF_BAD_CALLS", 1.0)
    with pytest.raises(MismatchError, match="raised without the operation's name"):
        judge.run_call(0)


def run_program(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(folder), *arguments], capture_output=True, text=True, check=False, timeout=300
    )


def test_program_counts_its_calls() -> None:
    done = run_program(FOLDER, "--calls", "30", "--seed", "5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fuzz: 30 calls" in done.stdout
    assert "seeds 5 to 34" in done.stdout


def write_program(folder: Path, call: str) -> None:
    """Write the program with another `run_call`, whose lines are given."""
    (folder / "__main__.py").write_text((FOLDER / "__main__.py").read_text())
    (folder / "fuzzing").mkdir()
    lines = "".join(f"    {line}\n" for line in call.splitlines())
    (folder / "fuzzing" / "judge.py").write_text(f"import os, pathlib\ndef run_call(seed):\n{lines}")


def test_processes_share_the_seeds(tmp_path: Path) -> None:
    write_program(tmp_path, f"pathlib.Path({str(tmp_path)!r}, f'seed{{seed}}-{{os.getpid()}}').touch()\nreturn 'good'")
    done = run_program(tmp_path, "--calls", "7", "--seed", "5", "--processes", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fuzz: 7 calls" in done.stdout
    assert "seeds 5 to 11: 7 good" in done.stdout
    made = sorted(path.name.split("-") for path in tmp_path.glob("seed*-*"))
    assert sorted(seed for seed, _ in made) == sorted(f"seed{seed}" for seed in range(5, 12))
    assert len({process for _, process in made}) == 2


def test_program_fails_when_too_slow() -> None:
    done = run_program(FOLDER, "--calls", "3", "--least", "1e9")
    assert done.returncode == 1
    assert "expected 1000000000 calls a minute or more" in done.stdout


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("os.abort()", "died with status -6 in the call of seed 3: repeat it with --seed 3 --calls 1"),
        ("raise ValueError('bad')", "FAILED, seed 3"),
    ],
)
def test_program_names_the_seed(tmp_path: Path, action: str, message: str, processes: str) -> None:
    write_program(tmp_path, f"if seed == 3:\n    {action}\nreturn 'good'")
    done = run_program(tmp_path, "--calls", "6", "--processes", processes)
    assert done.returncode == 1, done.stdout + done.stderr
    assert message in done.stdout
