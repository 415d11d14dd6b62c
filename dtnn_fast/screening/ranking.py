# SPDX-License-Identifier: MIT
"""Ranking of predicted crystals with DuckDB, over parts on disk that need not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..crystals.elements import atomic_number
from ..errors import BadFileError, DTNNError, optional_import
from .crystal_warnings import OFF_THE_LIST
from .kept_columns import NUMBERS
from .parts import Parts
from .store import DESCRIPTIONS

if TYPE_CHECKING:
    import pyarrow

FIGURE_OF_MERIT = "figure_of_merit"
RANKED_NUMBERS = ("mean", "e1", "e2", "e3", "anisotropy")
# Written first; then all numbers, then what the source has.
_FIRST_COLUMNS = ("id", "formula", "crystal_system", "space_group", "num_atoms", "labelled")
_LAST_COLUMNS = ("prototype", "duplicate_of", "source", "warnings", "warning_codes")
_NOT_IN_CSV = frozenset(
    {"lattice_vectors", "species_at_sites", "cartesian_site_positions", "atomic_numbers", "positions", "born_charges"}
    | {"elements", "nsites", "place", "why_not_ranked", "rank_value", "rank_group"}
)
_TENSOR_PARTS = ("_xx", "_yy", "_zz", "_yz", "_xz", "_xy")


@dataclass(frozen=True)
class RankingRules:
    """Rules of a ranking: which crystals are ranked, and by which number.

    Args:
        by: an SQL expression over the columns, for example ``total_mean`` or ``band_gap * total_mean``; None for the
            figure of merit band_gap * total_mean; crystals without a known gap follow, by the mean of the total tensor.
        lowest_first: whether small values are ranked first.
        where: an SQL condition; crystals that do not meet it, or where it is unknown, are left out.
        elements: symbols of elements; a crystal must contain all of them.
        without_elements: symbols of elements; a crystal must contain none of them.
        rank_unreliable: whether crystals whose warnings are in `OFF_THE_LIST` are ranked too.
        rank_duplicates: whether crystals that are marked as duplicates of others are ranked too.
        most_of_prototype: maximum number of ranked crystals of each prototype; None for no limit.
        pareto: whether only the Pareto front is ranked: crystals that no other crystal exceeds in both band gap and
            ranked value.
    """

    by: str | None = None
    lowest_first: bool = False
    where: str | None = None
    elements: tuple[str, ...] = ()
    without_elements: tuple[str, ...] = ()
    rank_unreliable: bool = False
    rank_duplicates: bool = False
    most_of_prototype: int | None = None
    pareto: bool = False


class RankingError(DTNNError):
    """Error for a ranking expression that is wrong, or that names a column missing in the part files."""


class Ranking:
    """Ranked crystals of one or several screenings; made by `open_ranking`.

    Args:
        connection: to DuckDB, with the tables ``crystals``, ``ranked`` and ``unranked``.
        targets: tensors that were predicted.
        rules: how they are ranked.
    """

    def __init__(self, connection: Any, targets: tuple[str, ...], rules: RankingRules) -> None:
        self.connection, self.targets, self.rules = connection, targets, rules

    @property
    def value_name(self) -> str:
        """Name of the number that crystals are ranked by."""
        if self.rules.by is not None:
            return self.rules.by
        main = main_target(self.targets)
        return f"figure of merit (band gap x {main} mean) where the gap is known, then {main} mean"

    def columns(self) -> dict[str, str]:
        """Return the columns that expressions can use, and their types in SQL."""
        rows = self.connection.execute("DESCRIBE crystals").fetchall()
        return {row[0]: row[1] for row in rows if row[0] != "place"}

    def count(self) -> int:
        """Return the number of ranked crystals."""
        return int(self.connection.execute("SELECT count(*) FROM ranked").fetchall()[0][0])

    def count_all(self) -> int:
        """Return the number of predicted crystals."""
        return int(self.connection.execute("SELECT count(*) FROM crystals").fetchall()[0][0])

    def count_unranked(self) -> int:
        """Return the number of crystals that are not ranked, although they meet the conditions."""
        return int(self.connection.execute("SELECT count(*) FROM unranked").fetchall()[0][0])

    def reasons(self) -> dict[str, int]:
        """Count the crystals that are not ranked, by reason; one crystal may have several."""
        query = (
            "SELECT reason, count(*) FROM (SELECT unnest(string_split(why_not_ranked, ' ')) AS reason FROM unranked) "
            "GROUP BY reason ORDER BY count(*) DESC, reason"
        )
        return dict(self.connection.execute(query).fetchall())

    def warning_counts(self) -> dict[str, int]:
        """Count the predicted crystals with each warning."""
        query = (
            "SELECT code, count(*) FROM (SELECT unnest(string_split(warning_codes, ' ')) AS code FROM crystals "
            "WHERE warning_codes <> '') GROUP BY code ORDER BY code"
        )
        return dict(self.connection.execute(query).fetchall())

    def top(self, count: int) -> list[dict[str, Any]]:
        """Return the crystals of the first ranks with all columns, the first rank first."""
        return _rows(self.connection.execute(f"SELECT * FROM ranked ORDER BY rank LIMIT {int(count)}"))

    def table(self, metadata: Mapping[str, str] | None = None) -> pyarrow.Table:
        """Return the ranked crystals as a `pyarrow.Table` in memory, best first.

        Args:
            metadata: recorded in the table.
        """
        relation = self.connection.sql("SELECT * EXCLUDE (place, rank_value) FROM ranked ORDER BY rank")
        return relation.to_arrow_table().replace_schema_metadata(dict(metadata or {}))

    def points(self, most: int, num_first: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return what a figure of all predicted crystals needs.

        Args:
            most: largest number of crystals; of more, a random sample that is always the same.
            num_first: number of crystals of the first ranks, which are always among them.

        Returns:
            Columns formula, labelled, and the means, anisotropies and published means of the targets, and the rows of
            the first ranks, the first rank first.
        """
        names = {row[0] for row in self.connection.execute("DESCRIBE crystals").fetchall()}
        numbers = [f"{target}_{name}" for target in self.targets for name in ("mean", "anisotropy", "published_mean")]
        chosen = ", ".join(["place", "formula", "labelled", *(name for name in numbers if name in names)])
        first = self.connection.execute(
            f"SELECT {chosen} FROM ranked ORDER BY rank LIMIT {int(num_first)}"
        ).fetchnumpy()
        sample = f" USING SAMPLE reservoir({int(most)} ROWS) REPEATABLE (0)" if self.count_all() > most else ""
        others = self.connection.execute(f"SELECT {chosen} FROM crystals{sample}").fetchnumpy()
        is_first = np.isin(others["place"], first["place"])
        columns = {name: np.concatenate([_filled(first[name]), _filled(others[name][~is_first])]) for name in first}
        return columns, np.arange(len(first["place"]))

    def write(self, ranking: Path, unranked: Path) -> None:
        """Write two CSV files: the ranked crystals, best first, and the unranked crystals with the reasons.

        Args:
            ranking: a path; replaces a file there.
            unranked: a path; replaces a file there.

        Raises:
            BadFileError: a file cannot be written.
        """
        names = [row[0] for row in self.connection.execute("DESCRIBE ranked").fetchall()]
        numbers = [
            name
            for name in names
            if name not in {*_FIRST_COLUMNS, *_LAST_COLUMNS, *_NOT_IN_CSV, "rank", FIGURE_OF_MERIT}
        ]
        numbers = [name for name in numbers if not name.endswith(_TENSOR_PARTS)]
        columns = ["rank", *_FIRST_COLUMNS, FIGURE_OF_MERIT, *numbers, *_LAST_COLUMNS]
        chosen = ", ".join(_rounded(name, self.targets) for name in columns if name in {*names, "rank"})
        self._copy(f"SELECT {chosen} FROM ranked ORDER BY rank", ranking)
        listed = ", ".join(_rounded(name, self.targets) for name in columns if name in names and name != "rank")
        self._copy(f"SELECT why_not_ranked, {listed} FROM unranked ORDER BY place", unranked)

    def _copy(self, query: str, path: Path) -> None:
        from ..files import replacing

        try:
            with replacing(path) as unfinished:
                target = str(unfinished).replace("'", "''")
                self.connection.execute(f"COPY ({query}) TO '{target}' (HEADER, FORMAT csv)")
        except (OSError, _duckdb().Error) as error:
            raise BadFileError(f"{path}: cannot be written: {error}") from error


def main_target(targets: Sequence[str]) -> str:
    """Return the target that is ranked by default: the total tensor if the model predicts it."""
    return "total" if "total" in targets else targets[-1]


def sort_columns(targets: Sequence[str]) -> list[str]:
    """List the columns of the predicted tensors that crystals can be ranked by."""
    return [f"{target}_{name}" for target in targets for name in DESCRIPTIONS]


def complete_column(name: str, targets: Sequence[str]) -> str:
    """Complete a short name: "mean" becomes "total_mean" and the like; other expressions stay as they are."""
    return f"{main_target(targets)}_{name}" if name in DESCRIPTIONS else name


@contextmanager
def open_ranking(folders: Sequence[Path | str], rules: RankingRules) -> Iterator[Ranking]:
    """Rank the crystals of screenings.

    Args:
        folders: folders of screenings, whose crystals are ranked together.
        rules: the rules of the ranking.

    Raises:
        BadFileError: a folder has no parts, or one cannot be read.
        RankingError: an expression is wrong, or a column is missing.
        MissingPackageError: duckdb is not installed.
    """
    files = [file for folder in folders for file in Parts(Path(folder)).part_files()] if folders else []
    if not files:
        raise BadFileError(
            f"{', '.join(map(str, folders))}: no part files of a screening in it: run dtnn-fast screen first"
        )
    duckdb = _duckdb()
    with duckdb.connect() as connection:
        connection.execute("SET preserve_insertion_order = true")
        try:
            targets = _make_crystals(connection, files)
            if rules.by is not None:
                rules = replace(rules, by=complete_column(rules.by, targets))
            _make_ranked(connection, targets, rules)
        except (duckdb.BinderException, duckdb.ParserException, duckdb.ConversionException) as error:
            raise RankingError(f"the ranking cannot be made: {_first_lines(error)}") from error
        except duckdb.Error as error:
            raise BadFileError(f"the parts cannot be read: {_first_lines(error)}") from error
        yield Ranking(connection, targets, rules)


def check_expressions(rules: RankingRules, targets: Sequence[str]) -> None:
    """Check the grammar of a ranking's expressions, and the symbols of its elements, before there are any parts.

    Args:
        rules: the rules.
        targets: tensors that will be predicted.

    Raises:
        DTNNError: an expression is no SQL expression, `by` is a single name that is no predicted number or column that
            sources have, or an element does not exist.
        MissingPackageError: duckdb is not installed.
    """
    for name in (*rules.elements, *rules.without_elements):
        _symbol(name)
    duckdb = _duckdb()
    if rules.by is not None and rules.by.isidentifier():
        known = {*sort_columns(targets), FIGURE_OF_MERIT, "refractive_index", "training_distance", *NUMBERS}
        if complete_column(rules.by, targets) not in known and rules.by.startswith(("electronic_", "ionic_", "total_")):
            numbers = ", ".join(RANKED_NUMBERS)
            raise DTNNError(
                f"expected one of {numbers}, alone or after {', '.join(f'{target}_' for target in targets)}; "
                f"got {rules.by!r}"
            )
    for expression in (rules.by, rules.where):
        if expression is None:
            continue
        try:
            duckdb.extract_statements(f"SELECT ({expression}) FROM crystals")
        except duckdb.Error as error:
            raise DTNNError(f"expected an SQL expression, got {expression!r}: {_first_lines(error)}") from error


def _make_crystals(connection: Any, files: Sequence[Path]) -> tuple[str, ...]:
    """Make the view of all predicted crystals; return the predicted targets."""
    listed = ", ".join("'" + str(file).replace("'", "''") + "'" for file in files)
    source = f"read_parquet([{listed}], union_by_name = true)"
    names = {row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
    targets = tuple(target for target in ("electronic", "ionic", "total") if f"{target}_mean" in names)
    if not targets:
        raise DTNNError("the parts have no predicted tensor")
    more = ["num_atoms AS nsites", "list_sort(list_distinct(species_at_sites)) AS elements"]
    more.append(f"band_gap * {main_target(targets)}_mean AS {FIGURE_OF_MERIT}")
    # Rows have the order of the input.
    connection.execute(
        f"CREATE VIEW crystals AS SELECT row_number() OVER () AS place, *, {', '.join(more)} FROM {source}"
    )
    return targets


def _make_ranked(connection: Any, targets: tuple[str, ...], rules: RankingRules) -> None:
    mean = f"{main_target(targets)}_mean"
    value = f"({rules.by})" if rules.by is not None else f"coalesce({FIGURE_OF_MERIT}, {mean})"
    group = "0" if rules.by is not None else f"CASE WHEN {FIGURE_OF_MERIT} IS NULL THEN 1 ELSE 0 END"
    codes = ", ".join(f"'{code}'" for code in sorted(OFF_THE_LIST))
    reasons = [f"[code FOR code IN string_split(warning_codes, ' ') IF code IN ({codes})]"]
    if rules.rank_unreliable:
        reasons = ["CAST([] AS VARCHAR[])"]
    reasons.append(f"CASE WHEN {value} IS NULL THEN ['no_value'] ELSE [] END")
    if not rules.rank_unreliable:
        reasons.append("CASE WHEN band_gap <= 0 THEN ['no_band_gap'] ELSE [] END")
    if not rules.rank_duplicates:
        reasons.append("CASE WHEN duplicate_of IS NOT NULL THEN ['duplicate'] ELSE [] END")
    conditions = [f"coalesce(({rules.where}), false)"] if rules.where else []
    conditions += [f"list_contains(elements, '{_symbol(name)}')" for name in rules.elements]
    conditions += [f"NOT list_contains(elements, '{_symbol(name)}')" for name in rules.without_elements]
    joined = " || ".join(reasons)
    connection.execute(
        f"CREATE TEMP TABLE judged AS SELECT place, {value} AS rank_value, {group} AS rank_group, prototype, band_gap, "
        f"array_to_string({joined}, ' ') AS why_not_ranked FROM crystals"
        + (f" WHERE {' AND '.join(conditions)}" if conditions else "")
    )
    direction = "ASC" if rules.lowest_first else "DESC"
    order = f"rank_group, rank_value {direction}, place"
    kept = "SELECT place, rank_group, rank_value, prototype, band_gap FROM judged WHERE why_not_ranked = ''"
    if rules.pareto:
        better = "max" if not rules.lowest_first else "min"
        sign = ">" if not rules.lowest_first else "<"
        kept = (
            f"SELECT * EXCLUDE (best) FROM (SELECT *, {better}(rank_value) OVER (ORDER BY band_gap DESC, rank_value "
            f"{direction}, place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS best FROM ({kept}) "
            f"WHERE band_gap IS NOT NULL) WHERE best IS NULL OR rank_value {sign} best"
        )
    if rules.most_of_prototype is not None:
        kept = (
            f"SELECT * FROM ({kept}) QUALIFY prototype IS NULL OR "
            f"row_number() OVER (PARTITION BY prototype ORDER BY {order}) <= {int(rules.most_of_prototype)}"
        )
    connection.execute(
        f"CREATE TEMP TABLE places AS SELECT row_number() OVER (ORDER BY {order}) AS rank, place, rank_value "
        f"FROM ({kept})"
    )
    connection.execute(
        "CREATE VIEW ranked AS SELECT rank, rank_value, crystals.* FROM places JOIN crystals USING (place)"
    )
    connection.execute(
        "CREATE VIEW unranked AS SELECT why_not_ranked, crystals.* FROM judged JOIN crystals USING (place) "
        "WHERE why_not_ranked <> ''"
    )


def _symbol(name: str) -> str:
    """Check the symbol of an element.

    Raises:
        DTNNError: there is no such element.
    """
    try:
        atomic_number(name)
    except ValueError as error:
        raise DTNNError(f"expected the symbol of an element, got {name!r}") from error
    return name


def _rounded(name: str, targets: Sequence[str]) -> str:
    quoted = f'"{name}"'
    if name.startswith(tuple(f"{target}_" for target in targets)) or name in (
        *(FIGURE_OF_MERIT, "refractive_index", "training_distance"),
    ):
        return f"CAST(round({quoted}, 4) AS DECIMAL(18, 4)) AS {quoted}"
    return quoted


def _filled(values: Any) -> np.ndarray:
    """Put NaN for missing numbers."""
    filled: np.ndarray = values.filled(np.nan) if np.ma.isMaskedArray(values) and values.dtype.kind == "f" else values
    return np.asarray(filled)


def _rows(result: Any) -> list[dict[str, Any]]:
    names = [column[0] for column in result.description]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def _first_lines(error: Exception) -> str:
    return " ".join(str(error).split("\n\n")[0].split())


def _duckdb() -> Any:
    return optional_import("duckdb", extra="cli", purpose="rank crystals")
