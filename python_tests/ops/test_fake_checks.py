# SPDX-License-Identifier: MIT
"""Every operation refuses tensors on different devices, with the message of the kernels."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from dtnn_fast.ops import (
    atom_readout,
    atom_to_bond_gather,
    atom_update,
    bond_perceptron_sum,
    bond_to_atom_sum,
    bond_vectors,
    decode,
    neighbor_list,
    rank2_gate,
    rank2_linear,
    tensor_readout,
)
from dtnn_fast.ops._registration import check_same_device
from dtnn_fast.ops.atom_readout import num_readout_weights
from dtnn_fast.ops.atom_update import num_update_weights

PAIRS, ROW_PTR, PTR = torch.tensor([[0], [0]]), torch.tensor([0, 1]), torch.tensor([0, 1])
POSITIONS, CELL, X, WEIGHT = torch.zeros(1, 3), torch.eye(3)[None], torch.ones(1, 3, 4), torch.ones(2, 4)
ATOMS = torch.ones(1, 2), torch.ones(1, 3, 1), torch.ones(1, 6, 1)
# Each operation with its tensor arguments.
CALLS = [
    (neighbor_list, (POSITIONS, CELL, torch.ones(1, 3, dtype=torch.bool), 1.5, PTR)),
    (bond_vectors, (POSITIONS, CELL, PAIRS, torch.ones(1, 3, dtype=torch.int32), PTR)),
    (bond_to_atom_sum, (torch.ones(1, 2), PAIRS, ROW_PTR)),
    (atom_to_bond_gather, (torch.ones(1, 2), PAIRS, ROW_PTR)),
    (
        bond_perceptron_sum,
        (
            *(torch.ones(1, 2), torch.ones(1), torch.ones(1, 2, 3), torch.ones(1, 3), torch.ones(1, 3, 2)),
            *(torch.ones(1, 2), PAIRS, ROW_PTR, torch.ones(2, 1)),
        ),
    ),
    (
        partial(decode, blocks=1, latent=1, readouts=1),
        (
            *(torch.ones(1, 2), torch.ones(1, 3, 1), torch.ones(1, 6, 1), torch.ones(1, 34), PTR),
            *(torch.ones(1, 3, 1), torch.ones(1, 1, 1), torch.ones(1), torch.ones(1, 5, 1, 1), torch.ones(1)),
        ),
    ),
    (atom_update, (*ATOMS, *ATOMS, torch.ones(num_update_weights(2, 1, 1)))),
    (atom_readout, (*ATOMS, torch.ones(num_readout_weights(2, 1, 1, 1, 1, 1)), 1, 1, 1)),
    (rank2_linear, (X, WEIGHT)),
    (rank2_linear, (X, WEIGHT, True)),
    (rank2_gate, (X, torch.ones(1, 2), WEIGHT, torch.ones(1, 3, 2))),
    (tensor_readout, (torch.ones(1, 2), torch.ones(1, 3, 2), torch.ones(1, 6, 2), PTR)),
]
CASES = [(op, args, i) for op, args in CALLS for i, arg in enumerate(args) if isinstance(arg, torch.Tensor)]


@pytest.mark.parametrize(("op", "arguments", "moved"), CASES)
def test_one_argument_on_another_device(op, arguments, moved):
    op(*arguments)
    mixed = [arg.to("meta") if i == moved else arg for i, arg in enumerate(arguments)]
    with pytest.raises(
        RuntimeError,
        match=rf"{getattr(op, 'func', op).__name__}: expected `\w+` on the device of `\w+` \((cpu|meta)\), got",
    ):
        op(*mixed)


def test_message_names_both():
    with pytest.raises(RuntimeError, match=r"op: expected `b` on the device of `a` \(cpu\), got meta"):
        check_same_device("op", a=torch.ones(1), none=None, b=torch.ones(1, device="meta"))
