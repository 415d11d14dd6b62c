# SPDX-License-Identifier: MIT
"""Servers of the bundled model in processes of their own: one as users start it, one with small limits."""

import pytest
from serving_processes import started

from dtnn_fast.model.load_predictor import load_predictor


@pytest.fixture(scope="session")
def server():
    with started("--threads", 1) as running:
        yield running


@pytest.fixture(scope="session")
def small_server():
    """A server whose limits are easily reached, known by a name and used by the pages of another site."""
    limits = ("--max-size", 0.02, "--max-atoms", 12, "--max-crystals", 4, "--timeout", 4, "--reading-timeout", 1)
    names = ("--allow-host", "Crystals.example", "--allow-origin", "https://friend.example")
    with started(*limits, *names, "--workers", 2) as running:
        yield running


@pytest.fixture(scope="session")
def model():
    return load_predictor("dielectric")
