# SPDX-License-Identifier: MIT
"""The CUDA kernels of tensor_readout and its backward, run on the host, against NumPy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from cuda_emulator import ORDERS, Emulator

SUFFIX = {np.float32: "f32", np.float64: "f64"}
GRIDS = (1, 3, 2**31 - 1)
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}
CRYSTALS = {
    "small": [1, 2, 5, 1, 9, 30] * 6,
    "one": [700],
    "large and small": [1, 400, 2, 1, 260],
    "long among short": [600, 1, 2, 700, *[1, 3] * 5, 513, 2],
    "one atom": [1],
    "none": [],
}
CHANNELS = (0, 1, 2, 3, 4, 32, 33, 130, 600)
Arrays = tuple[np.ndarray, ...]


def make_atoms(crystals: list[int], channels: int, dtype: type) -> tuple[Arrays, np.ndarray]:
    """Scalars, vectors and rank-2 tensors, and ptr."""
    rng = np.random.default_rng(channels)
    atoms = sum(crystals)
    shapes = (atoms, channels), (atoms, 3, channels), (atoms, 6, channels)
    ptr = np.concatenate([[0], np.cumsum(crystals)]).astype(np.int64)
    return tuple(rng.normal(size=shape).astype(dtype) for shape in shapes), ptr


def emulated(emulator: Emulator, atom_values: Arrays, ptr: np.ndarray) -> np.ndarray:
    epsilon = np.full((len(ptr), 9), 7, atom_values[0].dtype)
    name = f"tensor_readout_{SUFFIX[atom_values[0].dtype.type]}"
    emulator.call(name, *atom_values, ptr, epsilon, *atom_values[0].shape, len(ptr) - 1)
    assert (epsilon[-1] == 7).all(), "written past the end"
    return epsilon[:-1].reshape(-1, 3, 3)


def numpy_readout(atom_values: Arrays, ptr: np.ndarray) -> np.ndarray:
    s, v, t = (values.astype(np.float64) for values in atom_values)
    full = t.sum(2)[:, [0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(-1, 3, 3)
    tensors = s.sum(1)[:, None, None] * np.eye(3) + np.einsum("nic,njc->nij", v, v) + full
    return np.array([tensors[a:b].mean(0) for a, b in pairwise(ptr)]).reshape(-1, 3, 3)


def emulated_backward(emulator: Emulator, grad: np.ndarray, vector: np.ndarray, ptr: np.ndarray) -> Arrays:
    atoms, _, channels = vector.shape
    buffers = [np.full((atoms + 1, k, channels), 7, vector.dtype) for k in (1, 3, 6)]
    name = f"tensor_readout_backward_{SUFFIX[vector.dtype.type]}"
    emulator.call(name, grad, vector, ptr, *buffers, atoms, channels, len(ptr) - 1)
    assert all((buffer[-1] == 7).all() for buffer in buffers), "written past the end"
    return buffers[0][:-1, 0], buffers[1][:-1], buffers[2][:-1]


def numpy_backward(grad: np.ndarray, vector: np.ndarray, ptr: np.ndarray) -> Arrays:
    count = np.diff(ptr)
    crystal = np.repeat(np.arange(len(count)), count)
    g = (grad.astype(np.float64) / np.maximum(count, 1)[:, None, None])[crystal]
    both = g + g.transpose(0, 2, 1)
    components = np.stack([g[:, 0, 0], g[:, 1, 1], g[:, 2, 2], both[:, 1, 2], both[:, 0, 2], both[:, 0, 1]], 1)
    atoms, _, channels = vector.shape
    grad_scalar = np.broadcast_to(np.trace(g, axis1=1, axis2=2)[:, None], (atoms, channels))
    return grad_scalar, both @ vector, np.broadcast_to(components[:, :, None], (atoms, 6, channels))


@pytest.mark.parametrize("dtype", SUFFIX)
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("name", CRYSTALS)
def test_readout_and_backward(emulator: Emulator, name: str, channels: int, dtype: type) -> None:
    if name == "one" and channels > 100:
        pytest.skip("slow, and the others have tiles of one atom too")
    atom_values, ptr = make_atoms(CRYSTALS[name], channels, dtype)
    grad = np.random.default_rng(9).normal(size=(len(ptr) - 1, 3, 3)).astype(dtype)
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype] * max(channels, 1)}
    expected = numpy_readout(atom_values, ptr)
    gradients = numpy_backward(grad, atom_values[1], ptr)
    first = None
    for order, max_grid in zip(ORDERS, (*GRIDS, 2), strict=True):
        emulator.configure(order, max_grid)
        epsilon = emulated(emulator, atom_values, ptr)
        np.testing.assert_allclose(epsilon, expected, **tolerance)
        np.testing.assert_array_equal(epsilon, epsilon.transpose(0, 2, 1))
        first = epsilon if first is None else first
        np.testing.assert_array_equal(epsilon, first)
        for found, right in zip(emulated_backward(emulator, grad, atom_values[1], ptr), gradients, strict=True):
            np.testing.assert_allclose(found, right, **tolerance)


@pytest.mark.parametrize("dtype", SUFFIX)
def test_unaligned_memory(emulator: Emulator, dtype: type) -> None:
    atom_values, ptr = make_atoms([3, 20], 32, dtype)
    moved = []
    for values in atom_values:
        buffer = np.empty(values.size + 1, dtype)
        buffer[1:] = values.ravel()
        moved.append(buffer[1:].reshape(values.shape))
        assert moved[-1].ctypes.data % 16 != 0
    np.testing.assert_allclose(emulated(emulator, tuple(moved), ptr), numpy_readout(atom_values, ptr), rtol=1e-4)
    grad = np.ones((2, 3, 3), dtype)
    gradients = emulated_backward(emulator, grad, moved[1], ptr)
    for found, right in zip(gradients, numpy_backward(grad, atom_values[1], ptr), strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 8])
def test_the_cpu_backward_has_the_same_bits(emulator: Emulator, channels: int) -> None:
    pytest.importorskip("dtnn_fast.ops")
    torch = pytest.importorskip("torch")
    (_, vector, _), ptr = make_atoms([3, 7, 40], channels, np.float32)
    grad = np.random.default_rng(9).normal(size=(3, 3, 3)).astype(np.float32)
    arrays = (torch.from_numpy(array) for array in (grad, vector, ptr))
    on_cpu = torch.ops.dtnn_fast.tensor_readout_backward(*arrays)
    for found, right in zip(emulated_backward(emulator, grad, vector, ptr), on_cpu, strict=True):
        np.testing.assert_array_equal(found, right.numpy())


@pytest.mark.parametrize(
    ("ptr", "message", "bad_crystals"),
    [
        ([1, 4, 7, 12], "`ptr` from 0 to the number of atoms, 12, got 1 to 12", [0]),
        ([0, 4, 7, 11], "`ptr` from 0 to the number of atoms, 12, got 0 to 11", [2]),
        ([0, 4, 4, 12], "`ptr` with at least one atom in every crystal, got none in crystal 1", [1]),
        (
            [0, 4, 99, 12],
            "`ptr` in ascending order, got 12 after 99 at ptr[3]",
            [1, 2],
        ),
        ([0, 9, 3, 12], "`ptr` in ascending order, got 3 after 9 at ptr[2]", [1]),
    ],
)
def test_bad_ptr(emulator: Emulator, ptr: list[int], message: str, bad_crystals: list[int]) -> None:
    atom_values, _ = make_atoms([12], 3, np.float64)
    bounds = np.array(ptr)
    for order in ORDERS:
        emulator.configure(order)
        epsilon = emulated(emulator, atom_values, bounds)
        assert np.isnan(epsilon[bad_crystals]).all()
        for b in np.delete(np.arange(3), bad_crystals):
            right = numpy_readout(atom_values, bounds[[b, b + 1]])[0]
            assert np.allclose(epsilon[b], right) or np.isnan(epsilon[b]).all()
        assert str(emulator.take_error()).startswith(f"tensor_readout: expected {message}")
        emulated_backward(emulator, np.ones((3, 3, 3)), atom_values[1], bounds)
        assert str(emulator.take_error()).startswith(f"tensor_readout_backward: expected {message}")
