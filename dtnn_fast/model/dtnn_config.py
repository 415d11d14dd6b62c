# SPDX-License-Identifier: MIT
"""Settings of a `DTNN`, and the keys of its decoders."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..crystals.elements import MAX_ATOMIC_NUMBER
from ..encoders.build import EncoderConfig, encoder_config
from ..encoders.native import NativeEncoderConfig
from ..typed_settings import from_plain
from .decoder import DecoderConfig
from .error_calibration import ErrorCalibration
from .functionals import check_functional

TARGETS = ("electronic", "ionic", "total")
JOINT_READOUTS = ("electronic", "ionic")


@dataclass(frozen=True)
class DTNNConfig:
    """Settings of a model, as in its config.json.

    Args:
        encoder: settings of the encoder.
        decoder: settings of the decoders, the same for each target.
        targets: the tensors that the model predicts, from `TARGETS`.
        elements: atomic numbers that the model was trained on; others are rejected. Empty means all.
        members: number of members that share the encoder; see `dtnn_fast.Ensemble`.
        error_scales: error bars of models that were calibrated by a factor alone: for each target, the factor from
            the members' spread to the error bar of a tensor. Empty otherwise.
        mean_error_scales: the same for the mean, a third of the trace. Empty also for models of version 0.1.0.
        tensor_calibrations: for each target, the error bar of a tensor; empty for no error bars, and beside
            `error_scales`.
        mean_calibrations: the same for the mean, a third of the trace.
        born_charges: whether the model has a readout of Born effective charges.
        functionals: functionals of the training labels, the main one first; the others have learned shifts of the
            latents. Empty for labels of one functional.
        functional: the one of `functionals` that predictions are for; empty for the first.
    """

    encoder: EncoderConfig = field(default_factory=NativeEncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    targets: tuple[str, ...] = ("total",)
    elements: tuple[int, ...] = ()
    members: int = 1
    error_scales: tuple[float, ...] = ()
    mean_error_scales: tuple[float, ...] = ()
    tensor_calibrations: tuple[ErrorCalibration, ...] = ()
    mean_calibrations: tuple[ErrorCalibration, ...] = ()
    born_charges: bool = False
    functionals: tuple[str, ...] = ()
    functional: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain values, for a JSON file.

        Settings that version 0.1.0 lacks are left out where they are at their defaults, so that its runs can be
        continued.
        """
        newer = {
            "mean_error_scales": list(self.mean_error_scales),
            "tensor_calibrations": [calibration.to_json() for calibration in self.tensor_calibrations],
            "mean_calibrations": [calibration.to_json() for calibration in self.mean_calibrations],
            "born_charges": self.born_charges,
            "functionals": list(self.functionals),
            "functional": self.functional,
        }
        return {
            "encoder": self.encoder.to_json(),
            "decoder": self.decoder.to_json(),
            "targets": list(self.targets),
            "elements": list(self.elements),
            "members": self.members,
            "error_scales": list(self.error_scales),
            **{name: value for name, value in newer.items() if value},
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> DTNNConfig:
        """Make settings from what `to_json` gave.

        Raises:
            ValueError: a setting is missing, unknown, or of another type or range.
        """
        encoder = encoder_config(values.get("encoder"))
        newer = {
            "mean_error_scales": [],
            "tensor_calibrations": [],
            "mean_calibrations": [],
            "born_charges": False,
            "functionals": [],
            "functional": "",
        }
        return from_plain(cls, {**newer, **values, "encoder": encoder})


def check_config(config: DTNNConfig) -> None:
    """Check that the settings of a model fit each other.

    Raises:
        ValueError: they do not.
    """
    layer, cutoffs = config.decoder.layer, config.encoder.cutoffs
    if not 1 <= layer <= len(cutoffs):
        raise ValueError(f"DTNN: expected `layer` from 1 to {len(cutoffs)}, got {layer}")
    if not config.targets or not set(config.targets) <= set(TARGETS):
        raise ValueError(f"DTNN: expected `targets` from {', '.join(TARGETS)}, got {list(config.targets)}")
    if not all(1 <= z <= MAX_ATOMIC_NUMBER for z in config.elements):
        raise ValueError(f"DTNN: expected `elements` from 1 to {MAX_ATOMIC_NUMBER}, got {list(config.elements)}")
    if len(set(config.functionals)) != len(config.functionals) or len(config.functionals) == 1:
        raise ValueError(
            f"DTNN: expected no `functionals` or at least two different ones, got {list(config.functionals)}"
        )
    check_functional(config.functional, config.functionals, "DTNN")
    if config.members < 1:
        raise ValueError(f"DTNN: expected `members` of 1 or more, got {config.members}")
    for name, scales in (("error_scales", config.error_scales), ("mean_error_scales", config.mean_error_scales)):
        if (scales and len(scales) != len(config.targets)) or min(scales, default=0) < 0:
            raise ValueError(f"DTNN: expected no `{name}` or a number of 0 or more for each target, got {list(scales)}")
    for scales_name, name in (("error_scales", "tensor_calibrations"), ("mean_error_scales", "mean_calibrations")):
        calibrations = getattr(config, name)
        if calibrations and len(calibrations) != len(config.targets):
            raise ValueError(f"DTNN: expected no `{name}` or one for each target, got {list(calibrations)}")
        if calibrations and getattr(config, scales_name):
            raise ValueError(f"DTNN: expected `{scales_name}` or `{name}`, got both")


def decoder_key(name: str, member: int) -> str:
    """Key of a member's decoder in `DTNN.decoders`: the plain name for the first member, name_<member> for others."""
    return f"{name}_{member}" if member else name


def member_of_key(key: str) -> int:
    """Number of the member that the decoder of this key belongs to."""
    return int(key.partition("_")[2] or 0)
