# SPDX-License-Identifier: MIT
"""What the option --encoder means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from .console import stderr

if TYPE_CHECKING:
    from ..crystals.crystal import Crystal
    from ..encoders.build import Encoder, EncoderConfig
    from ..encoders.latent_table import LatentTable
    from ..encoders.native_layer import Channels


# The encoder of the model that comes with the package.
BUNDLED_ENCODER = "distilled"


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


def choose_encoder(name: str, channels: Channels, num_layers: int | None) -> EncoderChoice:
    """The encoder that the option names.

    Args:
        name: "native", a pretrained potential, "distilled" or the folder of a saved encoder.
        channels: of a native encoder with random weights.
        num_layers: how many layers are needed, from the first; None for all.

    Raises:
        typer.BadParameter: there is no such encoder.
        DTNNError: its package is missing, or its files are damaged.
    """
    from ..encoders import PRETRAINED, NativeEncoderConfig, PretrainedEncoderConfig  # noqa: PLC0415  slow to import
    from ..encoders.build import KINDS, build_encoder  # noqa: PLC0415
    from ..encoders.saved_encoder import load_encoder  # noqa: PLC0415
    from ..errors import BadFileError  # noqa: PLC0415
    from ..model.storage import bundled_encoder  # noqa: PLC0415

    if name == "native":
        return EncoderChoice(NativeEncoderConfig(channels=channels), None)
    if name in PRETRAINED:
        config = PretrainedEncoderConfig(name)
        return EncoderChoice(config, build_encoder(config, num_layers))
    if name != BUNDLED_ENCODER and not Path(name).is_dir():
        known = ", ".join((*KINDS, BUNDLED_ENCODER))
        raise typer.BadParameter(
            f"expected {known}, or the folder of a saved encoder, got {name!r}", param_hint="--encoder"
        )
    try:
        encoder = bundled_encoder(num_layers) if name == BUNDLED_ENCODER else load_encoder(name, num_layers)
    except BadFileError:
        raise
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--layer") from error
    return EncoderChoice(encoder.config, encoder)


def frozen_latents(
    encoder: Encoder, crystals: Sequence[Crystal], layers: Sequence[int], cache: Path | None
) -> LatentTable:
    """Latents of crystals by an encoder that keeps its weights, with a progress bar.

    Args:
        encoder: that computes them, unless they are in the cache.
        crystals: of elements that it knows.
        layers: that are needed.
        cache: its folder; None for the usual one.

    Raises:
        BadFileError: the file in the cache is damaged.
    """
    from rich.progress import Progress  # noqa: PLC0415  slow to import

    from ..encoders.latent_cache import cached_latents, default_cache_folder  # noqa: PLC0415

    with Progress(console=stderr(), transient=True) as progress:
        task = progress.add_task("latents of the frozen encoder", total=None)
        return cached_latents(
            encoder,
            crystals,
            layers,
            cache or default_cache_folder(),
            on_batch=lambda done, total: progress.update(task, completed=done, total=total),
        )
