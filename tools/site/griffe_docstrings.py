# SPDX-License-Identifier: MIT
"""Extension of griffe for this project's docstrings, which differ from its Google style in three places.

- ``Example:`` holds one runnable example; griffe reads examples under ``Examples:``.
- ``Args:`` of a class without a constructor of its own, such as a NamedTuple, are its ``Attributes:``.
- Constants are explained by the comment above them, or behind them.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


class ProjectDocstrings(griffe.Extension):
    """Renames sections so that griffe's parser knows them, and gives constants a docstring."""

    def on_class(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Rename the arguments of a class to attributes where nothing takes them as arguments."""
        if "NamedTuple" in map(str, cls.bases):
            _rename(cls, "Args", "Attributes")

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rename the example of any object."""
        _rename(obj, "Example", "Examples")

    def on_attribute(self, *, attr: griffe.Attribute, **kwargs: Any) -> None:
        """Make a docstring of the comment of a constant of a module."""
        if attr.docstring is None and isinstance(attr.parent, griffe.Module) and attr.lineno:
            lines = attr.lines_collection[attr.filepath]
            first = attr.lineno - 1
            while first > 0 and lines[first - 1].startswith("#"):
                first -= 1
            comments = lines[first : attr.lineno - 1] or re.findall(r"  (# .*)$", lines[attr.lineno - 1])
            if comments:
                text = " ".join(line.lstrip("# ") for line in comments)
                attr.docstring = griffe.Docstring(text[0].upper() + text[1:], parent=attr, lineno=attr.lineno)


def _rename(obj: griffe.Object, name: str, to: str) -> None:
    if obj.docstring is not None:
        obj.docstring.value = re.sub(rf"^(\s*){name}:\s*$", rf"\1{to}:", obj.docstring.value, flags=re.MULTILINE)
