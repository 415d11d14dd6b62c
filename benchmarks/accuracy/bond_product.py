# SPDX-License-Identifier: MIT
"""MatTen's products at bonds and their sums at atoms in one pass over the bonds: bond_product.cpp, compiled here."""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dtnn_fast.errors import DTNNError

from .graphs import BondGraph

SOURCE = Path(__file__).with_name("bond_product.cpp")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-shared", "-fPIC")


@dataclass(frozen=True)
class Block:
    """Channels of the same degree and parity, and the paths from them.

    Args:
        degree: l of the channels.
        channels: number of channels.
        starts: first column of each path in the table of this degree.
        sizes: number of columns of each path, 2l' + 1.
    """

    degree: int
    channels: int
    starts: tuple[int, ...]
    sizes: tuple[int, ...]


class _Bonds(ctypes.Structure):
    _fields_ = (("num_atoms", ctypes.c_int64), ("row_ptr", ctypes.c_void_p), ("neighbors", ctypes.c_void_p))


class _Paths(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("num_paths", "num_columns", "table_stride", "weight_stride")),
        ("starts", ctypes.c_void_p),
        ("sizes", ctypes.c_void_p),
    )


class CompiledProduct:
    """The sums of all blocks of a layer, by code for this processor.

    Raises:
        DTNNError: there is no C++ compiler, or it fails.
    """

    def __init__(self) -> None:
        compiler = shlex.split(os.environ.get("CXX", "c++"))
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "bond_product.so"
            command = [*compiler, *FLAGS, "-o", str(library), str(SOURCE)]
            try:
                subprocess.run(command, check=True, capture_output=True, text=True)
            except FileNotFoundError as error:
                raise DTNNError(f"--compile: no C++ compiler {compiler[0]}; CXX can name one") from error
            except subprocess.CalledProcessError as error:
                raise DTNNError(f"--compile: {shlex.join(command)} failed: {error.stderr}") from error
            self.library = ctypes.CDLL(str(library))
        for name in ("bond_product_forward", "bond_product_backward"):
            getattr(self.library, name).restype = ctypes.c_bool

    def __call__(
        self,
        blocks: Sequence[Block],
        features: Sequence[Tensor],
        tables: Sequence[Tensor],
        weights: Tensor,
        graph: BondGraph,
    ) -> list[Tensor]:
        """Sums at the atoms, path by path, differentiable with respect to features and weights.

        Args:
            blocks: blocks of the layer.
            features: features of the atoms. [N, channels, 2l + 1] for each block, float32.
            tables: for each degree. [E, columns, 2l + 1], float32.
            weights: paths times channels of each block. [E, all of them], float32.
            graph: graph with the bonds.

        Returns:
            [N, channels, size] for each path of each block.
        """
        rows = [part.mT for part in features]
        found = _Product.apply(self.library, blocks, tables, graph, weights, *rows)
        return [
            path.mT for block, sums in zip(blocks, found, strict=True) for path in sums.split(list(block.sizes), dim=1)
        ]


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, library, blocks, tables, graph, weights, *features):  # type: ignore[no-untyped-def]
        features, weights = [part.contiguous() for part in features], weights.contiguous()
        ctx.library, ctx.blocks, ctx.graph = library, blocks, graph
        ctx.save_for_backward(weights, *tables, *features)
        sums = []
        offset = 0
        for block, block_features in zip(blocks, features, strict=True):
            out = block_features.new_zeros((graph.num_atoms, sum(block.sizes), block.channels))
            table = tables[block.degree]
            _call(library.bond_product_forward, block, graph, (block_features, table, weights, out), offset)
            sums.append(out)
            offset += len(block.sizes) * block.channels
        return tuple(sums)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *grads):  # type: ignore[no-untyped-def]
        blocks, count = ctx.blocks, len(ctx.blocks)
        weights, *rest = ctx.saved_tensors
        tables, features = rest[:-count], rest[-count:]
        grad_weights = torch.empty_like(weights)
        grad_features = []
        offset = 0
        for block, block_features, grad in zip(blocks, features, grads, strict=True):
            grad_block_features = torch.zeros_like(block_features)
            arrays = (
                block_features,
                tables[block.degree],
                weights,
                grad.contiguous(),
                grad_block_features,
                grad_weights,
            )
            _call(ctx.library.bond_product_backward, block, ctx.graph, arrays, offset)
            grad_features.append(grad_block_features)
            offset += len(block.sizes) * block.channels
        return None, None, None, None, grad_weights, *grad_features


def _call(function: Any, block: Block, graph: BondGraph, arrays: Sequence[Tensor], offset: int) -> None:
    """Call a function of the library; `offset` is the block's place in the weights and in their gradients."""
    features, table, weights, *others = arrays
    if any(array.dtype != torch.float32 or not array.is_contiguous() for array in arrays):
        raise ValueError("--compile: expected contiguous float32 arrays")
    starts, sizes = torch.tensor(block.starts), torch.tensor(block.sizes)
    neighbors = graph.pairs[1].contiguous()
    row_ptr = graph.row_ptr.contiguous()
    bonds = _Bonds(graph.num_atoms, row_ptr.data_ptr(), neighbors.data_ptr())
    paths = _Paths(
        len(block.sizes), sum(block.sizes), table[0].numel(), weights.shape[1], starts.data_ptr(), sizes.data_ptr()
    )
    shift = 4 * offset
    pointers = [features.data_ptr(), table.data_ptr(), weights.data_ptr() + shift]
    pointers += [other.data_ptr() + (shift if other.shape == weights.shape else 0) for other in others]
    known = function(
        ctypes.c_int64(block.channels),
        ctypes.c_int64(table.shape[2]),
        bonds,
        paths,
        *(ctypes.c_void_p(pointer) for pointer in pointers),
    )
    if not known:
        raise ValueError(
            f"--compile: bond_product.cpp is not made for {block.channels} channels of degree {block.degree}"
        )
