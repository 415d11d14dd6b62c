# SPDX-License-Identifier: MIT
"""What the option --encoder means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

if TYPE_CHECKING:
    from ..encoders.build import Encoder, EncoderConfig
    from ..encoders.native_layer import Channels


class EncoderChoice(NamedTuple):
    """The encoder to train with.

    Args:
        config: its settings.
        encoder: it itself, if it starts from given weights; None for random ones.
    """

    config: EncoderConfig
    encoder: Encoder | None

    @property
    def elements(self) -> frozenset[int] | None:
        """Atomic numbers that it knows; None for all."""
        elements = getattr(self.encoder, "elements", None)
        return frozenset(elements) if isinstance(elements, tuple) else None


def choose_encoder(name: str, channels: Channels, num_layers: int) -> EncoderChoice:
    """The encoder that the option names.

    Args:
        name: "native", a pretrained potential, or the folder of a saved encoder.
        channels: of a native encoder with random weights.
        num_layers: how many layers are needed.

    Raises:
        typer.BadParameter: there is no such encoder.
        DTNNError: its package is missing, or its files are damaged.
    """
    from ..encoders import PRETRAINED, NativeEncoderConfig, PretrainedEncoderConfig  # noqa: PLC0415  slow to import
    from ..encoders.build import KINDS, build_encoder  # noqa: PLC0415
    from ..encoders.storage import load_encoder  # noqa: PLC0415

    if name == "native":
        return EncoderChoice(NativeEncoderConfig(channels=channels), None)
    if name in PRETRAINED:
        config = PretrainedEncoderConfig(name)
        return EncoderChoice(config, build_encoder(config, num_layers))
    if not Path(name).is_dir():
        raise typer.BadParameter(
            f"expected {', '.join(KINDS)}, or the folder of a saved encoder, got {name!r}", param_hint="--encoder"
        )
    encoder = load_encoder(name, num_layers)
    return EncoderChoice(encoder.config, encoder)
