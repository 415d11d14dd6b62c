# SPDX-License-Identifier: MIT
"""Extension of griffe for this project's docstrings, which differ from its Google style in two headings.

- ``Example:`` holds one runnable example; griffe reads examples under ``Examples:``.
- ``Args:`` of a class without a constructor of its own, such as a NamedTuple, are its ``Attributes:``.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


class ProjectDocstrings(griffe.Extension):
    """Renames sections so that griffe's parser knows them."""

    def on_class(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Rename the arguments of a class to attributes where nothing takes them as arguments."""
        if "NamedTuple" in map(str, cls.bases):
            _rename(cls, "Args", "Attributes")

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rename the example of any object."""
        _rename(obj, "Example", "Examples")


def _rename(obj: griffe.Object, name: str, to: str) -> None:
    if obj.docstring is not None:
        obj.docstring.value = re.sub(rf"^(\s*){name}:\s*$", rf"\1{to}:", obj.docstring.value, flags=re.MULTILINE)
