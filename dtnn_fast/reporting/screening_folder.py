# SPDX-License-Identifier: MIT
"""What a report reads from the folder of a screening, by DuckDB: counts, histograms, samples, and the first ranks.

A query never returns more than a page shows, so folders of millions of crystals need no more memory than small ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import BadFileError, optional_import
from ..files import read_json_object
from ..screening.crystal_warnings import OFF_THE_LIST

TARGETS = ("electronic", "ionic", "total")
_PARTS, _REJECTED_PARTS = "part-*.parquet", "rejected-*.parquet"
# Columns that a part may lack, with their types.
_OPTIONAL_COLUMNS = {
    "band_gap": "DOUBLE",
    "e_above_hull": "DOUBLE",
    "duplicate_of": "VARCHAR",
    "prototype": "VARCHAR",
    "space_group": "BIGINT",
    "crystal_system": "VARCHAR",
    "source": "VARCHAR",
    "labelled": "BOOLEAN",
    "warnings": "VARCHAR",
    "warning_codes": "VARCHAR",
    "training_distance": "DOUBLE",
    "refractive_index": "DOUBLE",
    "species_at_sites": "VARCHAR[]",
    "cartesian_site_positions": "DOUBLE[][]",
    "lattice_vectors": "DOUBLE[][]",
    "num_atoms": "BIGINT",
}
_READ_CSV = (
    "read_csv(?, header = true, all_varchar = true, delim = ',', quote = '\"', escape = '\"', max_line_size = 10000000)"
)
# Without any of these a part is none of ours.
_NEEDED_COLUMNS = ("id", "formula")


class ScreeningFolder:
    """The folder of a screening, open for queries; use it in a ``with`` statement.

    Args:
        path: the folder that ``dtnn-fast screen`` wrote.

    Raises:
        BadFileError: it holds no parts, or a file cannot be read; the message names it.
        MissingPackageError: duckdb is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._duckdb = optional_import("duckdb", extra="report", purpose="read the parts of a screening")
        self.path = path
        parts = sorted(path.glob(_PARTS))
        if not parts:
            raise BadFileError(
                f"{path}: expected files {_PARTS} of a screening, found none: is it the folder of dtnn-fast screen?"
            )
        self.manifest = self._json("manifest.json")
        self.summary = self._json("summary.json")
        self._connection = self._duckdb.connect(":memory:")
        # Nothing but the files of the folder is read: no extension is loaded over the network.
        self._connection.execute("SET autoinstall_known_extensions = false; SET enable_progress_bar = false")
        try:
            self._open_parts(parts)
            self._open_ranking()
            self._open_rejected()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ScreeningFolder:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the connection to DuckDB."""
        self._connection.close()

    def not_ranked(self) -> list[tuple[str, int]]:
        """Count the predicted crystals that are not ranked, by code of the reason; one crystal may have several.

        Returns:
            Codes and counts, most frequent first; empty without unranked.csv.
        """
        path = self.path / "unranked.csv"
        if not path.exists():
            return []
        rows = self.query(
            "SELECT code, count(*) AS n FROM (SELECT unnest(string_split(why_not_ranked, ' ')) AS code FROM "
            f"{_READ_CSV}) GROUP BY code ORDER BY n DESC, code",
            [_escape_glob(path)],
        )
        return [(row["code"], row["n"]) for row in rows]

    @property
    def main_target(self) -> str:
        """The target that crystals are ranked by: the total tensor if there is one."""
        return "total" if "total" in self.targets else self.targets[-1]

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Run a query on the views parts, ranking and rejected.

        Args:
            sql: the query.
            values: of its parameters.

        Returns:
            The rows, by name of the column.

        Raises:
            BadFileError: a file cannot be read.
        """
        try:
            answer = self._connection.execute(sql, list(values))
            names = [column[0] for column in answer.description]
            return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
        except self._duckdb.Error as error:
            raise BadFileError(f"{self.path}: the screening cannot be read: {_one_line(error)}") from error

    def one(self, sql: str, values: Sequence[Any] = ()) -> dict[str, Any]:
        """Return the only row of a query; see `query`."""
        return self.query(sql, values)[0]

    def _json(self, name: str) -> dict[str, Any] | None:
        path = self.path / name
        return read_json_object(path) if path.exists() else None

    def _open_parts(self, parts: Sequence[Path]) -> None:
        self.columns = self._view_files(parts, "stored_parts")
        self.targets = tuple(target for target in TARGETS if f"{target}_mean" in self.columns)
        missing = [name for name in _NEEDED_COLUMNS if name not in self.columns]
        if missing or not self.targets:
            wanted = ", ".join(missing or ["total_mean"])
            raise BadFileError(f"{parts[0]}: expected a part of a screening with the column {wanted}, found none")
        # A gap or permittivity that is not a number, as some sources write for unknown, is unknown.
        gap = _finite("band_gap") if "band_gap" in self.columns else "NULL::DOUBLE"
        absent = [name for name in _OPTIONAL_COLUMNS if name not in self.columns and name != "band_gap"]
        added = "".join(f", NULL::{_OPTIONAL_COLUMNS[name]} AS {name}" for name in absent)
        # Names of ours win over those of a source; `rank` is that of the view ranking.
        computed = [name for name in ("band_gap", "eps", "figure_of_merit", "rank") if name in self.columns]
        replaced = f"* EXCLUDE ({', '.join(computed)})" if computed else "*"
        eps = _finite(f"{self.main_target}_mean")
        self.query(
            f"CREATE VIEW parts AS SELECT {replaced}, {gap} AS band_gap, {eps} AS eps, {gap} * {eps} AS figure_of_merit"
            f"{added} FROM stored_parts"
        )

    def _view_files(self, files: Sequence[Path], name: str) -> list[str]:
        """Make a view of Parquet files, and return its columns."""
        try:
            relation = self._connection.read_parquet([_escape_glob(file) for file in files], union_by_name=True)
            relation.create_view(name)
            columns: list[str] = relation.columns
        except self._duckdb.Error as error:
            raise BadFileError(f"{self.path}: the screening cannot be read: {_one_line(error)}") from error
        return columns

    def _open_ranking(self) -> None:
        """Make the view ranking of rank and id: from ranking.csv, or by the figure of merit where it is missing."""
        path = self.path / "ranking.csv"
        self.has_ranking_file = path.exists()
        if self.has_ranking_file:
            sql = f"CREATE TABLE ranking AS SELECT CAST(rank AS BIGINT) AS rank, id FROM {_READ_CSV}"
            values = [_escape_glob(path)]
        else:
            codes = ", ".join(f"'{code}'" for code in sorted(OFF_THE_LIST))
            sql = (
                "CREATE TABLE ranking AS SELECT row_number() OVER (ORDER BY figure_of_merit DESC NULLS LAST, "
                "eps DESC NULLS LAST, id) AS rank, id FROM parts WHERE duplicate_of IS NULL AND eps IS NOT NULL "
                "AND coalesce(band_gap, 1) > 0 "
                f"AND NOT list_has_any(string_split(coalesce(warning_codes, ''), ' '), [{codes}])"
            )
            values = []
        self.query(sql, values)
        lost = self.query("SELECT id FROM ranking WHERE id NOT IN (SELECT id FROM parts) LIMIT 1")
        if lost:
            raise BadFileError(
                f"{path}: ranks {lost[0]['id']}, which no part has: it belongs to another screening. Write it again "
                "with dtnn-fast rank, or remove it"
            )

    def _open_rejected(self) -> None:
        """Make the table rejected of id, source and reason: from rejected.csv, or the parts of an unfinished screening.

        rejected.csv also has what was rejected before anything was read, such as missing files.
        """
        files = sorted(self.path.glob(_REJECTED_PARTS))
        table = self.path / "rejected.csv"
        if table.exists():
            self.query(f"CREATE TABLE rejected AS SELECT id, source, reason FROM {_READ_CSV}", [_escape_glob(table)])
        elif files:
            self._view_files(files, "stored_rejected")
            self.query("CREATE VIEW rejected AS SELECT id, source, reason FROM stored_rejected")
        else:
            self.query("CREATE TABLE rejected (id VARCHAR, source VARCHAR, reason VARCHAR)")


def _finite(column: str) -> str:
    number = f"TRY_CAST({column} AS DOUBLE)"
    return f"CASE WHEN isfinite({number}) THEN {number} END"


def _escape_glob(path: Path) -> str:
    """Write a path so that DuckDB takes characters such as * and [ as they are."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in str(path))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
