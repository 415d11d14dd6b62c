# SPDX-License-Identifier: MIT
"""The models that come with the package: the folders of their weights, their names, and the encoder."""

from __future__ import annotations

import functools
from pathlib import Path

from ..encoders.build import load_encoder
from ..encoders.native import NativeEncoder
from ..files import read_json_object

# Beside the sources; importlib.resources has no single folder for a package that is installed by `pip install -e .`.
_WEIGHTS = Path(__file__).parents[1] / "weights"
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
    return _WEIGHTS / "dielectric"


def bundled_lattice_folder() -> Path:
    """Return the folder of the bundled `LatticeModel`."""
    return _WEIGHTS / "lattice"


def bundled_encoder_folder() -> Path:
    """Return the folder of the encoder that the bundled models started from; see `dtnn_fast.encoders`."""
    return _WEIGHTS / "distilled"


def bundled_encoder(num_layers: int | None = None) -> NativeEncoder:
    """Load the bundled encoder that was distilled from a pretrained potential, and has seen no label of any crystal.

    The encoders of the bundled models started from it and learned labels, so that they are no start for a model whose
    errors on these crystals shall be measured.

    Args:
        num_layers: number of layers, from the first; None for all that it has.

    Raises:
        ValueError: the encoder has fewer layers.
    """
    encoder = load_encoder(bundled_encoder_folder())
    wanted = encoder.num_layers if num_layers is None else num_layers
    if not 1 <= wanted <= encoder.num_layers:
        raise ValueError(f"the bundled encoder has {encoder.num_layers} layers, got {num_layers}")
    return encoder.first_layers(wanted).eval()


@functools.cache
def bundled_elements() -> frozenset[int]:
    """Return the atomic numbers that the bundled model knows."""
    return frozenset(read_json_object(bundled_folder() / "config.json")["elements"])
