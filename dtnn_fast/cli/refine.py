# SPDX-License-Identifier: MIT
"""The command refine."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from .. import __version__
from ..errors import DTNNError
from .console import stderr, stdout
from .options import CRYSTAL_FILES, ModelOption, ThreadsOption, describe, exit_with, load_model, require_some

if TYPE_CHECKING:
    from ..crystals.crystal import Crystal, Rejected
    from ..potentials import Potential
    from ..refinement.ionic_join import IonicJoin
    from ..refinement.refiner import ForceConstantSource, Refinement

_COLUMNS = (
    *("id", "formula", "num_atoms", "electronic_mean", "ionic_direct_mean", "ionic_lattice_mean", "ionic_mean"),
    *("ionic_mean_error", "total_mean", "total_mean_error", "lowest_frequency_thz", "softest_polar_stiffness"),
    *("unstable", "nearly_ferroelectric", "remarks"),
)
# How much softer SevenNet-0's force constants at q = 0 are than DFT's: its ionic tensors of 106 crystals of the phonon
# database, with DFT's charges, are 1.23 times as large (median).
_SOFTENING = {"sevennet-0": 1.23}


def refine(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATHS",
            show_default=False,
            help=f"{CRYSTAL_FILES} Without a path, with --ranking, the crystals that come with dtnn-fast.",
        ),
    ] = None,
    ranking: Annotated[
        Path | None,
        typer.Option(
            show_default=False,
            help="Refine the best crystals of a screening: its folder, or its ranking.csv. PATHS are those that were "
            "screened.",
        ),
    ] = None,
    best: Annotated[int, typer.Option(min=1, help="With --ranking: how many crystals from the first rank.")] = 20,
    model: ModelOption = "dielectric",
    lattice: Annotated[
        str,
        typer.Option(
            metavar="lattice|FOLDER",
            help="Model of Born charges and force constants: the bundled one, or one of dtnn-fast train-lattice.",
        ),
    ] = "lattice",
    potential: Annotated[
        str | None,
        typer.Option(
            metavar="sevennet-0|FILE.nqx",
            show_default=False,
            help="Compute the force constants by a potential in place of the lattice model, by central differences: "
            "SevenNet-0 (extra sevennet) or your file of Nequix.",
        ),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Read a file of Nequix whose SHA-256 is not a known one.")
    ] = False,
    softening: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=10.0,
            show_default="1.23 for sevennet-0, else 1",
            help="With --potential: factor by which its force constants are too soft; they are multiplied by it.",
        ),
    ] = None,
    relax: Annotated[bool, typer.Option("--relax", help="With --potential: relax atoms and cell by it first.")] = False,
    max_atoms: Annotated[int, typer.Option(min=1, help="Larger cells are rejected.")] = 400,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON with all tensors, modes and charges instead of a table.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            dir_okay=False,
            show_default=False,
            help="File to write too: .json with the content of --json, or .csv with the numbers of the table.",
        ),
    ] = None,
    threads: ThreadsOption = None,
) -> None:
    """Refine the ionic tensors of crystals by lattice dynamics: Born charges, force constants, modes at q = 0.

    The ionic tensor is e^2/(eps0 V) sum S S^T / k over the modes, with Born charges and force constants of the bundled
    lattice model; a small fitted model joins it with the direct prediction and gives the error bar (±), which holds for
    nine of ten held-out crystals. With --potential, or with other models, lattice dynamics alone gives the tensor.

    Frequencies are those at q = 0 without the splitting of longitudinal and transverse modes; negative ones stand for
    imaginary frequencies. Crystals close to a ferroelectric instability are marked: their ionic tensors depend on
    details, such as the functional and the temperature.

    Exit code: 0 all crystals were refined, 3 some were rejected (stderr says why), 2 nothing could be done.
    """
    if not paths and ranking is None:
        raise typer.BadParameter("expected files or folders of crystals, or --ranking", param_hint="PATHS")
    if potential is None and (relax or softening is not None or trust):
        raise typer.BadParameter("expected --potential with --relax, --softening and --trust")
    if output is not None and output.suffix not in (".json", ".csv"):
        raise typer.BadParameter(f"expected a name that ends in .json or .csv, got {output}", param_hint="--output")
    if output is not None and not output.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {output.parent}", param_hint="--output")
    predictor = load_model(model, threads, "cpu", "refine")

    from ..crystals.crystal import Crystal, Rejected
    from ..model.lattice_model import LatticeModel
    from ..refinement.ranked_ids import choose, read_best
    from ..refinement.refiner import Refiner
    from ..screening.sources import open_source

    lattice_model = LatticeModel.from_pretrained(lattice)
    source: ForceConstantSource | None = None
    loaded = None
    if potential is not None:
        from ..potentials import load_potential

        loaded = load_potential(potential, trust=trust)
        source = _by_potential(loaded, max_atoms)
    factor = softening or _SOFTENING.get(potential or "", 1.0)
    join = _join(model, lattice, potential)
    try:
        refiner = Refiner(predictor, lattice_model, join, source, factor, max_atoms)
    except ValueError as error:
        raise typer.BadParameter(str(error).removeprefix("Refiner: "), param_hint="--model") from error
    found = open_source(paths or [], refiner.elements or ())
    items = list(choose(found.read(), read_best(ranking, best)) if ranking is not None else found.read())
    if relax and loaded is not None:
        # Not those that are rejected afterwards: a large cell takes hours.
        items = [
            _relaxed(item, loaded) if isinstance(item, Crystal) and refiner.reason_against(item) is None else item
            for item in items
        ]
    refined: list[Refinement] = []
    rejected: list[Rejected] = list(found.rejected)
    start = time.perf_counter()
    for result in refiner.refine(items):
        (rejected if isinstance(result, Rejected) else refined).append(result)  # type: ignore[arg-type]
    seconds = time.perf_counter() - start
    for reject in rejected:
        stderr().print(f"rejected: {describe(reject)}", style="yellow")
    require_some(len(refined), rejected, ", ".join(map(str, paths or [])))
    content = {
        "dtnn_fast_version": __version__,
        "model": model,
        "lattice": lattice,
        "potential": potential,
        "softening": factor,
        "unit": "relative permittivity, in the Cartesian frame of the lattice vectors; Angstrom, THz, eV/Angstrom^2, e",
        "crystals": [refinement_to_json(one) for one in refined],
        "rejected": [{"id": r.id, "source": r.source, "reason": r.reason} for r in rejected],
    }
    if as_json:
        typer.echo(json.dumps(content, indent=2))
    else:
        _print_table(refined, join is not None)
        stderr().print(f"{len(refined):,} crystals in {seconds:.1f} s")
    if output is not None:
        _write(output, content, refined)
    exit_with(rejected, "the reasons are above")


def _join(model: str, lattice: str, potential: str | None) -> IonicJoin | None:
    """Load the join that was fitted to this pair of models: it comes with the bundled ones."""
    from ..model.bundled_model import BUNDLED_LATTICE_MODEL, bundled_lattice_folder
    from ..refinement.ionic_join import IonicJoin

    if model != "dielectric" or lattice != BUNDLED_LATTICE_MODEL or potential is not None:
        return None
    return IonicJoin.load(bundled_lattice_folder())


def _by_potential(potential: Potential, max_atoms: int) -> ForceConstantSource:
    from ..crystals.crystal import Rejected
    from ..potentials import gamma_force_constants

    def compute(crystals: Sequence[Crystal]) -> Iterator[Any]:
        for found in gamma_force_constants(crystals, potential, max_atoms=max_atoms):
            yield found if isinstance(found, Rejected) else found.matrix

    return compute


def _relaxed(crystal: Crystal, potential: Potential) -> Crystal | Rejected:
    from ..crystals.crystal import Rejected
    from ..potentials import relax

    try:
        return relax(crystal, potential).crystal
    except DTNNError as error:
        return Rejected.from_error(error, crystal.id, crystal.source)


def _numbers(one: Refinement) -> dict[str, Any]:
    """The numbers of a crystal, by `_COLUMNS`."""
    from ..model.predictor import mean_permittivity

    def mean(tensor: Any) -> float:
        return float(mean_permittivity(tensor))

    return {
        "id": one.crystal.id,
        "formula": one.crystal.formula,
        "num_atoms": one.crystal.num_atoms,
        "electronic_mean": mean(one.electronic),
        "ionic_direct_mean": mean(one.direct),
        "ionic_lattice_mean": mean(one.lattice),
        "ionic_mean": mean(one.ionic),
        "ionic_mean_error": one.ionic_mean_error,
        "total_mean": mean(one.total),
        "total_mean_error": one.total_mean_error,
        "lowest_frequency_thz": float(one.modes[0]) if len(one.modes) else None,
        "softest_polar_stiffness": one.softest[1] if one.softest[1] < float("inf") else None,
        "unstable": one.is_unstable,
        "nearly_ferroelectric": one.is_nearly_ferroelectric,
        "remarks": one.remarks,
    }


def refinement_to_json(one: Refinement) -> dict[str, Any]:
    """Everything that is known of a refined crystal, as plain values."""
    return {
        **_numbers(one),
        "source": one.crystal.source,
        "lattice_vectors": one.crystal.cell.tolist(),
        "electronic": one.electronic.tolist(),
        "ionic_direct": one.direct.tolist(),
        "ionic_lattice": one.lattice.tolist(),
        "ionic": one.ionic.tolist(),
        "ionic_error": one.ionic_error,
        "total": one.total.tolist(),
        "frequencies_thz": one.modes.tolist(),
        "born_charges": one.born_charges.tolist(),
    }


def _write(path: Path, content: dict[str, Any], refined: Sequence[Refinement]) -> None:
    if path.suffix == ".json":
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for one in refined:
            numbers = {**_numbers(one), "remarks": "; ".join(one.remarks)}
            writer.writerow([_cell(numbers[name]) for name in _COLUMNS])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _print_table(refined: Sequence[Refinement], is_joined: bool) -> None:
    table = Table(title="Relative permittivity (means, a third of the trace)", box=None)
    table.add_column("id", overflow="fold")
    table.add_column("formula")
    for name in ("electronic", "ionic direct", "ionic by lattice", "ionic refined", "total", "lowest mode, THz"):
        table.add_column(name, justify="right", style="bold" if name == "total" else "")
    for one in refined:
        numbers = _numbers(one)
        bar, total_bar = (
            "" if error is None else f" ± {error:.2f}" for error in (one.ionic_mean_error, one.total_mean_error)
        )
        lowest = numbers["lowest_frequency_thz"]
        table.add_row(
            one.crystal.id + (" !" if one.remarks else ""),
            one.crystal.formula,
            f"{numbers['electronic_mean']:.2f}",
            f"{numbers['ionic_direct_mean']:.2f}",
            f"{numbers['ionic_lattice_mean']:.2f}",
            f"{numbers['ionic_mean']:.2f}{bar}",
            f"{numbers['total_mean']:.2f}{total_bar}",
            "-" if lowest is None else f"{lowest:.2f}",
        )
    stdout().print(table)
    if not is_joined:
        stdout().print("The refined ionic tensor is that of lattice dynamics alone, without error bars.")
    for one in refined:
        for remark in one.remarks:
            stdout().print(f"! {one.crystal.id}: {remark}")
