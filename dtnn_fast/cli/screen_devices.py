# SPDX-License-Identifier: MIT
"""A screening on several devices: a process for each one, which screens a share into the same folder."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import DTNNError
from . import STOPPED, main
from .console import stderr

if TYPE_CHECKING:
    from ..screening.screening_run import ScreeningOptions

ALL_DEVICES = "all"
_SECONDS_FOR_LAST_LINES = 10.0


class DeviceShares(NamedTuple):
    """How the processes of all devices ended.

    Args:
        failed: for each process that failed, its device and how it ended.
        stopped: whether Ctrl-C or SIGTERM ended them.
    """

    failed: list[str]
    stopped: bool


def list_devices() -> list[str]:
    """List the GPUs that torch sees.

    Raises:
        DTNNError: there is none.
    """
    import torch

    count = torch.cuda.device_count()
    if not count:
        raise DTNNError("screen: the device 'all' needs a GPU, and torch sees none: use --device cpu")
    return [f"cuda:{number}" for number in range(count)]


def split_share(number: int, of: int, parts: int) -> list[str]:
    """Split a share of a screening among devices.

    Args:
        number: of the share, from 0.
        of: number of shares.
        parts: number of devices.

    Returns:
        A text for ``--shard`` for each device.
    """
    return [f"{number + part * of + 1}/{parts * of}" for part in range(parts)]


def screen_on_devices(
    devices: Sequence[str], shares: Sequence[str], arguments: Sequence[str], on_line: Callable[[str], None]
) -> DeviceShares:
    """Start ``dtnn-fast screen`` for each device, and wait for all of them.

    Where this process ends, however that is, they end too, after they have written what they predicted. On Ctrl-C they
    are stopped, and waited for.

    Args:
        devices: a device for each process, for ``--device``.
        shares: a share for each process, for ``--shard``.
        arguments: more arguments of the command, the same for all.
        on_line: called with each line that a process prints on stderr, with its device in front.
    """
    processes: list[subprocess.Popen[str]] = []
    tellers: list[threading.Thread] = []
    stopped = False
    try:
        try:
            for device, share in zip(devices, shares, strict=True):
                own = ["screen", "--device", device, "--shard", share, *arguments]
                processes.append(_start(own))
            tellers = [
                threading.Thread(target=_tell, args=(process, device, on_line), daemon=True)
                for process, device in zip(processes, devices, strict=True)
            ]
            for teller in tellers:
                teller.start()
            for process in processes:
                process.wait()
        except KeyboardInterrupt:
            stopped = True
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()
        for teller in tellers:
            # A reading process that is still busy holds the pipe open for a while.
            teller.join(_SECONDS_FOR_LAST_LINES)
    finally:
        # Also after a second Ctrl-C.
        for process in processes:
            process.kill()
            process.wait()
    codes = [process.returncode for process in processes]
    failed = [
        f"{device} ({_how_it_ended(code)})"
        for device, code in zip(devices, codes, strict=True)
        if code not in (0, STOPPED)
    ]
    return DeviceShares(failed, stopped or STOPPED in codes)


def screen_on_all(
    devices: Sequence[str],
    paths: Sequence[Path],
    model: str,
    output: Path,
    options: ScreeningOptions,
    threads: int | None,
    functional: str = "",
) -> tuple[float, bool]:
    """Screen with a process for each device, which share the cores for reading.

    Args:
        devices: of `list_devices`.
        paths: what is screened; none for the bundled crystals.
        model: for ``--model``.
        output: the folder, in which nobody holds a lock.
        options: as for one process.
        threads: CPU threads of each process; None for an equal share of the cores.
        functional: for ``--functional``; empty for that of the model.

    Returns:
        Seconds, and whether Ctrl-C or SIGTERM ended it.

    Raises:
        DTNNError: a process failed.
    """
    import torch

    number, cores = len(devices), len(os.sched_getaffinity(0))
    readers = -(-options.num_readers // number)
    arguments = ["--model", model, "--output", str(output), "--readers", str(readers)]
    arguments += ["--threads", str(threads or max(1, cores // number))]
    arguments += [] if options.batch_atoms is None else ["--batch-atoms", str(options.batch_atoms)]
    arguments += ["--functional", functional] if functional else []
    arguments += ["--born-charges"] if options.born_charges else []
    arguments += ["--matmul-precision", torch.get_float32_matmul_precision()]
    shares = split_share(*options.shard, number)
    start = time.perf_counter()
    ended = screen_on_devices(
        devices, shares, [*arguments, "--", *map(str, paths)], lambda line: stderr().print(line, markup=False)
    )
    if ended.failed:
        raise DTNNError(
            f"{len(ended.failed)} of {number} processes failed: {', '.join(ended.failed)}. What has been written is "
            f"kept in {output}: run the same command again to continue"
        )
    return time.perf_counter() - start, ended.stopped


def _start(arguments: Sequence[str]) -> subprocess.Popen[str]:
    code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import run_share; run_share({list(arguments)!r})"
    # A session of its own: Ctrl-C in the terminal reaches this process alone, which stops the others once.
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def _tell(process: subprocess.Popen[str], device: str, on_line: Callable[[str], None]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        on_line(f"{device}: {line.rstrip()}")


def _how_it_ended(code: int) -> str:
    return f"signal {-code}, {signal.strsignal(-code)}" if code < 0 else f"exit code {code}"


def run_share(arguments: Sequence[str]) -> None:
    """Run the program in a process that `screen_on_devices` started.

    Args:
        arguments: of the command line.
    """
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    sys.argv = ["dtnn-fast", *arguments]
    main()


def _stop_with_parent() -> None:
    """Wait for the end of stdin, which the parent holds open, and stop as on SIGTERM."""
    with contextlib.suppress(OSError, ValueError):
        while os.read(0, 1):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
