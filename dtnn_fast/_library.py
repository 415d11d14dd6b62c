# SPDX-License-Identifier: MIT
"""Loads the compiled operations into ``torch.ops.dtnn_fast``."""

from __future__ import annotations

import filecmp
import os
from importlib.util import find_spec
from pathlib import Path

import torch


def _find_library() -> Path:
    # Python's import system knows the place: after `pip install -e .` it is not beside this file, but in site-packages.
    spec = find_spec(f"{__package__}._ops")
    return Path(spec.origin if spec and spec.origin else Path(__file__).parent / "_ops.so")


# To compare two builds: the variable names the file of another one.
LIBRARY = Path(os.environ.get("DTNN_OPS_LIBRARY") or _find_library())


def load() -> None:
    """Register the compiled operations with torch. A second call does nothing.

    A program may have loaded another copy of the file before, for instance one beside an AOTInductor package. It is
    used if it is equal.

    Raises:
        ImportError: the extension is not built, or does not work with this torch, or another version of it is loaded.
    """
    if not LIBRARY.exists():
        raise ImportError(
            f"dtnn_fast: the compiled operations are missing ({LIBRARY.name}): run `pip install .` in the source "
            "folder, and start Python outside of it"
        )
    if loaded_library() is None:
        try:
            torch.ops.load_library(str(LIBRARY))
        except OSError as error:
            raise ImportError(
                f"dtnn_fast: the compiled operations do not load with torch {torch.__version__} "
                f"(2.10 or later is needed): {error}"
            ) from error
    loaded = loaded_library()
    if loaded != LIBRARY and not (loaded and loaded.exists() and filecmp.cmp(loaded, LIBRARY, shallow=False)):
        raise ImportError(
            f"dtnn_fast: expected the compiled operations of this package, {LIBRARY}, got "
            f"{loaded or 'an older version'}, which the program loaded before it: load or ship one version only"
        )


def loaded_library() -> Path | None:
    """Return the file whose operations are registered with torch; None for none, or a version that does not say."""
    try:
        return Path(torch.ops.dtnn_fast.library_path())
    except AttributeError:
        return None


load()
