# SPDX-License-Identifier: MIT
"""A small folder of a screening, with texts that would be dangerous as markup."""

import numpy as np
import pytest
import screening_parts
from screening_parts import HOSTILE_ID, HOSTILE_TEXT

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import load_screening


def perovskite() -> Crystal:
    """Cubic SrTiO3, of which 8 + 1 + 6 atoms are drawn."""
    fractional = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    info = {"crystal_system": "cubic", "space_group": 221, "band_gap_ev": 3.0}
    return Crystal("cubic-perovskite", np.array([38, 22, 8, 8, 8]), 3.9 * fractional, 3.9 * np.eye(3), info=info)


@pytest.fixture(scope="session")
def rows():
    """Rows of parts: labelled crystals and others, half of these with a gap, duplicates, warnings, hostile texts."""
    rng = np.random.default_rng(5)
    crystals = load_screening()
    chosen = [perovskite(), *crystals[:200:2], *crystals[1000:1400:2]]
    tensors = screening_parts.random_tensors(rng, len(chosen))
    made = []
    for k, crystal in enumerate(chosen):
        # Columns of a source whose names the queries use for something else.
        values = {"rank": -1.0, "eps": -1.0, "figure_of_merit": -1.0}
        if not crystal.targets and k % 2 and k > 0:
            values["band_gap"] = float(rng.gamma(3.0, 0.9))
        if k % 10 == 9:
            values |= {"warnings": "made of metals only: most are metals", "warning_codes": "metals_only"}
        if k % 25 == 12:
            values["duplicate_of"] = chosen[k - 1].id
        made.append(screening_parts.part_row(crystal, {name: t[k] for name, t in tensors.items()}, **values))
    # The first rank: a tensor whose ellipsoid is known.
    made[0] |= {f"total_{name}": value for name, value in zip(("xx", "yy", "zz"), (300.0, 200.0, 100.0), strict=True)}
    made[0] |= {"total_yz": 0.0, "total_xz": 0.0, "total_xy": 0.0, "total_mean": 200.0}
    made[1] |= {
        "id": HOSTILE_ID,
        "formula": "<b>Ti</b>O2",
        "source": HOSTILE_TEXT,
        "band_gap": 4.0,
        "total_mean": 120.0,
    }
    made[1] |= {"warnings": f"{HOSTILE_TEXT}; second text", "warning_codes": "far_from_training", "duplicate_of": None}
    made[2] |= {"band_gap": float("nan")}
    return made


@pytest.fixture(scope="session")
def rejected():
    listed = [
        (f"r-{k}", f"cifs/r-{k}.cif", f"r-{k} (cifs/r-{k}.cif): atoms {k} (O) and 7 (Ti) are 0.{k:02d} Angstrom apart")
        for k in range(30)
    ]
    listed += [(f"x-{k}", f"x-{k}.cif", "element Xe is unknown to the model") for k in range(5)]
    return [*listed, (HOSTILE_ID, HOSTILE_TEXT, HOSTILE_TEXT), ("", "empty.cif", "the file is empty")]


@pytest.fixture(scope="session")
def ranked(rows):
    """Ids from the first rank; the hostile crystal is ranked in spite of its warning."""
    order = screening_parts.merit_order(rows)
    return [order[0], HOSTILE_ID, *order[1:]]


@pytest.fixture(scope="session")
def folder(tmp_path_factory, rows, rejected, ranked):
    # Characters that DuckDB would take for patterns.
    path = tmp_path_factory.mktemp("screening") / "[a] * of <i>mine?"
    return screening_parts.write_screening(path, rows, rejected, ranked, rows_of_part=120)
