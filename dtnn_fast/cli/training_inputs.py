# SPDX-License-Identifier: MIT
"""What training starts from: the encoder that --encoder names, the labelled crystals, and why some are rejected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from ..crystals.checks import check_crystal
from ..crystals.crystal import Crystal, Rejected, write_rejected
from ..datasets.bundled import load_labelled
from ..datasets.cleaning import clean
from ..errors import BadCrystalError, DTNNError
from ..formats.find_files import FoundFiles, find_files, read_files
from ..symmetry import known_crystal_system, with_operations
from .console import counted, stderr

if TYPE_CHECKING:
    from ..crystals.crystal import Crystal
    from ..encoders.build import Encoder, EncoderConfig
    from ..encoders.latent_cache import LatentTable
    from ..encoders.native import NativeEncoder
    from ..nn.latents import Channels


# The encoder that comes with the package, distilled from SevenNet-0.
BUNDLED_ENCODER = "distilled"


class EncoderChoice(NamedTuple):
    """The encoder to train with.

    Args:
        config: its settings.
        encoder: it itself, if it starts from given weights; None for random ones.
    """

    config: EncoderConfig
    encoder: Encoder | None

    @property
    def elements(self) -> frozenset[int] | None:
        """Atomic numbers that it knows; None for all."""
        elements = getattr(self.encoder, "elements", None)
        return frozenset(elements) if isinstance(elements, tuple) else None


def choose_encoder(name: str, channels: Channels, num_layers: int | None) -> EncoderChoice:
    """The encoder that the option names.

    Args:
        name: "native", a pretrained potential, "distilled" or the folder of a saved encoder.
        channels: channels of a native encoder with random weights.
        num_layers: how many layers are needed, from the first; None for all.

    Raises:
        typer.BadParameter: there is no such encoder.
        DTNNError: its package is missing, or its files are damaged.
    """
    from ..encoders import PRETRAINED, NativeEncoderConfig, PretrainedEncoderConfig
    from ..encoders.build import ENCODER_NAMES, build_encoder, load_encoder
    from ..errors import BadFileError
    from ..model.dtnn import bundled_encoder

    if name == "native":
        return EncoderChoice(NativeEncoderConfig(channels=channels), None)
    if name in PRETRAINED:
        config = PretrainedEncoderConfig(name)
        return EncoderChoice(config, build_encoder(config, num_layers))
    if name != BUNDLED_ENCODER and not Path(name).is_dir():
        known = ", ".join((*ENCODER_NAMES, BUNDLED_ENCODER))
        raise typer.BadParameter(
            f"expected {known}, or the folder of a saved encoder, got {name!r}", param_hint="--encoder"
        )
    try:
        encoder = bundled_encoder(num_layers) if name == BUNDLED_ENCODER else load_encoder(name, num_layers)
    except BadFileError:
        raise
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--layer") from error
    return EncoderChoice(encoder.config, encoder)


def choose_native_encoder(name: str, num_layers: int | None = None) -> NativeEncoder:
    """The native encoder that --encoder names, for commands that train it too.

    Args:
        name: "distilled" or the folder of a saved native encoder.
        num_layers: how many layers are needed, from the first; None for all.

    Raises:
        typer.BadParameter: there is no such encoder, or it is not a native one.
        BadFileError: its files are damaged.
    """
    from ..encoders.native import NativeEncoder
    from ..nn.latents import Channels

    if name != BUNDLED_ENCODER and not Path(name).is_dir():
        raise typer.BadParameter(
            f"expected {BUNDLED_ENCODER!r} or the folder of a saved encoder, got {name!r}", param_hint="--encoder"
        )
    encoder = choose_encoder(name, Channels(), num_layers).encoder
    if not isinstance(encoder, NativeEncoder):
        raise typer.BadParameter("expected 'distilled' or the folder of a native encoder", param_hint="--encoder")
    return encoder


def frozen_latents(
    encoder: Encoder, crystals: Sequence[Crystal], layers: Sequence[int], cache: Path | None
) -> LatentTable:
    """Latents of crystals by an encoder that keeps its weights, with a progress bar.

    Args:
        encoder: encoder that computes them, unless they are in the cache.
        crystals: crystals of elements that it knows.
        layers: layers that are needed.
        cache: its folder; None for the usual one.

    Raises:
        BadFileError: the file in the cache is damaged.
    """
    from rich.progress import Progress

    from ..encoders.latent_cache import cached_latents, default_cache_folder

    console = stderr()
    with Progress(console=console, transient=True, disable=not console.is_interactive) as progress:
        task = progress.add_task("latents of the frozen encoder", total=None)
        return cached_latents(
            encoder,
            crystals,
            layers,
            cache or default_cache_folder(),
            on_batch=lambda done, total: progress.update(task, completed=done, total=total),
        )


def load_training_data(
    paths: Sequence[Path], targets: Sequence[str], use_cleaning_rule: bool, elements: frozenset[int] | None = None
) -> tuple[list[Crystal], list[Rejected]]:
    """Load labelled crystals that can be learned from.

    Args:
        paths: files and folders; none means the labelled crystals that come with dtnn_fast.
        targets: tensors that each crystal must have.
        use_cleaning_rule: whether crystals with a total tensor outside of [-10, 100] are rejected; see `clean`.
        elements: atomic numbers that the encoder knows; None for all.

    Returns:
        The crystals, each with its crystal system in `info` and its symmetry operations where these can be found, and
        those that were rejected.

    Raises:
        DTNNError: nothing is left.
    """
    items: Iterable[Crystal | Rejected]
    rejected: list[Rejected] = []
    if paths:
        found = _find(paths)
        rejected += found.rejected
        items = read_files(found.files, unique_ids=False, tables=found.tables)
    else:
        items = load_labelled()
    crystals: list[Crystal] = []
    ids: set[str] = set()
    for item in items:
        usable = item if isinstance(item, Rejected) else _check(item, targets, ids, elements)
        if isinstance(usable, Rejected):
            rejected.append(usable)
            continue
        ids.add(usable.id)
        crystals.append(usable)
    if use_cleaning_rule:
        crystals, outside = clean(crystals)
        rejected += outside
    if not crystals:
        raise DTNNError(f"train: no crystal to learn from{_first_reasons(rejected)}")
    for crystal in crystals:
        crystal.info["crystal_system"] = known_crystal_system(crystal) or "unknown"
    return with_operations(crystals), rejected


def _find(paths: Sequence[Path]) -> FoundFiles:
    """List the files, and say which are skipped."""
    found = find_files(paths)
    if found.notice:
        stderr().print(found.notice)
    return found


def load_partial_data(
    paths: Sequence[Path], elements: frozenset[int] | None = None, *, force_constants: bool = False
) -> tuple[list[Crystal], list[Rejected]]:
    """Load crystals of which only some labels are known.

    Args:
        paths: files and folders; none means no crystals.
        elements: atomic numbers that the encoder knows; None for all.
        force_constants: whether these are a label that can be learned.

    Returns:
        The crystals with at least one label that can be learned, with their symmetry operations where these can be
        found, and those that were rejected.
    """
    if not paths:
        return [], []
    found = _find(paths)
    rejected = list(found.rejected)
    crystals: list[Crystal] = []
    ids: set[str] = set()
    for item in read_files(found.files, unique_ids=False, tables=found.tables):
        usable = item if isinstance(item, Rejected) else _check(item, (), ids, elements)
        if isinstance(usable, Crystal) and not (
            usable.has_label or (force_constants and usable.force_constants is not None)
        ):
            labels = ["tensor", "diagonal", "mean", "Born charges", *(["force constants"] if force_constants else [])]
            reason = f"no label: no {', '.join(labels[:-1])} or {labels[-1]} are given"
            usable = Rejected(usable.id, usable.source, reason)
        if isinstance(usable, Rejected):
            rejected.append(usable)
            continue
        ids.add(usable.id)
        crystals.append(usable)
    return with_operations(crystals), rejected


def print_begin(folder: Path, num_crystals: int, num_epochs: int, rejected: Sequence[Rejected]) -> None:
    """Say what a run learns from, or where it goes on; list in its rejected.csv what it cannot use.

    Args:
        folder: of the run; it exists.
        num_crystals: number of crystals to learn from.
        num_epochs: number of epochs that are done.
        rejected: crystals and files that cannot be used.
    """
    file = folder / "rejected.csv"
    write_rejected(file, rejected)
    if rejected:
        stderr().print(f"{counted(len(rejected), 'crystal')} rejected: see {file}", style="yellow")
    resuming = f", resuming after epoch {num_epochs}" if num_epochs else ""
    stderr().print(f"run: {folder}   {counted(num_crystals, 'crystal')} to learn from{resuming}")


def functionals_of(crystals: Sequence[Crystal], more: Sequence[Crystal]) -> tuple[str, ...]:
    """List the functionals of the labels, as `DTNNConfig.functionals` has them.

    Args:
        crystals: labelled crystals; they have one functional, "PBE" where they do not say which.
        more: further crystals; those that do not say which have the functional of `crystals`.

    Raises:
        DTNNError: `crystals` have several functionals.
    """
    main = sorted({str(crystal.info.get("functional", "PBE")) for crystal in crystals})
    if len(main) > 1:
        raise DTNNError(
            f"train: expected labels of one functional to validate and test on, got labels of {', '.join(main)}: give "
            "the crystals of the other functionals by data.more"
        )
    others = sorted({str(crystal.info.get("functional", main[0])) for crystal in more} - set(main))
    return (*main, *others) if others else ()


def _check(
    crystal: Crystal, targets: Sequence[str], ids: set[str], elements: frozenset[int] | None
) -> Crystal | Rejected:
    missing = [target for target in targets if target not in crystal.targets]
    if missing:
        return Rejected(crystal.id, crystal.source, f"no label: the {missing[0]} dielectric tensor is not given")
    if crystal.id in ids:
        return Rejected(
            crystal.id,
            crystal.source,
            "its id occurs more than once, so the crystal could be in both training and test",
        )
    try:
        check_crystal(crystal, elements)
    except BadCrystalError as error:
        return Rejected.from_error(error, crystal.id, crystal.source)
    return crystal


def _first_reasons(rejected: Sequence[Rejected]) -> str:
    if not rejected:
        return ""
    more = f" (and {len(rejected) - 1} more)" if len(rejected) > 1 else ""
    return f": {rejected[0].source or rejected[0].id}: {rejected[0].reason}{more}"
