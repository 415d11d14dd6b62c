# SPDX-License-Identifier: MIT
"""Every case of benchmarks/cases, by pass, against its reference implementation (eager and compiled) and its peers."""

from __future__ import annotations

import statistics

import pytest
import torch
from cases import CASES, FORWARD, Case, Inputs, Peer, Traffic, as_tuple, bind, compiled_binder
from ceilings import ceilings
from clocks import Call, captured, clock_for
from timing import compare, num_threads

# Input sets on a GPU together exceed its cache, so that no run finds its inputs there.
TIMES_THE_CACHE, MOST_SETS = 3, 32
# In a quick run the sizes that take milliseconds.
QUICK_SIZES = ("1 crystal", "32 crystals")


def _id(case: Case, pass_name: str) -> str:
    return f"{case.label}, {pass_name}".replace(", ", "-").replace(" ", "_")


RUNS = [pytest.param(case, pass_name, id=_id(case, pass_name)) for case in CASES for pass_name in case.passes]


@pytest.mark.parametrize(("case", "pass_name"), RUNS)
def test_op(benchmark, case: Case, pass_name: str, device: str, threads: int, quick: bool) -> None:
    if quick and not case.name.startswith(QUICK_SIZES):
        pytest.skip("not in a quick run")
    for op in case.kernels or (case.op,):
        _need_kernel(op, device)
    threads = threads if device == "cpu" else 1
    with num_threads(threads):
        sets = _input_sets(case, pass_name, torch.device(device))
        sides, absent = _sides(case, pass_name, sets, device, quick)
        traffic = case.traffic(sets[0], pass_name)
        rates = ceilings(device, threads) if not quick else None
    medians = compare(benchmark, f"{case.label}, {pass_name}, {device}", sides, device, threads, once=quick)
    replayed = None if quick or device == "cpu" or not case.capturable else _replayed(sides["native"])
    benchmark.extra_info |= {
        "op": case.op,
        "case": case.name,
        "pass": pass_name,
        "absent": absent,
        "bytes": traffic.bytes,
        "flops": traffic.flops,
        "captured_s": replayed,
        "ceilings": rates and rates._asdict(),
    }
    if not quick:
        missed = _missed(case, pass_name, device, medians, replayed, traffic, *rates)
        benchmark.extra_info["missed"] = missed
        assert not missed, "; ".join(missed)


def _need_kernel(op: str, device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    key = {"cpu": "CPU", "cuda": "CUDA"}[device]
    if not torch._C._dispatch_has_kernel_for_dispatch_key(f"dtnn_fast::{op}", key):
        pytest.skip(f"{op} has no {key} kernel in this build")


def _input_sets(case: Case, pass_name: str, device: torch.device) -> list[Inputs]:
    first = case.inputs(device, 0)
    count = 1
    if device.type == "cuda":
        cache = TIMES_THE_CACHE * torch.cuda.get_device_properties(device).L2_cache_size
        count = max(1, min(MOST_SETS, round(cache / case.traffic(first, pass_name).bytes)))
    return [first, *(case.inputs(device, seed) for seed in range(1, count))]


def _sides(
    case: Case, pass_name: str, sets: list[Inputs], device: str, quick: bool
) -> tuple[dict[str, list[Call]], dict[str, str]]:
    """The calls of every side, and the sides that are not here with the reason."""
    sides = {"native": [bind(pass_name, case.native, inputs) for inputs in sets]}
    absent = {}
    if case.reference is None or device not in case.reference_devices:
        absent["eager"] = (
            "the reference implementation loops in Python"
            if case.reference is None
            else "the reference implementation runs on the CPU"
        )
    else:
        sides["eager"] = [bind(pass_name, case.reference, inputs) for inputs in sets]
        if case.compiled:
            # A quick run proves that the reference implementation can be traced; generating code for it takes seconds.
            backend = "aot_eager" if quick else "inductor"
            binder = compiled_binder(pass_name, case.reference, backend)
            sides["compiled"] = [binder(inputs) for inputs in sets]
            sides["compiled"][0]()
        else:
            absent["compiled"] = "loops over atoms"
    for peer in case.peers:
        reason = _add_peer(sides, peer, pass_name, sets, device)
        if reason:
            absent[peer.name] = reason
    _check_agreement(case, sides)
    return sides, absent


def _add_peer(sides: dict[str, list[Call]], peer: Peer, pass_name: str, sets: list[Inputs], device: str) -> str:
    """Add a peer, or say why not."""
    if device not in peer.devices or pass_name not in peer.passes:
        return f"not for {pass_name} on {device}"
    try:
        calls = [bind(pass_name, *peer.prepare(inputs)) for inputs in sets]
        calls[0]()
    except ImportError as error:
        return f"not installed ({error})"
    sides[peer.name] = calls
    return ""


def _check_agreement(case: Case, sides: dict[str, list[Call]]) -> None:
    """Check that all sides do the same work: equal values, and lists with equal numbers of bonds."""
    native = sides["native"][0]()
    for name in ("eager", "compiled"):
        if name in sides:
            for ours, theirs in zip(as_tuple(native), as_tuple(sides[name][0]()), strict=True):
                if isinstance(ours, torch.Tensor) and ours.is_floating_point():
                    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))
    if case.count is not None and "nvalchemi-toolkit-ops" in sides:
        assert sides["nvalchemi-toolkit-ops"][0]()[0].shape[1] == case.count(native)


def _replayed(calls: list[Call]) -> float | None:
    """Median seconds of a call replayed from CUDA graphs, one for each input set."""
    graphs = [graph for call in calls if (graph := captured(call)) is not None]
    if len(graphs) < len(calls):
        return None
    clock = clock_for(torch.device("cuda"))
    clock.sample(graphs)
    return statistics.median(clock.sample(graphs) for _ in range(20))


def _missed(
    case: Case,
    pass_name: str,
    device: str,
    medians: dict[str, float],
    replayed: float | None,
    traffic: Traffic,
    bytes_per_second: float,
    flops_per_second: float,
) -> list[str]:
    """The promises that this run did not keep."""
    native = medians["native"]
    missed = [
        f"{name} takes {medians[name] / native:.2f}x as long, promised {ratio}x"
        for name, ratio in case.promises.get((device, pass_name), {}).items()
        if name in medians and medians[name] < ratio * native
    ]
    longest = case.seconds_promise.get(device)
    if longest is not None and native > longest:
        missed.append(f"takes {native * 1e3:.3f} ms, promised {longest * 1e3:.3f} ms")
    bound = traffic.memory_bound(bytes_per_second, flops_per_second)
    if device == "cuda" and pass_name == FORWARD and case.bandwidth_promise is not None and bound:
        share = traffic.bytes / (replayed or native) / bytes_per_second
        if share < case.bandwidth_promise:
            missed.append(f"reaches {share:.0%} of the copy bandwidth, promised {case.bandwidth_promise:.0%}")
    return missed
