# SPDX-License-Identifier: MIT
"""Tables as Markdown."""

from __future__ import annotations

from .tables import Cell, Table


def to_markdown(table: Table, level: int = 3) -> str:
    """A heading, the table with the best in bold, and its notes.

    Args:
        table: what to write.
        level: of the heading.
    """
    lines = [f"{'#' * level} {table.title}", ""]
    lines.append(_line([_escape(name) for name in table.header]))
    others = "| ---: " if table.is_numeric else "| --- "
    lines.append("| --- " + others * (len(table.header) - 1) + "|")
    lines += [_line([_cell(cell) for cell in row]) for row in table.rows]
    if table.notes:
        lines += ["", "; ".join(_escape(note) for note in table.notes) + "."]
    return "\n".join(lines)


def _cell(cell: Cell) -> str:
    text = _escape(cell.text)
    return f"**{text}**" if cell.best else text


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
