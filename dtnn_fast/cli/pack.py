# SPDX-License-Identifier: MIT
"""dtnn-fast pack: put crystals from any files into one folder of Parquet shards."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..errors import DTNNError
from . import SOME_REJECTED, STOPPED
from .console import command_line, counted, stderr, stdout
from .options import CRYSTAL_FILES
from .progress import ScreeningProgress
from .stop_signals import sigterm_as_ctrl_c

REJECTED_FILE = "rejected.csv"


class Cell(StrEnum):
    """Cells that crystals are packed in."""

    given = "given"
    primitive = "primitive"
    conventional = "conventional"


def pack(
    paths: Annotated[list[Path], typer.Argument(metavar="PATHS", show_default=False, help=CRYSTAL_FILES)],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            file_okay=False,
            help="Folder for the shards (Parquet files), created if missing. Interrupted packing in it is continued.",
        ),
    ] = Path("packed"),
    cell: Annotated[
        Cell,
        typer.Option(
            help="Cell in which crystals are packed: as given in the file, primitive, or conventional. The "
            "crystal is not rotated."
        ),
    ] = Cell.given,
    symmetry: Annotated[
        bool,
        typer.Option(
            "--symmetry/--no-symmetry",
            help="Whether to find the space group, prototype and symmetry operations of each crystal.",
        ),
    ] = True,
    find_duplicates: Annotated[
        bool,
        typer.Option(
            "--find-duplicates/--no-find-duplicates",
            help="Whether to mark crystals that have the same structure as an earlier one (by pymatgen's "
            "StructureMatcher).",
        ),
    ] = True,
    readers: Annotated[
        int | None,
        typer.Option(
            min=0,
            show_default="one per core",
            help="Number of additional processes that read crystals and "
            "find their symmetry. With 0 the main process does it.",
        ),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh", help="Delete what an earlier run packed into --output first, instead of continuing it."
        ),
    ] = False,
) -> None:
    """Pack crystals from any files into one folder of Parquet shards, which dtnn-fast screen reads.

    Each row has the structure in columns named as in OPTIMADE, the properties given in the input, the space group,
    prototype and symmetry operations, and the id of an earlier crystal with the same structure, if there is one. A
    crystal that cannot be used is listed in rejected.csv and never stops the others. After an interruption, run the
    same command again to continue.

    Exit code: 0 all crystals were packed, 3 some were rejected, 2 nothing could be done, 130 stopped by Ctrl-C or
    SIGTERM.
    """
    from ..formats.reading import known_file_names
    from ..screening.finish import find_unmatched, require_all_chunks, write_rejected_csv
    from ..screening.input_chunks import plan_files
    from ..screening.packing import PackingOptions, finish_packing, pack_crystals, packing_manifest
    from ..screening.parts import Parts
    from ..screening.screening_run import output_parts

    with sigterm_as_ctrl_c():
        num_readers = len(os.sched_getaffinity(0)) if readers is None else readers
        options = PackingOptions(None if cell is Cell.given else str(cell), symmetry, find_duplicates, num_readers)
        parts = Parts(output_parts(output).folder, "shard")
        with parts.locked("packing"):
            if fresh:
                parts.remove()
            inputs = plan_files(paths)
            if inputs.notice:
                stderr().print(inputs.notice)
            manifest = packing_manifest(inputs, list(map(str, paths)), options, command_line())
            parts.begin(manifest)
            try:
                with ScreeningProgress() as progress:
                    pack_crystals(inputs, parts, options, progress)
                require_all_chunks(parts, len(inputs.chunks))
                unmatched = find_unmatched(inputs, parts)
                counts = finish_packing(parts, options, manifest)
            except KeyboardInterrupt:
                stderr().print("stopped; run the same command again to continue", style="yellow")
                raise typer.Exit(STOPPED) from None
            num_rejected = write_rejected_csv(output / REJECTED_FILE, parts, inputs.rejected)
    for table in unmatched:
        stderr().print(str(table), style="yellow")
    if not counts.crystals:
        raise DTNNError(
            f"nothing could be packed from {', '.join(map(str, paths))}: "
            + (f"see {output / REJECTED_FILE}" if num_rejected else f"expected files named {known_file_names()}")
        )
    facts = [f"{counted(counts.crystals, 'crystal')} in {counted(counts.shards, 'shard')}"]
    if counts.duplicates is not None:
        facts.append(f"{counted(counts.duplicates, 'duplicate')} marked")
    if counts.renamed:
        facts.append(f"{counted(counts.renamed, 'id')} made unique by a suffix such as #2")
    stdout().print(f"{output}: {', '.join(facts)}")
    if num_rejected:
        stderr().print(f"{num_rejected:,} rejected: see {output / REJECTED_FILE}", style="yellow")
        raise typer.Exit(SOME_REJECTED)
