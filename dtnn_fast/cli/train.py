# SPDX-License-Identifier: MIT
"""The command train."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import STOPPED
from .config import (
    LARGEST_SEED,
    SETTINGS_FILE,
    ConfigOption,
    PrintConfigOption,
    SetOption,
    TrainConfig,
    collect_settings,
    default_text,
    settings_text,
)
from .console import command_line, counted, stderr, stdout
from .options import (
    CacheOption,
    DeviceOption,
    EncoderOption,
    JointOption,
    TargetOption,
    ThreadsOption,
    parse_layers,
    parse_splits,
    target_names,
)
from .progress import Stopped, TrainingProgress

if TYPE_CHECKING:
    from ..crystals.crystal import Crystal
    from ..encoders.latent_cache import LatentTable
    from ..model.dtnn import DTNNConfig
    from ..training.trainer import Trainer
    from ..training.training_settings import TrainingSettings
    from ..training.workers import Workers
    from .training_inputs import EncoderChoice

_MODEL, _TRAINING, _RUN = "The model", "The training", "The run"


def train(
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            show_default=False,
            metavar="DATA",
            help="Files or folders of labelled crystals: .jsonl with eps_electronic and eps_total, or packed sets "
            "(.npz) from dtnn-fast data fetch. Without a path, the 955 labelled crystals bundled with dtnn-fast are "
            "used.",
        ),
    ] = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
    print_config: PrintConfigOption = False,
    target: TargetOption = None,
    encoder: EncoderOption = None,
    finetune: Annotated[
        bool | None,
        typer.Option(
            "--finetune/--no-finetune",
            show_default="no-finetune",
            help="Whether to train the weights of a distilled or saved encoder too. By default, they are kept.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="4|2,3|1-5",
            show_default="4",
            help="Encoder layers whose latents the decoder reads, counted from 1: one layer, a list or a range. Bond "
            "latents are read from the last of them.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    bonds: Annotated[
        bool | None,
        typer.Option(
            "--bonds/--no-bonds",
            show_default="bonds",
            help="Whether the decoder reads the latents of bonds as well as of atoms. --no-bonds gives DTNN-simple of "
            "arXiv 2405.09052.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    joint: JointOption = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default=default_text(TrainConfig, "training.epochs"),
            help="Maximum number of passes over the training crystals.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            min=1e-12,
            show_default=default_text(TrainConfig, "training.learning_rate"),
            help="Initial learning rate of AdamW; decays to zero on a half cosine.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    members: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100,
            show_default=default_text(TrainConfig, "ensemble.members"),
            help="Number of ensemble members per seed. Their mean is predicted, with error bars from their spread.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=LARGEST_SEED,
            show_default=default_text(TrainConfig, "seed"),
            help="Seed of the split into training, validation and test crystals, and of the initial weights. Cannot be "
            "combined with --splits.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    splits: Annotated[
        str | None,
        typer.Option(
            show_default=False,
            help="Train one run for each of several seeds, such as 0-4 or 0,2,4, in the subfolders split-0, split-1, "
            "... Cannot be combined with --seed.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            file_okay=False,
            show_default="runs/DATE-TIME",
            help="Folder for the run, created if missing. An unfinished run with the same settings in it is continued.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    cache: CacheOption = None,
    label: Annotated[
        str,
        typer.Option(
            show_default=False, help="Name of the model in the tables of dtnn-fast evaluate.", rich_help_panel=_RUN
        ),
    ] = "",
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
) -> None:
    """Train a model on crystals with known dielectric tensors.

    More settings than those below can be changed in a settings file: --print-config prints it, --config reads it, and
    --set changes a single setting.

    Press Ctrl-C to stop; the same command with the same --output continues the run. On several GPUs, torchrun starts
    one process per GPU, and these share each batch: torchrun --nproc-per-node 4 -m dtnn_fast train --device cuda
    --output FOLDER.

    Exit code: 0 the run is complete, 2 nothing could be done, 130 stopped by Ctrl-C.
    """
    if seed is not None and splits is not None:
        raise typer.BadParameter("use either --seed or --splits", param_hint="--splits")
    options = {
        "target": target,
        "seed": seed,
        "splits": () if seed is not None else parse_splits(splits) if splits is not None else None,
        "data.files": [str(path) for path in data] if data else None,
        "encoder.name": encoder,
        "encoder.finetune": finetune,
        "decoder.layers": parse_layers(layer) if layer is not None else None,
        "decoder.bonds": bonds,
        "decoder.joint": joint,
        "training.epochs": epochs,
        "training.learning_rate": learning_rate,
        "ensemble.members": members,
    }
    settings = collect_settings(TrainConfig, config, assignments, options)
    if print_config:
        typer.echo(settings_text("train", settings), nl=False)
        return
    _check(settings)
    from ..training.workers import join_workers

    with join_workers(device) as group:
        if group.num_processes > 1 and output is None:
            raise typer.BadParameter("needed with several processes, which share one folder", param_hint="--output")
        folder = output or Path("runs") / time.strftime("%Y-%m-%d-%H%M%S")
        _train(settings, folder, cache, label, threads, group)


def _check(settings: TrainConfig) -> None:
    """Check that settings fit together."""
    from ..datasets.splits import FOLDS

    members, share, rotate = settings.ensemble.members, settings.ensemble.share_encoder, settings.ensemble.rotate
    if settings.decoder.joint and settings.target != "all":
        raise typer.BadParameter("needs --target all", param_hint="--joint")
    if not settings.decoder.layers or list(settings.decoder.layers) != sorted(set(settings.decoder.layers)):
        raise typer.BadParameter(
            f"expected one or more increasing layers, got {list(settings.decoder.layers)}", param_hint="decoder.layers"
        )
    if rotate and not 2 <= members <= FOLDS:
        raise typer.BadParameter(f"needs --members from 2 to {FOLDS}", param_hint="ensemble.rotate")
    if share and (members == 1 or rotate):
        raise typer.BadParameter(
            "needs --members of 2 or more, without ensemble.rotate", param_hint="ensemble.share_encoder"
        )


def _train(
    settings: TrainConfig, folder: Path, cache: Path | None, label: str, threads: int | None, group: Workers
) -> None:
    """Train all runs that the settings name."""
    import torch

    from ..crystals.crystal import write_rejected
    from ..encoders import Channels, NativeEncoder
    from .error_tables import summarise_splits
    from .training_inputs import (
        choose_encoder,
        frozen_latents,
        functionals_of,
        load_partial_data,
        load_training_data,
    )

    if threads is not None:
        torch.set_num_threads(threads)
    layers, finetune = settings.decoder.layers, settings.encoder.finetune
    chosen = choose_encoder(settings.encoder.name, Channels(*settings.encoder.channels), layers[-1])
    if finetune and not isinstance(chosen.encoder, NativeEncoder):
        raise typer.BadParameter(
            "needs a native encoder with saved weights: distilled, or the folder of a saved encoder",
            param_hint="--finetune",
        )
    frozen = None if finetune else chosen.encoder
    if settings.ensemble.share_encoder and frozen is not None:
        raise typer.BadParameter("needs an encoder that is trained (--finetune)", param_hint="ensemble.share_encoder")
    model = _model_config(settings, chosen)
    files = [Path(path) for path in settings.data.files]
    crystals, rejected = load_training_data(files, model.targets, settings.data.clean, chosen.elements)
    more, more_rejected = load_partial_data([Path(path) for path in settings.data.more], chosen.elements)
    rejected += more_rejected
    model = replace(model, functionals=functionals_of(crystals, more))
    if group.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        write_rejected(folder / "rejected.csv", rejected)
        stderr().print(
            f"{counted(len(crystals), 'crystal')} to learn from, "
            + (f"{len(more)} more with some labels, " if more else "")
            + f"{len(rejected)} rejected"
            + (f" (reasons in {folder / 'rejected.csv'})" if rejected else "")
        )
    latents = None
    if frozen is not None:
        with group.first_goes_ahead():
            latents = frozen_latents(frozen, crystals, model.decoder.kept_layers, cache)
    results = {}
    for seed in settings.splits or (settings.seed,):
        # The settings file of a run makes this run alone.
        text = settings_text("train", replace(settings, seed=seed, splits=()))
        inputs = _RunInputs(crystals, more, chosen, latents, text, group)
        place = folder / f"split-{seed}" if settings.splits else folder
        run = _run_settings(settings, model, seed)
        if settings.ensemble.members == 1 or settings.ensemble.share_encoder:
            results[seed] = _run(run, inputs, place, label)
        else:
            results[seed] = _run_members(run, settings.ensemble.members, inputs, place, label)
    if settings.splits and group.rank == 0:
        (folder / SETTINGS_FILE).write_text(settings_text("train", settings), encoding="utf-8")
        summarise_splits(stdout(), folder, results, command_line())


@dataclass(frozen=True)
class _RunInputs:
    """What the runs of all seeds and members start from.

    Args:
        crystals: labelled crystals.
        more: further crystals, of which only some labels are known.
        chosen: the encoder.
        latents: latents of the crystals, if the encoder is frozen.
        settings_text: the settings file of the run.
        group: the processes that train together.
    """

    crystals: list[Crystal]
    more: list[Crystal]
    chosen: EncoderChoice
    latents: LatentTable | None
    settings_text: str
    group: Workers


def _model_config(settings: TrainConfig, chosen: EncoderChoice) -> DTNNConfig:
    from ..model.decoder import DecoderConfig
    from ..model.dtnn import DTNNConfig

    decoder = settings.decoder
    *more_layers, last = decoder.layers
    return DTNNConfig(
        encoder=chosen.config,
        decoder=DecoderConfig(
            layer=last,
            more_layers=tuple(more_layers),
            blocks=decoder.blocks,
            latent=decoder.latent,
            dropout=decoder.dropout,
            bonds=decoder.bonds,
            residual=decoder.residual,
            joint=decoder.joint,
            positive=decoder.positive,
        ),
        targets=target_names(settings.target),
        members=settings.ensemble.members if settings.ensemble.share_encoder else 1,
        born_charges=settings.training.born_weight > 0,
    )


def _run_settings(settings: TrainConfig, model: DTNNConfig, seed: int) -> TrainingSettings:
    from ..training.training_settings import TrainingSettings

    return TrainingSettings(
        model=model,
        seed=seed,
        split_by=settings.data.split_by,
        rotate=settings.ensemble.rotate,
        **asdict(settings.training),
    )


def _run(settings: TrainingSettings, inputs: _RunInputs, folder: Path, label: str) -> dict[str, Any]:
    """Train one run and print its errors; processes other than the first return nothing."""
    from ..training.run_folder import MODEL_FOLDER
    from ..training.train_run import train_run
    from .error_tables import print_error_bars, print_errors

    progress = TrainingProgress(folder, silent=inputs.group.rank > 0)

    def on_start(trainer: Trainer) -> None:
        # Only after all checks, so that a failed start does not occupy the folder.
        if inputs.group.rank == 0:
            (folder / SETTINGS_FILE).write_text(inputs.settings_text, encoding="utf-8")
        progress.on_start(trainer)

    try:
        with progress:
            result = train_run(
                settings,
                inputs.crystals,
                folder,
                command_line(),
                label=label,
                encoder=inputs.chosen.encoder,
                latents=inputs.latents,
                more=inputs.more,
                on_epoch=progress.on_epoch,
                on_batch=progress.on_batch,
                on_start=on_start,
                workers=inputs.group,
            )
    except (Stopped, KeyboardInterrupt) as stop:
        progress.console.print(progress.how_to_resume(kept=isinstance(stop, Stopped)), style="yellow")
        raise typer.Exit(STOPPED) from None
    if inputs.group.rank > 0:
        return result
    print_errors(stdout(), result, title=f"Test errors, seed {settings.seed}")
    if settings.model.members > 1:
        print_error_bars(result["error_bars"])
    stdout().print(f"model: {folder / MODEL_FOLDER}   (dtnn-fast screen --model {folder / MODEL_FOLDER})")
    return result


def _run_members(
    settings: TrainingSettings, members: int, inputs: _RunInputs, folder: Path, label: str
) -> dict[str, Any]:
    """Train the members of an ensemble, each in its own run, and combine them."""
    from ..training.ensemble_runs import join_runs
    from ..training.run_folder import MEMBERS_FOLDER
    from .error_tables import print_error_bars, print_errors

    places = [folder / MEMBERS_FOLDER / str(member) for member in range(members)]
    for member, place in enumerate(places):
        _run(replace(settings, member=member), inputs, place, f"{label} member {member}")
    if inputs.group.rank > 0:
        return {}
    systems = {crystal.id: str(crystal.info["crystal_system"]) for crystal in inputs.crystals}
    # Members whose encoder was trained too have one each.
    result = join_runs(folder, places, systems, command_line(), label, one_encoder=inputs.latents is not None)
    (folder / SETTINGS_FILE).write_text(inputs.settings_text, encoding="utf-8")
    print_errors(stdout(), result, title=f"Test errors of the ensemble, seed {settings.seed}")
    hint = " (to get them, combine this run with another one by dtnn-fast ensemble)" if settings.rotate else ""
    print_error_bars(result["error_bars"], hint)
    return result
