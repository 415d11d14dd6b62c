# SPDX-License-Identifier: MIT
"""Every case of benchmarks/cases, by pass, against its reference implementation (eager and compiled) and its peers."""

from __future__ import annotations

import pytest
import torch
from cases import CASES, Case
from ceilings import ceilings
from clocks import captured
from promises import missed
from sides import (
    REFERENCE_SIDES,
    brief,
    check_same_values,
    has_kernels,
    input_sets,
    native_side,
    other_sides,
    why_no_reference,
)
from timing import compare, num_threads

# In a quick run the sizes that take milliseconds.
QUICK_SIZES = ("1 crystal", "32 crystals")


def _id(case: Case, pass_name: str) -> str:
    return f"{case.label}, {pass_name}".replace(", ", "-").replace(" ", "_")


RUNS = [pytest.param(case, pass_name, id=_id(case, pass_name)) for case in CASES for pass_name in case.passes]


@pytest.mark.parametrize(("case", "pass_name"), RUNS)
def test_op(benchmark, case: Case, pass_name: str, device: str, threads: int, quick: bool) -> None:
    if quick and not case.name.startswith(QUICK_SIZES):
        pytest.skip("not in a quick run")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    if not has_kernels(case, device):
        pytest.skip(f"{case.op} has no {device.upper()} kernel in this build")
    threads = threads if device == "cpu" else 1
    with num_threads(threads):
        sets = input_sets(case, pass_name, torch.device(device))
        # A quick run proves that the reference implementation can be traced; generating code for it takes seconds.
        others, absent = other_sides(case, pass_name, sets, device, "aot_eager" if quick else "inductor")
        sides = {"native": native_side(case, pass_name, sets), **others}
        for name in REFERENCE_SIDES:
            if name in sides:
                check_same_values(sides["native"][0], sides[name][0])
        if case.count is not None and "nvalchemi-toolkit-ops" in sides:
            assert sides["nvalchemi-toolkit-ops"][0]()[0].shape[1] == case.count(sides["native"][0]())
        traffic = case.traffic(sets[0], pass_name)
        rates = ceilings(device, threads) if not quick else None
    medians = compare(benchmark, f"{case.label}, {pass_name}, {device}", sides, device, threads, once=quick)
    in_graph = {}
    if device == "cuda" and not quick and case.capturable:
        for name in ("native", *REFERENCE_SIDES):
            try:
                in_graph |= {name: captured(sides[name]).seconds()} if name in sides else {}
            except Exception as error:
                absent[f"{name} in a CUDA graph"] = brief(error)
    benchmark.extra_info |= {
        "op": case.op,
        "case": case.name,
        "pass": pass_name,
        "absent": absent,
        "bytes": traffic.bytes,
        "flops": traffic.flops,
        "captured_s": in_graph.get("native"),
        "ceilings": rates and rates._asdict(),
    }
    if rates is not None:
        not_kept = missed(case, pass_name, device, medians | in_graph, traffic, *rates)
        benchmark.extra_info["missed"] = not_kept
        # On a GPU the page lists them: a run there is rare, and what it measured counts more.
        assert device == "cuda" or not not_kept, "; ".join(not_kept)
    broken = [name for name in REFERENCE_SIDES if name not in sides and not why_no_reference(case, name, device)]
    assert not broken, "; ".join(f"{name}: {absent[name]}" for name in broken)
