# SPDX-License-Identifier: MIT
"""The command train-potential."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import DTNNError
from .config import LARGEST_SEED
from .console import command_line, counted, stderr, stdout
from .options import DeviceOption, ThreadsOption, describe
from .progress import print_term_epoch

_TRAINING, _RUN = "The training", "The run"


def train_potential(
    frames: Annotated[
        list[Path],
        typer.Argument(
            show_default=False,
            metavar="FRAMES",
            help="Files with energies and forces, and stresses where known, that ASE reads: extended XYZ, .traj, "
            "vasprun.xml, OUTCAR. Every frame is read.",
        ),
    ],
    force_constants: Annotated[
        list[Path] | None,
        typer.Option(
            "--force-constants",
            metavar="DATA",
            show_default=False,
            help="Files or folders of crystals with force constants at q = 0: packed sets (.npz), for example from "
            "dtnn-fast data fetch phonopy. May be given several times.",
        ),
    ] = None,
    encoder: Annotated[
        str,
        typer.Option(
            metavar="distilled|FOLDER",
            help="Native encoder to start from: distilled (bundled, learned from SevenNet-0), or the folder of a saved "
            "encoder. It is trained too.",
        ),
    ] = "distilled",
    max_atoms: Annotated[
        int,
        typer.Option(min=2, help="Maximum number of atoms of a crystal that is learned.", rich_help_panel=_TRAINING),
    ] = 40,
    epochs: Annotated[
        int, typer.Option(min=1, help="Number of passes over the training crystals.", rich_help_panel=_TRAINING)
    ] = 24,
    batch_size: Annotated[int, typer.Option(min=1, help="Number of crystals per step.", rich_help_panel=_TRAINING)] = 8,
    learning_rate: Annotated[
        float,
        typer.Option(min=1e-12, help="Maximum learning rate of AdamW; decays to zero.", rich_help_panel=_TRAINING),
    ] = 1e-3,
    held_out: Annotated[
        str,
        typer.Option(
            metavar="systems|bundled|nothing",
            help="Crystals with force constants to hold out for testing: systems (a tenth of the chemical systems), "
            "bundled (those with the structure of a crystal bundled with dtnn-fast), or nothing. Frames of the same "
            "chemical systems are held out, too.",
            rich_help_panel=_RUN,
        ),
    ] = "systems",
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            max=LARGEST_SEED,
            help="Seed of the split by chemical systems, the displacements and the order of the crystals.",
            rich_help_panel=_RUN,
        ),
    ] = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            file_okay=False,
            show_default="runs/potential-DATE-TIME",
            help="Folder for the run, created if missing. An unfinished run with the same settings in it is continued.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    threads: ThreadsOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Train an interatomic potential on energies, forces, stresses and force constants at q = 0, for `refine`.

    The folder gets model/ (for dtnn-fast refine --potential), results.json with the errors on what is held out,
    settings.json and rejected.csv (what cannot be used, with the reason). Press Ctrl-C to stop; the same command with
    the same --output continues after the last finished epoch.

    Exit code: 0 the run is complete, 2 nothing could be trained.
    """
    import torch

    from ..nn.devices import find_device
    from ..training.force_frames import read_force_frames
    from ..training.lattice_run import HeldOut
    from ..training.potential_run import train_potential_run
    from ..training.potential_training import PotentialSettings
    from .training_inputs import choose_native_encoder, load_partial_data, print_begin

    if held_out not in HeldOut.__members__:
        raise typer.BadParameter(f"expected one of {', '.join(HeldOut)}, got {held_out!r}", param_hint="--held-out")
    if threads is not None:
        torch.set_num_threads(threads)
    place = find_device(device, "train-potential")
    chosen = choose_native_encoder(encoder)
    found, unusable = read_force_frames(frames)
    crystals, rejected = load_partial_data(force_constants or [], force_constants=True)
    rejected = [*unusable, *rejected]
    labelled = [crystal for crystal in crystals if crystal.force_constants is not None]
    usable = [crystal for crystal in labelled if 1 < crystal.num_atoms <= max_atoms]
    small = [frame for frame in found if frame.crystal.num_atoms <= max_atoms]
    too_large = len(labelled) - len(usable) + len(found) - len(small)
    stderr().print(
        f"{counted(len(small), 'crystal')} with energies and forces, {len(usable):,} with force constants; left out: "
        f"{too_large:,} too large or of one atom, {len(crystals) - len(labelled):,} without force constants, "
        f"{len(rejected):,} rejected"
    )
    for wanted, left, what in ((True, small, "energies and forces"), (force_constants, usable, "force constants")):
        if wanted and not left:
            reason = describe(rejected[0]) if rejected else "the files are empty, or have other crystals only"
            raise DTNNError(f"train-potential: nothing to learn from: no crystal has {what}: {reason}")
    folder = output or Path("runs") / f"potential-{time.strftime('%Y%m%d-%H%M%S')}"
    results = train_potential_run(
        PotentialSettings(seed=seed, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate),
        usable,
        small,
        folder,
        chosen,
        command_line(),
        held_out=HeldOut(held_out),
        device=place,
        on_epoch=print_term_epoch,
        on_start=lambda trainer: print_begin(
            folder, len(trainer.springs) + len(trainer.frames), len(trainer.history), rejected
        ),
    )
    _print_results(results["held_out"])
    stdout().print(f"model: {folder / 'model'}", markup=False)


def _print_results(held_out: dict[str, Any]) -> None:
    """Print the errors on what was held out."""
    springs, frames = held_out["force_constants"], held_out["frames"]
    if springs["count"]:
        stdout().print(
            f"force constants, {counted(springs['count'], 'crystal')}: relative error {springs['relative_error']:.3f}, "
            f"frequencies {springs['frequency_error_thz']:.2f} THz; {springs['unstable_found']} of "
            f"{springs['unstable']} unstable ones found, {springs['stable_called_unstable']} stable ones called "
            "unstable",
            markup=False,
        )
    if frames["count"]:
        text = (
            f"{counted(frames['count'], 'crystal')} with forces: energies {frames['energy']:.3f} eV per atom, forces "
            f"{frames['forces']:.3f} eV/Angstrom (mean size {frames['mean_force']:.3f})"
        )
        if "stress" in frames:
            text += f", stresses {frames['stress']:.4f} eV/Angstrom^3 (mean size {frames['mean_stress']:.4f})"
        stdout().print(text, markup=False)
