# SPDX-License-Identifier: MIT
"""Compare measured times with the promises of a case."""

from __future__ import annotations

from collections.abc import Mapping

from cases import FORWARD, Case, Traffic


def missed(
    case: Case,
    pass_name: str,
    device: str,
    seconds: Mapping[str, float],
    traffic: Traffic,
    bytes_per_second: float,
    flops_per_second: float,
) -> list[str]:
    """List the promises that a run did not keep.

    Args:
        case: has the promises.
        pass_name: one of `cases.PASSES`.
        device: ``"cpu"`` or ``"cuda"``.
        seconds: seconds of each measured side; on a GPU those of the call in a CUDA graph, where it could be captured.
        traffic: of this pass.
        bytes_per_second: rate of a large copy.
        flops_per_second: rate of a matrix product.
    """
    native = seconds["native"]
    found = [
        f"{name} takes {seconds[name] / native:.2f}x as long, promised {ratio}x"
        for name, ratio in case.promises.get((device, pass_name), {}).items()
        if name in seconds and seconds[name] < ratio * native
    ]
    longest = case.seconds_promise.get(device)
    if longest is not None and native > longest:
        found.append(f"takes {native * 1e3:.3f} ms, promised {longest * 1e3:.3f} ms")
    bound = traffic.memory_bound(bytes_per_second, flops_per_second)
    if device == "cuda" and pass_name in (FORWARD, *case.passes[:1]) and case.bandwidth_promise is not None and bound:
        share = traffic.bytes / native / bytes_per_second
        if share < case.bandwidth_promise:
            found.append(f"reaches {share:.0%} of the copy bandwidth, promised {case.bandwidth_promise:.0%}")
    return found
