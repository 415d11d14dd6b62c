# SPDX-License-Identifier: MIT
"""Batch sizes and fixtures of the tests of torch.compile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

# By default torch gives dimensions that are equal in the first call the same symbol, so the first size differs from all
# other dimensions (3 and 6 components, channels). The 20 other sizes are larger and smaller.
FIRST_SIZE = 10
OTHER_SIZES = (7, 13, 2, 40, 3, 4, 5, 6, 8, 9, 11, 12, 14, 15, 17, 20, 21, 25, 31, 64)


@contextmanager
def no_recompilation() -> Iterator[None]:
    """Make a recompilation in the block an error."""
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    """Drop compiled code before and after the test, and do not take derivatives from torch's cache on disk.

    That cache knows an operation by its name, not by its Python code: it would return what a former version computed.
    """
    torch._dynamo.reset()
    with torch._functorch.config.patch(enable_autograd_cache=False):
        yield
    torch._dynamo.reset()
