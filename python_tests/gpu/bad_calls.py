# SPDX-License-Identifier: MIT
"""Make calls with bad input on one device; print their errors, and whether good calls still work, as JSON.

Usage: python bad_calls.py cuda|cpu
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from helpers import random_graph
from torch import Tensor

from dtnn_fast import ops


def error_of(call: Callable[[], Any]) -> str:
    """Return the message of the RuntimeError that a call raises, at once or when its kernel has run; "" without one."""
    try:
        call()
        if hasattr(ops, "check_device_errors"):
            ops.check_device_errors()
    except RuntimeError as error:
        return str(error)
    return ""


def bad_calls(device: torch.device) -> dict[str, Callable[[], Any]]:
    """Return the calls by operation and what is wrong with them."""
    pairs, row_ptr = (x.to(device) for x in random_graph(50, 400))
    bonds, atoms = torch.randn(400, 3, 8, device=device), torch.randn(50, 3, 8, device=device)
    positions, cell = torch.randn(50, 3, device=device), torch.randn(2, 3, 3, device=device)
    shifts = torch.zeros(400, 3, dtype=torch.int32, device=device)
    ptr, pbc = torch.tensor([0, 20, 50], device=device), torch.ones(3, dtype=torch.bool, device=device)
    above, below = pairs.clone(), pairs.clone()
    above[1, 17], below[1, 17] = 10**9, -1
    scalar, rank2 = atoms[:, 0], torch.randn(50, 6, 8, device=device)
    infinite = positions.clone()
    infinite[7, 1] = float("inf")
    other = torch.device("cpu" if device.type == "cuda" else "meta")
    return {
        "atom_to_bond_gather: neighbor too large": lambda: ops.atom_to_bond_gather(atoms, above, row_ptr, "neighbor"),
        "atom_to_bond_gather: neighbor below 0": lambda: ops.atom_to_bond_gather(atoms, below, row_ptr, "difference"),
        "atom_to_bond_gather: int32 pairs": lambda: ops.atom_to_bond_gather(atoms, pairs.int(), row_ptr),
        "bond_to_atom_sum: neighbor too large": lambda: ops.bond_to_atom_sum(bonds, above, row_ptr, "neighbor"),
        "bond_to_atom_sum: neighbor below 0": lambda: ops.bond_to_atom_sum(bonds, below, row_ptr, "sum"),
        "bond_to_atom_sum: row_ptr beyond the bonds": lambda: ops.bond_to_atom_sum(bonds, pairs, row_ptr + 5),
        "bond_to_atom_sum: too few values": lambda: ops.bond_to_atom_sum(bonds[:-1], pairs, row_ptr),
        "bond_to_atom_sum: values elsewhere": lambda: ops.bond_to_atom_sum(bonds.to(other), pairs, row_ptr),
        "bond_messages: neighbor too large": lambda: _messages(atoms, rank2, bonds, above, row_ptr),
        "bond_messages: row_ptr beyond the bonds": lambda: _messages(atoms, rank2, bonds, pairs, row_ptr + 5),
        "bond_vectors: neighbor too large": lambda: ops.bond_vectors(positions, cell[0], above, shifts),
        "bond_vectors: bonds between crystals": lambda: ops.bond_vectors(positions, cell, pairs, shifts, ptr),
        "rank2_linear: weight of another width": lambda: ops.rank2_linear(atoms, torch.randn(4, 7, device=device)),
        "rank2_gate: gate of another length": lambda: ops.rank2_gate(atoms, scalar[1:], torch.eye(8, device=device)),
        "tensor_readout: a crystal without atoms": lambda: ops.tensor_readout(scalar, atoms, rank2, ptr * 0),
        "tensor_readout: ptr beyond the atoms": lambda: ops.tensor_readout(scalar, atoms, rank2, ptr * 2),
        "neighbor_list: a position not finite": lambda: ops.neighbor_list(infinite, cell, pbc, 3.0, ptr),
        "neighbor_list: ptr falls": lambda: ops.neighbor_list(positions, cell, pbc, 3.0, ptr.flip(0)),
        "neighbor_list: cutoff below 0": lambda: ops.neighbor_list(positions, cell, pbc, -3.0, ptr),
        "neighbor_list: no volume": lambda: ops.neighbor_list(positions, cell * 0, pbc, 3.0, ptr),
    }


def _messages(atoms: Tensor, rank2: Tensor, bonds: Tensor, pairs: Tensor, row_ptr: Tensor) -> Any:
    """The messages of one scalar, eight vectors, one radial function and two hidden channels."""
    ones = bonds[:, 0, :1]
    weights = ops.MessageWeights(*(atoms.new_ones(size) for size in ((2, 42), (2,), (41, 2), (41,))))
    return ops.bond_messages(
        *(atoms, rank2, atoms[:, 0, :2], ones, bonds, bonds[:, :, 0], ones[:, 0], ones, weights, pairs, row_ptr)
    )


def main(device: torch.device) -> None:
    """Run all bad calls, each followed by a good one."""
    pairs, row_ptr = (x.to(device) for x in random_graph(30, 200))
    values = torch.ones(200, 4, device=device)
    found = {}
    for name, call in bad_calls(device).items():
        op = name.partition(":")[0]
        if torch._C._dispatch_has_kernel_for_dispatch_key(f"dtnn_fast::{op}", device.type.upper()):
            message = error_of(call)
            sums = ops.bond_to_atom_sum(values, pairs, row_ptr)
            found[name] = [message, bool((sums[:, 0].cpu() == row_ptr.diff().cpu()).all())]
    print(json.dumps(found))


if __name__ == "__main__":
    main(torch.device(sys.argv[1]))
