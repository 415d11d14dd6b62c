# SPDX-License-Identifier: MIT
"""Tables of an evaluation on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import table as rich_table
from rich.console import Console
from rich.text import Text

from ..evaluation.tables import Cell, Table


def print_tables(console: Console, tables: Sequence[Table]) -> None:
    """Print tables with the best in bold; where the output is a file, between **."""
    for table in tables:
        printed = rich_table.Table(title=table.title, caption="; ".join(table.notes) or None, box=None)
        for number, name in enumerate(table.header):
            printed.add_column(Text(name), justify="right" if number and table.is_numeric else "left")
        for row in table.rows:
            printed.add_row(*(_text(cell, console.is_terminal) for cell in row))
        console.print(printed)


def _text(cell: Cell, is_terminal: bool) -> Text:
    if not cell.best:
        return Text(cell.text)
    return Text(cell.text, style="bold") if is_terminal else Text(f"**{cell.text}**")
