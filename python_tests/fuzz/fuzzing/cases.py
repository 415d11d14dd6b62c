# SPDX-License-Identifier: MIT
"""Valid random calls: one function per operation of dtnn_fast.ops."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import wraps
from itertools import accumulate
from typing import Any

import torch

from dtnn_fast import ops, reference
from dtnn_fast.ops.atom_readout import num_readout_weights
from dtnn_fast.ops.atom_update import num_update_weights
from dtnn_fast.ops.decode import num_decoder_weights

from .calls import Call
from .random_crystals import random_batch, random_bonds, random_operations
from .tensors import any_layout, floating_dtype, floats, pick

CHANNELS = (0, 1, 2, 5, 8, 17, 33, 64)
PAYLOADS = ((), (0,), (1,), (5,), (3, 4), (2, 0), (33,), (6, 8))


def neighbor_list() -> Call:
    arguments = random_batch() | {"half": random.random() < 0.5, "self_pairs": random.random() < 0.2}
    if random.random() < 0.3:
        num_crystals = 1 if arguments["ptr"] is None else len(arguments["ptr"]) - 1
        arguments["cutoff"] = any_layout(torch.rand(num_crystals, dtype=floating_dtype()) * 4)
    return Call(ops.neighbor_list, reference.neighbor_list, arguments)


@wraps(ops.neighbor_list_fixed)
def _fixed_list(**arguments: Any) -> ops.FixedNeighborList:
    fixed = ops.neighbor_list_fixed(**arguments)
    if fixed.status.item() == 2:  # CUDA kernels set this instead of raising
        raise RuntimeError("neighbor_list_fixed: bad values")
    return fixed


def neighbor_list_fixed() -> Call:
    arguments = random_batch() | {"half": random.random() < 0.5}
    arguments["capacity"] = pick((0, 1, 50, 5000)) if len(arguments["positions"]) else 0
    return Call(_fixed_list, reference.neighbor_list_fixed, arguments)


def nested_neighbor_lists() -> Call:
    batch = random_batch()
    largest = batch.pop("cutoff")
    batch["cutoffs"] = [largest * fraction for fraction in sorted(random.sample([0.0, 0.3, 0.5, 1.0], 2))]
    return Call(ops.nested_neighbor_lists, reference.nested_neighbor_lists, batch | {"half": random.random() < 0.5})


def nearest_neighbors() -> Call:
    batch = random_batch()
    del batch["cutoff"]
    return Call(ops.nearest_neighbors, reference.nearest_neighbors, batch | {"k": pick((0, 1, 4, 12))})


def bonds_within() -> Call:
    batch, bonds = random_bonds(half=random.random() < 0.5)
    del batch["pbc"]
    batch["cutoff"] *= random.choice([0.5, 0.8, 1.0])
    if random.random() < 0.3:
        num_crystals = 1 if batch["ptr"] is None else len(batch["ptr"]) - 1
        batch["cutoff"] = batch["cutoff"] * torch.rand(num_crystals)
    return Call(ops.bonds_within, reference.bonds_within, batch | _list_arguments(bonds))


def _list_arguments(bonds: ops.NeighborList) -> dict[str, torch.Tensor]:
    return {name: any_layout(tensor) for name, tensor in bonds._asdict().items()}


def bond_reverses() -> Call:
    return Call(ops.bond_reverses, reference.bond_reverses, _list_arguments(random_bonds()[1]))


def full_to_half() -> Call:
    return Call(ops.full_to_half, reference.full_to_half, _list_arguments(random_bonds()[1]))


def bond_vectors() -> Call:
    batch, bonds = random_bonds(half=random.random() < 0.5)
    arguments = {name: batch[name] for name in ("positions", "cell")}
    arguments |= {"pairs": any_layout(bonds.pairs), "shifts": any_layout(bonds.shifts), "ptr": batch["ptr"]}
    return Call(ops.bond_vectors, reference.bond_vectors, arguments)


def _aggregation(native: Callable, reference: Callable, name: str, per_bond: bool) -> Call:
    _, bonds = random_bonds(half=random.random() < 0.5)
    num_atoms = bonds.row_ptr.shape[0] - 1
    rows = bonds.pairs.shape[1] if per_bond else num_atoms
    arguments = {
        name: any_layout(floats(rows, *random.choice(PAYLOADS), dtype=floating_dtype())),
        "pairs": any_layout(bonds.pairs),
        "row_ptr": any_layout(bonds.row_ptr),
        "ends": random.choice(["center", "neighbor", "sum", "difference"]),
        "by_neighbor": ops.neighbor_order(bonds.pairs, num_atoms) if random.random() < 0.5 else None,
    }
    return Call(native, reference, arguments)


def bond_to_atom_sum() -> Call:
    return _aggregation(ops.bond_to_atom_sum, reference.bond_to_atom_sum, "bond_values", per_bond=True)


def atom_to_bond_gather() -> Call:
    return _aggregation(ops.atom_to_bond_gather, reference.atom_to_bond_gather, "atom_values", per_bond=False)


def _with_flat_arguments(messages: Callable[..., Any], always_turned: bool) -> Callable[..., Any]:
    """Let `bond_messages` take the tensors of its tuples one by one, so that each is spoiled and differentiated.

    With `always_turned` ordinary lists are given as rotated by nothing: the reference implementation then takes
    products of the ends' values, as the kernel does, and not differences of squares, which lose digits.
    """

    @wraps(messages)
    def call(**arguments: Any) -> Any:
        weights = ops.MessageWeights(*(arguments.pop(name) for name in ("hidden", "hidden_bias", "out", "out_bias")))
        rotation, counts = arguments.pop("rotation"), arguments.pop("counts")
        if rotation is None and always_turned:
            q, num_bonds = arguments["q"], arguments["pairs"].shape[1]
            rotation = torch.eye(3, dtype=q.dtype).expand(num_bonds, 3, 3)
            counts = torch.ones(2, num_bonds, dtype=q.dtype)
        turns = None if rotation is None else ops.BondTurns(rotation.detach(), counts.detach())
        return messages(**arguments, weights=weights, turns=turns)

    return call


def bond_messages() -> Call:
    _, bonds = random_bonds(half=random.random() < 0.5)
    num_atoms, num_bonds = bonds.row_ptr.shape[0] - 1, bonds.pairs.shape[1]
    dtype, turned = floating_dtype(), random.random() < 0.5
    scalars, vectors, radial, hidden = pick(CHANNELS), pick((0, 1, 2, 17)), pick((0, 1, 8)), pick(CHANNELS)
    width = scalars + 5 * vectors

    def values(*shape: int) -> torch.Tensor:
        return any_layout(floats(*shape, dtype=dtype))

    def weight(outputs: int, inputs: int) -> torch.Tensor:
        return any_layout(floats(outputs, inputs, dtype=dtype) / (1 + inputs))

    arguments = {
        "q": values(num_atoms, 3, vectors),
        "tau": values(num_atoms, 6, vectors),
        "atom_hidden": values(num_atoms, hidden),
        "bond_scalar": values(num_bonds, scalars),
        "bond_vector": values(num_bonds, 3, vectors),
        "direction": values(num_bonds, 3),
        "envelope": values(num_bonds),
        "radial": values(num_bonds, radial),
        "hidden": weight(hidden, width + radial),
        "hidden_bias": values(hidden),
        "out": weight(width, hidden),
        "out_bias": values(width),
        "pairs": any_layout(bonds.pairs),
        "row_ptr": any_layout(bonds.row_ptr),
        "by_neighbor": ops.neighbor_order(bonds.pairs, num_atoms) if random.random() < 0.5 else None,
        "rotation": values(num_bonds, 3, 3) if turned else None,
        "counts": values(2, num_bonds) if turned else None,
    }
    native = _with_flat_arguments(ops.bond_messages, always_turned=False)
    return Call(native, _with_flat_arguments(reference.bond_messages, always_turned=True), arguments)


def bond_geometry() -> Call:
    vectors = any_layout(floats(pick((0, 1, 7, 3000)), 3, dtype=floating_dtype()))
    arguments = {"vectors": vectors, "cutoff": 1.0 + 3.0 * random.random(), "num_radial": pick((0, 1, 3, 8))}
    return Call(ops.bond_geometry, reference.bond_geometry, arguments)


def bond_perceptron_sum() -> Call:
    _, bonds = random_bonds(half=random.random() < 0.5)
    dtype, num_bonds, members = floating_dtype(), bonds.pairs.shape[1], pick((0, 1, 3))
    channels, hidden, outputs = pick(CHANNELS), pick(CHANNELS), pick(CHANNELS)
    shapes = {
        "bond_scalar": (num_bonds, channels),
        "envelope": (num_bonds,),
        "weight1": (members, channels, hidden),
        "bias1": (members, hidden),
        "weight2": (members, hidden, outputs),
        "bias2": (members, outputs),
    }
    arguments = {name: any_layout(floats(*shape, dtype=dtype)) for name, shape in shapes.items()}
    arguments |= {"pairs": any_layout(bonds.pairs), "row_ptr": any_layout(bonds.row_ptr)}
    arguments["sum_scalar"] = any_layout(floats(2, num_bonds, dtype=dtype)) if random.random() < 0.5 else None
    num_atoms = bonds.row_ptr.shape[0] - 1
    arguments["by_neighbor"] = ops.neighbor_order(bonds.pairs, num_atoms) if random.random() < 0.5 else None
    return Call(ops.bond_perceptron_sum, reference.bond_perceptron_sum, arguments)


def _atoms(dtype: torch.dtype) -> tuple[dict[str, torch.Tensor], list[int]]:
    rows, channels = pick((0, 1, 7, 130)), [pick((1, 2, 17, 33)) for _ in range(3)]
    shapes = {"scalar": (rows, channels[0]), "vector": (rows, 3, channels[1]), "rank2": (rows, 6, channels[2])}
    return {name: any_layout(floats(*shape, dtype=dtype)) for name, shape in shapes.items()}, channels


def atom_update() -> Call:
    dtype = floating_dtype()
    atoms, channels = _atoms(dtype)
    rows, scalar, vector = len(atoms["scalar"]), *channels[:2]
    shapes = {"sum_scalar": (rows, scalar), "sum_vector": (rows, 3, vector), "sum_rank2": (rows, 6, vector)}
    atoms |= {name: any_layout(floats(*shape, dtype=dtype)) for name, shape in shapes.items()}
    weights = any_layout(floats(num_update_weights(*channels), dtype=dtype)) / (1 + max(channels)) ** 0.5
    return Call(ops.atom_update, reference.atom_update, atoms | {"weights": weights})


def atom_readout() -> Call:
    dtype = floating_dtype()
    atoms, channels = _atoms(dtype)
    out = [pick((1, 5, 16)) for _ in range(3)]
    weights = any_layout(floats(num_readout_weights(*channels, *out), dtype=dtype)) / (1 + max(channels)) ** 0.5
    sizes = dict(zip(("scalar_out", "vector_out", "rank2_out"), out, strict=True))
    return Call(ops.atom_readout, reference.atom_readout, atoms | {"weights": weights} | sizes)


def decode() -> Call:
    dtype, members, blocks, latent, readouts = floating_dtype(), pick((1, 3)), pick((0, 1, 2)), pick((1, 5, 17)), 2
    counts = [random.randint(1, 40) for _ in range(pick((0, 1, 3)))]
    rows, channels = sum(counts), [pick((1, 2, 17)) for _ in range(4)]
    with_bonds = random.random() < 0.6
    sizes = {"blocks": blocks, "latent": latent, "readouts": readouts}
    num_weights = num_decoder_weights(*channels[:3], channels[3] if with_bonds else None, **sizes)
    shapes = {
        "scalar": (rows, channels[0]),
        "vector": (rows, 3, channels[1]),
        "rank2": (rows, 6, channels[2]),
        "weights": (members, num_weights),
    }
    if with_bonds:
        shapes |= {"bond_vector": (rows, 3, channels[3]), "bond_sums": (members * blocks, rows, latent)}
        shapes |= {"envelope_sum": (rows,)}
    if random.random() < 0.3:
        shapes["masks"] = (members, 3 * blocks + 2 * readouts, rows, latent)
    if random.random() < 0.3:
        shapes["atom_share"] = (rows,)
    arguments = {name: any_layout(floats(*shape, dtype=dtype)) for name, shape in shapes.items()}
    arguments["weights"] = arguments["weights"] / (1 + max(latent, *channels)) ** 0.5
    arguments |= {"ptr": any_layout(torch.tensor([0, *accumulate(counts)]))} | sizes
    return Call(ops.decode, reference.decode, arguments | {"residual": random.random() < 0.7})


def rank2_linear() -> Call:
    dtype, channels = floating_dtype(), pick(CHANNELS)
    arguments = {
        "x": any_layout(floats(pick((0, 1, 2, 7, 40)), pick((1, 3, 6)), channels, dtype=dtype)),
        "weight": any_layout(floats(pick(CHANNELS), channels, dtype=dtype)),
        "norm": random.random() < 0.6,
        "eps": random.choice([1e-2, 1.0, 1e-3]),
    }
    return Call(ops.rank2_linear, reference.rank2_linear, arguments)


def rank2_gate() -> Call:
    dtype, rows, components = floating_dtype(), pick((0, 1, 2, 7, 40)), pick((1, 3, 6))
    channels_in, channels_out = pick(CHANNELS), pick(CHANNELS)
    arguments = {
        "x": any_layout(floats(rows, components, channels_in, dtype=dtype)),
        "gate": any_layout(floats(rows, channels_out, dtype=dtype)),
        "weight": any_layout(floats(channels_out, channels_in, dtype=dtype)),
        "residual": any_layout(floats(rows, components, channels_out, dtype=dtype)) if random.random() < 0.5 else None,
    }
    return Call(ops.rank2_gate, reference.rank2_gate, arguments)


def tensor_readout() -> Call:
    dtype, channels = floating_dtype(), pick(CHANNELS)
    counts = [random.randint(1, 9) for _ in range(pick((0, 1, 3)))]
    rows = sum(counts)
    arguments = {
        "atom_scalar": any_layout(floats(rows, channels, dtype=dtype)),
        "atom_vector": any_layout(floats(rows, 3, channels, dtype=dtype)),
        "atom_rank2": any_layout(floats(rows, 6, channels, dtype=dtype)),
        "ptr": any_layout(torch.tensor([0, *accumulate(counts)])),
    }
    return Call(ops.tensor_readout, reference.tensor_readout, arguments)


def _raise_faults(symmetrise: Callable[..., ops.SymmetrisedCrystals]) -> Callable[..., tuple[torch.Tensor, ...]]:
    """Raise the faults of crystals, whose numbers depend on the order of the checks."""

    @wraps(ops.symmetrise_crystals)
    def symmetrise_crystals(**arguments: Any) -> tuple[torch.Tensor, ...]:
        result = symmetrise(**arguments)
        for number, detail in result.faults.tolist():
            if number:
                raise RuntimeError(f"symmetrise_crystals: {ops.SYMMETRY_FAULTS[number].format(detail)}")
        return tuple(tensor.detach() for tensor in result[:-1])

    return symmetrise_crystals


def symmetrise_crystals() -> Call:
    return Call(
        _raise_faults(ops.symmetrise_crystals), _raise_faults(reference.symmetrise_crystals), random_operations()
    )


def _detached(reduce: Callable[..., ops.ReducedBonds]) -> Callable[..., tuple[torch.Tensor, ...]]:
    @wraps(ops.reduce_bonds)
    def reduce_bonds(**arguments: Any) -> tuple[torch.Tensor, ...]:
        return tuple(tensor.detach() for tensor in reduce(**arguments))

    return reduce_bonds


def reduce_bonds() -> Call:
    arguments = random_operations()
    crystals = ops.symmetrise_crystals(**arguments)
    pbc, cutoffs, half = torch.ones(3, dtype=torch.bool), [1.1, 2.3, 3.1], random.random() < 0.7
    bonds = ops.neighbor_list(crystals.positions, crystals.cell, pbc, cutoffs[-1], arguments["ptr"], half)
    taken = {name: arguments[name] for name in ("ptr", "rotations", "operation_ptr")}
    return Call(
        _detached(ops.reduce_bonds),
        _detached(reference.reduce_bonds),
        {"crystals": crystals, "bonds": bonds, "half": half, "cutoffs": cutoffs} | taken,
    )


# Weights of the draw: functions that make several calls of others take longer. Add a new operation of dtnn_fast.ops
# here; test_fuzz.py compares the names.
CASES: dict[Callable[[], Call], float] = {
    neighbor_list: 1,
    neighbor_list_fixed: 0.3,
    nested_neighbor_lists: 0.2,
    nearest_neighbors: 0.1,
    bonds_within: 1,
    bond_reverses: 1,
    full_to_half: 0.2,
    bond_vectors: 1,
    bond_to_atom_sum: 1,
    atom_to_bond_gather: 1,
    bond_messages: 0.4,
    bond_geometry: 1,
    bond_perceptron_sum: 0.4,
    atom_update: 0.4,
    atom_readout: 0.4,
    decode: 0.4,
    rank2_linear: 1,
    rank2_gate: 1,
    tensor_readout: 1,
    symmetrise_crystals: 0.3,
    reduce_bonds: 0.2,
}
