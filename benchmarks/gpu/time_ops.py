# SPDX-License-Identifier: MIT
"""Time the cases of benchmarks/cases on a GPU, the native side or the reference sides of the larger cases.

Each case gives the time of a call in a CUDA graph of 20, of calls one after the other in the stream, and of the host.
"""

from __future__ import annotations

import re
import statistics
import time
from typing import Any

import torch
from results import Results, parser

# isort: split
from cases import BACKWARD, CASES, FORWARD, PASSES, SECOND, Case
from ceilings import ceilings
from clocks import Call, captured, clock_for, host_seconds
from promises import missed
from sides import (
    brief,
    check_same_values,
    has_kernels,
    input_sets,
    native_side,
    reference_side,
    why_no_reference,
)

# What is measured first.
SIZES = ("1024 crystals", "large cell", "512 x", "4e5 bonds", "32 crystals", "1 crystal")
# Reference sides: the first shape of each operation on these sizes.
SIDE_SIZES = SIZES[:2]
SECONDS_PER_CASE = 0.25


def main() -> None:
    """Measure until the time is over."""
    arguments = parser(__doc__)
    arguments.add_argument("--sides", default="native", help="native, or of eager,compiled")
    arguments.add_argument("--only", default="", help="regular expression that the label and pass must contain")
    arguments.add_argument("--compile-only", action="store_true", help="compile into torch's cache; measure nothing")
    options = arguments.parse_args()
    results, device = Results(options), torch.device(options.device)
    sides = options.sides.split(",")
    native = sides == ["native"]
    rates = None
    backend = "aot_eager" if options.small else "inductor"
    if native and not options.small:
        results.attempt("ceilings", lambda: _ceilings(device))
        rates = ceilings(device.type, 1)
    for side in sides:
        for case, pass_name in _runs(native, options.small):
            if results.time_is_over(3.0):
                results.add("cut off", what=f"{side} of operations")
                return
            if not re.search(options.only, f"{case.label}, {pass_name}") or not has_kernels(case, device.type):
                continue
            named = {"op": case.op, "case": case.name, "pass": pass_name, "side": side}
            if native:
                results.attempt("op", lambda c=case, p=pass_name: _native(c, p, device, rates), **named)
            elif why_no_reference(case, side, device.type):
                continue
            elif options.compile_only:
                results.attempt("compile", lambda c=case, p=pass_name, s=side: _compile(s, c, p, device), **named)
            else:
                results.attempt("op", lambda c=case, p=pass_name, s=side: _side(s, c, p, device, backend), **named)


def _runs(native: bool, small: bool) -> list[tuple[Case, str]]:
    """Cases and passes, the larger ones first and second derivatives last."""
    if small:
        chosen = [case for case in CASES if case.name.startswith("1 crystal")]
    elif native:
        chosen = CASES
    else:
        chosen = _first_shapes()
    passes = PASSES if native else (FORWARD, BACKWARD)
    runs = [(case, pass_name) for case in chosen for pass_name in case.passes if pass_name in passes]

    def rank(run: tuple[Case, str]) -> tuple[bool, int]:
        case, pass_name = run
        size = next(n for n, name in enumerate(SIZES) if case.name.startswith(name))
        return pass_name == SECOND, size

    return sorted(runs, key=rank)


def _first_shapes() -> list[Case]:
    """For each operation with a compiled side its first case on each of `SIDE_SIZES`."""
    first: dict[tuple[str, str], Case] = {}
    for case in CASES:
        for size in SIDE_SIZES:
            if case.compiled and case.name.startswith(size):
                first.setdefault((case.op, size), case)
    return list(first.values())


def _native(case: Case, pass_name: str, device: torch.device, rates: Any) -> dict[str, Any]:
    sets = input_sets(case, pass_name, device)
    calls = native_side(case, pass_name, sets)
    traffic = case.traffic(sets[0], pass_name)
    found: dict[str, Any] = {"bytes": traffic.bytes, "flops": traffic.flops, "sets": len(sets)}
    found |= _times(calls, device, case.capturable)
    if case.published:
        found["published_s"] = dict(case.published)
    if rates is not None:
        best = found.get("captured_s") or found["stream_s"]
        found["floor_s"] = traffic.floor(*rates)
        found["missed"] = missed(case, pass_name, device.type, {"native": best}, traffic, *rates)
    return found


def _side(side: str, case: Case, pass_name: str, device: torch.device, backend: str) -> dict[str, Any]:
    sets = input_sets(case, pass_name, device)
    start = time.monotonic()
    calls = reference_side(side, case, pass_name, sets, backend)
    found: dict[str, Any] = {"first_call_s": round(time.monotonic() - start, 2)}
    try:
        check_same_values(native_side(case, pass_name, sets[:1])[0], calls[0])
    except AssertionError as error:
        found["differs"] = brief(error)
    return found | _times(calls, device, capturable=True)


def _compile(side: str, case: Case, pass_name: str, device: torch.device) -> dict[str, Any]:
    reference_side(side, case, pass_name, input_sets(case, pass_name, device)[:1])
    return {}


def _times(calls: list[Call], device: torch.device, capturable: bool) -> dict[str, Any]:
    """captured_s, stream_s with its range, host_s."""
    clock = clock_for(device)
    clock.sample(calls)
    first = clock.sample(calls)
    rounds = max(3, min(30, round(SECONDS_PER_CASE / max(first * 20, 1e-3))))
    times = sorted(clock.sample(calls) for _ in range(rounds))
    found: dict[str, Any] = {
        "stream_s": statistics.median(times),
        "stream_range_s": [times[0], times[-1]],
        "host_s": host_seconds(calls, device),
    }
    if device.type == "cuda" and capturable:
        try:
            found["captured_s"] = captured(calls).seconds()
        except Exception as error:
            found["not_captured"] = brief(error)
    return found


def _ceilings(device: torch.device) -> dict[str, Any]:
    """Copy and float32 product; on a GPU the products in tf32 and bfloat16 too."""
    found: dict[str, Any] = ceilings(device.type, 1)._asdict()
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {"gpu": properties.name, "l2_bytes": properties.L2_cache_size, "torch": torch.__version__}
        size = 8192
        before = torch.backends.cuda.matmul.allow_tf32
        try:
            torch.backends.cuda.matmul.allow_tf32 = True
            for name, dtype in (("tf32", torch.float32), ("bf16", torch.bfloat16)):
                a, b = torch.randn(2, size, size, device=device, dtype=dtype)
                clock, calls = clock_for(device), [lambda a=a, b=b: a @ b]
                clock.sample(calls)
                found[f"{name}_flops_per_second"] = (
                    2 * size**3 / statistics.median(clock.sample(calls) for _ in "12345")
                )
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before
    return found


if __name__ == "__main__":
    main()
