# SPDX-License-Identifier: MIT
"""The command refine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import __version__
from ..errors import DTNNError
from . import STOPPED
from .console import counted, stderr
from .options import (
    BUNDLED_LATTICE,
    BUNDLED_MODEL,
    CRYSTAL_FILES,
    DeviceOption,
    FunctionalOption,
    LatticeOption,
    ModelOption,
    ThreadsOption,
    exit_with,
    list_rejected,
    load_model,
    require_some,
)
from .progress import CountProgress
from .refined_output import print_refinements, write_refinements
from .stop_signals import sigterm_as_ctrl_c

if TYPE_CHECKING:
    from ..crystals.crystal import Crystal, Rejected
    from ..potentials import Potential
    from ..refinement.refiner import ForceConstantSource, Refinement, Refiner

_BEST = 20
# Number of atoms of the crystals that a potential refines together. Progress is shown after each such part, and Ctrl-C
# loses one at most.
_PART_ATOMS = 64
# How much softer SevenNet-0's force constants at q = 0 are than DFT's: its ionic tensors of 106 crystals of the phonon
# database, with DFT's charges, are 1.23 times as large (median).
_SOFTENING = {"sevennet-0": 1.23}
# The native potential and the lattice model are as good as each other, and their mean is better than both: see
# docs/model_card.md.
_LATTICE_SHARES = {"native": 0.5}


def refine(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATHS",
            show_default=False,
            help=f"{CRYSTAL_FILES} With --ranking, may be left out.",
        ),
    ] = None,
    ranking: Annotated[
        Path | None,
        typer.Option(
            show_default=False,
            help="Refine the best crystals of a screening, given by its folder or its ranking.csv. The structures are "
            "read from the screening, or from PATHS where these are given; they must be the screened files.",
        ),
    ] = None,
    best: Annotated[
        int | None,
        typer.Option(
            min=1, show_default="20", help="With --ranking: number of crystals to refine, from the first rank on."
        ),
    ] = None,
    model: ModelOption = BUNDLED_MODEL,
    lattice: LatticeOption = BUNDLED_LATTICE,
    functional: FunctionalOption = "",
    potential: Annotated[
        str | None,
        typer.Option(
            metavar="native|sevennet-0|FILE.nqx|FOLDER",
            show_default=False,
            help="Compute the force constants with an interatomic potential instead of the lattice model, by central "
            "differences: native (bundled), sevennet-0 (needs the extra sevennet), your Nequix file (needs the package "
            "nequix), or the model of dtnn-fast train-potential.",
        ),
    ] = None,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="With --potential: accept a Nequix file whose SHA-256 is unknown. By default, it is refused.",
        ),
    ] = False,
    softening: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=10.0,
            show_default="1.23 for sevennet-0, otherwise 1",
            help="With --potential: factor that multiplies its force constants, because potentials are too soft.",
        ),
    ] = None,
    lattice_share: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            show_default="0.5 for native, otherwise 0",
            help="With --potential: weight of the lattice model's force constants in the mean with those of the "
            "potential.",
        ),
    ] = None,
    relax: Annotated[
        bool, typer.Option("--relax", help="With --potential: first relax atoms and cell with the potential.")
    ] = False,
    max_atoms: Annotated[
        int, typer.Option(min=1, help="Maximum number of atoms in the cell; larger crystals are rejected.")
    ] = 400,
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
            help="File to write: .json with the same content as --json, or .csv with the numbers of the table.",
        ),
    ] = None,
    threads: ThreadsOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Refine the ionic tensors of crystals by lattice dynamics: Born charges, force constants, modes at q = 0.

    The ionic tensor of lattice dynamics is e^2/(eps0 V) sum S S^T / k over the modes, with Born charges and force
    constants of the bundled lattice model. A small fitted model combines it with the direct prediction and gives the
    error bar (±), which holds for nine of ten held-out crystals. With other models, --relax, your own --softening or
    --lattice-share, or a potential for which no such model was fitted, the tensor is that of lattice dynamics alone,
    without an error bar.

    Frequencies are at q = 0, in THz, without the splitting of longitudinal and transverse modes; negative numbers stand
    for imaginary frequencies. Crystals close to a ferroelectric instability are marked, because their ionic tensors
    depend on details such as the functional and the temperature.

    Exit code: 0 all crystals were refined, 3 some were rejected (stderr says why), 2 nothing could be done, 130 stopped
    by Ctrl-C or SIGTERM; then the results of the crystals that were refined until then are printed and written.
    """
    _check_options(paths, ranking, best, output)
    if potential is None and (relax or softening is not None or lattice_share is not None or trust):
        raise typer.BadParameter("--relax, --softening, --lattice-share and --trust need --potential")
    predictor = load_model(model, threads, device, "refine", functional)

    from ..refinement.bundled_refiner import load_refiner
    from ..refinement.ranked_ids import choose, read_best, read_screened
    from ..refinement.refinement_json import refinement_to_json
    from ..screening.sources import open_source

    loaded = _load_potential(potential, trust, device, relax)
    source = None if loaded is None else _by_potential(loaded, max_atoms)
    own = 1.0 if loaded is None else _SOFTENING.get(loaded.name, 1.0)
    factor = own if softening is None else softening
    own_share = 0.0 if loaded is None else _LATTICE_SHARES.get(loaded.name, 0.0)
    share = own_share if lattice_share is None else lattice_share
    # A join was fitted to force constants of structures as they are, with the potential's own softening and share.
    fits = loaded is not None and factor == own and share == own_share and not relax
    joined_as = loaded.name if loaded is not None and fits else ""
    try:
        refiner = load_refiner(predictor, model, lattice, source, factor, max_atoms, device, joined_as, share)
    except ValueError as error:
        raise typer.BadParameter(str(error).removeprefix("Refiner: "), param_hint="--model") from error
    found = open_source(paths or [], refiner.elements or ())
    # That about the bundled crystals is of a screening.
    if paths and found.notice:
        stderr().print(found.notice)
    if ranking is None:
        items = list(found.read())
    else:
        ranked = read_best(ranking, best or _BEST)
        folder = ranking if ranking.is_dir() else ranking.parent
        # Without parts, as older versions wrote screenings, they are the bundled crystals.
        has_parts = not paths and any(folder.glob("part-*.parquet"))
        items = list(choose(read_screened(folder, ranked) if has_parts else found.read(), ranked))
    start = time.perf_counter()
    refined, failed, is_complete = _refine(refiner, items, loaded, relax)
    seconds = time.perf_counter() - start
    rejected = [*found.rejected, *failed]
    list_rejected(rejected, len(refined))
    content = {
        "dtnn_fast_version": __version__,
        "model": model,
        "functional": predictor.functional or None,
        "lattice": lattice,
        "potential": potential,
        "softening": factor,
        "lattice_share": share,
        "unit": "relative permittivity, in the Cartesian frame of the lattice vectors; Angstrom, THz, eV/Angstrom^2, e",
        "crystals": [refinement_to_json(one) for one in refined],
        "rejected": [{"id": r.id, "source": r.source, "reason": r.reason} for r in rejected],
    }
    if as_json:
        typer.echo(json.dumps(content, indent=2))
    elif refined:
        print_refinements(refined, refiner.join is not None)
        stderr().print(f"{counted(len(refined), 'crystal')} in {seconds:.1f} s")
    if output is not None and (is_complete or refined):
        write_refinements(output, content, refined)
    if not is_complete:
        done = len(refined) + len(failed)
        stderr().print(f"stopped: {done:,} of {counted(len(items), 'crystal')} done", style="yellow")
        raise typer.Exit(STOPPED)
    require_some(len(refined), rejected, ", ".join(map(str, paths or [])), "refined")
    exit_with(rejected, "the reasons are above")


def _check_options(paths: Sequence[Path] | None, ranking: Path | None, best: int | None, output: Path | None) -> None:
    if not paths and ranking is None:
        raise typer.BadParameter("expected files or folders of crystals, or --ranking", param_hint="PATHS")
    if best is not None and ranking is None:
        raise typer.BadParameter("needs --ranking with the folder of a screening", param_hint="--best")
    if output is not None and output.suffix not in (".json", ".csv"):
        raise typer.BadParameter(f"expected a name that ends in .json or .csv, got {output}", param_hint="--output")
    if output is not None and not output.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {output.parent}", param_hint="--output")


def _refine(
    refiner: Refiner, items: Sequence[Crystal | Rejected], potential: Potential | None, relax: bool
) -> tuple[list[Refinement], list[Rejected], bool]:
    """Refine crystals until the end, Ctrl-C or SIGTERM; the last result says whether it was the end."""
    from ..crystals.crystal import Crystal, Rejected
    from ..refinement.refiner import parts_by_atoms

    refined: list[Refinement] = []
    rejected: list[Rejected] = []
    try:
        with sigterm_as_ctrl_c(), CountProgress() as progress:
            for part in [items] if potential is None else parts_by_atoms(items, _PART_ATOMS):
                # Only those that are not rejected afterwards: a large cell takes hours.
                relaxed = [
                    _relaxed(item, potential)
                    if relax and potential and isinstance(item, Crystal) and refiner.reason_against(item) is None
                    else item
                    for item in part
                ]
                for result in refiner.refine(relaxed):
                    if isinstance(result, Rejected):
                        rejected.append(result)
                    else:
                        refined.append(result)
                progress.show("crystals", len(refined) + len(rejected), len(items))
    except KeyboardInterrupt:
        return refined, rejected, False
    return refined, rejected, True


def _load_potential(name: str | None, trust: bool, device: str, relax: bool) -> Potential | None:
    if name is None:
        return None
    import torch

    from ..potentials import EnergyPotential, load_potential

    loaded = load_potential(name, trust=trust, device=device)
    if isinstance(loaded, EnergyPotential) and not relax:
        # Its displacements are long enough: force constants differ by 1e-5 of the largest, in half the time.
        loaded.model.encoder.to(torch.float32)
    return loaded


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
