# SPDX-License-Identifier: MIT
"""The compiled part of dtnn_fast.numpy: arguments, references, threads."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from dtnn_fast.numpy import _core

RNG = np.random.default_rng(0)
CELL = 4.0 * np.eye(3)
ARGUMENTS = {
    "compact_cells": {"cells": CELL[None]},
    "wrap_crystals": {
        "positions": RNG.random((4, 3)) * 8,
        "cells": np.stack([CELL, CELL]),
        "ptr": np.array([0, 2, 4]),
        "chosen": np.array([True, False]),
    },
    "find_sound_crystals": {
        "positions": RNG.random((4, 3)) * 4,
        "cells": np.stack([CELL, CELL]),
        "pbc": np.ones((2, 3), bool),
        "ptr": np.array([0, 2, 4]),
        "atomic_numbers": np.array([1, 1, 2, 2]),
        "is_known": np.ones(3, bool),
        "radii": np.ones(3),
        "volume_per_atom": 1.0,
        "radius_fraction": 0.1,
        "filling": 10.0,
        "coordinate": 1e3,
    },
    "nearest_contacts": {
        "positions": RNG.random((4, 3)) * 4,
        "cells": np.stack([CELL, CELL]),
        "ptr": np.array([0, 2, 4]),
        "radii": np.ones(4),
        "cutoffs": np.array([5.0, 5.0]),
    },
    "closest_pair": {"positions": RNG.random((4, 3)) * 4, "cell": CELL, "max_distance": 9.0},
    "describe_bonding": {
        "positions": RNG.random((4, 3)) * 4,
        "cells": np.stack([CELL, CELL]),
        "ptr": np.array([0, 2, 4]),
        "radii": np.ones(4),
        "cutoff": 4.5,
    },
    "pair_histogram": {
        "positions": RNG.random((4, 3)) * 4,
        "cell": CELL,
        "elements": np.array([0, 0, 1, 1]),
        "num_elements": 2,
        "unit": 2.0,
        "step": 0.1,
        "num_bins": 33,
    },
    "neighbor_list": {
        "positions": RNG.random((8, 3)) * 4,
        "cells": CELL,
        "pbc": np.ones(3, bool),
        "ptr": np.array([0, 8]),
        "cutoffs": np.array(3.0),
        "half": False,
        "self_pairs": False,
        "num_threads": 1,
        "geometry": True,
    },
}
FUNCTIONS = sorted(ARGUMENTS)
ARRAYS = [(f, name) for f in FUNCTIONS for name, value in ARGUMENTS[f].items() if isinstance(value, np.ndarray)]


def call(function, **changes):
    return getattr(_core, function)(**(ARGUMENTS[function] | changes))


def assert_equal(found, expected):
    if isinstance(expected, tuple):
        assert isinstance(found, tuple)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_equal(one, other)
    elif isinstance(expected, np.ndarray):
        assert (type(found), found.dtype, found.shape) == (np.ndarray, expected.dtype, expected.shape)
        assert found.flags.owndata
        assert found.flags.writeable
        assert np.array_equal(found, expected, equal_nan=expected.dtype.kind == "f")
    else:
        assert type(found) is type(expected)
        assert found == expected


def test_all_functions_are_tested_here():
    assert {name for name in dir(_core) if not name.startswith("_")} == set(FUNCTIONS)
    assert _core.__doc__ == "Compiled part of dtnn_fast.numpy; arguments are checked there."


@pytest.mark.parametrize("function", FUNCTIONS)
def test_arguments_by_name_and_by_place(function):
    arguments = ARGUMENTS[function]
    expected = call(function)
    names = list(arguments)
    for split in range(len(names) + 1):
        positional = [arguments[name] for name in names[:split]]
        keywords = {name: arguments[name] for name in reversed(names[split:])}
        assert_equal(getattr(_core, function)(*positional, **keywords), expected)
    with pytest.raises(TypeError, match=f"{function}: expected `{names[-1]}`, which is missing"):
        getattr(_core, function)(*list(arguments.values())[:-1])
    with pytest.raises(TypeError, match=f"{function}: expected at most {len(names)} arguments, got {len(names) + 1}"):
        getattr(_core, function)(*arguments.values(), None)
    with pytest.raises(TypeError, match=f"{function}: got an unknown argument `colour`"):
        call(function, colour=1)
    with pytest.raises(TypeError, match=f"{function}: got `{names[0]}` twice"):
        getattr(_core, function)(*arguments.values(), **{names[0]: 1})
    assert "expected" not in getattr(_core, function).__doc__
    assert re.match(rf"{function}\({names[0]}: ", getattr(_core, function).__doc__)


@pytest.mark.parametrize(("function", "name"), ARRAYS)
def test_arrays_of_another_kind_are_refused(function, name):
    good = ARGUMENTS[function][name]
    dtype = np.dtype(good.dtype).name
    start = f"^{function}: expected `{name}` as C-contiguous array of dtype {dtype}, got "
    other = {"float64": np.float32, "int64": np.int32, "bool": np.uint8}[dtype]
    refused = {
        "list": [good.tolist()],
        "NoneType": None,
        "memoryview": memoryview(good),
        f"dtype {np.dtype(other).name}": good.astype(other),
        "dtype object": good.astype(object),
    }
    if dtype != "bool":
        refused[f"dtype >{good.dtype.str[1:]}"] = good.astype(good.dtype.newbyteorder(">"))
    if good.ndim:
        refused[f"dtype {dtype}, not contiguous"] = np.repeat(good, 2, axis=-1)[..., ::2]
    for message, value in refused.items():
        with pytest.raises(TypeError, match=start + re.escape(message)):
            call(function, **{name: value})


@pytest.mark.parametrize(("function", "name"), ARRAYS)
def test_arrays_of_another_shape_are_refused(function, name):
    # An argument on which the shape of the others depends may be the one that is named.
    for shape in ((2, 2, 2, 2), (4, 2), (5,), ()):
        if shape == () and name == "cutoffs" and function == "neighbor_list":
            continue  # one cutoff for all
        with pytest.raises(ValueError, match=rf"^{function}: expected `\w+` (of shape .*, got \[|that rises from 0)"):
            call(function, **{name: np.zeros(shape, ARGUMENTS[function][name].dtype)})


@pytest.mark.parametrize(("function", "name"), ARRAYS)
def test_arrays_of_the_same_values_give_the_same(function, name):
    good = ARGUMENTS[function][name]
    expected = call(function)
    read_only = good.copy()
    read_only.flags.writeable = False
    unaligned = np.frombuffer(b"\0" + good.tobytes(), np.uint8)[1:].view(good.dtype).reshape(good.shape)
    subclass = good.view(type("Subclass", (np.ndarray,), {}))
    same = [read_only, unaligned, subclass, np.asfortranarray(good) if good.ndim < 2 else good]
    if good.dtype == np.int64:
        same.append(good.astype(np.longlong))
    assert good.dtype.itemsize == 1 or not unaligned.flags.aligned
    for value in same:
        assert_equal(call(function, **{name: value}), expected)


def test_numbers_of_other_types():
    for value in (9, np.float32(9.0), np.int64(9), np.array(9.0)):
        assert_equal(call("closest_pair", max_distance=value), call("closest_pair"))
    for value in ("9", None, [9.0], 10**400, 9j):
        message = f"closest_pair: expected `max_distance` as float, got {type(value).__name__}"
        with pytest.raises(TypeError, match=message):
            call("closest_pair", max_distance=value)
    assert_equal(call("pair_histogram", num_bins=np.int8(33)), call("pair_histogram"))
    for value, expected in ((33.0, "int, got float"), ("33", "int, got str"), (2**63, "int of 64 bits, got int")):
        with pytest.raises(TypeError, match=f"pair_histogram: expected `num_bins` as {expected}"):
            call("pair_histogram", num_bins=value)
    for value in ("no", None, 0, np.True_):
        with pytest.raises(TypeError, match=f"neighbor_list: expected `half` as bool, got {type(value).__name__}"):
            call("neighbor_list", half=value)


def test_errors_of_objects_themselves_come_through():
    class Broken:
        def __float__(self):
            raise KeyError("broken")

        def __index__(self):
            raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        call("closest_pair", max_distance=Broken())
    with pytest.raises(KeyError, match="broken"):
        call("pair_histogram", num_bins=Broken())


@pytest.mark.parametrize(
    ("function", "change", "message"),
    [
        ("wrap_crystals", {"ptr": np.array([0, 5, 4])}, "expected `ptr` that rises from 0 to the number of atoms, 4"),
        ("wrap_crystals", {"ptr": np.array([1, 2, 4])}, "expected `ptr` that rises"),
        ("wrap_crystals", {"ptr": np.array([0, 2, 5])}, "expected `ptr` that rises"),
        ("wrap_crystals", {"ptr": np.array([], np.int64)}, "expected `ptr` that rises"),
        ("pair_histogram", {"elements": np.array([0, 0, 1, 2])}, "expected `elements` from 0 below 2, got 2"),
        ("pair_histogram", {"elements": np.array([0, 0, 1, -1])}, "expected `elements` from 0 below 2, got -1"),
        ("pair_histogram", {"num_bins": 1}, "expected `num_bins` of 2 or more, got 1"),
        ("pair_histogram", {"num_bins": -5}, "expected `num_bins` of 2 or more, got -5"),
        ("pair_histogram", {"num_elements": 2**33}, "expected `num_elements` from 0 to 1000, got 8589934592"),
        ("neighbor_list", {"cutoffs": np.array(np.nan)}, "expected a finite `cutoff` of 0 or more, got nan"),
        ("neighbor_list", {"cells": np.zeros((3, 3))}, "the `cell` has no volume"),
        ("neighbor_list", {"cutoffs": np.array(1e7)}, "does not fit into memory"),
    ],
)
def test_bad_values(function, change, message):
    with pytest.raises(ValueError, match=message):
        call(function, **change)


def test_results_that_do_not_fit_into_memory():
    with pytest.raises((MemoryError, ValueError)):
        call("pair_histogram", num_bins=2**60)
    with pytest.raises(MemoryError):
        call("pair_histogram", num_bins=2**50)


def test_many_atoms():
    size = 200_000
    positions = np.arange(size)[:, None] * np.array([0.0, 0.0, 2.0])
    pairs, shifts, lengths, vectors = call(
        "neighbor_list", positions=positions, ptr=np.array([0, size]), cutoffs=np.array(2.5), pbc=np.zeros(3, bool)
    )
    assert pairs.shape == (2, 2 * (size - 1))
    assert np.array_equal(lengths, np.full(len(lengths), 2.0))
    assert np.array_equal(pairs[1] - pairs[0], np.sign(vectors[:, 2]).astype(np.int64))
    assert not shifts.any()


def memory_of_process() -> int:
    """Resident memory in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


# Not a result too large for memory: NumPy lets tracemalloc count it.
FAILURES = {
    "closest_pair": [{"max_distance": "9"}, {"positions": None}, {"cell": np.eye(2)}],
    "neighbor_list": [{"cutoffs": np.array(np.nan)}, {"ptr": np.array([0, 9])}, {"half": None}, {"pbc": np.ones(3)}],
    "pair_histogram": [{"num_bins": 1.5}, {"colour": 1}, {"elements": np.array([0, 0, 1, 2])}],
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_ten_thousand_calls_leave_nothing_behind(function):
    def calls(number):
        for k in range(number):
            call(function)
            for change in FAILURES.get(function, [{"colour": 1}])[k % 3 : k % 3 + 1]:
                with pytest.raises((TypeError, ValueError, MemoryError)):
                    call(function, **change)

    values = [*ARGUMENTS[function].values(), None, True, False, np.dtype(float), np.ndarray, np.dtype(bool)]
    calls(100)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    memory = memory_of_process()
    calls(10_000)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 50_000
    assert memory_of_process() - memory < 8e6
    # None, True and False also change by what else happens in the process, such as the end of old objects, but that
    # does not happen each time.
    for _ in range(3):
        counts = [sys.getrefcount(value) for value in values]
        calls(1000)
        gc.collect()
        changed = {str(v): n - c for v, c, n in zip(values, counts, map(sys.getrefcount, values), strict=True)}
        if max(map(abs, changed.values())) < 100:
            break
    assert max(map(abs, changed.values())) < 100, changed


def test_results_are_freed():
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    bonds = call("neighbor_list", cutoffs=np.array(20.0))
    size = sum(array.nbytes for array in bonds)
    assert tracemalloc.get_traced_memory()[0] - before > size > 1e6
    del bonds
    assert tracemalloc.get_traced_memory()[0] - before < 1e5
    tracemalloc.stop()


def test_threads_call_at_once():
    cutoff = np.array(14.0)
    expected = call("neighbor_list", cutoffs=cutoff)
    small = {function: call(function) for function in FUNCTIONS}
    failures = []

    def work(seed):
        try:
            for k in range(60):
                function = FUNCTIONS[(k + seed) % len(FUNCTIONS)]
                assert_equal(call(function), small[function])
                if k % 20 == 0:
                    assert_equal(call("neighbor_list", cutoffs=cutoff, num_threads=1 + seed % 2), expected)
                with pytest.raises(ValueError, match="finite `cutoff`"):
                    call("neighbor_list", cutoffs=np.array(np.nan))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_python_goes_on_during_a_search():
    done = threading.Event()

    def search():
        call("neighbor_list", cutoffs=np.array(60.0), geometry=False)
        done.set()

    thread = threading.Thread(target=search)
    thread.start()
    ticks = 0
    while not done.is_set():  # would stand still if the search kept the interpreter's lock
        ticks += 1
    thread.join()
    assert ticks > 1000


def test_a_second_import_gives_the_same_functions():
    code = (
        "import sys, numpy as np\n"
        "from dtnn_fast.numpy import _core as first\n"
        "del sys.modules['dtnn_fast.numpy._core'], sys.modules['dtnn_fast.numpy']\n"
        "from dtnn_fast.numpy import _core as second\n"
        "assert first is not second\n"
        "cells = 3 * np.eye(3)[None]\n"
        "assert (first.compact_cells(cells) == second.compact_cells(cells)).all()\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
