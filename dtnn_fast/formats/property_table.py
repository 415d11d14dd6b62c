# SPDX-License-Identifier: MIT
"""Tables of properties by id, which accompany files of crystals: the CSV of GNoME, the summary of WBM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..crystals.crystal import Crystal
from ..errors import BadFileError
from .compressed import open_file, uncompressed_name
from .csv_rows import csv_rows, id_column
from .scalars import Scalar, parse_scalar, scalars_of
from .text_files import TextFile

# Stands in no text that people write.
_BETWEEN_CELLS = "\x1f"


@dataclass
class PropertyTable:
    """A table of properties by id.

    Args:
        path: the file.
        columns: names of the columns, without the column of ids.
        rows: the cells of each row by id, joined to one text, which takes a tenth of the memory of single values.
        num_repeated: number of rows whose id is in an earlier row; the first row of an id is used.
    """

    path: Path
    columns: list[str]
    rows: Mapping[str, str]
    num_repeated: int = 0
    _matched: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path | str) -> PropertyTable:
        """Read a CSV file with a column of ids, which may be compressed (.gz, .bz2, .xz).

        Args:
            path: the file.

        Raises:
            BadFileError: it cannot be read as CSV, has no column of ids, or a row has another number of cells.
        """
        path = Path(path)
        with open_file(path) as file:
            rows = csv_rows(path, TextFile(path, file).chunks())
            _, header = next(rows, (0, []))
            ids = id_column(header)
            if ids is None:
                raise BadFileError(f"{path}: no column of ids, such as material_id, MaterialId or id")
            found: dict[str, str] = {}
            num_repeated = 0
            for line, row in rows:
                if len(row) != len(header):
                    raise BadFileError(f"{path}: line {line}: expected {len(header)} cells, got {len(row)}")
                name = row.pop(ids).strip()
                num_repeated += name in found
                found.setdefault(name, _BETWEEN_CELLS.join(cell.replace(_BETWEEN_CELLS, " ") for cell in row))
        return cls(path, [*header[:ids], *header[ids + 1 :]], found, num_repeated)

    def unmatched(self) -> list[str]:
        """List the ids that no crystal had so far, in the order of the table."""
        return [name for name in self.rows if name not in self._matched]

    def properties_of(self, id: str) -> dict[str, Scalar]:
        """Return the properties of a crystal by column, numbers as numbers; empty cells and NaN are left out.

        Args:
            id: as in the table.
        """
        row = self.rows.get(id)
        if row is None:
            return {}
        cells = zip(self.columns, row.split(_BETWEEN_CELLS), strict=True)
        return scalars_of({name: parse_scalar(cell) for name, cell in cells if name})

    def join(self, crystal: Crystal) -> Crystal:
        """Return a crystal with its properties added to `Crystal.info`; existing values of the same name are kept.

        Args:
            crystal: its id is looked up. An id with folders in front of it is looked up whole, then without them, and
                a POSCAR or CONTCAR then by its folder.
        """
        name = self.match(crystal.id)
        return crystal if name is None else replace(crystal, info=self.properties_of(name) | crystal.info)

    def match(self, id: str) -> str | None:
        """Find the id in the table that stands for a crystal, and count it as matched.

        Args:
            id: of the crystal; see `join`.

        Returns:
            None where the table has no such id.
        """
        *folders, last = id.split("/")
        is_vasp = bool(folders) and uncompressed_name(last).upper() in ("POSCAR", "CONTCAR")
        for name in (id, folders[-1] if is_vasp else last):
            if name in self.rows:
                self._matched.add(name)
                return name
        return None
