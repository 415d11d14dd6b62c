# SPDX-License-Identifier: MIT
"""Settings of a training run; defaults: the paper's settings, listed in docs/model.md."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..model.dtnn import DTNNConfig


def _default_model() -> DTNNConfig:
    # Imported late: the command line shows the defaults below in its help, without waiting for torch.
    from ..model.dtnn import DTNNConfig

    return DTNNConfig()


# Settings that version 0.1.0 lacks, with their defaults.
_LATER = (("label_power", 0.0), ("born_weight", 0.0), ("encoder_rate", 1.0), ("split_by", "crystals"))


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of one run (arXiv 2405.09052, section on training).

    Args:
        model: settings of the model, with the targets.
        seed: seed of the split, the initial weights, dropout and the order of crystals.
        member: number of this member in an ensemble. Members share the split (but see `rotate`) and differ in all other
            random numbers.
        split_by: "crystals" for a random split, "structures" for one that keeps crystals of the same structure, such as
            those of several data sets, in one part, "systems" to keep the crystals of a chemical system in one part:
            the model is then validated and tested on systems that it never saw.
        rotate: whether each member validates on another tenth of the crystals; see `split`.
        batch_size: crystals per step.
        learning_rate: initial learning rate; decays to zero on a half cosine over `epochs`.
        betas: decay rates of AdamW's two moments.
        weight_decay: weight decay of AdamW.
        clip_norm: maximum norm of a gradient; larger ones are scaled down to it.
        epochs: maximum number of epochs.
        patience: epochs without a better validation error after which training stops.
        average: weight of the old mean in the running mean of the model's weights, which is validated and saved (less
            in the first steps). 0 switches averaging off.
        label_power: 0 for a loss of absolute errors; up to 1, errors of crystals with large tensors count less, see
            `partial_labels.partial_loss`.
        born_weight: weight of the Born charges in the loss, where the model has them.
        encoder_rate: learning rate of a trained encoder in parts of that of the decoders. With 0 it keeps its weights.
        frozen: whether the encoder keeps its weights, so that its latents are computed once.
        start_digest: fingerprint of the encoder's initial weights; empty for random weights.
    """

    model: DTNNConfig = field(default_factory=_default_model)
    seed: int = 0
    member: int = 0
    split_by: str = "crystals"
    rotate: bool = False
    batch_size: int = 64
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    clip_norm: float = 2.0
    epochs: int = 1000
    patience: int = 200
    average: float = 0.0
    label_power: float = 0.0
    born_weight: float = 0.0
    encoder_rate: float = 1.0
    frozen: bool = False
    start_digest: str = ""

    @property
    def fold(self) -> int:
        """Number of the tenth for validation; see `split`."""
        return self.member if self.rotate else 0

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values for a JSON file.

        Settings that version 0.1.0 lacks are left out where they are at their defaults, so that its runs can be
        continued.
        """
        values = asdict(self) | {"model": self.model.to_json()}
        for name, default in _LATER:
            if values[name] == default:
                del values[name]
        values["start"] = values.pop("start_digest")
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainingSettings:
        """Convert back from the values of `to_json`.

        Raises:
            KeyError, TypeError: a setting is missing or unknown.
        """
        from ..model.dtnn import DTNNConfig

        plain = {"start_digest" if name == "start" else name: value for name, value in values.items()}
        model = DTNNConfig.from_json(plain.pop("model"))
        return cls(model=model, **plain | {"betas": tuple(plain["betas"])})
