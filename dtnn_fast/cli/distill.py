# SPDX-License-Identifier: MIT
"""The command distill."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import STOPPED
from .config import (
    SETTINGS_FILE,
    ConfigOption,
    DistillConfig,
    PrintConfigOption,
    SetOption,
    collect_settings,
    default_text,
    settings_text,
)
from .console import command_line, stderr, stdout
from .options import DeviceOption, ThreadsOption
from .progress import ENCODER_FOLDER, DistillProgress, print_explained

if TYPE_CHECKING:
    from ..distillation.distill_settings import DistillSettings
    from ..distillation.distill_trainer import DistillTrainer
    from ..distillation.held_out_report import HeldOutReport
    from ..distillation.labels import LabelSettings, Teacher
    from ..training.workers import Workers


_CRYSTALS, _TRAINING, _RUN = "The crystals", "The training", "The run"
LABELS_FOLDER = "labels"


class TeacherName(StrEnum):
    """The pretrained encoders."""

    sevennet_0 = "sevennet-0"
    sevennet_l3i5 = "sevennet-l3i5"


def distill(
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            show_default=False,
            metavar="DATA",
            help="Files or folders of crystals; labels are not needed. Without a path, all crystals bundled with "
            "dtnn-fast are used.",
        ),
    ] = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
    print_config: PrintConfigOption = False,
    teacher: Annotated[
        TeacherName | None,
        typer.Option(
            show_default="sevennet-0",
            help="Pretrained potential whose latents (atom and bond features) the encoder learns.",
        ),
    ] = None,
    crystals: Annotated[
        int | None,
        typer.Option(
            min=0,
            show_default=default_text(DistillConfig, "crystals.made"),
            help="Number of additional crystals to make from the real ones, by rattling, straining and replacing "
            "elements.",
            rich_help_panel=_CRYSTALS,
        ),
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option(
            min=1e-3,
            show_default=default_text(DistillConfig, "training.epochs"),
            help="Number of passes over the crystals.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            min=1e-12,
            show_default=default_text(DistillConfig, "training.learning_rate"),
            help="Maximum learning rate of AdamW; rises from 0 in the first steps and decays to zero on a half cosine.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    energy_weight: Annotated[
        float | None,
        typer.Option(
            show_default=default_text(DistillConfig, "training.energy_weight"),
            help="Weight of the potential's energies in the loss, relative to 1 for the latents; 0.1 is usual. If it "
            "is above 0, a readout of energies is trained and saved with the run.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            show_default=default_text(DistillConfig, "seed"),
            help="Seed of the additional crystals, the initial weights and the order of the crystals.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            show_default="the folder labels in --output",
            help="Folder that stores the potential's latents and energies, created if missing. Several runs can share "
            "it.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            file_okay=False,
            show_default="runs/distill-DATE-TIME",
            help="Folder for the run, created if missing. An unfinished run with the same settings in it is continued.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
) -> None:
    """Train a native encoder to reproduce the latents (atom and bond features) of a pretrained potential.

    More settings than those below can be changed in a settings file: --print-config prints it, --config reads it, and
    --set changes a single setting, such as encoder.cutoffs=4,4,5.

    Press Ctrl-C to stop; the same command with the same --output continues the run. On several GPUs, torchrun starts
    one process per GPU, and these work together: torchrun --nproc-per-node 4 -m dtnn_fast distill --device cuda
    --output FOLDER.

    Exit code: 0 the run is complete, 2 nothing could be done, 130 stopped by Ctrl-C.
    """
    options = {
        "teacher": teacher,
        "seed": seed,
        "crystals.files": [str(path) for path in data] if data else None,
        "crystals.made": crystals,
        "training.epochs": epochs,
        "training.learning_rate": learning_rate,
        "training.energy_weight": energy_weight,
    }
    settings = collect_settings(DistillConfig, config, assignments, options)
    if print_config:
        typer.echo(settings_text("distill", settings), nl=False)
        return
    cutoffs = settings.encoder.cutoffs
    if not cutoffs or list(cutoffs) != sorted(cutoffs):
        raise typer.BadParameter(
            f"expected one or more cutoffs that do not decrease, got {list(cutoffs)}", param_hint="encoder.cutoffs"
        )
    _distill(settings, output, labels, device, threads)


def _distill(
    settings: DistillConfig, output: Path | None, labels: Path | None, device: str, threads: int | None
) -> None:
    """Make labels where they are missing, and train."""
    import torch

    from ..distillation.distill_run import check_folder
    from ..distillation.distill_settings import DistillSettings, mean_bonds
    from ..distillation.labels import LabelSettings
    from ..distillation.made_crystals import CrystalSettings
    from ..distillation.student import LayerMatch, check_matches
    from ..encoders import Channels, NativeEncoderConfig, pretrained_encoder
    from ..potentials.energy_model import HEAD_FILE
    from ..training.workers import join_workers

    cutoffs = settings.encoder.cutoffs
    matches = _parse_matches(settings.encoder.learn) or _usual_matches(len(cutoffs))
    if threads is not None:
        torch.set_num_threads(threads)
    run_settings = DistillSettings(
        encoder=NativeEncoderConfig(cutoffs, mean_bonds(cutoffs), Channels(*settings.encoder.channels)),
        matches=tuple(LayerMatch(*match) for match in matches),
        seed=settings.seed,
        **asdict(settings.training),
    )
    crystal_settings = {name: value for name, value in asdict(settings.crystals).items() if name != "files"}
    label_settings = LabelSettings(CrystalSettings(seed=settings.seed, **crystal_settings))
    folder = output or Path("runs") / time.strftime("distill-%Y-%m-%d-%H%M%S")
    teacher = pretrained_encoder(settings.teacher)
    check_matches(run_settings.matches, len(cutoffs), range(1, teacher.num_layers + 1))
    check_folder(folder, run_settings)
    files = [Path(path) for path in settings.crystals.files]
    with join_workers(device, "distill") as group:
        if group.num_processes > 1 and output is None:
            raise typer.BadParameter("needed with several processes, which share one folder", param_hint="--output")
        progress = DistillProgress(folder, silent=group.rank > 0)
        try:
            with progress:
                place = labels or folder / LABELS_FOLDER
                _label(files, teacher.to(group.device), label_settings, place, group, progress)
                held_out_report = _train(
                    run_settings, settings_text("distill", settings), place, folder, group, progress
                )
        except KeyboardInterrupt:
            stderr().print(progress.how_to_resume(), style="yellow")
            raise typer.Exit(STOPPED) from None
        if group.rank == 0:
            print_explained(stdout(), held_out_report)
            stdout().print(f"encoder: {folder / ENCODER_FOLDER}")
            if run_settings.energy_weight:
                stdout().print(f"energies: {folder / HEAD_FILE}")


def _label(
    paths: list[Path],
    teacher: Teacher,
    settings: LabelSettings,
    folder: Path,
    group: Workers,
    progress: DistillProgress,
) -> None:
    from ..crystals.crystal import write_rejected
    from ..distillation.labels import label_crystals, rejected_ids
    from ..distillation.made_crystals import load_sources, make_crystals

    sources, unreadable = load_sources(paths)
    made = make_crystals(sources, settings.crystals, teacher.elements)
    progress.on_crystals(made, unreadable)
    label_crystals(
        made.crystals,
        teacher,
        folder,
        settings,
        device=group.device,
        share=group.share,
        on_shard=progress.on_shard,
    )
    group.wait()
    if group.rank == 0:
        write_rejected(folder / "rejected.csv", unreadable)
        progress.on_labels(folder, rejected_ids(folder))


def _train(
    settings: DistillSettings, config_text: str, labels: Path, folder: Path, group: Workers, progress: DistillProgress
) -> dict[str, HeldOutReport]:
    from ..distillation.distill_run import distill_run

    def on_start(trainer: DistillTrainer) -> None:
        if group.rank == 0:
            (folder / SETTINGS_FILE).write_text(config_text, encoding="utf-8")
        progress.on_start(trainer)

    return distill_run(
        settings,
        labels,
        folder,
        group,
        command_line(),
        on_start=on_start,
        on_record=progress.on_record,
        on_report=progress.on_report,
    )


def _usual_matches(count: int) -> list[tuple[int, int, float]]:
    """Decoders read layer 4 of the potential unless told otherwise."""
    return [*((layer, layer, 0.3) for layer in range(1, count)), (count, max(count, 4), 1.0)]


def _parse_matches(texts: Sequence[str]) -> list[tuple[int, int, float]]:
    """Read pairs of layers, each with or without a weight, such as "1:1:0.3"."""
    matches = []
    try:
        for text in texts:
            ours, theirs, *weight = text.split(":")
            matches.append((int(ours), int(theirs), float(weight[0]) if weight else 1.0))
            if len(weight) > 1 or not 0 < matches[-1][2] < inf:
                raise ValueError
    except ValueError:
        raise typer.BadParameter(
            f"expected pairs of layers with or without a weight, such as 1:1,2:2:0.5,3:4, got {','.join(texts)!r}",
            param_hint="encoder.learn",
        ) from None
    return list(dict.fromkeys(matches))
