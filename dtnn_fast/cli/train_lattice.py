# SPDX-License-Identifier: MIT
"""The command train-lattice."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import DTNNError
from .config import LARGEST_SEED
from .console import command_line, counted, stderr, stdout
from .options import DeviceOption, ThreadsOption, describe, parse_layers
from .progress import print_term_epoch

if TYPE_CHECKING:
    from ..crystals.crystal import Crystal, Rejected
    from ..model.lattice_model import LatticeModel

_MODEL, _TRAINING, _RUN = "The model", "The training", "The run"


def train_lattice(
    context: typer.Context,
    data: Annotated[
        list[Path],
        typer.Argument(
            show_default=False,
            metavar="DATA",
            help="Files or folders of crystals with force constants, Born effective charges or ionic tensors: packed "
            "sets (.npz), for example from dtnn-fast data fetch phonopy, or .jsonl.",
        ),
    ],
    encoder: Annotated[
        str,
        typer.Option(
            metavar="distilled|FOLDER",
            help="Native encoder to start from: distilled (bundled, learned from SevenNet-0), or the folder of a saved "
            "encoder. It is trained too.",
            rich_help_panel=_MODEL,
        ),
    ] = "distilled",
    start: Annotated[
        str | None,
        typer.Option(
            metavar="lattice|FOLDER",
            help="Lattice model to continue from, encoder included: lattice (bundled), or the folder of a saved one. "
            "Its layers, channels, functionals and elements remain.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    layer: Annotated[
        str,
        typer.Option(
            metavar="3|1-3",
            help="Encoder layers whose latents are read, counted from 1: one layer, a list or a range.",
            rich_help_panel=_MODEL,
        ),
    ] = "1-3",
    latent: Annotated[
        int, typer.Option(min=1, help="Number of atom channels after the encoder.", rich_help_panel=_MODEL)
    ] = 64,
    dropout: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=0.9,
            help="Probability of dropping a channel in the perceptrons of atoms during training.",
            rich_help_panel=_MODEL,
        ),
    ] = 0.1,
    functional: Annotated[
        str | None,
        typer.Option(
            show_default="PBE if the labels have it, otherwise their most frequent functional",
            help="DFT functional to predict for. Labels of other functionals are used too, with a learned shift.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    epochs: Annotated[
        int, typer.Option(min=1, help="Number of passes over the training crystals.", rich_help_panel=_TRAINING)
    ] = 24,
    learning_rate: Annotated[
        float,
        typer.Option(min=1e-12, help="Maximum learning rate of AdamW; decays to zero.", rich_help_panel=_TRAINING),
    ] = 1e-3,
    weight_decay: Annotated[
        float, typer.Option(min=0.0, help="Weight decay of AdamW.", rich_help_panel=_TRAINING)
    ] = 0.02,
    held_out: Annotated[
        str,
        typer.Option(
            metavar="systems|bundled|nothing",
            help="Crystals to hold out for testing: systems (a tenth of the chemical systems), bundled (those with the "
            "structure of a crystal bundled with dtnn-fast), or nothing.",
            rich_help_panel=_RUN,
        ),
    ] = "systems",
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            max=LARGEST_SEED,
            help="Seed of the split by chemical systems, the initial weights and the order of the crystals.",
            rich_help_panel=_RUN,
        ),
    ] = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            file_okay=False,
            show_default="runs/lattice-DATE-TIME",
            help="Folder for the run, created if missing. An unfinished run with the same settings in it is continued.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    threads: ThreadsOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Train a model of Born effective charges and force constants at q = 0, which `refine` uses.

    The folder gets model/ (for dtnn-fast refine --lattice), results.json with the errors on the held-out crystals,
    settings.json and rejected.csv (what cannot be used, with the reason). Press Ctrl-C to stop; the same command with
    the same --output continues after the last finished epoch.

    Exit code: 0 the run is complete, 2 nothing could be trained.
    """
    import torch

    from ..model.decoder import DecoderConfig
    from ..nn.devices import find_device
    from ..training.lattice_run import HeldOut, train_lattice_run, usable_crystals
    from ..training.lattice_training import LatticeSettings
    from .training_inputs import choose_native_encoder, load_partial_data, print_begin

    if held_out not in HeldOut.__members__:
        raise typer.BadParameter(f"expected one of {', '.join(HeldOut)}, got {held_out!r}", param_hint="--held-out")
    if threads is not None:
        torch.set_num_threads(threads)
    place = find_device(device, "train-lattice")
    continued = None if start is None else _load_start(context, start)
    layers = parse_layers(layer)
    chosen = choose_native_encoder(encoder, layers[-1])
    crystals, rejected = load_partial_data(data, force_constants=True)
    if continued is not None:
        crystals, other = _of_functionals(crystals, continued.functionals)
        rejected = [*rejected, *other]
    usable = usable_crystals(crystals)
    stderr().print(
        f"{counted(len(usable), 'crystal')} with labels of the lattice, {len(crystals) - len(usable):,} without, "
        f"{len(rejected):,} rejected"
    )
    if not usable and rejected:
        raise DTNNError(f"train-lattice: nothing to learn from: {describe(rejected[0])}")
    folder = output or Path("runs") / f"lattice-{time.strftime('%Y%m%d-%H%M%S')}"
    settings = LatticeSettings(seed=seed, epochs=epochs, learning_rate=learning_rate, weight_decay=weight_decay)
    results = train_lattice_run(
        settings,
        usable,
        folder,
        chosen,
        DecoderConfig(layer=layers[-1], more_layers=layers[:-1], latent=latent, dropout=dropout),
        command_line(),
        held_out=HeldOut(held_out),
        functionals=() if continued is not None else _functionals(usable, functional),
        start=continued,
        device=place,
        on_epoch=print_term_epoch,
        on_start=lambda trainer: print_begin(folder, len(trainer.data), len(trainer.history), rejected),
    )
    _print_results(results["held_out"])
    stdout().print(f"model: {folder / 'model'}", markup=False)


def _load_start(context: typer.Context, start: str) -> LatticeModel:
    """Load the model to continue from; options that it decides cannot be given."""
    from ..model.lattice_model import LatticeModel

    for name in ("encoder", "layer", "latent", "functional"):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"--{name} cannot be combined with --start, whose own remains")
    return LatticeModel.from_pretrained(start)


def _of_functionals(crystals: list[Crystal], known: Sequence[str]) -> tuple[list[Crystal], list[Rejected]]:
    """Leave out crystals whose labels have a functional that the model does not know."""
    from ..crystals.crystal import Rejected

    names = {str(crystal.info.get("functional", "PBE")) for crystal in crystals}
    if not known and len(names) > 1:
        raise DTNNError(
            f"train-lattice: the model to continue from tells no functionals apart, and the labels are of "
            f"{', '.join(sorted(names))}"
        )
    kept, other = [], []
    for crystal in crystals:
        name = crystal.info.get("functional")
        if known and name is not None and name not in known:
            reason = f"the model to continue from knows {' and '.join(known)}, and not {name}"
            other.append(Rejected(crystal.id, crystal.source, reason))
        else:
            kept.append(crystal)
    return kept, other


def _functionals(crystals: list[Crystal], wanted: str | None) -> tuple[str, ...]:
    """List the functionals of the labels, that to predict for first; nothing for labels of one."""
    counts = Counter(str(crystal.info.get("functional", "PBE")) for crystal in crystals)
    if wanted is not None and wanted not in counts:
        raise typer.BadParameter(
            f"expected one of the labels' functionals ({', '.join(sorted(counts))}), got {wanted!r}",
            param_hint="--functional",
        )
    if len(counts) < 2:
        return ()
    first = wanted or ("PBE" if "PBE" in counts else counts.most_common(1)[0][0])
    return (first, *sorted(set(counts) - {first}))


def _print_results(held_out: dict[str, Any]) -> None:
    """Print the errors on what was held out."""
    for functional, errors in held_out["ionic"].items():
        text = f"ionic tensor, {functional}, {counted(errors['count'], 'held-out crystal')}: "
        text += f"MAE_ten {errors['mae_ten']:.3f}"
        text += f", median {errors['median_ten']:.3f}"
        if "spearman" in errors:
            text += f", Spearman {errors['spearman']:.3f}, top tenth found {errors['recall_top_tenth']:.0%}"
        stdout().print(text, markup=False)
    springs = held_out["force_constants"]
    if springs["count"]:
        stdout().print(
            f"force constants, {counted(springs['count'], 'crystal')}: relative error {springs['relative_error']:.3f}; "
            f"{springs['unstable_found']} of {springs['unstable']} unstable ones found, "
            f"{springs['stable_called_unstable']} stable ones called unstable",
            markup=False,
        )
    charges = held_out["born_charges"]
    if charges["atoms"]:
        stdout().print(
            f"Born charges, {counted(charges['atoms'], 'atom')}: error {charges['mae']:.3f} e per component, mean size "
            f"{charges['mean_size']:.3f} e",
            markup=False,
        )
