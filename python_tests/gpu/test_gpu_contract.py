# SPDX-License-Identifier: MIT
"""torch.library.opcheck, torch.compile, and the same bits in every run."""

from __future__ import annotations

import pytest
import torch
from gpu_samples import MEDIUM, SMALL, Sample, name_of
from helpers import check_operator
from torch.utils._python_dispatch import TorchDispatchMode

RUNS = 20
# One payload of each sum and gather: only the ends differ.
VARIANTS = [s for s in SMALL if not s.op.startswith(("bond_to", "atom_to")) or s.name.endswith("-3x2")]


class Recorded(TorchDispatchMode):
    """Records the operations of dtnn_fast that run, with their arguments; backward ones too."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, tuple] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func.namespace == "dtnn_fast":
            self.calls[func.name()] = (func, args)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("sample", VARIANTS, ids=name_of)
def test_opcheck(sample: Sample, device: torch.device):
    """The forward operation and all operations that its derivatives call."""
    here = sample.on(device, torch.float64)
    with Recorded() as recorded:
        here.derivatives()
    assert any(name.startswith("dtnn_fast::" + sample.op.removesuffix("_norm")) for name in recorded.calls)
    for func, args in recorded.calls.values():
        fresh = [x.detach().clone().requires_grad_() if _differentiable(x) else x for x in args]
        check_operator(func, *fresh)


def _differentiable(x: object) -> bool:
    return isinstance(x, torch.Tensor) and x.is_floating_point()


@pytest.mark.parametrize("sample", VARIANTS, ids=name_of)
def test_compiled_equals_eager(sample: Sample, device: torch.device):
    here = sample.on(device, torch.float32)
    torch.compiler.reset()
    compiled = torch.compile(here.call, fullgraph=True, backend="aot_eager")
    results = []
    for function in (here.call, compiled):
        leaves = [x.detach().clone().requires_grad_() for x in here.leaves]
        outputs = function(*leaves)
        sum(out.sin().sum() for out in outputs).backward()
        results.append([*outputs, *(x.grad for x in leaves)])
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize("sample", MEDIUM, ids=name_of)
def test_same_bits_in_every_run(sample: Sample, device: torch.device):
    here = sample.on(device, torch.float32)
    first = here.derivatives()
    for _ in range(RUNS - 1):
        assert all(torch.equal(a, b) for a, b in zip(here.derivatives(), first, strict=True))
