# SPDX-License-Identifier: MIT
"""The sides of a case: the native call, the reference implementation (eager and compiled), and the peers.

A side that fails is noted with its error, and the other sides are measured all the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from cases import Case, Inputs, Peer, as_tuple, bind, compiled_binder
from clocks import Call

# Input sets on a GPU together exceed its cache by this factor, so that no run finds its inputs there.
TIMES_THE_CACHE, FEWEST_SETS, MOST_SETS = 3, 2, 32
REFERENCE_SIDES = ("eager", "compiled")


def has_kernels(case: Case, device_type: str) -> bool:
    """The build has a kernel for each operation that the case needs."""
    key = {"cpu": "CPU", "cuda": "CUDA"}[device_type]
    names = case.kernels or (case.op,)
    return all(torch._C._dispatch_has_kernel_for_dispatch_key(f"dtnn_fast::{name}", key) for name in names)


def input_sets(case: Case, pass_name: str, device: torch.device) -> list[Inputs]:
    """Inputs of the same shape with different values: one set on the CPU, on a GPU more than its cache holds."""
    first = case.inputs(device, 0)
    count = 1
    if device.type == "cuda":
        cache = TIMES_THE_CACHE * torch.cuda.get_device_properties(device).L2_cache_size
        count = max(FEWEST_SETS, min(MOST_SETS, round(cache / case.traffic(first, pass_name).bytes)))
    return [first, *(case.inputs(device, seed) for seed in range(1, count))]


def native_side(case: Case, pass_name: str, sets: Sequence[Inputs]) -> list[Call]:
    """The operation itself, a call for each input set."""
    return [bind(pass_name, case.native, inputs) for inputs in sets]


def other_sides(
    case: Case, pass_name: str, sets: Sequence[Inputs], device: str, backend: str = "inductor"
) -> tuple[dict[str, list[Call]], dict[str, str]]:
    """Return the calls of the other sides, each run once, and the missing sides with the reason."""
    sides: dict[str, list[Call]] = {}
    absent: dict[str, str] = {}
    for name in REFERENCE_SIDES:
        reason = why_no_reference(case, name, device)
        if reason:
            absent[name] = reason
            continue
        try:
            sides[name] = reference_side(name, case, pass_name, sets, backend)
        except Exception as error:
            absent[name] = brief(error)
    for peer in case.peers:
        reason = _add_peer(sides, peer, pass_name, sets, device)
        if reason:
            absent[peer.name] = reason
    return sides, absent


def why_no_reference(case: Case, name: str, device: str) -> str:
    """Why the eager or compiled reference implementation is not measured; empty if it is."""
    if case.reference is None:
        return "the reference implementation loops in Python"
    if device not in case.reference_devices:
        return "the reference implementation runs on the CPU"
    if name == "compiled" and not case.compiled:
        return "loops over atoms"
    return ""


def reference_side(
    name: str, case: Case, pass_name: str, sets: Sequence[Inputs], backend: str = "inductor"
) -> list[Call]:
    """The eager or compiled reference implementation, run once."""
    assert case.reference is not None
    if name == "eager":
        calls = [bind(pass_name, case.reference, inputs) for inputs in sets]
    else:
        binder = compiled_binder(pass_name, case.reference, backend)
        calls = [binder(inputs) for inputs in sets]
    calls[0]()
    return calls


def _add_peer(sides: dict[str, list[Call]], peer: Peer, pass_name: str, sets: Sequence[Inputs], device: str) -> str:
    """Add a peer, or say why not."""
    if device not in peer.devices or pass_name not in peer.passes:
        return f"not for {pass_name} on {device}"
    try:
        calls = [bind(pass_name, *peer.prepare(inputs)) for inputs in sets]
        calls[0]()
    except ImportError as error:
        return f"not installed ({error})"
    except Exception as error:
        return brief(error)
    sides[peer.name] = calls
    return ""


def check_same_values(native: Call, other: Call) -> None:
    """Check that a reference side returns what the native one does.

    Raises:
        AssertionError: values differ by more than 1e-3 of the largest, and not by rounding alone.
    """
    for ours, theirs in zip(as_tuple(native()), as_tuple(other()), strict=True):
        if isinstance(ours, torch.Tensor) and ours.is_floating_point():
            # Where symmetry makes all of them zero, both sides give rounding errors.
            atol = max(1e-12, 1e-3 * float(theirs.abs().max()))
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=atol)


def brief(error: BaseException) -> str:
    """First line of an error, with its type, for a table."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]
