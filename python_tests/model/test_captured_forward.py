# SPDX-License-Identifier: MIT
"""Predictions by recordings of the forward pass: the CPU stands in for a GPU, a second call for a replay."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from model_cases import config, randomised, small_crystals, variant
from torch import Tensor

from dtnn_fast import use_backend
from dtnn_fast.model import captured_forward
from dtnn_fast.model.captured_forward import CapturedForward, capture_on_cuda
from dtnn_fast.model.dtnn import DTNN
from dtnn_fast.symmetry import with_operations

CRYSTALS = small_crystals(40, max_atoms=6)


class Recorder:
    """Records calls as `capture_on_cuda` does: a replay computes anew from the same inputs into the same results."""

    def __init__(self) -> None:
        self.captures = self.replays = 0

    def __call__(self, call: Callable[[], dict[str, Tensor]]) -> tuple[dict[str, Tensor], Callable[[], None]]:
        self.captures += 1
        call()
        # What a capture leaves in the results is not to be read.
        results = {name: torch.full_like(values, torch.nan) for name, values in call().items()}

        def replay() -> None:
            self.replays += 1
            for name, values in call().items():
                results[name].copy_(values)

        return results, replay


def recorded(name: str = "joint", max_graphs: int = 8, max_atoms: int = 1000) -> tuple[DTNN, Recorder]:
    model, recorder = copy.deepcopy(variant(name)), Recorder()
    model.__dict__["_captured_forward"] = CapturedForward(max_graphs, max_atoms, recorder, "cpu")
    return model, recorder


def assert_right(model: DTNN, crystals) -> None:
    plain = copy.deepcopy(model)
    plain.use_cuda_graphs(0)
    expected = plain.predict_members(crystals)
    for target, values in model.predict_members(crystals).items():
        assert values.dtype == np.float64
        np.testing.assert_allclose(values, expected[target], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("prepare", [list, with_operations])
@pytest.mark.parametrize("name", ["joint", "positive", "layer4-simple-plain"])
def test_recordings_give_the_predictions(name, prepare):
    model, recorder = recorded(name)
    crystals = prepare(CRYSTALS)
    for start in range(0, 40, 10):
        assert_right(model, crystals[start : start + 10])
    assert recorder.replays == 4
    assert 1 <= recorder.captures < 4
    assert_right(model, crystals[:10])
    assert recorder.replays == 5


def test_predictions_are_arrays_of_their_own():
    model, recorder = recorded()
    first = model.predict_members(CRYSTALS[:10])["total"]
    kept = first.copy()
    second = model.predict(CRYSTALS[10:20], "total")
    assert recorder.replays == 2
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_allclose(second, variant("joint").predict(CRYSTALS[10:20], "total"), rtol=1e-12, atol=1e-12)


def test_plain_and_reduced_batches_have_recordings_of_their_own():
    model, recorder = recorded()
    assert_right(model, CRYSTALS[:10])
    assert_right(model, with_operations(CRYSTALS[:10]))
    assert recorder.captures == 2


def test_the_oldest_recording_is_dropped():
    model, recorder = recorded(max_graphs=2)
    small, middle, large = CRYSTALS[:1], CRYSTALS[:12], CRYSTALS
    for crystals, captures in ((small, 1), (middle, 2), (small, 2), (large, 3), (small, 3), (middle, 4)):
        assert_right(model, crystals)
        assert recorder.captures == captures
    assert len(model.__dict__["_captured_forward"]._recordings) == 2


def test_a_batch_does_not_use_a_much_larger_recording():
    model, recorder = recorded()
    assert_right(model, CRYSTALS)
    assert_right(model, CRYSTALS[:1])
    assert recorder.captures == 2


def test_large_batches_are_not_recorded():
    model, recorder = recorded(max_atoms=20)
    assert_right(model, CRYSTALS)
    assert recorder.captures == 0
    assert_right(model, CRYSTALS[:2])
    assert recorder.captures == 1


def test_changed_weights_are_recorded_anew():
    model, recorder = recorded()
    before = model.predict_members(CRYSTALS[:10])["total"]
    with torch.no_grad():
        model.encoder.layers[0].update[0].weight.mul_(1.5)
    assert_right(model, CRYSTALS[:10])
    assert recorder.captures == 2
    assert not np.array_equal(model.predict_members(CRYSTALS[:10])["total"], before)


def test_another_precision_is_recorded_anew():
    model, recorder = recorded()
    model.predict_members(CRYSTALS[:10])
    precision = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        model.predict_members(CRYSTALS[:10])
    finally:
        torch.set_float32_matmul_precision(precision)
    assert recorder.captures == 2


def test_hooks_training_and_the_reference_are_not_recorded():
    model, recorder = recorded()
    seen: list[int] = []
    handle = model.encoder.layers[0].register_forward_hook(lambda *_: seen.append(1))
    model.predict_members(CRYSTALS[:10])
    handle.remove()
    assert seen == [1]
    with use_backend("reference"):
        model.predict_members(CRYSTALS[:10])
    model.encoder.layers[0].train()
    model.predict_members(CRYSTALS[:10])
    assert recorder.captures == 0
    model.eval().predict_members(CRYSTALS[:10])
    assert recorder.captures == 1


def test_other_devices_are_not_recorded():
    model, recorder = recorded()
    model.__dict__["_captured_forward"] = CapturedForward(8, 1000, recorder)
    assert_right(model, CRYSTALS[:10])
    model.use_cuda_graphs()
    assert_right(model, CRYSTALS[:10])
    assert recorder.captures == 0


def test_what_cannot_be_recorded_is_predicted_with_a_warning():
    model, _ = recorded()

    def fail(call):
        raise RuntimeError("operation not permitted when stream is capturing")

    model.__dict__["_captured_forward"] = CapturedForward(8, 1000, fail, "cpu")
    expected = variant("joint").predict_members(CRYSTALS[:10])["total"]
    with pytest.warns(UserWarning, match="without CUDA graphs, which cannot be recorded: operation not permitted"):
        found = model.predict_members(CRYSTALS[:10])["total"]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(model.predict_members(CRYSTALS[:10])["total"], expected)  # without a warning


def test_recordings_are_dropped_when_memory_runs_out():
    model, recorder = recorded()
    model.predict_members(CRYSTALS[:10])

    def fail(call):
        raise torch.OutOfMemoryError("CUDA out of memory")

    forward = model.__dict__["_captured_forward"]
    forward._capture = fail
    with pytest.raises(torch.OutOfMemoryError):
        model.predict_members(CRYSTALS)
    assert not forward._recordings
    forward._capture = recorder
    assert_right(model, CRYSTALS)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_have_recordings_of_their_own(copied):
    model, _ = recorded()
    model.predict_members(CRYSTALS[:10])
    other = copied(model)
    assert other.__dict__["_captured_forward"].max_atoms == 1000
    assert not other.__dict__["_captured_forward"]._recordings
    assert_right(other, CRYSTALS[:10])


def test_threads_do_not_mix_their_results():
    model, _ = recorded()
    batches = [CRYSTALS[start : start + 8] for start in range(0, 32, 4)]
    expected = [variant("joint").predict_members(batch)["total"] for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(model.predict_members, batches * 3), expected * 3, strict=True):
            np.testing.assert_allclose(found["total"], wanted, rtol=1e-12, atol=1e-12)


def test_models_without_joint_decoders():
    model = randomised(config(targets=("electronic", "ionic", "total")))
    model.__dict__["_captured_forward"] = CapturedForward(8, 1000, Recorder(), "cpu")
    assert_right(model, CRYSTALS[:10])


@pytest.mark.parametrize("numbers", [(-1, 10), (2, -1)])
def test_negative_numbers_are_refused(numbers):
    with pytest.raises(ValueError, match=r"use_cuda_graphs: expected `max_graphs` and `max_atoms` of 0 or more, got"):
        variant("joint").use_cuda_graphs(*numbers)


def test_the_capture_warms_up_on_a_side_stream(monkeypatch):
    """The order that torch documents: wait, calls on a side stream, wait, one call within `torch.cuda.graph`."""
    done: list[str] = []

    class Stream:
        def __init__(self, name: str = "side") -> None:
            self.name = name

        def wait_stream(self, other: Stream) -> None:
            done.append(f"{self.name} waits for {other.name}")

    @contextmanager
    def within(name):
        done.append(f"begin {name}")
        yield
        done.append(f"end {name}")

    main = Stream("main")
    cuda = SimpleNamespace(
        Stream=Stream,
        current_stream=lambda: main,
        stream=lambda stream: within(stream.name),
        CUDAGraph=lambda: SimpleNamespace(replay=lambda: done.append("replay")),
        graph=lambda graph: within("graph"),
    )
    monkeypatch.setattr(captured_forward.torch, "cuda", cuda)
    results, replay = capture_on_cuda(lambda: done.append("call") or {"total": "values"})
    replay()
    assert results == {"total": "values"}
    warm_up = ["side waits for main", "begin side", "call", "call", "call", "end side", "main waits for side"]
    assert done == [*warm_up, "begin graph", "call", "end graph", "replay"]
