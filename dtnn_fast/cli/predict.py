# SPDX-License-Identifier: MIT
"""The command predict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import __version__
from .console import stderr, stdout
from .options import ModelOption, ThreadsOption, describe, exit_with, load_model, require_some

if TYPE_CHECKING:
    from ..crystals.crystal import Rejected
    from ..screening.store import Predictions


def predict(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            show_default=False,
            help="Crystals: CIF, POSCAR, extxyz, pymatgen JSON or .jsonl, each also .gz; or folders of them.",
        ),
    ],
    model: ModelOption = "dielectric",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", dir_okay=False, help="Write the same JSON into a file.", show_default=False),
    ] = None,
    threads: ThreadsOption = None,
) -> None:
    """Print the dielectric tensors, principal values and crystal system of a few crystals.

    Tensors are relative permittivities in the Cartesian frame in which the file gives the cell.

    Exit code: 0 all were predicted, 3 some were rejected (the reasons are on stderr), 2 nothing could be done.
    """
    predictor = load_model(model, threads)

    from ..formats.find_files import find_files, read_files
    from ..screening.engine import screen_crystals

    found = find_files(files)
    predictions, rejected = screen_crystals(predictor, read_files(found.files))
    rejected = found.rejected + rejected
    require_some(len(predictions), rejected, ", ".join(map(str, files)))
    record = _record(predictions, rejected, model)
    if as_json:
        typer.echo(json.dumps(record, indent=2))
    else:
        for crystal in record["crystals"]:
            stdout().print(_as_text(crystal), markup=False)
    for reject in rejected:
        stderr().print(f"rejected: {describe(reject)}", markup=False, style="yellow")
    # After the printing, so that nothing is lost when this fails.
    if output is not None:
        output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    exit_with(rejected, "the reasons are above")


def _record(predictions: Predictions, rejected: list[Rejected], model: str) -> dict[str, Any]:
    from ..screening.store import tensor_columns

    numbers = {target: tensor_columns(tensors) for target, tensors in predictions.tensors.items()}
    crystals = [
        {
            "id": predictions.ids[row],
            "source": predictions.sources[row],
            "formula": predictions.formulas[row],
            "crystal_system": predictions.systems[row],
            "num_atoms": int(predictions.num_atoms[row]),
            "tensors": {
                target: {
                    "tensor": tensors[row].tolist(),
                    "mean": float(numbers[target]["mean"][row]),
                    "principal_values": [float(numbers[target][name][row]) for name in ("e1", "e2", "e3")],
                    "anisotropy": float(numbers[target]["anisotropy"][row]),
                    **({"error_bar": float(predictions.errors[target][row])} if target in predictions.errors else {}),
                }
                for target, tensors in predictions.tensors.items()
            },
        }
        for row in range(len(predictions))
    ]
    return {
        "dtnn_fast_version": __version__,
        "model": model,
        "unit": "relative permittivity, in the Cartesian frame of the cell",
        "crystals": crystals,
        "rejected": [{"id": r.id, "source": r.source, "reason": r.reason} for r in rejected],
    }


def _as_text(crystal: dict[str, Any]) -> str:
    system = crystal["crystal_system"] or "crystal system unknown"
    lines = [f"{crystal['id']}   {crystal['formula']}   {system}   {crystal['num_atoms']} atoms"]
    for target, values in crystal["tensors"].items():
        matrix = [" ".join(f"{round(value, 3) + 0.0:9.3f}" for value in row) for row in values["tensor"]]
        principal = "  ".join(f"{value:.3f}" for value in values["principal_values"])
        bar = f"   error bar {values['error_bar']:.3f}" if "error_bar" in values else ""
        notes = [
            f"mean {values['mean']:.3f}{bar}",
            f"principal values {principal}",
            f"anisotropy {values['anisotropy']:.3f}",
        ]
        heads = [f"  {target:<11}", " " * 13, " " * 13]
        lines += [f"{head}[{row} ]   {note}" for head, row, note in zip(heads, matrix, notes, strict=True)]
    return "\n".join([*lines, ""])
