# SPDX-License-Identifier: MIT
"""What the tests of torch.compile share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

# The first size shares no number with another dimension (3 and 6 components, channels): by default torch gives
# dimensions that are equal in the first call one symbol. Then 20 others, up and down.
FIRST_SIZE = 10
OTHER_SIZES = (7, 13, 2, 40, 3, 4, 5, 6, 8, 9, 11, 12, 14, 15, 17, 20, 21, 25, 31, 64)


@contextmanager
def no_recompilation() -> Iterator[None]:
    """Make a recompilation in the block an error."""
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    """No code that an earlier test compiled, and none left behind."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
