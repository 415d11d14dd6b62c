# SPDX-License-Identifier: MIT
"""Mutations of one argument of a valid call: mistakes of a confused caller."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import torch
from torch import Tensor

from .calls import Call

WRONG_INDICES = (-1, -1, 0, 1, 2**31, 2**62, -(2**63))
WRONG_FLOATS = (math.nan, math.inf, -math.inf, 1e300, -1.0, 0.0)
DTYPES = (
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.int32,
    torch.int64,
    torch.bool,
    torch.complex64,
)


def other_dtype(tensor: Tensor) -> Tensor:
    return tensor.to(random.choice(DTYPES))


def other_rank(tensor: Tensor) -> Tensor:
    choices = [tensor.unsqueeze(0), tensor.unsqueeze(-1), tensor.flatten()]
    if tensor.dim() and tensor.shape[0]:
        choices.append(tensor[0])
    return random.choice(choices)


def other_size(tensor: Tensor) -> Tensor:
    """Remove or add one row along a random dimension."""
    if tensor.dim() == 0:
        return tensor
    dim = random.randrange(tensor.dim())
    size = tensor.shape[dim]
    if size and random.random() < 0.5:
        return tensor.narrow(dim, random.randrange(2), size - 1)
    return torch.cat([tensor, tensor.narrow(dim, 0, min(size, 1))], dim)


def other_device(tensor: Tensor) -> Tensor:
    return tensor.to("meta")


def wrong_element(tensor: Tensor) -> Tensor:
    if tensor.numel() == 0 or tensor.dtype == torch.bool:
        return tensor
    spoiled = tensor.clone(memory_format=torch.contiguous_format)
    flat = spoiled.view(-1)
    if tensor.is_floating_point():
        value, limits = random.choice(WRONG_FLOATS), torch.finfo(tensor.dtype)
    else:
        # An off-by-one in a check accepts the largest index plus one.
        past_end = int(tensor.max()) + 1
        value, limits = random.choice((*WRONG_INDICES, past_end, past_end, past_end)), torch.iinfo(tensor.dtype)
    flat[random.randrange(len(flat))] = min(max(value, limits.min), limits.max) if math.isfinite(value) else value
    return spoiled


def other_order(tensor: Tensor) -> Tensor:
    if tensor.dim() == 0:
        return tensor
    return tensor.flip(random.randrange(tensor.dim()))


TENSOR_MUTATIONS: tuple[Callable[[Tensor], Tensor], ...] = (
    other_dtype,
    other_rank,
    other_size,
    other_device,
    wrong_element,
    wrong_element,
    other_order,
)


def mutate(call: Call) -> Call:
    """Spoil one argument of the call; it may still be valid by chance."""
    name = random.choice([name for name, value in call.arguments.items() if value is not None])
    value = call.arguments[name]
    if isinstance(value, Tensor):
        return call.with_argument(name, random.choice(TENSOR_MUTATIONS)(value))
    if isinstance(value, tuple):  # a NeighborOrder
        field = random.randrange(len(value))
        spoiled = random.choice(TENSOR_MUTATIONS)(value[field])
        return call.with_argument(name, type(value)(*value[:field], spoiled, *value[field + 1 :]))
    if isinstance(value, float):
        return call.with_argument(name, random.choice([math.nan, math.inf, -1.0, 0.0, -0.0]))
    if isinstance(value, str):
        return call.with_argument(name, random.choice(["", "centre", "SUM"]))
    return call
