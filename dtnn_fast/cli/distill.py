# SPDX-License-Identifier: MIT
"""The command distill."""

from __future__ import annotations

import time
from enum import StrEnum
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from . import STOPPED
from .console import command_line, stderr, stdout
from .options import ThreadsOption
from .progress import ENCODER_FOLDER, DistillProgress, print_explained

if TYPE_CHECKING:
    from ..distillation.distill_settings import DistillSettings
    from ..distillation.held_out_report import HeldOutReport
    from ..distillation.labels import LabelSettings, Teacher
    from ..distillation.workers import Workers


_CRYSTALS, _ENCODER, _TRAINING, _RUN = "The crystals", "The encoder", "The training", "The run"
LABELS_FOLDER = "labels"
_Number = TypeVar("_Number", int, float)


class TeacherName(StrEnum):
    """The pretrained encoders."""

    sevennet_0 = "sevennet-0"
    sevennet_l3i5 = "sevennet-l3i5"


def distill(
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            show_default=False,
            metavar="[DATA]...",
            help="Files or folders of crystals. Without any: all crystals that come with dtnn-fast.",
        ),
    ] = None,
    teacher: Annotated[
        TeacherName, typer.Option(help="Whose latents are learned.", rich_help_panel=_ENCODER)
    ] = TeacherName.sevennet_0,
    crystals: Annotated[
        int,
        typer.Option(
            min=0, help="How many rattled, strained or substituted crystals to make.", rich_help_panel=_CRYSTALS
        ),
    ] = 16000,
    held_out: Annotated[
        float,
        typer.Option(
            min=1e-6, max=0.9, help="Part of the chemical systems kept aside for the report.", rich_help_panel=_CRYSTALS
        ),
    ] = 0.05,
    channels: Annotated[
        str, typer.Option(help="Scalar, vector and rank-2 channels of the encoder.", rich_help_panel=_ENCODER)
    ] = "128,32,32",
    cutoffs: Annotated[
        str, typer.Option(help="Cutoff of each layer, never falling, in Angstrom.", rich_help_panel=_ENCODER)
    ] = "4,4,5",
    learn: Annotated[
        str | None,
        typer.Option(
            show_default="the last one layer 4, the others those of the same number with weight 0.3",
            help="Which layer learns which of the teacher's, with a weight if not 1, such as 1:1:0.3,2:2:0.3,3:4.",
            rich_help_panel=_ENCODER,
        ),
    ] = None,
    epochs: Annotated[
        float, typer.Option(min=1e-3, help="Passes over the crystals.", rich_help_panel=_TRAINING)
    ] = 22.0,
    batch_atoms: Annotated[
        int, typer.Option(min=1, help="Atoms per step and process.", rich_help_panel=_TRAINING)
    ] = 128,
    learning_rate: Annotated[
        float, typer.Option(min=1e-12, help="The largest; falls along a half cosine.", rich_help_panel=_TRAINING)
    ] = 2e-3,
    energy_weight: Annotated[
        float,
        typer.Option(
            help="Weight of the potential's energies in the loss, beside 1 for the latents, such as 0.1; above 0 a "
            "readout of energies is learned and saved with the run. 0 learns latents only.",
            rich_help_panel=_TRAINING,
        ),
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of crystals, weights and order.", rich_help_panel=_RUN)] = 0,
    labels: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            show_default="labels in the folder of the run",
            help="Folder of the teacher's latents and energies, made when absent; several runs can share one.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            file_okay=False,
            show_default="runs/distill-<date-time>",
            help="Folder of the run. One that holds an unfinished run with the same settings is continued.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.", rich_help_panel=_RUN)] = "cpu",
    threads: ThreadsOption = None,
) -> None:
    """Teach the native encoder the latents of a pretrained potential, and its energies with --energy-weight.

    Press Ctrl-C to stop; the same command with the same --output goes on later. Several processes, one per GPU, work
    together under torchrun: torchrun --nproc-per-node 4 -m dtnn_fast distill --device cuda --output FOLDER.
    """
    radii = _numbers(cutoffs, float, "--cutoffs", "4,4,5")
    widths = _numbers(channels, int, "--channels", "128,32,32")
    if len(widths) != 3:
        raise typer.BadParameter(f"expected three numbers such as 128,32,32, got {channels!r}", param_hint="--channels")
    if radii != sorted(radii):
        raise typer.BadParameter(f"expected cutoffs that never fall, got {cutoffs!r}", param_hint="--cutoffs")
    if not 0 <= energy_weight < inf:
        raise typer.BadParameter(
            f"expected a finite number of 0 or more, got {energy_weight}", param_hint="--energy-weight"
        )
    matches = _parse_matches(learn) if learn else _usual_matches(len(radii))

    import torch

    from ..distillation.distill_run import check_folder
    from ..distillation.distill_settings import DistillSettings, mean_bonds
    from ..distillation.energy_model import HEAD_FILE
    from ..distillation.labels import LabelSettings
    from ..distillation.made_crystals import CrystalSettings
    from ..distillation.student import LayerMatch, check_matches
    from ..distillation.workers import join_workers
    from ..encoders import Channels, NativeEncoderConfig, pretrained_encoder

    if threads is not None:
        torch.set_num_threads(threads)
    settings = DistillSettings(
        encoder=NativeEncoderConfig(tuple(radii), mean_bonds(radii), Channels(*widths)),
        matches=tuple(LayerMatch(*pair) for pair in matches),
        epochs=epochs,
        batch_atoms=batch_atoms,
        learning_rate=learning_rate,
        seed=seed,
        energy_weight=energy_weight,
    )
    making = LabelSettings(CrystalSettings(made=crystals, held_out=held_out, seed=seed))
    folder = output or Path("runs") / time.strftime("distill-%Y-%m-%d-%H%M%S")
    teaching = pretrained_encoder(teacher.value)
    check_matches(settings.matches, len(radii), range(1, teaching.num_layers + 1))
    check_folder(folder, settings)
    with join_workers(device) as group:
        if group.num_processes > 1 and output is None:
            raise typer.BadParameter("several processes need a common folder", param_hint="--output")
        progress = DistillProgress(folder, silent=group.rank > 0)
        try:
            with progress:
                place = labels or folder / LABELS_FOLDER
                _label(data or [], teaching.to(group.device), making, place, group, progress)
                held_out_report = _train(settings, place, folder, group, progress)
        except KeyboardInterrupt:
            stderr().print(progress.how_to_resume(), style="yellow")
            raise typer.Exit(STOPPED) from None
        if group.rank == 0:
            print_explained(stdout(), held_out_report)
            stdout().print(f"encoder: {folder / ENCODER_FOLDER}")
            if energy_weight:
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
    settings: DistillSettings, labels: Path, folder: Path, group: Workers, progress: DistillProgress
) -> dict[str, HeldOutReport]:
    from ..distillation.distill_run import distill_run

    return distill_run(
        settings,
        labels,
        folder,
        group,
        command_line(),
        on_start=progress.on_start,
        on_record=progress.on_record,
        on_report=progress.on_report,
    )


def _numbers(text: str, kind: type[_Number], option: str, example: str) -> list[_Number]:
    try:
        numbers = [kind(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(number > 0 and isfinite(number) for number in numbers):
        raise typer.BadParameter(f"expected positive numbers such as {example}, got {text!r}", param_hint=option)
    return numbers


def _usual_matches(count: int) -> list[tuple[int, int, float]]:
    """Decoders read layer 4 of the potential unless told otherwise."""
    return [*((layer, layer, 0.3) for layer in range(1, count)), (count, max(count, 4), 1.0)]


def _parse_matches(text: str) -> list[tuple[int, int, float]]:
    matches = []
    try:
        for part in text.split(","):
            ours, theirs, *weight = part.split(":")
            matches.append((int(ours), int(theirs), float(weight[0]) if weight else 1.0))
            if len(weight) > 1 or not 0 < matches[-1][2] < inf:
                raise ValueError
    except ValueError:
        raise typer.BadParameter(
            f"expected pairs of layers with or without a weight, such as 1:1,2:2:0.5,3:4, got {text!r}",
            param_hint="--learn",
        ) from None
    return list(dict.fromkeys(matches))
