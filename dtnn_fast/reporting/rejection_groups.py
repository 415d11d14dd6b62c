# SPDX-License-Identifier: MIT
"""Rejected crystals of a screening, grouped by reason."""

from __future__ import annotations

from typing import Any

from .screening_folder import ScreeningFolder

# Reasons name atoms, numbers, files and ids. Without these, reasons of one kind are equal. Applied in this order.
_SPECIFICS = (
    (r"'[^']*'", "'…'"),
    (r"\([A-Z][a-z]?\)", "(…)"),
    (r"[-+]?\d[\d,]*(\.\d+)?([eE][-+]?\d+)?", "…"),
    (r"\s+", " "),
)
_MOST_GROUPS, _MOST_LISTED, _LONGEST_TEXT = 40, 1500, 400


def group_rejected(folder: ScreeningFolder) -> dict[str, Any]:
    """Count rejected crystals by reason, and list some of each.

    Args:
        folder: the screening.

    Returns:
        `total`; `groups`, most frequent first, each with reason and count; `rows`, each with id, source, reason and the
        index of its group, or null for that of rare reasons, which are counted together in `others`.
    """
    pattern = "coalesce(reason, 'no reason given')"
    for name in ("source", "id"):
        pattern = f"CASE WHEN length({name}) > 2 THEN replace({pattern}, {name}, '…') ELSE {pattern} END"
    for expression, replacement in _SPECIFICS:
        quoted, new = expression.replace("'", "''"), replacement.replace("'", "''")
        pattern = f"regexp_replace({pattern}, '{quoted}', '{new}', 'g')"
    folder.query(
        "CREATE OR REPLACE TEMP TABLE rejected_patterns AS SELECT id, source, reason, "
        f"left(regexp_replace(trim({pattern}), '^…( \\(…\\))?: ', ''), {_LONGEST_TEXT}) AS pattern FROM rejected"
    )
    total = folder.one("SELECT count(*) AS n FROM rejected")["n"]
    found = folder.query(
        "SELECT pattern, count(*) AS n, any_value(reason) AS example FROM rejected_patterns GROUP BY pattern "
        f"ORDER BY n DESC, pattern LIMIT {_MOST_GROUPS}"
    )
    places = {group["pattern"]: place for place, group in enumerate(found)}
    # The same number of each reason, so that a frequent one does not hide the others.
    rows = folder.query(
        "SELECT id, source, reason, pattern FROM (SELECT *, row_number() OVER (PARTITION BY pattern ORDER BY id, "
        f"source) AS place FROM rejected_patterns) ORDER BY place, pattern LIMIT {_MOST_LISTED}"
    )
    listed = [
        [_clip(row["id"]), _clip(row["source"]), _clip(row["reason"]), places.get(row["pattern"])] for row in rows
    ]
    listed.sort(key=lambda row: (len(places) if row[3] is None else row[3], row[0]))
    return {
        "total": total,
        "groups": [{"reason": group["pattern"], "count": group["n"]} for group in found],
        "others": total - sum(group["n"] for group in found),
        "rows": listed,
    }


def _clip(text: str | None) -> str:
    text = text or ""
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
