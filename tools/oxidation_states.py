# SPDX-License-Identifier: MIT
"""Print the table of dtnn_fast/crystals/charge_balance.py from pymatgen's data of the elements (extra "io")."""

from __future__ import annotations

from collections.abc import Iterable
from math import isnan

from pymatgen.core import Element


def _listed(states: Iterable[float]) -> str:
    return ",".join(f"{state:g}" for state in sorted(states)) or "-"


def main() -> None:
    """Print symbol, group, electronegativity, common states and other states of each element up to lawrencium."""
    entries = []
    for z in range(1, 104):
        element = Element.from_Z(z)
        common = set(element.common_oxidation_states)
        x = "-" if isnan(element.X) else f"{element.X:g}"
        others = set(element.icsd_oxidation_states) - common
        entries.append(f"{element.symbol} {element.group} {x} {_listed(common)} {_listed(others)}")
    line = ""
    for entry in entries:
        if len(line) + len(entry) + 2 > 112:
            print(line + ";")
            line = ""
        line += ("; " if line else "") + entry
    print(line)


if __name__ == "__main__":
    main()
