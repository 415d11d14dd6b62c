# SPDX-License-Identifier: MIT
"""Run a function of a test module in several processes that torchrun starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def torchrun(folder: Path, module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Call ``main(*arguments)`` of a test module in two processes of one thread each.

    Args:
        folder: for the script.
        module: path of the test module.
        arguments: texts and paths.
    """
    place, name = os.path.split(module)
    paths, texts = [place, os.path.dirname(__file__)], [str(argument) for argument in arguments]
    script = folder / "worker.py"
    script.write_text(
        f"import sys; sys.path[:0] = {paths!r}\n"
        f"import torch; torch.set_num_threads(1)\n"
        f"import {name.removesuffix('.py')} as module; module.main(*{texts!r})\n"
    )
    command = [sys.executable, "-P", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
