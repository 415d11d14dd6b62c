# SPDX-License-Identifier: MIT
"""The command train."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import STOPPED
from .console import command_line, stderr, stdout
from .options import LARGEST_SEED, Target, parse_channels, parse_layers, parse_positive, parse_splits
from .progress import Stopped, TrainingProgress

if TYPE_CHECKING:
    from ..crystals.crystal import Crystal
    from ..encoders.build import Encoder
    from ..encoders.latent_cache import LatentTable
    from ..training.training_settings import TrainingSettings


_MODEL, _TRAINING, _RUN = "The model", "The training", "The run"


def train(
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            show_default=False,
            metavar="[DATA]...",
            help="Files or folders of labelled crystals (.jsonl with eps_electronic and eps_total, or .npz of "
            "dtnn-fast data fetch). "
            "Without any: the 955 labelled crystals that come with dtnn-fast.",
        ),
    ] = None,
    target: Annotated[
        Target,
        typer.Option(help="Tensor to learn; 'all' trains the three together on one encoder.", rich_help_panel=_MODEL),
    ] = Target.total,
    encoder: Annotated[
        str,
        typer.Option(
            metavar="native|distilled|sevennet-0|sevennet-l3i5|FOLDER",
            help="native: from random weights. The distilled encoder of the bundled model, a pretrained potential "
            "(its package must be installed) and the folder of a saved encoder keep their weights, and run once.",
            rich_help_panel=_MODEL,
        ),
    ] = "native",
    finetune: Annotated[
        bool,
        typer.Option("--finetune", help="Train a distilled or saved encoder too.", rich_help_panel=_MODEL),
    ] = False,
    layer: Annotated[
        str,
        typer.Option(
            metavar="4|2,3|1-5",
            help="Encoder layer whose latents are read, or several; bonds are those of the last.",
            rich_help_panel=_MODEL,
        ),
    ] = "4",
    bonds: Annotated[
        bool, typer.Option("--bonds/--no-bonds", help="Use bond latents, or not: DTNN-simple.", rich_help_panel=_MODEL)
    ] = True,
    residual: Annotated[
        bool, typer.Option("--residual/--no-residual", help="Blocks add their input.", rich_help_panel=_MODEL)
    ] = True,
    positive: Annotated[
        str,
        typer.Option(
            metavar="TARGET[,TARGET]",
            show_default="none",
            help="Targets whose tensors are positive definite by construction, less the unit tensor (ionic: as it is).",
            rich_help_panel=_MODEL,
        ),
    ] = "",
    joint: Annotated[
        bool,
        typer.Option(
            "--joint",
            help="With --target all: one decoder for all targets, the total tensor being the sum of the other two.",
            rich_help_panel=_MODEL,
        ),
    ] = False,
    channels: Annotated[
        str,
        typer.Option(help="Scalar, vector and rank-2 channels of the native encoder.", rich_help_panel=_MODEL),
    ] = "128,32,32",
    blocks: Annotated[int, typer.Option(min=0, help="Blocks of the decoder.", rich_help_panel=_MODEL)] = 2,
    latent: Annotated[int, typer.Option(min=1, help="Channels of the decoder.", rich_help_panel=_MODEL)] = 128,
    dropout: Annotated[
        float, typer.Option(min=0.0, max=0.99, help="Dropout probability.", rich_help_panel=_MODEL)
    ] = 0.2,
    epochs: Annotated[int, typer.Option(min=1, help="Most epochs to train.", rich_help_panel=_TRAINING)] = 1000,
    patience: Annotated[
        int,
        typer.Option(
            min=1, help="Stop after so many epochs without a better validation error.", rich_help_panel=_TRAINING
        ),
    ] = 200,
    learning_rate: Annotated[
        float, typer.Option(min=1e-12, help="At the start; falls along a half cosine.", rich_help_panel=_TRAINING)
    ] = 1e-4,
    batch_size: Annotated[int, typer.Option(min=1, help="Crystals per step.", rich_help_panel=_TRAINING)] = 64,
    weight_decay: Annotated[float, typer.Option(min=0.0, help="Of AdamW.", rich_help_panel=_TRAINING)] = 0.01,
    clip_norm: Annotated[
        float, typer.Option(min=1e-12, help="Largest norm of a gradient.", rich_help_panel=_TRAINING)
    ] = 2.0,
    average: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=0.9999,
            help="Judge and keep a running mean of the weights in which the old mean counts this much at each step.",
            rich_help_panel=_TRAINING,
        ),
    ] = 0.0,
    clean: Annotated[
        bool,
        typer.Option(
            "--clean/--no-clean",
            help="Drop crystals with an element of the total tensor outside of -10 to 100.",
            rich_help_panel=_TRAINING,
        ),
    ] = True,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=LARGEST_SEED,
            show_default="0",
            help="Of the split into training, validation and test, and of the initial weights.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    splits: Annotated[
        str | None,
        typer.Option(
            show_default=False,
            help="Several seeds one after the other, such as 0-4 or 0,2,4, in the subfolders split-0, split-1, ...",
            rich_help_panel=_RUN,
        ),
    ] = None,
    members: Annotated[
        int,
        typer.Option(
            min=1,
            max=100,
            help="Train so many models alike for each seed, and take their mean, with error bars from their spread.",
            rich_help_panel=_RUN,
        ),
    ] = 1,
    share: Annotated[
        bool,
        typer.Option(
            "--share-encoder",
            help="Where the encoder is trained: one for all members, trained for all of them at once, instead of one "
            "each. Predictions then take hardly longer than those of a single model.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    rotate: Annotated[
        bool,
        typer.Option(
            "--rotate",
            help="Another tenth of the crystals for validation for each member: a better mean, whose error bars need "
            "several encoders (dtnn-fast ensemble).",
            rich_help_panel=_RUN,
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            file_okay=False,
            show_default="runs/<date-time>",
            help="Folder of the run. One that holds an unfinished run with the same settings is continued.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            show_default="~/.cache/dtnn_fast",
            help="Folder where the latents of frozen encoders are kept.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    label: Annotated[
        str,
        typer.Option(
            show_default=False, help="Name of the model in the tables of dtnn-fast evaluate.", rich_help_panel=_RUN
        ),
    ] = "",
    threads: Annotated[
        int | None,
        typer.Option(min=1, show_default="all cores", help="CPU threads.", rich_help_panel=_RUN),
    ] = None,
) -> None:
    """Train a model on crystals with known dielectric tensors.

    The defaults are the settings of the paper (arXiv 2405.09052). Press Ctrl-C to stop; the same command with the same
    --output goes on later.
    """
    if seed is not None and splits is not None:
        raise typer.BadParameter("use either --seed or --splits", param_hint="--splits")
    seeds = [seed or 0] if splits is None else parse_splits(splits)
    widths = parse_channels(channels)
    layers = parse_layers(layer)
    if joint and target is not Target.all:
        raise typer.BadParameter("needs --target all", param_hint="--joint")
    from ..datasets.splits import FOLDS

    if rotate and not 2 <= members <= FOLDS:
        raise typer.BadParameter(f"needs --members from 2 to {FOLDS}", param_hint="--rotate")
    if share and (members == 1 or rotate):
        raise typer.BadParameter("needs --members of 2 or more, without --rotate", param_hint="--share-encoder")
    targets = target.names

    import torch

    from ..crystals.crystal import write_rejected
    from ..encoders import Channels, NativeEncoder
    from ..model.decoder import DecoderConfig
    from ..model.dtnn import DTNNConfig
    from ..training.training_settings import TrainingSettings
    from .training_inputs import choose_encoder, frozen_latents, load_training_data

    if threads is not None:
        torch.set_num_threads(threads)
    chosen = choose_encoder(encoder, Channels(*widths), layers[-1])
    frozen = None if finetune else chosen.encoder
    if finetune and not isinstance(chosen.encoder, NativeEncoder):
        raise typer.BadParameter(
            "needs an encoder that has learned already and can be trained: distilled, or the folder of a saved one",
            param_hint="--finetune",
        )
    if share and frozen is not None:
        raise typer.BadParameter("needs an encoder that is trained (--finetune)", param_hint="--share-encoder")
    model = DTNNConfig(
        encoder=chosen.config,
        decoder=DecoderConfig(
            layer=layers[-1],
            more_layers=layers[:-1],
            blocks=blocks,
            latent=latent,
            dropout=dropout,
            bonds=bonds,
            residual=residual,
            joint=joint,
            positive=parse_positive(positive),
        ),
        targets=targets,
        members=members if share else 1,
    )
    runs = {
        number: TrainingSettings(
            model=model,
            seed=number,
            rotate=rotate,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            clip_norm=clip_norm,
            epochs=epochs,
            patience=patience,
            average=average,
        )
        for number in seeds
    }
    crystals, rejected = load_training_data(data or [], targets, clean, chosen.elements)
    folder = output or Path("runs") / time.strftime("%Y-%m-%d-%H%M%S")
    folder.mkdir(parents=True, exist_ok=True)
    write_rejected(folder / "rejected.csv", rejected)
    stderr().print(
        f"{len(crystals)} crystals to learn from, {len(rejected)} rejected"
        + (f" (reasons in {folder / 'rejected.csv'})" if rejected else "")
    )
    table = None if frozen is None else frozen_latents(frozen, crystals, model.decoder.kept_layers, cache)
    results = {}
    for number, settings in runs.items():
        place = folder if splits is None else folder / f"split-{number}"
        if members == 1 or share:
            results[number] = _run(settings, crystals, place, label, chosen.encoder, table)
        else:
            results[number] = _run_ensemble(settings, members, crystals, place, label, chosen.encoder, table)
    if splits is not None:
        from .error_tables import summarise_splits

        summarise_splits(stdout(), folder, results, command_line())


def _run(
    settings: TrainingSettings,
    crystals: list[Crystal],
    folder: Path,
    label: str,
    encoder: Encoder | None,
    table: LatentTable | None,
) -> dict[str, Any]:
    from ..training.run_folder import MODEL_FOLDER
    from ..training.train_run import train_run
    from .error_tables import print_error_bars, print_errors

    progress = TrainingProgress(folder)
    try:
        with progress:
            result = train_run(
                settings,
                crystals,
                folder,
                command_line(),
                label=label,
                encoder=encoder,
                table=table,
                on_epoch=progress.on_epoch,
                on_batch=progress.on_batch,
                on_start=progress.on_start,
            )
    except (Stopped, KeyboardInterrupt) as stop:
        stderr().print(progress.how_to_resume(kept=isinstance(stop, Stopped)), style="yellow")
        raise typer.Exit(STOPPED) from None
    print_errors(stdout(), result, title=f"Test errors, seed {settings.seed}")
    if settings.model.members > 1:
        print_error_bars(result["error_bars"])
    stdout().print(f"model: {folder / MODEL_FOLDER}   (dtnn-fast screen --model {folder / MODEL_FOLDER})")
    return result


def _run_ensemble(
    settings: TrainingSettings,
    members: int,
    crystals: list[Crystal],
    folder: Path,
    label: str,
    encoder: Encoder | None,
    table: LatentTable | None,
) -> dict[str, Any]:
    from ..training.ensemble_runs import join_runs
    from ..training.run_folder import MEMBERS_FOLDER
    from .error_tables import print_error_bars, print_errors

    places = [folder / MEMBERS_FOLDER / str(member) for member in range(members)]
    for member, place in enumerate(places):
        _run(replace(settings, member=member), crystals, place, f"{label} member {member}", encoder, table)
    systems = {crystal.id: str(crystal.info["crystal_system"]) for crystal in crystals}
    result = join_runs(folder, places, systems, command_line(), label, one_encoder=table is not None)
    print_errors(stdout(), result, title=f"Test errors of the ensemble, seed {settings.seed}")
    hint = " (dtnn-fast ensemble joins this run with another one, which gives them)" if settings.rotate else ""
    print_error_bars(result["error_bars"], hint)
    return result
