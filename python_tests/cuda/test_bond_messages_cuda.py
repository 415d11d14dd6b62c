# SPDX-License-Identifier: MIT
"""The CUDA kernels of bond_messages, forward and backward, run on the host.

Values and derivatives are compared with the reference implementation by python_tests/ops/test_bond_messages.py, which
`.ci/emulated` runs on these kernels; here is what only the emulator shows, and the CPU operation's results once more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from cuda_emulator import Emulator
from rank2_emulated import (
    BFLOAT16,
    FLOAT32,
    SUFFIX,
    TF32,
    assert_same_bits_in_any_order,
    assert_same_bits_with_less_shared_memory,
    unaligned,
)

# N, E, C, V, R, H: less than a pack, remainders, the model's widths, several chunks of bonds (96 in the emulation).
SHAPES = [(4, 7, 1, 1, 1, 1), (9, 40, 3, 2, 2, 5), (20, 230, 16, 33, 3, 40), (12, 110, 128, 32, 8, 128)]
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}


class Case(NamedTuple):
    """Arguments of the operation, and gradients of its five results."""

    sizes: tuple[int, ...]
    floats: list[np.ndarray]
    turns: list[np.ndarray | None]
    indices: list[np.ndarray]
    result_grads: list[np.ndarray]

    @property
    def dtype(self) -> type:
        """float32 or float64."""
        return self.floats[0].dtype.type


def random_case(shape: tuple[int, ...], dtype: type, turned: bool = False, shift: bool = False) -> Case:
    """Normal random numbers; with `shift` at unaligned addresses."""
    n, e, c, v, r, h = shape
    rng = np.random.default_rng(sum(shape))
    features, outputs = c + 5 * v + r, c + 5 * v
    direction = rng.normal(size=(e, 3))
    floats = [
        *(rng.normal(size=size) for size in ((n, 3, v), (n, 6, v), (n, h), (e, c), (e, 3, v))),
        direction / np.linalg.norm(direction, axis=1, keepdims=True),
        *(rng.random(e), rng.normal(size=(e, r))),
        *(rng.normal(size=(h, features)) / features**0.5, rng.normal(size=h)),
        *(rng.normal(size=(outputs, h)) / h**0.5, rng.normal(size=outputs)),
    ]
    turns = [np.linalg.qr(rng.normal(size=(e, 3, 3)))[0], rng.integers(0, 4, (2, e))] if turned else []
    result_grads = [rng.normal(size=size) for size in ((e, c), (e, 3, v), (n, c), (n, 3, v), (n, 6, v))]
    pairs = rng.integers(0, n, (2, e))
    pairs[0].sort()
    order = np.argsort(pairs[1], kind="stable")
    starts = [np.searchsorted(keys, np.arange(n + 1)) for keys in (pairs[0], pairs[1][order])]
    indices = [pairs, starts[0], order, starts[1]]

    def placed(arrays: list[np.ndarray]) -> list[np.ndarray]:
        arrays = [np.ascontiguousarray(a.astype(dtype)) for a in arrays]
        return [unaligned(a) for a in arrays] if shift else arrays

    here = placed(turns) or [None, None]
    return Case(shape, placed(floats), here, [i.astype(np.int64) for i in indices], placed(result_grads))


def addresses(arrays: list[np.ndarray | None]) -> np.ndarray:
    """An array of pointers, null for None."""
    return np.array([0 if a is None else a.ctypes.data for a in arrays], np.int64)


def like(arrays: list[np.ndarray], shift: bool) -> list[np.ndarray]:
    """Poisoned outputs of the same shapes."""
    outputs = [np.full_like(a, np.nan) for a in arrays]
    return [unaligned(a) for a in outputs] if shift else outputs


def forward(emulator: Emulator, case: Case, precision: int = FLOAT32, shift: bool = False) -> list[np.ndarray]:
    """The five results."""
    results = like(case.result_grads, shift)
    inputs = (np.array(case.sizes), addresses([*case.floats, *case.turns]), addresses(list(case.indices)))
    emulator.call(f"bond_messages_{SUFFIX[case.dtype]}", *inputs, addresses(list(results)), precision)
    return results


def backward(
    emulator: Emulator,
    case: Case,
    precision: int = FLOAT32,
    shift: bool = False,
    absent: tuple[int, ...] = (),
    need_geometry: int = 1,
    need_weights: int = 1,
) -> list[np.ndarray]:
    """The twelve gradients; those that are not needed stay NaN."""
    grads = like(case.floats, shift)
    given = [None if k in absent else g for k, g in enumerate(case.result_grads)]
    inputs = (np.array(case.sizes), addresses([*case.floats, *case.turns]), addresses(list(case.indices)))
    name = f"bond_messages_backward_{SUFFIX[case.dtype]}"
    needs = (need_geometry, need_weights, precision)
    emulator.call(name, *inputs, addresses(given), addresses(list(grads)), *needs)
    return grads


def run(emulator: Emulator, case: Case, precision: int = FLOAT32, shift: bool = False) -> list[np.ndarray]:
    """The results and the gradients."""
    return forward(emulator, case, precision, shift) + backward(emulator, case, precision, shift)


def cpu(case: Case) -> list[np.ndarray]:
    """The same by the operation on the CPU in float64, for the same rounded inputs."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("dtnn_fast.ops")
    arrays = [*case.floats, *(t for t in case.turns if t is not None)]
    floats = [torch.from_numpy(np.array(a, np.float64)) for a in arrays]
    turns = floats[12:] or [None, None]
    arguments = (*floats[:12], *map(torch.from_numpy, case.indices), *turns)
    grads = [torch.from_numpy(np.array(g, np.float64)) for g in case.result_grads]
    results = torch.ops.dtnn_fast.bond_messages(*arguments)
    return [x.numpy() for x in (*results, *torch.ops.dtnn_fast.bond_messages_backward(*grads, *arguments, True, True))]


def assert_near(found: list[np.ndarray], expected: list[np.ndarray], tolerance: float) -> None:
    """Each array within `tolerance` of the expected one's largest number."""
    for place, (array, wanted) in enumerate(zip(found, expected, strict=True)):
        scale = max(1.0, np.abs(wanted).max(initial=0))
        np.testing.assert_allclose(array, wanted, rtol=0, atol=tolerance * scale, err_msg=f"array {place}")


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("dtype", SUFFIX)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_cpu_operation_agrees(emulator: Emulator, shape, dtype, turned: bool) -> None:
    for shift in (False, True):
        case = random_case(shape, dtype, turned, shift)
        assert_near(run(emulator, case, shift=shift), cpu(case), TOLERANCE[dtype])


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("dtype", SUFFIX)
def test_bits_do_not_depend_on_the_order_of_threads_or_the_grid(emulator: Emulator, dtype, turned: bool) -> None:
    case = random_case((20, 230, 8, 33, 3, 36), dtype, turned)
    assert_same_bits_in_any_order(emulator, lambda: run(emulator, case))


@pytest.mark.parametrize("dtype", SUFFIX)
def test_99_kib_of_shared_memory_are_enough(emulator: Emulator, dtype) -> None:
    case = random_case((12, 200, 128, 32, 8, 128), dtype)
    assert_same_bits_with_less_shared_memory(emulator, lambda: run(emulator, case))


@pytest.mark.parametrize(("precision", "most"), [(TF32, 4e-3), (BFLOAT16, 4e-2)])
@pytest.mark.parametrize("shape", SHAPES[1:])
def test_error_of_tensor_cores(emulator: Emulator, shape, precision: int, most: float) -> None:
    case = random_case(shape, np.float32)
    found, expected = run(emulator, case, precision), run(emulator, case)
    assert_near(found, expected, most)
    assert not np.array_equal(found[0], expected[0])  # the precision has arrived


def test_gradients_of_some_results_and_inputs(emulator: Emulator) -> None:
    case = random_case(SHAPES[1], np.float64)
    zeros = [np.zeros_like(g) if k in (0, 3, 4) else g for k, g in enumerate(case.result_grads)]
    expected = backward(emulator, case._replace(result_grads=zeros))
    found = backward(emulator, case, absent=(0, 3, 4), need_geometry=0)
    for place, (array, wanted) in enumerate(zip(found, expected, strict=True)):
        if place in (5, 6, 7):
            assert np.isnan(array).all()
        else:
            np.testing.assert_array_equal(array, wanted)
    without_weights = backward(emulator, case, absent=(0, 3, 4), need_weights=0)
    for array, wanted in zip(without_weights[:8], expected[:8], strict=True):
        np.testing.assert_array_equal(array, wanted)
    assert all(np.isnan(array).all() for array in without_weights[8:])


def assert_message(message: str | None, op: str, end: str) -> None:
    assert message is not None
    assert message.startswith(f"{op}: ")
    assert message.endswith(end)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("end", "bad"), [(0, 20), (1, -1)])
def test_a_bad_atom_spoils_what_depends_on_it(emulator: Emulator, end: int, bad: int, turned: bool) -> None:
    case = random_case((20, 150, 3, 2, 1, 4), np.float32, turned)
    clean = forward(emulator, case)
    atoms = case.indices[0][:, 70].copy()
    case.indices[0][end, 70] = bad
    expected = f"an index out of range: {bad} at pairs[{end}, 70]"
    found = forward(emulator, case)
    message = emulator.take_error()
    assert_message(message, "bond_messages", expected)
    for array, wanted, rows in zip(found, clean, ([70], [70], atoms, atoms, atoms), strict=True):
        others = np.setdiff1d(np.arange(len(array)), rows)
        np.testing.assert_array_equal(array[others], wanted[others])
        assert np.isnan(array[rows]).all()
    grads = backward(emulator, case)
    message = emulator.take_error()
    assert_message(message, "bond_messages_backward", expected)
    for array, rows in zip(grads[:8], (atoms, atoms, atoms, *[[70]] * 5), strict=True):
        assert np.isnan(array[rows]).all()
        assert not np.isnan(np.delete(array, rows, axis=0)).any()
    assert all(np.isnan(array).all() for array in grads[8:])


@pytest.mark.parametrize(("place", "text"), [(1, "row_ptr"), (2, "neighbor_order"), (3, "neighbor_row_ptr")])
def test_bad_rows_are_reported(emulator: Emulator, place: int, text: str) -> None:
    case = random_case((9, 40, 3, 2, 2, 5), np.float64)
    case.indices[place][3] = 1000
    for call in (forward, backward):
        outputs = call(emulator, case)
        message = emulator.take_error()
        assert message is not None
        assert text in message
        assert any(np.isnan(array).any() for array in outputs)


def test_nothing(emulator: Emulator) -> None:
    case = random_case((3, 0, 2, 3, 1, 4), np.float32)
    found = run(emulator, case)
    assert all(not array.any() for array in found)
