# SPDX-License-Identifier: MIT
"""Predictions by CUDA graphs: a forward pass is recorded once for a size of batches, and then replayed.

A prediction of small crystals calls hundreds of kernels that take less time than their calls. A replay is one call.
Batches are padded by dummy crystals to the size of the recording (`nn/padded_graph.py`).
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._backend import uses_reference
from ..nn.graph import CrystalGraph
from ..nn.model_watch import trusted_state
from ..nn.padded_graph import GraphSize, pad_graph

Forward = Callable[[CrystalGraph], dict[str, Tensor]]
# Records a call, whose inputs stay where they are; returns its results, and what computes them anew in the same place.
Capture = Callable[[Callable[[], dict[str, Tensor]]], tuple[dict[str, Tensor], Callable[[], None]]]

_WARM_UP = 3
# A recording for larger batches serves a batch if it has at most this many times the atoms and bonds that a recording
# of its own would have.
_MOST_WASTE = 1.5


def capture_on_cuda(call: Callable[[], dict[str, Tensor]]) -> tuple[dict[str, Tensor], Callable[[], None]]:
    """Record a call as a CUDA graph, after calls on a side stream in which weights are put together; see `Capture`."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()
    return results, graph.replay


class _Recording(NamedTuple):
    """A recorded forward pass: where it reads its graph and leaves its results, and how it is run again."""

    inputs: CrystalGraph
    results: dict[str, Tensor]
    replay: Callable[[], None]


class CapturedForward:
    """Recordings of a model's forward pass, for batches of different sizes.

    Recordings read the weights of the model where they were. So all are dropped when the model changes, and a model
    with hooks is not recorded.

    Args:
        max_graphs: largest number of recordings; the one that was not used for the longest time is dropped first. Each
            keeps the memory of a forward pass.
        max_atoms: batches with more atoms are not recorded.
        capture: records a call.
        device_type: where recordings are made.
    """

    def __init__(
        self, max_graphs: int, max_atoms: int, capture: Capture = capture_on_cuda, device_type: str = "cuda"
    ) -> None:
        self.max_graphs, self.max_atoms = max_graphs, max_atoms
        self._capture, self._device_type = capture, device_type
        self._recordings: dict[tuple[GraphSize, bool], _Recording] = {}
        self._made_for: tuple[object, str] | None = None
        self._lock = threading.Lock()

    def members(self, forward: Forward, graph: CrystalGraph) -> dict[str, np.ndarray] | None:
        """Compute the tensors of each member by a recording, which is made where none fits.

        Args:
            forward: computes the tensors of each member of a graph.
            graph: the crystals.

        Returns:
            [members, B, 3, 3] for each target, float64; None where the model or the graph cannot be recorded.
        """
        state = trusted_state()
        own = GraphSize.of(graph)
        if state is None or uses_reference() or graph.positions.device.type != self._device_type:
            return None
        # Inputs and results of a recording are shared by all threads, so the results are read before the next replay.
        with self._lock:
            made_for = state, torch.get_float32_matmul_precision()
            if made_for != self._made_for:
                self._recordings.clear()
                self._made_for = made_for
            if self.max_graphs < 1 or own.atoms > self.max_atoms:
                return None
            recording = self._find(forward, graph, own)
            if recording is None:
                return None
            recording.replay()
            return {
                target: values[:, : own.crystals].to("cpu", torch.float64, copy=True).numpy()
                for target, values in recording.results.items()
            }

    def _find(self, forward: Forward, graph: CrystalGraph, own: GraphSize) -> _Recording | None:
        """Find or make a recording into which the graph fits, and put the graph into its inputs."""
        best = own.rounded_up()
        for key in self._recordings:
            size, is_reduced = key
            if is_reduced == graph.is_reduced and own.fits_into(size) and _is_near(size, best):
                recording = self._recordings[key] = self._recordings.pop(key)  # to the end of the order
                _copy_into(recording.inputs, pad_graph(graph, size))
                return recording
        while len(self._recordings) >= self.max_graphs:
            del self._recordings[next(iter(self._recordings))]
        inputs = pad_graph(graph, best)
        try:
            results, replay = self._capture(lambda: forward(inputs))
        except torch.OutOfMemoryError:
            self._recordings.clear()
            raise
        except RuntimeError as error:
            self._recordings.clear()
            self.max_graphs = 0
            warnings.warn(f"predictions go on without CUDA graphs, which cannot be recorded: {error}", stacklevel=2)
            return None
        self._recordings[best, graph.is_reduced] = recording = _Recording(inputs, results, replay)
        return recording

    def __deepcopy__(self, _memo: object) -> CapturedForward:
        return CapturedForward(self.max_graphs, self.max_atoms, self._capture, self._device_type)

    def __reduce__(self) -> tuple[Any, ...]:
        return CapturedForward, (self.max_graphs, self.max_atoms, self._capture, self._device_type)


def _is_near(size: GraphSize, best: GraphSize) -> bool:
    pairs = [(size.atoms, best.atoms), *zip(size.bonds, best.bonds, strict=True)]
    return all(number <= _MOST_WASTE * wanted for number, wanted in pairs)


def _tensors_of(value: Any) -> list[Tensor]:
    """List all tensors in a graph, always in the same order."""
    if isinstance(value, Tensor):
        return [value]
    if is_dataclass(value):
        return [x for field in fields(value) for x in _tensors_of(getattr(value, field.name))]
    if isinstance(value, tuple):
        return [x for part in value for x in _tensors_of(part)]
    return []


def _copy_into(inputs: CrystalGraph, graph: CrystalGraph) -> None:
    """Copy the tensors of a graph into those of another one of the same size."""
    for old, new in zip(_tensors_of(inputs), _tensors_of(graph), strict=True):
        old.copy_(new)
