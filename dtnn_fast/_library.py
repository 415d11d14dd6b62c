# SPDX-License-Identifier: MIT
"""Loads the compiled operations into ``torch.ops.dtnn_fast``."""

from __future__ import annotations

import os
from pathlib import Path

import torch

# To compare two builds: the variable names the file of another one.
LIBRARY = Path(os.environ.get("DTNN_OPS_LIBRARY") or Path(__file__).parent / "_ops.so")


def load() -> None:
    """Register the compiled operations with torch. A second call does nothing.

    Raises:
        ImportError: the extension is not built, or does not work with this torch.
    """
    if not LIBRARY.exists():
        raise ImportError(
            f"dtnn_fast: the compiled operations are missing ({LIBRARY.name}): run `pip install .` in the source "
            "folder, and start Python outside of it"
        )
    try:
        torch.ops.load_library(str(LIBRARY))
    except OSError as error:
        raise ImportError(
            f"dtnn_fast: the compiled operations do not load with torch {torch.__version__} "
            f"(2.10 or later is needed): {error}"
        ) from error


load()
