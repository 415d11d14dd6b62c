# SPDX-License-Identifier: MIT
"""Makes the modules of this folder, such as helpers.py, importable from every test folder, and the tools."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
TOOLS = Path(__file__).parents[1] / "tools"
sys.path += [str(TOOLS), str(TOOLS / "site")]


@pytest.fixture(autouse=True)
def torch_stays_as_it_is() -> Iterator[None]:
    """Refuse tests that replace a special method of Tensor, `__getitem__` for example: use a TorchFunctionMode.

    Python keeps the slot of such a method after it is restored, and torch.tensor([scalar, 1]) then fails in all later
    tests of the process.
    """
    yield
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        torch.tensor([torch.zeros(()), 1])
