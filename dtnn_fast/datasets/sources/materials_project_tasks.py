# SPDX-License-Identifier: MIT
"""The calculations behind the Materials Project's dielectric tensors, whose structure and tensors share a frame.

A dielectric document names its calculation as the origin "dielectric". Documents of calculations (`CoreTaskDoc` of
emmet-core) have the input structure, and VASP's tensors in its frame: `epsilon_static`, clamped ions, and
`epsilon_ionic`. Some origins name a task of another kind (https://github.com/materialsproject/api/issues/960).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...crystals.crystal import Crystal
from ...files import parse_json
from .source import DroppedRow, PublishedTensors, labelled_crystal

TASK_FIELDS = ("task_id", "input.structure", "output.epsilon_static", "output.epsilon_ionic")
# Largest difference of traces, which no rotation changes, relative to the largest element of the total tensor.
LARGEST_TRACE_DIFFERENCE = 0.01
_SOURCE = "Materials Project"


def dielectric_origin(document: Any) -> str | None:
    """Return the id of the calculation that a dielectric document names, as `task_key` writes it; None for none."""
    origins = field_of(document, "origins")
    if not isinstance(origins, Sequence):
        return None
    named = [field_of(origin, "task_id") for origin in origins if field_of(origin, "name") == "dielectric"]
    return task_key(named[0]) if named and named[0] is not None else None


def task_key(id: Any) -> str:
    """Write the id of a task in one way: the server has mp-149, mp-ft and mp-aaaaaaft for the same task.

    The letters are digits to base 26 (`AlphaID` of emmet-core). Ids of another form stay.
    """
    text = str(id)
    matched = re.fullmatch(r"([a-z]+-)?([a-z]+)", text)
    if matched is None:
        return text
    number = 0
    for letter in matched[2]:
        number = 26 * number + ord(letter) - ord("a")
    return f"{matched[1] or ''}{number}"


def read_task(document: Any) -> Crystal | DroppedRow:
    """Make a crystal of the document of a calculation, with its own structure and tensors in one frame.

    Args:
        document: with `TASK_FIELDS`, as an object or a dict.

    Returns:
        The crystal, named `task_key`, or the dropped row that says what the document lacks.
    """
    key = task_key(field_of(document, "task_id"))
    structure = field_of(field_of(document, "input"), "structure")
    output = field_of(document, "output")
    tensors = PublishedTensors(field_of(output, "epsilon_static"), field_of(output, "epsilon_ionic"))
    return labelled_crystal(key, _SOURCE, structure, tensors)


def find_fault(task: Crystal, structure: Any, tensors: PublishedTensors) -> str | None:
    """Say why a calculation cannot be the one of a material's dielectric document; None where it can.

    Args:
        task: the calculation's crystal.
        structure: structure of the material, of any relaxation.
        tensors: tensors of the document, in any frame.
    """
    other = labelled_crystal(task.id, _SOURCE, structure, PublishedTensors(total=np.eye(3)))
    if isinstance(other, Crystal) and task.formula != other.formula:
        return f"is of {task.formula}, not of {other.formula}"
    allowed = LARGEST_TRACE_DIFFERENCE * float(np.abs(task.targets["total"]).max())
    for target, tensor in tensors._asdict().items():
        trace = _trace(tensor)
        if trace is not None and abs(float(np.trace(task.targets[target])) - trace) > allowed:
            return (
                f"has another {target} tensor than the dielectric document: a trace of "
                f"{np.trace(task.targets[target]):.4g}, not of {trace:.4g}"
            )
    return None


def _trace(tensor: Any) -> float | None:
    """Return the trace of a published tensor; None where it is none."""
    try:
        values = np.asarray(tensor, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return float(np.trace(values)) if values.shape == (3, 3) and np.isfinite(values).all() else None


def field_of(document: Any, name: str) -> Any:
    """Return a field of a document, which the client gives as an object or as a dict; None where it has none."""
    return document.get(name) if isinstance(document, Mapping) else getattr(document, name, None)


class TaskFile:
    """File of the calculations that were received, one a line, from which an interrupted fetch continues.

    Calculations that cannot be used are not kept, so that they are requested again.

    Args:
        path: the file; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def read(self) -> Iterator[Crystal]:
        """Yield the calculations; a line that was cut off is left out, so that it is fetched again."""
        if self.path is None or not self.path.exists():
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                record = parse_json(line)
                arrays = (record[name] for name in ("id", "atomic_numbers", "positions", "cell"))
                tensors = PublishedTensors(record["electronic"], record["ionic"])
                task = labelled_crystal(record["id"], _SOURCE, Crystal.make(*arrays), tensors)
            except (ValueError, KeyError, TypeError):
                continue
            if isinstance(task, Crystal):
                yield task

    def add(self, tasks: Iterable[Crystal]) -> None:
        """Append calculations."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A line that was cut off has no end.
        is_cut = self.path.exists() and not self.path.read_bytes().endswith(b"\n")
        with self.path.open("ab") as file:
            file.write(b"\n" if is_cut else b"")
            for task in tasks:
                arrays = {"atomic_numbers": task.atomic_numbers, "positions": task.positions, "cell": task.cell}
                record = {name: array.tolist() for name, array in (arrays | task.targets).items()}
                file.write(json.dumps({"id": task.id, **record}).encode() + b"\n")
