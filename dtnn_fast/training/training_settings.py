# SPDX-License-Identifier: MIT
"""What a training run is made of; the defaults are the paper's."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ..model.dtnn import DTNNConfig


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of one run (arXiv 2405.09052, section on training).

    Args:
        model: settings of the model, with the targets.
        seed: of the split, the initial weights, dropout and the order of crystals.
        member: number of the member in an ensemble; another one has the same split (but see `rotate`), and all else
            from other numbers.
        rotate: whether another member has another tenth of the crystals for validation too; see `split`.
        batch_size: crystals per step.
        learning_rate: at the start; it falls to 0 along a half cosine over `epochs`.
        betas: decay rates of AdamW's moments.
        weight_decay: of AdamW.
        clip_norm: gradients are scaled down to this norm.
        epochs: the most epochs to train.
        patience: epochs without a better validation error after which training stops.
        average: weights are judged and kept as a running mean over steps in which the old mean counts this much (at
            first less); 0 takes them as they are.
        frozen: whether the encoder keeps its weights, so that its latents are computed once.
        start: fingerprint of the encoder's weights at the start; empty for random ones.
    """

    model: DTNNConfig = field(default_factory=DTNNConfig)
    seed: int = 0
    member: int = 0
    rotate: bool = False
    batch_size: int = 64
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    clip_norm: float = 2.0
    epochs: int = 1000
    patience: int = 200
    average: float = 0.0
    frozen: bool = False
    start: str = ""

    @property
    def fold(self) -> int:
        """The tenth that is for validation; see `split`."""
        return self.member if self.rotate else 0

    def to_json(self) -> dict[str, Any]:
        """As plain values, for a JSON file."""
        return asdict(self) | {"model": self.model.to_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainingSettings:
        """From what `to_json` gave.

        Raises:
            KeyError, TypeError: a setting is missing or unknown.
        """
        plain = dict(values)
        model = DTNNConfig.from_json(plain.pop("model"))
        return cls(model=model, **plain | {"betas": tuple(plain["betas"])})
