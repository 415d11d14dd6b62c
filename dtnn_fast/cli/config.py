# SPDX-License-Identifier: MIT
"""Settings of train, tune and distill: what their settings files hold, and how options and files come together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from ..distillation.distill_settings import DistillSettings
from ..settings_file import (
    default_of,
    help_of,
    keys_of,
    parse_assignment,
    read_toml_settings,
    setting,
    to_toml,
    with_values,
)
from ..training.training_settings import TrainingSettings
from .command import Command

T = TypeVar("T")

SETTINGS_FILE = "settings.toml"
LARGEST_SEED = 2**32 - 1  # what NumPy's RandomState takes
TARGET_CHOICES = ("electronic", "ionic", "total", "all")
TEACHERS = ("sevennet-0", "sevennet-l3i5")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        dir_okay=False,
        show_default=False,
        help="Settings file in TOML, in the form that --print-config prints. Options on the command line override it.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        show_default=False,
        help="Change one setting by its key in the settings file, for example training.average=0.99. Can be repeated.",
    ),
]
PrintConfigOption = Annotated[
    bool, typer.Option("--print-config", help="Print all settings in the form of a settings file, and exit.")
]


@dataclass(frozen=True)
class DataSection:
    """Labelled crystals to learn from."""

    files: tuple[str, ...] = setting(
        (),
        "Files or folders of labelled crystals, relative to the working folder. If empty, the 955 labelled crystals "
        "bundled with dtnn-fast are used.",
    )
    clean: bool = setting(
        True,
        "Reject crystals whose total tensor has an element below -10 or above 100, as in arXiv 2405.09052; where it is "
        "unknown, the known tensors count.",
    )
    split_by: str = setting(
        TrainingSettings.split_by,
        'Which crystals the split into training, validation and test keeps together. "crystals": none, a random split. '
        '"structures": crystals of the same structure, for example from several files. "systems": crystals of the same '
        "chemical system, so that the model is tested on systems that it has never seen.",
        choices=("crystals", "structures", "systems"),
    )
    more: tuple[str, ...] = setting(
        (),
        "Files of additional training crystals, for which some of the labels are enough: tensors, diagonals, means or "
        "Born charges. They are not part of the splits. Copies of validation or test crystals are left out. Needs a "
        "native encoder that is trained.",
    )


@dataclass(frozen=True)
class EncoderSection:
    """The encoder, which turns a crystal into latents of its atoms and bonds."""

    name: str = setting(
        "native",
        "native (random weights, trained), distilled (bundled, learned from SevenNet-0), a pretrained potential "
        "(sevennet-0 or sevennet-l3i5; needs the extra sevennet), or the folder of a saved encoder.",
    )
    channels: tuple[int, int, int] = setting(
        (128, 32, 32), "Numbers of scalar, vector and rank-2 channels of a native encoder.", least=1
    )
    finetune: bool = setting(
        False, "Whether to train the weights of a distilled or saved encoder too. Otherwise they stay fixed."
    )


@dataclass(frozen=True)
class DecoderSection:
    """The decoder, which turns latents into dielectric tensors."""

    layers: tuple[int, ...] = setting(
        (4,),
        "Encoder layers whose latents the decoder reads, counted from 1. Bond latents are read from the last of them.",
        least=1,
        most=5,
    )
    bonds: bool = setting(
        True,
        "Whether the decoder reads the latents of bonds as well as of atoms. false gives "
        "DTNN-simple of arXiv 2405.09052.",
    )
    residual: bool = setting(True, "Whether the input of each block is added to its output (residual connection).")
    joint: bool = setting(
        False,
        'With target "all": one decoder predicts the electronic and the ionic tensor, and the total tensor is their '
        "sum. Otherwise each target has its own decoder.",
    )
    positive: tuple[str, ...] = setting(
        (),
        "Targets that the decoder keeps in their physical range: the ionic tensor positive definite, the other tensors "
        "larger than the unit tensor.",
        choices=TARGET_CHOICES[:3],
    )
    blocks: int = setting(2, "Number of decoder blocks.", least=0)
    latent: int = setting(128, "Number of scalar, of vector and of rank-2 channels in the decoder blocks.", least=1)
    dropout: float = setting(0.2, "Probability of dropping a channel during training.", least=0.0, most=0.99)


@dataclass(frozen=True)
class TrainingSection:
    """Training of the model."""

    epochs: int = setting(TrainingSettings.epochs, "Maximum number of passes over the training crystals.", least=1)
    patience: int = setting(
        TrainingSettings.patience,
        "Stop after this number of epochs without a lower validation error.",
        least=1,
    )
    learning_rate: float = setting(
        TrainingSettings.learning_rate,
        "Initial learning rate of AdamW; decays to zero on a half cosine.",
        above=0.0,
    )
    batch_size: int = setting(TrainingSettings.batch_size, "Number of crystals per step.", least=1)
    weight_decay: float = setting(TrainingSettings.weight_decay, "Weight decay of AdamW.", least=0.0)
    betas: tuple[float, float] = setting(
        TrainingSettings.betas, "Decay rates of AdamW's two moments.", least=0.0, most=0.999999
    )
    clip_norm: float = setting(
        TrainingSettings.clip_norm, "Maximum norm of a gradient; larger ones are scaled down to it.", above=0.0
    )
    average: float = setting(
        TrainingSettings.average,
        "Decay of the running mean of the weights, which is validated and saved: the fraction of the old mean that "
        "each step keeps, such as 0.99. 0 means no averaging.",
        least=0.0,
        most=0.9999,
    )
    label_power: float = setting(
        TrainingSettings.label_power,
        "Only with data.more: how much the loss reduces the weight of large tensors, from 0 (absolute errors) to 1 "
        "(relative errors).",
        least=0.0,
        most=1.0,
    )
    born_weight: float = setting(
        TrainingSettings.born_weight,
        "Weight of the Born effective charges in the loss. If it is above 0, the model predicts them too.",
        least=0.0,
    )
    encoder_rate: float = setting(
        TrainingSettings.encoder_rate,
        "Learning rate of a trained encoder, as a fraction of learning_rate. With 0 the encoder keeps its weights.",
        least=0.0,
        most=10.0,
    )


@dataclass(frozen=True)
class EnsembleSection:
    """Ensembles: several members per seed. Their mean is predicted, with error bars from their spread."""

    members: int = setting(1, "Number of ensemble members per seed.", least=1, most=100)
    rotate: bool = setting(
        False,
        "Whether each member is validated on another tenth of the crystals. This improves the mean, but gives no error "
        "bars until dtnn-fast ensemble joins runs with different encoders.",
    )
    share_encoder: bool = setting(
        False,
        "With a trained encoder: whether all members share one encoder. Predictions are then nearly as fast as those "
        "of a single model.",
    )


_TARGET_HELP = 'Tensor to learn: "electronic", "ionic", "total", or "all" for the three together on one encoder.'
_SPLITS_HELP = (
    "Seeds of several runs, each with its own split into training, validation and test crystals, in the subfolders "
    "split-<seed>. If it is not empty, `seed` is ignored."
)


@dataclass(frozen=True)
class TrainConfig:
    """All settings of `dtnn-fast train`."""

    target: str = setting("total", _TARGET_HELP, choices=TARGET_CHOICES)
    seed: int = setting(
        0,
        "Seed of the split into training, validation and test crystals, and of the initial weights.",
        least=0,
        most=LARGEST_SEED,
    )
    splits: tuple[int, ...] = setting((), _SPLITS_HELP, least=0, most=LARGEST_SEED)
    data: DataSection = field(default_factory=DataSection)
    encoder: EncoderSection = field(default_factory=EncoderSection)
    decoder: DecoderSection = field(default_factory=DecoderSection)
    training: TrainingSection = field(default_factory=TrainingSection)
    ensemble: EnsembleSection = field(default_factory=EnsembleSection)


@dataclass(frozen=True)
class TuneEncoderSection:
    """The encoder of all trials."""

    name: str = setting("native", help_of(EncoderSection, "name"))
    channels: tuple[int, int, int] = setting((128, 32, 32), help_of(EncoderSection, "channels"), least=1)


@dataclass(frozen=True)
class TuneDecoderSection:
    """Settings of the decoder that are not searched."""

    joint: bool = setting(False, help_of(DecoderSection, "joint"))
    positive: tuple[str, ...] = setting((), help_of(DecoderSection, "positive"), choices=TARGET_CHOICES[:3])


@dataclass(frozen=True)
class TuneTrainingSection:
    """Settings of the training that are not searched."""

    epochs: int = setting(200, "Maximum number of passes over the training crystals in a run.", least=1)
    patience: int = setting(50, "Stop a run after this number of epochs without a lower validation error.", least=1)
    clip_norm: float = setting(TrainingSettings.clip_norm, help_of(TrainingSection, "clip_norm"), above=0.0)
    average: float = setting(TrainingSettings.average, help_of(TrainingSection, "average"), least=0.0, most=0.9999)


@dataclass(frozen=True)
class SearchSection:
    """The search."""

    trials: int = setting(50, "Number of trials, including those of an earlier search in the same folder.", least=1)
    seed: int = setting(0, "Seed of the search.", least=0, most=2**31)
    fixed: tuple[str, ...] = setting(
        (), 'Settings that are kept at a value instead of being searched, such as "layer=4" or "bonds=false".'
    )


@dataclass(frozen=True)
class TuneConfig:
    """All settings of `dtnn-fast tune`."""

    target: str = setting("total", _TARGET_HELP, choices=TARGET_CHOICES)
    splits: tuple[int, ...] = setting(
        (0,),
        "Seeds of the splits. A trial is judged by its validation error, averaged over the splits.",
        least=0,
        most=LARGEST_SEED,
    )
    data: DataSection = field(default_factory=DataSection)
    encoder: TuneEncoderSection = field(default_factory=TuneEncoderSection)
    decoder: TuneDecoderSection = field(default_factory=TuneDecoderSection)
    training: TuneTrainingSection = field(default_factory=TuneTrainingSection)
    search: SearchSection = field(default_factory=SearchSection)


@dataclass(frozen=True)
class CrystalsSection:
    """The crystals to learn from."""

    files: tuple[str, ...] = setting(
        (),
        "Files or folders of crystals, relative to the working folder; labels are not needed. If empty, all crystals "
        "bundled with dtnn-fast are used.",
    )
    made: int = setting(
        16000,
        "Number of additional crystals to make from the real ones, by rattling, straining and replacing elements.",
        least=0,
    )
    held_out: float = setting(
        0.05, "Fraction of the chemical systems that is held out to measure the error.", above=0.0, most=0.9
    )
    most_atoms_real: int = setting(40, "Maximum number of atoms of a real crystal; larger ones are left out.", least=1)
    most_atoms_made: int = setting(
        12, "Maximum number of atoms of the real crystals that others are made from.", least=1
    )
    rattle: float = setting(
        0.12, "Maximum standard deviation of the random displacements of atoms, in Angstrom.", least=0.0
    )
    strain: float = setting(
        0.04, "Maximum standard deviation of the random strain components (dimensionless).", least=0.0
    )


@dataclass(frozen=True)
class StudentSection:
    """The native encoder to train."""

    channels: tuple[int, int, int] = setting((128, 32, 32), "Numbers of scalar, vector and rank-2 channels.", least=1)
    cutoffs: tuple[float, ...] = setting(
        (4.0, 4.0, 5.0), "Cutoff of each layer in Angstrom, not decreasing.", above=0.0
    )
    learn: tuple[str, ...] = setting(
        (),
        'Which layer of the encoder learns which layer of the potential: "encoder:potential" or '
        '"encoder:potential:weight", such as "1:1:0.3". If empty, the last layer learns layer 4 (or the layer of its '
        "own number, if that is larger), and each other layer the layer of its own number with weight 0.3.",
    )


@dataclass(frozen=True)
class DistillTrainingSection:
    """Training of the encoder."""

    epochs: float = setting(DistillSettings.epochs, "Number of passes over the crystals.", above=0.0)
    learning_rate: float = setting(
        DistillSettings.learning_rate,
        "Maximum learning rate of AdamW; rises from 0 in the first steps and decays to zero on a half cosine.",
        above=0.0,
    )
    energy_weight: float = setting(
        DistillSettings.energy_weight,
        "Weight of the potential's energies in the loss, relative to 1 for the latents; 0.1 is usual. If it is above "
        "0, a readout of energies is trained and saved with the run.",
        least=0.0,
    )
    batch_atoms: int = setting(
        DistillSettings.batch_atoms,
        "Maximum number of atoms per step and process. A larger crystal makes a step by itself.",
        least=1,
    )
    warmup: int = setting(
        DistillSettings.warmup, "Number of steps in which the learning rate rises from 0 to learning_rate.", least=0
    )
    weight_decay: float = setting(DistillSettings.weight_decay, "Weight decay of AdamW.", least=0.0)
    clip_norm: float = setting(DistillSettings.clip_norm, help_of(TrainingSection, "clip_norm"), above=0.0)
    average: float = setting(
        DistillSettings.average,
        "Decay of the running mean of the weights, which is saved: the fraction of the old mean that each step keeps.",
        least=0.0,
        most=0.999999,
    )


@dataclass(frozen=True)
class DistillConfig:
    """All settings of `dtnn-fast distill`."""

    teacher: str = setting(
        "sevennet-0",
        "Pretrained potential whose latents (atom and bond features) the encoder learns.",
        choices=TEACHERS,
    )
    seed: int = setting(
        0, "Seed of the additional crystals, the initial weights and the order of the crystals.", least=0
    )
    crystals: CrystalsSection = field(default_factory=CrystalsSection)
    encoder: StudentSection = field(default_factory=StudentSection)
    training: DistillTrainingSection = field(default_factory=DistillTrainingSection)


def collect_settings(
    settings_class: type[T], config: Path | None, assignments: Sequence[str] | None, options: Mapping[str, Any]
) -> T:
    """Bring together defaults, settings file, --set and options; later ones win.

    Args:
        settings_class: `TrainConfig`, `TuneConfig` or `DistillConfig`.
        config: settings file, or None.
        assignments: values of --set.
        options: values of other options by key; None where an option was not given.

    Raises:
        BadFileError: the settings file is missing or wrong.
        typer.BadParameter: a value of --set or of an option is wrong.
    """
    settings = settings_class() if config is None else read_toml_settings(settings_class, config)
    for text in assignments or []:
        try:
            settings = with_values(settings, dict([parse_assignment(settings_class, text)]))
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--set") from None
    given = {key: value for key, value in options.items() if value is not None}
    try:
        return with_values(settings, {key: v.value if isinstance(v, Enum) else v for key, v in given.items()})
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def settings_text(command: str, settings: Any) -> str:
    """The settings file of a command."""
    return to_toml(
        settings, f"Settings of dtnn-fast {command}; dtnn-fast {command} --config {SETTINGS_FILE} reads this file."
    )


def default_text(settings_class: type[Any], key: str) -> str:
    """The default of a setting as the help of an option shows it."""
    default = default_of(settings_class, key)
    return f"{default:g}" if isinstance(default, float) else str(default)


class SettingsCommand(Command):
    """A command with a settings file: for an unknown option that is a setting of the file, it names the setting."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            # By name, since typer has a copy of click in some versions and imports click in others.
            if type(error).__name__ == "NoSuchOption":
                unknown: Any = error
                name = unknown.option_name.lstrip("-").removeprefix("no-").replace("-", "_")
                keys = [key for key in keys_of(_CONFIGS[str(self.name)]) if key.rpartition(".")[2] == name]
                if keys:
                    unknown.message += (
                        f". It is a setting: use --set {keys[0]}=VALUE, or a settings file with --config."
                    )
                    unknown.possibilities = []
            raise


_CONFIGS: dict[str, type[Any]] = {"train": TrainConfig, "tune": TuneConfig, "distill": DistillConfig}
