# SPDX-License-Identifier: MIT
"""The trainers of trials; what trials of the same encoder layers share is made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..crystals.crystal import Crystal
from ..datasets.splits import Split
from ..encoders.build import Encoder
from ..encoders.latent_table import LatentTable
from ..training.labelled_data import LabelledGraphs
from ..training.labelled_latents import LabelledLatents
from ..training.train_run import labelled_data
from ..training.trainer import Trainer
from ..training.training_settings import TrainingSettings


class Trainers:
    """Makes the trainer of a run; nothing is written to disk.

    Args:
        crystals: labelled, cleaned and checked.
        encoder_of: gives the encoder with so many layers that runs start from and keep, or None where they train one
            from random weights.
        latents_of: gives the latents of the crystals by such an encoder, of the layers that a decoder reads.
    """

    def __init__(
        self,
        crystals: Sequence[Crystal],
        encoder_of: Callable[[int], Encoder | None],
        latents_of: Callable[[Encoder, Sequence[int]], LatentTable],
    ) -> None:
        self.crystals, self._encoder_of, self._latents_of = crystals, encoder_of, latents_of
        self._encoders: dict[tuple[int, ...], tuple[Encoder | None, LatentTable | None]] = {}
        self._data: dict[tuple[tuple[int, ...], bool], LabelledGraphs | LabelledLatents] = {}

    def __call__(self, settings: TrainingSettings, parts: Split) -> Trainer:
        """The trainer of these settings on these parts of the crystals."""
        decoder = settings.model.decoder
        encoder, table = self._encoder(decoder.layer, decoder.kept_layers)
        kind = (decoder.kept_layers, decoder.bonds)
        if kind not in self._data:
            self._data[kind] = labelled_data(settings, self.crystals, table)
        settings = replace(settings, frozen=table is not None)
        return Trainer(settings, self._data[kind], parts, encoder=encoder)

    def _encoder(self, last: int, layers: tuple[int, ...]) -> tuple[Encoder | None, LatentTable | None]:
        if layers not in self._encoders:
            encoder = self._encoder_of(last)
            table = None if encoder is None else self._latents_of(encoder, layers)
            self._encoders[layers] = (encoder, table)
        return self._encoders[layers]
