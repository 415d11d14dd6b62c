# SPDX-License-Identifier: MIT
"""One thread for all tests of this folder."""

from model_cases import one_thread  # noqa: F401  an autouse fixture
