# SPDX-License-Identifier: MIT
"""A table of numbers, for the terminal and for pages in Markdown."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cell:
    """Text of a table cell, and whether it is the best of the compared cells."""

    text: str
    best: bool = False


@dataclass
class ErrorTable:
    """A table whose first column is text.

    Args:
        title: above the table.
        header: headings of the columns.
        rows: one cell for each column.
        notes: below the table.
        is_numeric: whether the other columns are numbers, which are aligned at the right.
    """

    title: str
    header: list[str]
    rows: list[list[Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_numeric: bool = True


def to_markdown(table: ErrorTable, level: int = 3) -> str:
    """Format a table as Markdown: a heading, the table with the best cells in bold, and its notes.

    Args:
        table: what to format.
        level: level of the heading.
    """
    lines = [f"{'#' * level} {table.title}", ""]
    lines.append(_markdown_row([_escape(name) for name in table.header]))
    alignment = "| ---: " if table.is_numeric else "| --- "
    lines.append("| --- " + alignment * (len(table.header) - 1) + "|")
    lines += [_markdown_row([_markdown_cell(cell) for cell in row]) for row in table.rows]
    if table.notes:
        lines += ["", "; ".join(_escape(note) for note in table.notes) + "."]
    return "\n".join(lines)


def _markdown_cell(cell: Cell) -> str:
    text = _escape(cell.text)
    return f"**{text}**" if cell.best else text


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def _markdown_row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
