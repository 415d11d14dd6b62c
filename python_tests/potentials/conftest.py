# SPDX-License-Identifier: MIT
"""All tests of this folder run on one thread."""

from model_cases import one_thread  # noqa: F401  a fixture that every test uses
