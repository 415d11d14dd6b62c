# SPDX-License-Identifier: MIT
"""The command tune."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from .console import stderr
from .train_command import train_command
from .train_options import Target, parse_channels, parse_splits

_MODEL, _SEARCH = "The model", "The search"
_STOPPED = 130


def tune(
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            show_default=False,
            metavar="[DATA]...",
            help="Files or folders of labelled crystals. Without any: those that come with dtnn-fast.",
        ),
    ] = None,
    target: Annotated[Target, typer.Option(help="As in dtnn-fast train.", rich_help_panel=_MODEL)] = Target.total,
    encoder: Annotated[
        str,
        typer.Option(
            metavar="native|distilled|sevennet-0|sevennet-l3i5|FOLDER",
            help="As in dtnn-fast train. A trial with a frozen encoder takes a fraction of the time.",
            rich_help_panel=_MODEL,
        ),
    ] = "native",
    channels: Annotated[
        str, typer.Option(help="Scalar, vector and rank-2 channels of the native encoder.", rich_help_panel=_MODEL)
    ] = "128,32,32",
    joint: Annotated[bool, typer.Option("--joint", help="As in dtnn-fast train.", rich_help_panel=_MODEL)] = False,
    fix: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            show_default=False,
            help="Do not search a setting, such as layer=4 or bonds=false; may be given several times.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    trials: Annotated[
        int, typer.Option(min=1, help="Trials in all, with those of an earlier search.", rich_help_panel=_SEARCH)
    ] = 50,
    splits: Annotated[
        str,
        typer.Option(
            help="Seeds of the splits, such as 0 or 0-4; a trial is judged by the mean of their validation errors.",
            rich_help_panel=_SEARCH,
        ),
    ] = "0",
    epochs: Annotated[int, typer.Option(min=1, help="Most epochs of a run.", rich_help_panel=_SEARCH)] = 200,
    patience: Annotated[
        int,
        typer.Option(
            min=1, help="Stop a run after so many epochs without a better validation error.", rich_help_panel=_SEARCH
        ),
    ] = 50,
    clip_norm: Annotated[
        float, typer.Option(min=1e-12, help="Largest norm of a gradient.", rich_help_panel=_SEARCH)
    ] = 2.0,
    average: Annotated[
        float, typer.Option(min=0.0, max=0.9999, help="As in dtnn-fast train.", rich_help_panel=_SEARCH)
    ] = 0.0,
    clean: Annotated[
        bool, typer.Option("--clean/--no-clean", help="As in dtnn-fast train.", rich_help_panel=_SEARCH)
    ] = True,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Of the search.", rich_help_panel=_SEARCH)] = 0,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", file_okay=False, help="Folder of the study; a study that is there is continued."
        ),
    ] = Path("tuning"),
    cache: Annotated[
        Path | None,
        typer.Option(
            show_default="~/.cache/dtnn_fast",
            file_okay=False,
            help="Folder where the latents of frozen encoders are kept.",
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, show_default="all cores", help="CPU threads.")] = None,
) -> None:
    """Search good settings of the decoder and its training by their validation errors.

    Searched are layer, blocks, latent, dropout, bonds, residual, learning_rate, weight_decay and batch_size, from the
    paper's settings on. Test crystals have no part in it. The folder gets the study (study.db), all trials (trials.csv)
    and the best settings with the command that trains with them (best.json).

    Ctrl-C stops; the same command goes on later.
    """
    seeds = parse_splits(splits)
    widths = parse_channels(channels)
    if joint and target is not Target.all:
        raise typer.BadParameter("needs --target all", param_hint="--joint")

    import torch  # noqa: PLC0415  slow to import

    from ..datasets.splits import split  # noqa: PLC0415
    from ..encoders import Channels  # noqa: PLC0415
    from ..encoders.latent_cache import encoder_digest  # noqa: PLC0415
    from ..errors import optional_import  # noqa: PLC0415
    from ..formats.find_files import write_rejected  # noqa: PLC0415  slow to import
    from ..model.decoder import DecoderConfig  # noqa: PLC0415
    from ..model.dtnn import DTNNConfig  # noqa: PLC0415
    from ..training.train_run import data_digest  # noqa: PLC0415
    from ..training.training_settings import TrainingSettings  # noqa: PLC0415
    from ..tuning.objective import Objective  # noqa: PLC0415
    from ..tuning.search_space import parse_fixed, with_values  # noqa: PLC0415
    from ..tuning.study import Study  # noqa: PLC0415
    from ..tuning.trainers import Trainers  # noqa: PLC0415
    from .training_data import load_training_data  # noqa: PLC0415
    from .training_inputs import choose_encoder, frozen_latents  # noqa: PLC0415
    from .tune_report import TuningProgress, report  # noqa: PLC0415

    optional_import("optuna", extra="tune", purpose="tune settings")
    if threads is not None:
        torch.set_num_threads(threads)
    choose = partial(choose_encoder, encoder, Channels(*widths))
    chosen = choose(None)
    num_layers = len(chosen.config.cutoffs)
    fixed = dict(parse_fixed(text, num_layers) for text in fix or [])
    # The paper's layer, or the last one of a smaller encoder.
    decoder = DecoderConfig(layer=min(DecoderConfig().layer, num_layers), joint=joint)
    model = DTNNConfig(chosen.config, decoder, target.names)
    base = TrainingSettings(model, clip_norm=clip_norm, epochs=epochs, patience=patience, average=average)
    base = with_values(base, fixed)
    crystals, rejected = load_training_data(data or [], target.names, clean, chosen.elements)
    identity = {
        "settings": base.to_json(),
        "fixed": fixed,
        "seeds": seeds,
        "data": data_digest(crystals),
        "encoder": "" if chosen.encoder is None else encoder_digest(chosen.encoder),
    }
    study = Study(output, identity, epochs, seed)
    write_rejected(output / "rejected.csv", rejected)
    stderr().print(f"{len(crystals)} crystals, {len(rejected)} rejected; {len(study.finished)} trials so far")

    trainers = Trainers(
        crystals,
        lambda layer: choose(layer).encoder,
        lambda frozen, layers: frozen_latents(frozen, crystals, layers, cache),
    )
    ids = [crystal.id for crystal in crystals]
    progress = TuningProgress(study, trials)
    objective = Objective(base, fixed, {number: split(ids, number) for number in seeds}, trainers, progress.on_epoch)
    whole = progress.search(objective)
    more: list[str | Path] = [*(data or []), *([] if clean else ["--no-clean"]), "--splits", splits]
    report(study, objective, output, lambda best: train_command(best, encoder, channels, more))
    if not whole:
        stderr().print(
            f"stopped after {len(study.finished)} trials, which are in {study.path}: the same command goes on",
            style="yellow",
        )
        raise typer.Exit(_STOPPED)
