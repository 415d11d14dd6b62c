# SPDX-License-Identifier: MIT
"""A numbered call: drawn from its seed, made, and judged."""

from __future__ import annotations

import random
from unittest.mock import patch

import torch

from .calls import Call, MismatchError, check_equal, derivatives
from .cases import CASES
from .mutations import mutate

SHARE_OF_BAD_CALLS = 0.5
SHARE_OF_TWO_THREADS = 0.1
# Share of the calls to compare: the reference implementation of neighbor_list loops over atoms in Python.
SHARE_OF_COMPARISONS = {
    "neighbor_list": 0.1,
    "neighbor_list_fixed": 0.1,
    "nested_neighbor_lists": 0.1,
    "nearest_neighbors": 0.02,
}
# Whole networks, whose derivatives amplify the rounding of float32 by chance; derivatives are compared in float64.
NETWORKS = {"atom_update", "atom_readout", "bond_messages", "bond_perceptron_sum", "decode"}
# Images of an atom's neighbors that the reference implementation tests for a spoiled call. A nearly flat cell has
# millions, and the native search needs none of them.
MOST_CANDIDATES = 10**5
# Functions that pass arguments to others; errors may name the latter.
BUILT_ON = {
    "bond_messages": ("neighbor_order",),
    "bond_to_atom_sum": ("neighbor_order",),
    "atom_to_bond_gather": ("neighbor_order",),
    "nested_neighbor_lists": ("neighbor_list", "bonds_within"),
    "nearest_neighbors": ("neighbor_list",),
    "full_to_half": ("bond_reverses",),
}


def run_call(seed: int) -> str:
    """Make call number `seed`.

    Returns:
        The outcome: "good", "refused" (a bad call raised a clear error) or "harmless" (the spoiled argument was still
        valid).

    Raises:
        MismatchError: the operation and its reference implementation disagree, or bad input raised something other than
            a clear error. Other exceptions of a valid call are passed on.
    """
    random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(2 if random.random() < SHARE_OF_TWO_THREADS else 1)
    call = random.choices(list(CASES), list(CASES.values()))[0]()
    try:
        return _bad_call(mutate(call)) if random.random() < SHARE_OF_BAD_CALLS else _good_call(call, seed)
    except MismatchError as error:
        raise MismatchError(f"{call.describe()}: {error}") from error


def _good_call(call: Call, seed: int) -> str:
    results = call.native(**call.arguments)
    compare = random.random() < SHARE_OF_COMPARISONS.get(call.op, 1.0)
    if compare:
        check_equal(results, call.reference(**call.arguments))
    order = random.choice([0, 1, 2])
    tensors = [value for value in call.arguments.values() if isinstance(value, torch.Tensor)]
    if call.op in NETWORKS and any(tensor.dtype == torch.float32 for tensor in tensors):
        order = 0
    if compare and order:
        ours = tuple(derivatives(call.native, call, order, seed))
        # A layer norm of one channel subtracts the value itself: of its large gradients little but rounding is left.
        scalar = call.arguments.get("scalar")
        together = call.op in NETWORKS and order == 2 and isinstance(scalar, torch.Tensor) and scalar.shape[-1] == 1
        check_equal(ours, tuple(derivatives(call.reference, call, order, seed)), together)
    return "good"


def _bad_call(call: Call) -> str:
    try:
        results = call.native(**call.arguments)
    except (RuntimeError, ValueError) as error:
        if not str(error).startswith(tuple(f"{name}: " for name in (call.op, *BUILT_ON.get(call.op, ())))):
            raise MismatchError(f"spoiled: {call.describe()} raised without the operation's name: {error}") from error
        return "refused"
    without_data = [tensor.is_meta for tensor in call.arguments.values() if isinstance(tensor, torch.Tensor)]
    if len(without_data) == 1 and all(without_data):
        return "harmless"  # the only tensor: torch computes the shapes of the results
    if any(without_data):
        raise MismatchError(f"{call.describe()}: accepted a tensor without data")
    try:
        with patch("dtnn_fast.reference.neighbor_list.MOST_CANDIDATES", MOST_CANDIDATES):
            expected = call.reference(**call.arguments)
        check_equal(results, expected)
    except MismatchError as error:
        raise MismatchError(f"{call.describe()}: accepted, but {error}") from error
    except (RuntimeError, ValueError, IndexError) as error:
        if "too many images for the reference" in str(error):
            return "harmless"
        raise MismatchError(f"{call.describe()}: accepted, but the reference implementation says: {error}") from error
    return "harmless"
