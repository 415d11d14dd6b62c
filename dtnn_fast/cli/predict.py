# SPDX-License-Identifier: MIT
"""The command predict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import __version__
from .console import command_line, counted, stderr, stdout
from .options import (
    BUNDLED_MODEL,
    CRYSTAL_FILES,
    DeviceOption,
    FunctionalOption,
    ModelOption,
    ThreadsOption,
    describe,
    exit_with,
    list_rejected,
    load_model,
    require_some,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..crystals.crystal import Crystal, Rejected
    from ..model.predictor import Predictor
    from ..screening.store import ScreenedCrystals


# How many crystals are a few.
MOST_REFINED = 100
_ERROR_BARS = (
    "± error bars hold for nine of ten crystals kept out of training: beside a mean, for the error of the mean; beside "
    "a tensor, for the mean absolute error of its six elements."
)


def predict(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATHS",
            show_default=False,
            help=CRYSTAL_FILES,
        ),
    ],
    model: ModelOption = BUNDLED_MODEL,
    functional: FunctionalOption = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for other programs instead of text.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            dir_okay=False,
            show_default=False,
            help="JSON file to write, with the same content as --json.",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            dir_okay=False,
            show_default=False,
            help="HTML page to write, which opens offline: the tensors with error bars and warnings, and each tensor "
            "drawn as an ellipsoid in its crystal.",
        ),
    ] = None,
    born: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            show_default=False,
            help="Folder for BORN files of phonopy (electronic tensor and Born effective charges), as ID/BORN for "
            "each crystal. Needs phonopy and a model with Born charges (dtnn-fast train --set "
            "training.born_weight=0.5).",
        ),
    ] = None,
    refine: Annotated[
        bool,
        typer.Option(
            "--refine/--no-refine",
            help="Whether to add the ionic tensor from lattice dynamics, as dtnn-fast refine does. Only with the "
            f"bundled model '{BUNDLED_MODEL}', for at most {MOST_REFINED} crystals, on the CPU.",
        ),
    ] = True,
    threads: ThreadsOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Predict the dielectric tensors of a few crystals, and print them with principal values and crystal system.

    The tensors are relative permittivities, in the Cartesian frame in which the file gives the cell. A CIF gives no
    such frame: c is along z, and a in the plane of x and z, as in pymatgen. --json lists the lattice vectors.

    Error bars (±) hold for nine of ten crystals kept out of training. The bar beside a mean is for the error of the
    mean, the bar beside a tensor for the mean absolute error of its six elements.

    With a model of Born effective charges the JSON lists them in units of e, as [atom, field, displacement], with the
    elements and positions of the atoms in the order of the file.

    The line "refined" gives the means of the ionic and total tensor from lattice dynamics, and the lowest mode at q =
    0. The JSON has all refined values, or in "not_refined" the reason why they are missing. See dtnn-fast refine.

    Lines "warning: ..." tell where the model does not apply or its numbers cannot be right.

    Exit code: 0 all crystals were predicted, 3 some were rejected (stderr says why), 2 nothing could be done.
    """
    predictor = load_model(model, threads, device, "predict", functional)

    from ..screening.engine import screen_crystals
    from ..screening.sources import open_source

    if born is not None and not (predictor.has_born_charges and "electronic" in predictor.targets):
        raise typer.BadParameter(
            "needs a model of electronic tensors and Born charges (dtnn-fast train with training.born_weight)",
            param_hint="--born",
        )
    found = open_source(files, predictor.elements)
    if found.notice:
        stderr().print(found.notice)
    wants_charges = predictor.has_born_charges and (as_json or output is not None or born is not None)
    items = list(found.read())
    screened, rejected = screen_crystals(predictor, items, born_charges=wants_charges)
    rejected = [*found.rejected, *rejected]
    content = _to_json(screened, rejected, model, predictor.functional)
    if refine and model == BUNDLED_MODEL and len(screened):
        _refine(content["crystals"], predictor, items, device)
    if as_json:
        typer.echo(json.dumps(content, indent=2))
    else:
        for crystal in content["crystals"]:
            stdout().print(_as_text(crystal))
        if content["crystals"] and screened.error_bars:
            stdout().print(_ERROR_BARS)
    list_rejected(rejected, len(screened))
    if born is not None and len(screened):
        _write_born_files(born, screened)
    # After printing, so that nothing is lost when the file cannot be written.
    if output is not None:
        output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    require_some(len(screened), rejected, ", ".join(map(str, files)))
    if html is not None:
        _write_html(html, content, items)
    exit_with(rejected, "the reasons are above")


def _write_html(path: Path, content: dict[str, Any], items: Sequence[Crystal | Rejected]) -> None:
    from ..crystals.crystal import Crystal
    from ..reporting.prediction_page import write_prediction_page

    write_prediction_page(path, content, [item for item in items if isinstance(item, Crystal)], command_line())


def _refine(
    entries: list[dict[str, Any]], predictor: Predictor, items: Sequence[Crystal | Rejected], device: str
) -> None:
    """Add to the entries of crystals what lattice dynamics says, or say why it is missing."""
    if len(entries) > MOST_REFINED:
        stderr().print(
            f"not refined: more than {MOST_REFINED} crystals; dtnn-fast refine gives the ionic tensors of all "
            f"{len(entries):,} by lattice dynamics (--no-refine turns this message off)"
        )
        return
    if device != "cpu":
        stderr().print(
            f"not refined: predict refines on the CPU only, and the crystals were predicted on {device}; dtnn-fast "
            f"refine --device {device} gives the ionic tensors of lattice dynamics"
        )
        return
    from ..crystals.crystal import Crystal, Rejected
    from ..refinement.bundled_refiner import bundled_refiner
    from ..refinement.refinement_json import refinement_to_json

    by_id = {entry["id"]: entry for entry in entries}
    crystals = [item for item in items if isinstance(item, Crystal) and item.id in by_id]
    failed: list[Rejected] = []
    for result in bundled_refiner(predictor).refine(crystals):
        if isinstance(result, Rejected):
            by_id[result.id]["not_refined"] = result.reason
            failed.append(result)
            continue
        entry = by_id[result.crystal.id]
        known = refinement_to_json(result)
        entry["refined"] = {name: value for name, value in known.items() if name not in entry}
        # Those about the structure are in the entry.
        entry["refined"]["warnings"] = [text for text in known["warnings"] if text not in entry["warnings"]]
    if failed:
        more = f" (and {counted(len(failed) - 1, 'more crystal')})" if len(failed) > 1 else ""
        stderr().print(f"not refined: {describe(failed[0])}{more}")


def _refined_text(refined: dict[str, Any]) -> Iterator[str]:
    def mean(name: str) -> str:
        error = refined[f"{name}_error"]
        return f"{refined[name]:.3f}" + ("" if error is None else f" ± {error:.3f}")

    lowest = refined["lowest_frequency_thz"]
    modes = "" if lowest is None else f"   lowest mode {lowest:.2f} THz"
    yield f"  refined    ionic mean {mean('ionic_mean')}   total mean {mean('total_mean')}{modes}"
    yield from (f"  warning: {text}" for text in refined["remarks"])
    yield from (f"  warning: refined: {text}" for text in refined["warnings"])


def _write_born_files(folder: Path, screened: ScreenedCrystals) -> None:
    from ..crystals.crystal import Crystal
    from ..formats.born_file import write_born_file

    assert screened.atoms is not None
    cells, electronic = screened.lattice_vectors, screened.tensors["electronic"]
    for id, cell, tensor, numbers, positions, charges in zip(
        screened.ids, cells, electronic, *screened.atoms, strict=True
    ):
        # Ids come from files: only the characters that name one folder stay.
        place = folder / "".join(c if c.isalnum() or c in "-_.:#" else "_" for c in id).lstrip(".")
        place.mkdir(parents=True, exist_ok=True)
        write_born_file(place / "BORN", Crystal.make(id, numbers, positions, cell), charges, tensor)


def _to_json(screened: ScreenedCrystals, rejected: list[Rejected], model: str, functional: str) -> dict[str, Any]:
    from ..screening.prediction_json import predictions_to_json
    from ..screening.store import ERROR_DESCRIPTIONS

    return {
        "dtnn_fast_version": __version__,
        "model": model,
        "functional": functional or None,
        "unit": "relative permittivity, in the Cartesian frame of the lattice vectors, which are in Angstrom",
        **{name: ERROR_DESCRIPTIONS[name] for name in screened.error_bars},
        "crystals": predictions_to_json(screened),
        "rejected": [{"id": r.id, "source": r.source, "reason": r.reason} for r in rejected],
    }


def _as_text(crystal: dict[str, Any]) -> str:
    system = crystal["crystal_system"] or "crystal system unknown"
    lines = [f"{crystal['id']}   {crystal['formula']}   {system}   {counted(crystal['num_atoms'], 'atom')}"]
    for target, values in crystal["tensors"].items():
        matrix = [" ".join(f"{round(value, 3) + 0.0:9.3f}" for value in row) for row in values["tensor"]]
        principal = "  ".join(f"{value:.3f}" for value in values["principal_values"])
        mean_error = f" ± {values['mean_error']:.3f}" if "mean_error" in values else ""
        numbers = [
            f"mean {values['mean']:.3f}{mean_error}",
            f"principal values {principal}",
            f"anisotropy {values['anisotropy']:.3f}",
        ]
        starts = [f"  {target:<11}", " " * 13, " " * 13]
        tensor_error = f" ± {values['tensor_error']:.3f}" if "tensor_error" in values else ""
        # In the middle of the three lines.
        ends = [" " * len(tensor_error), tensor_error, " " * len(tensor_error)]
        rows = zip(starts, matrix, ends, numbers, strict=True)
        lines += [f"{start}[{row} ]{end}   {text}" for start, row, end, text in rows]
    if "not_refined" in crystal:
        lines.append(f"  not refined: {crystal['not_refined']}")
    if "refined" in crystal:
        lines += _refined_text(crystal["refined"])
    lines += [f"  warning: {warning}" for warning in crystal["warnings"]]
    return "\n".join([*lines, ""])
