# SPDX-License-Identifier: MIT
"""The model that comes with the package: the folder of its weights, and the names under which it is loaded."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

# Targets by name. The folder holds the three targets on one encoder; a name picks all of them, or one.
BUNDLED_MODELS = {
    "dielectric": ("electronic", "ionic", "total"),
    "dielectric-electronic": ("electronic",),
    "dielectric-ionic": ("ionic",),
    "dielectric-total": ("total",),
}


def bundled_folder() -> Path:
    """Return the folder of the bundled model."""
    return Path(str(resources.files("dtnn_fast"))) / "weights" / "dielectric"
