# SPDX-License-Identifier: MIT
"""The command tune."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from ..errors import DTNNError
from . import STOPPED
from .config import (
    SETTINGS_FILE,
    ConfigOption,
    DataSection,
    DecoderSection,
    EncoderSection,
    PrintConfigOption,
    SetOption,
    TrainConfig,
    TrainingSection,
    TuneConfig,
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
    parse_splits,
    target_names,
)
from .progress import TuningProgress

if TYPE_CHECKING:
    from ..training.training_settings import TrainingSettings
    from ..tuning.search_space import Value
    from ..tuning.study import Study

_SEARCH = "The search"
# Settings file of the best trial, for dtnn-fast train.
BEST_SETTINGS_FILE = "best.toml"
_NUM_SHOWN = 5


def tune(
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
    joint: JointOption = None,
    fix: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            show_default=False,
            help="Keep a setting at a value instead of searching it, such as layer=4 or bonds=false. Can be repeated.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default=default_text(TuneConfig, "search.trials"),
            help="Number of trials, including those of an earlier search in the same folder.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    splits: Annotated[
        str | None,
        typer.Option(
            show_default="0",
            help="Seeds of the splits into training, validation and test crystals, such as 0, 0-4 or 0,2,4. A trial is "
            "judged by its validation error, averaged over the splits.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default=default_text(TuneConfig, "training.epochs"),
            help="Maximum number of passes over the training crystals in a run.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2**31,
            show_default=default_text(TuneConfig, "search.seed"),
            help="Seed of the search.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            file_okay=False,
            help="Folder for the search, created if missing. A search with the same settings in it is continued.",
            rich_help_panel="The run",
        ),
    ] = Path("tuning"),
    cache: CacheOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Search for good settings of the decoder and its training, judged by validation errors.

    The search covers layer, blocks, latent, dropout, bonds, residual, learning_rate, weight_decay and batch_size, and
    starts from the defaults of dtnn-fast train. Test crystals are not used. The folder gets the state of the search
    (study.db), all trials (trials.csv), the best settings with their errors (best.json), and best.toml, a settings file
    for dtnn-fast train --config.

    Press Ctrl-C to stop; the same command continues the search.

    Exit code: 0 the search is complete, 2 nothing could be done, 130 stopped by Ctrl-C.
    """
    options = {
        "target": target,
        "splits": parse_splits(splits) if splits is not None else None,
        "data.files": [str(path) for path in data] if data else None,
        "encoder.name": encoder,
        "decoder.joint": joint,
        "training.epochs": epochs,
        "search.trials": trials,
        "search.seed": seed,
        "search.fixed": fix or None,
    }
    settings = collect_settings(TuneConfig, config, assignments, options)
    if print_config:
        typer.echo(settings_text("tune", settings), nl=False)
        return
    if settings.decoder.joint and settings.target != "all":
        raise typer.BadParameter("needs --target all", param_hint="--joint")
    if not settings.splits:
        raise typer.BadParameter("expected at least one seed, got none", param_hint="splits")
    _tune(settings, output, cache, threads, device)


def _tune(settings: TuneConfig, output: Path, cache: Path | None, threads: int | None, device: str) -> None:
    """Search, and report what was found also when Ctrl-C ends the search."""
    import torch

    from ..crystals.crystal import write_rejected
    from ..datasets.splits import split
    from ..encoders import Channels
    from ..encoders.latent_cache import encoder_digest
    from ..errors import optional_import
    from ..model.decoder import DecoderConfig
    from ..model.dtnn import DTNNConfig
    from ..nn.devices import find_device
    from ..training.run_folder import data_digest
    from ..training.training_settings import TrainingSettings
    from ..tuning.objective import Objective, TrainerFactory
    from ..tuning.search_space import parse_fixed, with_values
    from ..tuning.study import Study
    from .training_inputs import choose_encoder, frozen_latents, load_training_data

    optional_import("optuna", extra="tune", purpose="tune settings")
    place = find_device(device, "tune")
    if threads is not None:
        torch.set_num_threads(threads)
    choose = partial(choose_encoder, settings.encoder.name, Channels(*settings.encoder.channels))
    chosen = choose(None)
    num_layers = len(chosen.config.cutoffs)
    fixed = dict(parse_fixed(text, num_layers) for text in settings.search.fixed)
    # The default layer, or the last one of a smaller encoder.
    layer = min(DecoderConfig().layer, num_layers)
    decoder = DecoderConfig(layer=layer, joint=settings.decoder.joint, positive=settings.decoder.positive)
    targets = target_names(settings.target)
    start = TrainingSettings(
        DTNNConfig(chosen.config, decoder, targets),
        clip_norm=settings.training.clip_norm,
        epochs=settings.training.epochs,
        patience=settings.training.patience,
        average=settings.training.average,
    )
    start = with_values(start, fixed)
    files = [Path(path) for path in settings.data.files]
    crystals, rejected = load_training_data(files, targets, settings.data.clean, chosen.elements)
    identity = {
        "settings": start.to_json(),
        "fixed": fixed,
        "seeds": list(settings.splits),
        "data": data_digest(crystals),
        "encoder": "" if chosen.encoder is None else encoder_digest(chosen.encoder),
    }
    study = Study(output, identity, settings.training.epochs, settings.search.seed)
    (output / SETTINGS_FILE).write_text(settings_text("tune", settings), encoding="utf-8")
    write_rejected(output / "rejected.csv", rejected)
    stderr().print(
        f"{counted(len(crystals), 'crystal')}, {len(rejected)} rejected; {counted(len(study.finished), 'trial')} so far"
    )

    trainers = TrainerFactory(
        crystals,
        lambda layer: choose(layer).encoder,
        lambda frozen, layers: frozen_latents(frozen, crystals, layers, cache),
        place,
    )
    ids = [crystal.id for crystal in crystals]
    progress = TuningProgress(study, settings.search.trials)
    splits = {number: split(ids, number) for number in settings.splits}
    is_complete = progress.search(Objective(start, fixed, splits, trainers, progress.on_epoch))
    _report(settings, study, start, fixed, output)
    if not is_complete:
        stderr().print(
            f"stopped after {counted(len(study.finished), 'trial')}, kept in {study.path}: the same command continues",
            style="yellow",
        )
        raise typer.Exit(STOPPED)


def _report(
    settings: TuneConfig, study: Study, start: TrainingSettings, fixed: Mapping[str, Value], folder: Path
) -> None:
    """Write all trials and the best settings, and print the best trials; nothing before the first finished trial.

    Raises:
        DTNNError: there are trials, but no complete one.
    """
    from ..training.run_folder import hardware, versions
    from ..tuning.study import BEST_FILE, TRIALS_FILE, best_settings, write_best, write_trials

    trials, best = study.finished, study.best
    if not trials:
        return
    write_trials(folder / TRIALS_FILE, trials, fixed)
    if best is None:
        reason = trials[0].user_attrs.get("reason", "stopped early")
        raise DTNNError(f"tune: none of {counted(len(trials), 'trial')} was trained to the end: {reason}")
    found = best_settings(start, best, fixed)
    (folder / BEST_SETTINGS_FILE).write_text(settings_text("train", train_config(settings, found)), encoding="utf-8")
    command = shlex.join(["dtnn-fast", "train", "--config", str(folder / BEST_SETTINGS_FILE)])
    surroundings = {
        "command": command_line(),
        "trials": len(trials),
        "seeds": list(settings.splits),
        "versions": versions(),
        "hardware": hardware(),
    }
    write_best(folder / BEST_FILE, best, found, command, surroundings)
    _print_best(stdout(), study, fixed)
    stdout().print("train with the best settings:")
    # Not through rich, which would break the line.
    print(command)
    stdout().print(f"results: {folder / BEST_FILE}, {folder / TRIALS_FILE}, {study.path}")


def train_config(settings: TuneConfig, found: TrainingSettings) -> TrainConfig:
    """The settings file of dtnn-fast train for a trial, on the crystals, splits and encoder of the search."""
    decoder = found.model.decoder
    return TrainConfig(
        target=settings.target,
        splits=settings.splits,
        data=DataSection(settings.data.files, settings.data.clean),
        encoder=EncoderSection(settings.encoder.name, settings.encoder.channels),
        decoder=DecoderSection(
            layers=decoder.layers,
            bonds=decoder.bonds,
            residual=decoder.residual,
            joint=decoder.joint,
            positive=decoder.positive,
            blocks=decoder.blocks,
            latent=decoder.latent,
            dropout=decoder.dropout,
        ),
        training=TrainingSection(
            epochs=found.epochs,
            patience=found.patience,
            learning_rate=found.learning_rate,
            batch_size=found.batch_size,
            weight_decay=found.weight_decay,
            betas=found.betas,
            clip_norm=found.clip_norm,
            average=found.average,
        ),
    )


def _print_best(console: Console, study: Study, fixed: Mapping[str, Value]) -> None:
    """Print the best trials with their settings."""
    from ..tuning.search_space import SEARCHED_SETTINGS

    complete = sorted((t for t in study.finished if t.state.name == "COMPLETE"), key=lambda trial: trial.value)
    num_pruned = len(study.finished) - len(complete)
    table = Table(
        title=f"The best of {counted(len(study.finished), 'trial')}",
        caption=f"{num_pruned} were stopped early (pruned)" if num_pruned else None,
        box=None,
    )
    for name in ("trial", "validation error", *SEARCHED_SETTINGS):
        table.add_column(name, justify="right")
    for trial in complete[:_NUM_SHOWN]:
        values = {**fixed, **trial.params}
        table.add_row(str(trial.number), f"{trial.value:.4f}", *(_short(values[name]) for name in SEARCHED_SETTINGS))
    console.print(table)


def _short(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:.3g}"
