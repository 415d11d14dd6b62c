# SPDX-License-Identifier: MIT
"""The command tune."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from ..errors import DTNNError
from . import STOPPED
from .console import command_line, stderr, stdout
from .options import Target, parse_channels, parse_splits
from .progress import TuningProgress

if TYPE_CHECKING:
    from ..training.training_settings import TrainingSettings
    from ..tuning.objective import Objective
    from ..tuning.search_space import Value
    from ..tuning.study import Study


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


_SHOWN = 5


def report(study: Study, objective: Objective, folder: Path, train_command: Callable[[TrainingSettings], str]) -> None:
    """Write all trials and the best settings, and print the best trials; nothing before the first finished trial.

    Args:
        study: the search.
        objective: of its trials.
        folder: where the files go.
        train_command: the command that trains with some settings.

    Raises:
        DTNNError: there are trials, but none was trained to the end.
    """
    trials, best = study.finished, study.best
    if not trials:
        return
    from ..training.run_folder import hardware, versions
    from ..tuning.study import BEST_FILE, TRIALS_FILE, best_settings, write_best, write_trials

    write_trials(folder / TRIALS_FILE, trials, objective.fixed)
    if best is None:
        reason = trials[0].user_attrs.get("reason", "given up early")
        raise DTNNError(f"tune: none of {len(trials)} trials was trained to the end: {reason}")
    settings = best_settings(objective.base, best, objective.fixed)
    command = train_command(settings)
    surroundings = {
        "command": command_line(),
        "trials": len(trials),
        "seeds": list(objective.splits),
        "versions": versions(),
        "hardware": hardware(),
    }
    write_best(folder / BEST_FILE, best, settings, command, surroundings)
    _print_best(stdout(), study, objective.fixed)
    stdout().print("train with the best settings:")
    # Not through rich, which would break the line.
    print(command)
    stdout().print(f"results: {folder / BEST_FILE}, {folder / TRIALS_FILE}, {study.path}")


def _print_best(console: Console, study: Study, fixed: Mapping[str, Value]) -> None:
    """Print the best trials with their settings."""
    whole = sorted((t for t in study.finished if t.state.name == "COMPLETE"), key=lambda trial: trial.value)
    given_up = len(study.finished) - len(whole)
    from ..tuning.search_space import SEARCHED_SETTINGS

    table = Table(
        title=f"The best of {len(study.finished)} trials",
        caption=f"{given_up} were given up early" if given_up else None,
        box=None,
    )
    for name in ("trial", "validation error", *SEARCHED_SETTINGS):
        table.add_column(name, justify="right")
    for trial in whole[:_SHOWN]:
        values = {**fixed, **trial.params}
        table.add_row(str(trial.number), f"{trial.value:.4f}", *(_short(values[name]) for name in SEARCHED_SETTINGS))
    console.print(table)


def _short(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:.3g}"


_MODEL, _SEARCH = "The model", "The search"


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

    import torch

    from ..crystals.crystal import write_rejected
    from ..datasets.splits import split
    from ..encoders import Channels
    from ..encoders.latent_cache import encoder_digest
    from ..errors import optional_import
    from ..model.decoder import DecoderConfig
    from ..model.dtnn import DTNNConfig
    from ..training.train_run import data_digest
    from ..training.training_settings import TrainingSettings
    from ..tuning.objective import Objective, TrainerFactory
    from ..tuning.search_space import parse_fixed, with_values
    from ..tuning.study import Study
    from .training_inputs import choose_encoder, frozen_latents, load_training_data

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

    trainers = TrainerFactory(
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
        raise typer.Exit(STOPPED)
