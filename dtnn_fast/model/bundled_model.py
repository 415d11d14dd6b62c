# SPDX-License-Identifier: MIT
"""The models that come with the package: the folders of their weights, and the names under which they are loaded."""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path

from ..files import read_json_object

# Targets by name. The folder holds the three targets on one encoder; a name picks all of them, or one.
BUNDLED_MODELS = {
    "dielectric": ("electronic", "ionic", "total"),
    "dielectric-electronic": ("electronic",),
    "dielectric-ionic": ("ionic",),
    "dielectric-total": ("total",),
}
# The model of Born charges and force constants; see `LatticeModel`.
BUNDLED_LATTICE_MODEL = "lattice"


def bundled_folder() -> Path:
    """Return the folder of the bundled model."""
    return Path(str(resources.files("dtnn_fast"))) / "weights" / "dielectric"


def bundled_lattice_folder() -> Path:
    """Return the folder of the bundled `LatticeModel`."""
    return Path(str(resources.files("dtnn_fast"))) / "weights" / "lattice"


def bundled_encoder_folder() -> Path:
    """Return the folder of the encoder that the bundled models started from; see `dtnn_fast.encoders`."""
    return Path(str(resources.files("dtnn_fast"))) / "weights" / "distilled"


@functools.cache
def bundled_elements() -> frozenset[int]:
    """Return the atomic numbers that the bundled model knows."""
    return frozenset(read_json_object(bundled_folder() / "config.json")["elements"])
