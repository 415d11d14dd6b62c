# SPDX-License-Identifier: MIT
"""The command line of dtnn-fast train that makes runs of given settings."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .train_options import Target

if TYPE_CHECKING:
    from ..training.training_settings import TrainingSettings


def train_command(settings: TrainingSettings, encoder: str, channels: str, rest: Sequence[str | Path]) -> str:
    """Spell out every setting that is no default of the encoder.

    Args:
        settings: of the runs; seed and weights of the encoder are not part of the command.
        encoder: the option --encoder.
        channels: the option --channels, for the native encoder.
        rest: more words, such as files of crystals and --splits.
    """
    decoder, targets = settings.model.decoder, settings.model.targets
    words: list[str | Path] = ["dtnn-fast", "train", *rest, "--target", _target(targets), "--encoder", encoder]
    if encoder == "native":
        words += ["--channels", channels]
    words += ["--layer", ",".join(map(str, decoder.layers))]
    numbers = {
        "--blocks": decoder.blocks,
        "--latent": decoder.latent,
        "--dropout": decoder.dropout,
        "--learning-rate": settings.learning_rate,
        "--weight-decay": settings.weight_decay,
        "--batch-size": settings.batch_size,
        "--clip-norm": settings.clip_norm,
        "--epochs": settings.epochs,
        "--patience": settings.patience,
        "--average": settings.average,
    }
    for option, number in numbers.items():
        words += [option, repr(number)]
    words.append("--bonds" if decoder.bonds else "--no-bonds")
    words.append("--residual" if decoder.residual else "--no-residual")
    words += ["--joint"] if decoder.joint else []
    words += ["--positive", ",".join(decoder.positive)] if decoder.positive else []
    return shlex.join(map(str, words))


def _target(targets: Sequence[str]) -> str:
    return targets[0] if len(targets) == 1 else Target.all.value
