# SPDX-License-Identifier: MIT
"""All tests of this folder run on one thread, and write study files without waiting for the disk."""

import pytest
from model_cases import one_thread  # noqa: F401  a fixture that every test uses


@pytest.fixture(autouse=True)
def quick_disk():
    """Turn off SQLite's waits for the disk, hundreds per study, which only protect from power cuts."""
    sqlalchemy = pytest.importorskip("sqlalchemy")

    def connected(connection, record):
        connection.execute("PRAGMA synchronous=OFF")

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "connect", connected)
    yield
    sqlalchemy.event.remove(sqlalchemy.engine.Engine, "connect", connected)
