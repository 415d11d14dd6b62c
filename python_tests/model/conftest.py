# SPDX-License-Identifier: MIT
"""Runs the tests of this folder on one thread."""

from model_cases import one_thread  # noqa: F401  a fixture that every test uses
