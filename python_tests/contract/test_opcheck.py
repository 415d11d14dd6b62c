# SPDX-License-Identifier: MIT
"""torch.library.opcheck and both derivatives in float64 for every operation of the namespace.

Checks of a single operation (derivatives with some inputs fixed, at zero, for other shapes) are in
python_tests/ops/test_<op>.py.
"""

from __future__ import annotations

import pytest
import torch
from helpers import check_first_and_second_derivatives, check_operator
from op_cases import OPERATIONS, batch, differentiable, leaves, on, operation_of, outputs
from torch import Tensor

DIFFERENTIABLE = [name for name, case in OPERATIONS.items() if differentiable(case)]


def test_every_operation_of_the_namespace_has_a_case():
    registered = {
        name.split("::")[1] for name in torch._C._dispatch_get_all_op_names() if name.startswith("dtnn_fast::")
    }
    # The contract is about tensors.
    without_tensors = {"has_cuda_kernels", "library_path", "set_immediate_device_errors", "raise_device_error"}
    assert {operation_of(name) for name in OPERATIONS} == registered - without_tensors


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("num_crystals", [3, 0])
def test_opcheck(name, num_crystals, device):
    case = OPERATIONS[name]
    arguments = on(case.arguments(batch(num_crystals)), device)
    if name in DIFFERENTIABLE:
        leaves(arguments)
    check_operator(case.call.default, *arguments)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_first_and_second_derivatives(name, device):
    case = OPERATIONS[name]
    arguments = on(case.arguments(batch(1)), device)
    places = [i for i, x in enumerate(arguments) if isinstance(x, Tensor) and x.is_floating_point()]

    def call(*moving: Tensor) -> tuple[Tensor, ...]:
        given = list(arguments)
        for place, x in zip(places, moving, strict=True):
            given[place] = x
        return tuple(out.sin() for out in outputs(case.call(*given)) if out.numel())

    # Of second derivatives, which have many arguments, along random directions.
    fast_mode = operation_of(name).endswith("_double_backward")
    check_first_and_second_derivatives(call, *(arguments[place] for place in places), fast_mode=fast_mode)
