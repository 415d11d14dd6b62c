# SPDX-License-Identifier: MIT
"""Runs the tests of this folder on one thread, and study files without waiting for the disk."""

import pytest
from model_cases import one_thread  # noqa: F401  a fixture that every test uses


@pytest.fixture(autouse=True)
def quick_disk():
    """A test's study need not outlive a power cut: SQLite waits for the disk hundreds of times otherwise."""
    sqlalchemy = pytest.importorskip("sqlalchemy")

    def connected(connection, record):
        connection.execute("PRAGMA synchronous=OFF")

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "connect", connected)
    yield
    sqlalchemy.event.remove(sqlalchemy.engine.Engine, "connect", connected)
