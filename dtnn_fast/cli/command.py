# SPDX-License-Identifier: MIT
"""The class of all commands."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


class Command(TyperCommand):
    """A command whose help shows defaults that are texts in the same way as other defaults, without parentheses."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for parameter in self.params:
            option: Any = parameter
            if isinstance(option.show_default, str):
                option.help = f"{option.help} [default: {option.show_default}]"
                option.show_default = False
