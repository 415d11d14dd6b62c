# SPDX-License-Identifier: MIT
"""Training settings of each baseline: its authors', each with its source, and the schedule of the reported runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from .models import ModelName


@dataclass(frozen=True)
class Plateau:
    """The learning rate is multiplied by `factor` after more than `patience` epochs without a better validation error.

    Args:
        factor: below 1.
        patience: epochs.
        cooldown: epochs after a reduction that are not counted.
        threshold: smallest relative improvement that counts.
    """

    factor: float
    patience: int
    cooldown: int = 0
    threshold: float = 0.0


@dataclass(frozen=True)
class Cosine:
    """The learning rate falls along a half cosine to `floor` times itself.

    Args:
        epochs: length of the decay.
        floor: final learning rate over the initial one.
    """

    epochs: int
    floor: float


@dataclass(frozen=True)
class Recipe:
    """Settings of a baseline's training.

    Args:
        cutoff: longest bond. Angstrom.
        batch_size: crystals per step.
        optimizer: "Adam" or "AdamW".
        learning_rate: initial value.
        weight_decay: weight decay of the optimizer.
        schedule: schedule of the learning rate, by epochs.
        epochs: maximum number of epochs.
        patience: epochs without a better validation error after which training stops.
    """

    cutoff: float
    batch_size: int
    optimizer: str
    learning_rate: float
    weight_decay: float
    schedule: Plateau | Cosine
    epochs: int
    patience: int


RECIPES = {
    # The defaults that come with schnetpack 2.0.4 (configs: model/representation/painn, experiment/qm9_atomwise,
    # task/optimizer/adam, task/scheduler/reduce_on_plateau, callbacks/earlystopping), with the batch of its
    # data/materials_project, since these are crystals. Its 100,000 epochs are no limit; 1000 is that of the others.
    ModelName.painn: Recipe(
        cutoff=5.0,
        batch_size=32,
        optimizer="AdamW",
        learning_rate=5e-4,
        weight_decay=0.0,
        schedule=Plateau(factor=0.5, patience=75, cooldown=10),
        epochs=1000,
        patience=200,
    ),
    # pretrained/20230627/config_final.yaml of github.com/wengroup/matten, the run behind its published model.
    ModelName.matten: Recipe(
        cutoff=5.0,
        batch_size=32,
        optimizer="Adam",
        learning_rate=0.01,
        weight_decay=1e-5,
        schedule=Plateau(factor=0.5, patience=50, threshold=1e-4),  # torch's threshold, which it does not change
        epochs=1000,
        patience=150,
    ),
    # Batch, optimizer, learning rate and cutoffs: models/m3gnet/m3gnet.yml of github.com/janosh/matbench-discovery; the
    # schedule: matgl 4.1.2, utils/training.py. Its patience is left to the user: 200 is that of DTNN and PaiNN.
    ModelName.m3gnet: Recipe(
        cutoff=5.0,
        batch_size=32,
        optimizer="Adam",
        learning_rate=1e-3,
        weight_decay=0.0,
        schedule=Cosine(epochs=1000, floor=0.01),
        epochs=1000,
        patience=200,
    ),
}


class Schedule(StrEnum):
    """Length of the training, and decay of the learning rate."""

    short = "short"
    authors = "authors"


SHORT = Cosine(epochs=120, floor=0.01)


def recipe(name: ModelName, schedule: Schedule, epochs: int | None = None) -> Recipe:
    """Return the settings of a run.

    Args:
        name: name of the baseline.
        schedule: its authors', or the short one: a half cosine over a fixed number of epochs without early stopping.
        epochs: maximum number of epochs; None for the schedule's own number. The short schedule ends with them.
    """
    authors = RECIPES[name]
    if schedule is Schedule.authors:
        return replace(authors, epochs=epochs or authors.epochs)
    cosine = replace(SHORT, epochs=epochs or SHORT.epochs)
    return replace(authors, schedule=cosine, epochs=cosine.epochs, patience=cosine.epochs)
