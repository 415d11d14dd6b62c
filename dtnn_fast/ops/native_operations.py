# SPDX-License-Identifier: MIT
"""The compiled operations as they are registered with torch, with types.

Type checkers see ``torch.ops.dtnn_fast`` as a namespace in which every name is an operation of unknown arguments, and a
package cannot add a stub for a part of torch. `native_operations` is the same object with the types stated.

The functions of `dtnn_fast.ops` are what programs should call: they choose defaults, name their results and obey
`use_backend`. The operations here are for graphs that ``torch.export`` made and for wrappers in other packages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import SymInt, Tensor


class NativeOperations(Protocol):
    """Schemas of the operations in ``torch.ops.dtnn_fast``; ``csrc/ops/<operation>.h`` holds the contract of each.

    Operations that serve gradients (``*_backward`` and the like) may change between versions.
    """

    def atom_readout(
        self,
        scalar: Tensor,
        vector: Tensor,
        rank2: Tensor,
        weights: Tensor,
        scalar_out: int,
        vector_out: int,
        rank2_out: int,
        precision: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor]: ...
    def atom_readout_backward(
        self,
        grad_scalar: Tensor | None,
        grad_vector: Tensor | None,
        grad_rank2: Tensor | None,
        scalar: Tensor,
        vector: Tensor,
        rank2: Tensor,
        weights: Tensor,
        scalar_out: int,
        vector_out: int,
        rank2_out: int,
        need_atoms: bool = True,
        need_weights: bool = True,
        precision: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]: ...
    def atom_readout_double_backward(
        self,
        change_scalar: Tensor | None,
        change_vector: Tensor | None,
        change_rank2: Tensor | None,
        change_weights: Tensor | None,
        grad_scalar: Tensor | None,
        grad_vector: Tensor | None,
        grad_rank2: Tensor | None,
        scalar: Tensor,
        vector: Tensor,
        rank2: Tensor,
        weights: Tensor,
        scalar_out: int,
        vector_out: int,
        rank2_out: int,
        need_atoms: bool = True,
        need_weights: bool = True,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]: ...
    def atom_to_bond_gather(
        self,
        atom_values: Tensor,
        pairs: Tensor,
        row_ptr: Tensor,
        neighbor_order: Tensor | None,
        neighbor_row_ptr: Tensor | None,
        center: int,
        neighbor: int,
    ) -> Tensor: ...
    def atom_update(
        self,
        scalar: Tensor,
        vector: Tensor,
        rank2: Tensor,
        sum_scalar: Tensor,
        sum_vector: Tensor,
        sum_rank2: Tensor,
        weights: Tensor,
        precision: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor]: ...
    def atom_update_backward(
        self,
        grad_scalar: Tensor | None,
        grad_vector: Tensor | None,
        grad_rank2: Tensor | None,
        scalar: Tensor,
        vector: Tensor,
        rank2: Tensor,
        sum_scalar: Tensor,
        sum_vector: Tensor,
        sum_rank2: Tensor,
        weights: Tensor,
        need_atoms: bool = True,
        need_sums: bool = True,
        need_weights: bool = True,
        precision: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]: ...
    def atom_update_double_backward(
        self,
        change_scalar: Tensor | None,
        change_vector: Tensor | None,
        change_rank2: Tensor | None,
        change_sum_scalar: Tensor | None,
        change_sum_vector: Tensor | None,
        change_sum_rank2: Tensor | None,
        change_weights: Tensor | None,
        grad_scalar: Tensor | None,
        grad_vector: Tensor | None,
        grad_rank2: Tensor | None,
        scalar: Tensor,
        vector: Tensor,
        rank2: Tensor,
        sum_scalar: Tensor,
        sum_vector: Tensor,
        sum_rank2: Tensor,
        weights: Tensor,
        need_atoms: bool = True,
        need_sums: bool = True,
        need_weights: bool = True,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]: ...
    def bond_geometry(
        self, vectors: Tensor, cutoff: float, num_radial: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]: ...
    def bond_geometry_backward(
        self,
        grad_length: Tensor | None,
        grad_direction: Tensor | None,
        grad_envelope: Tensor | None,
        grad_radial: Tensor | None,
        vectors: Tensor,
        cutoff: float,
        num_radial: int,
        need_vectors: bool = True,
    ) -> Tensor: ...
    def bond_geometry_double_backward(
        self,
        change_vectors: Tensor | None,
        grad_length: Tensor | None,
        grad_direction: Tensor | None,
        grad_envelope: Tensor | None,
        grad_radial: Tensor | None,
        vectors: Tensor,
        cutoff: float,
        num_radial: int,
        need_vectors: bool = True,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]: ...
    def bond_messages(
        self,
        q: Tensor,
        tau: Tensor,
        atom_hidden: Tensor,
        bond_scalar: Tensor,
        bond_vector: Tensor,
        direction: Tensor,
        envelope: Tensor,
        radial: Tensor,
        hidden_weight: Tensor,
        hidden_bias: Tensor,
        out_weight: Tensor,
        out_bias: Tensor,
        pairs: Tensor,
        row_ptr: Tensor,
        neighbor_order: Tensor | None,
        neighbor_row_ptr: Tensor | None,
        turn: Tensor | None,
        turn_counts: Tensor | None,
        precision: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]: ...
    def bond_messages_backward(
        self,
        grad_scalar: Tensor | None,
        grad_vector: Tensor | None,
        grad_sum_scalar: Tensor | None,
        grad_sum_vector: Tensor | None,
        grad_sum_rank2: Tensor | None,
        q: Tensor,
        tau: Tensor,
        atom_hidden: Tensor,
        bond_scalar: Tensor,
        bond_vector: Tensor,
        direction: Tensor,
        envelope: Tensor,
        radial: Tensor,
        hidden_weight: Tensor,
        hidden_bias: Tensor,
        out_weight: Tensor,
        out_bias: Tensor,
        pairs: Tensor,
        row_ptr: Tensor,
        neighbor_order: Tensor | None,
        neighbor_row_ptr: Tensor | None,
        turn: Tensor | None,
        turn_counts: Tensor | None,
        need_geometry: bool,
        need_weights: bool,
        precision: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]: ...
    def bond_messages_double_backward(
        self,
        change_q: Tensor | None,
        change_tau: Tensor | None,
        change_atom_hidden: Tensor | None,
        change_bond_scalar: Tensor | None,
        change_bond_vector: Tensor | None,
        change_direction: Tensor | None,
        change_envelope: Tensor | None,
        change_radial: Tensor | None,
        change_hidden_weight: Tensor | None,
        change_hidden_bias: Tensor | None,
        change_out_weight: Tensor | None,
        change_out_bias: Tensor | None,
        grad_scalar: Tensor | None,
        grad_vector: Tensor | None,
        grad_sum_scalar: Tensor | None,
        grad_sum_vector: Tensor | None,
        grad_sum_rank2: Tensor | None,
        q: Tensor,
        tau: Tensor,
        atom_hidden: Tensor,
        bond_scalar: Tensor,
        bond_vector: Tensor,
        direction: Tensor,
        envelope: Tensor,
        radial: Tensor,
        hidden_weight: Tensor,
        hidden_bias: Tensor,
        out_weight: Tensor,
        out_bias: Tensor,
        pairs: Tensor,
        row_ptr: Tensor,
        neighbor_order: Tensor | None,
        neighbor_row_ptr: Tensor | None,
        turn: Tensor | None,
        turn_counts: Tensor | None,
        need_geometry: bool,
        need_weights: bool,
    ) -> tuple[
        Tensor,
        Tensor,
        Tensor,
        Tensor,
        Tensor,
        Tensor,
        Tensor,
        Tensor,
        Tensor,
        Tensor,
        Tensor,
        Tensor,
        Tensor,
        Tensor,
        Tensor,
        Tensor,
        Tensor,
    ]: ...
    def bond_perceptron_sum(
        self,
        bond_scalar: Tensor,
        envelope: Tensor,
        weight1: Tensor,
        bias1: Tensor,
        weight2: Tensor,
        bias2: Tensor,
        pairs: Tensor,
        row_ptr: Tensor,
        sum_scalar: Tensor | None,
        neighbor_order: Tensor | None = None,
        neighbor_row_ptr: Tensor | None = None,
        precision: int = 0,
    ) -> tuple[Tensor, Tensor]: ...
    def bond_perceptron_sum_backward(
        self,
        grad_sums: Tensor | None,
        grad_envelope_sum: Tensor | None,
        bond_scalar: Tensor,
        envelope: Tensor,
        weight1: Tensor,
        bias1: Tensor,
        weight2: Tensor,
        bias2: Tensor,
        pairs: Tensor,
        row_ptr: Tensor,
        sum_scalar: Tensor | None,
        need_scalar: bool = True,
        need_envelope: bool = True,
        need_weights: bool = True,
        need_sum_scalar: bool = False,
        precision: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]: ...
    def bond_reverses(self, pairs: Tensor, shifts: Tensor, row_ptr: Tensor) -> Tensor: ...
    def bond_to_atom_sum(
        self,
        bond_values: Tensor,
        pairs: Tensor,
        row_ptr: Tensor,
        neighbor_order: Tensor | None,
        neighbor_row_ptr: Tensor | None,
        center: int,
        neighbor: int,
    ) -> Tensor: ...
    def bond_vectors(
        self,
        positions: Tensor,
        cell: Tensor,
        pairs: Tensor,
        shifts: Tensor,
        ptr: Tensor | None,
        row_ptr: Tensor | None = None,
        neighbor_order: Tensor | None = None,
        neighbor_row_ptr: Tensor | None = None,
    ) -> Tensor: ...
    def bond_vectors_backward(
        self,
        grad: Tensor,
        pairs: Tensor,
        shifts: Tensor,
        ptr: Tensor | None,
        num_atoms: int | SymInt,
        num_cells: int | SymInt,
        row_ptr: Tensor | None = None,
        neighbor_order: Tensor | None = None,
        neighbor_row_ptr: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]: ...
    def bonds_within(
        self,
        positions: Tensor,
        cell: Tensor,
        ptr: Tensor | None,
        pairs: Tensor,
        shifts: Tensor,
        row_ptr: Tensor,
        cutoff: float,
        cutoffs: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]: ...
    def decode(
        self,
        scalar: Tensor,
        vector: Tensor,
        rank2: Tensor,
        bond_vector: Tensor | None,
        bond_sums: Tensor | None,
        envelope_sum: Tensor | None,
        masks: Tensor | None,
        weights: Tensor,
        ptr: Tensor,
        atom_share: Tensor | None,
        blocks: int,
        latent: int,
        readouts: int,
        residual: bool,
        precision: int = 0,
    ) -> Tensor: ...
    def decode_backward(
        self,
        grad: Tensor,
        scalar: Tensor,
        vector: Tensor,
        rank2: Tensor,
        bond_vector: Tensor | None,
        bond_sums: Tensor | None,
        envelope_sum: Tensor | None,
        masks: Tensor | None,
        weights: Tensor,
        ptr: Tensor,
        atom_share: Tensor | None,
        blocks: int,
        latent: int,
        readouts: int,
        residual: bool,
        need_atoms: bool = True,
        need_bonds: bool = True,
        need_weights: bool = True,
        need_masks: bool = True,
        need_share: bool = True,
        precision: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]: ...
    def has_cuda_kernels(self) -> bool: ...
    def library_path(self) -> str: ...
    def neighbor_list(
        self,
        positions: Tensor,
        cell: Tensor,
        pbc: Tensor,
        ptr: Tensor | None,
        cutoff: float,
        cutoffs: Tensor | None,
        half: bool,
        self_pairs: bool,
    ) -> tuple[Tensor, Tensor, Tensor]: ...
    def neighbor_list_fixed(
        self,
        positions: Tensor,
        cell: Tensor,
        pbc: Tensor,
        ptr: Tensor | None,
        cutoff: float,
        cutoffs: Tensor | None,
        half: bool,
        self_pairs: bool,
        capacity: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]: ...
    def raise_device_error(self, device: int) -> None: ...
    def rank2_gate(
        self, x: Tensor, gate: Tensor, weight: Tensor, residual: Tensor | None, save_linear: bool, precision: int = 0
    ) -> tuple[Tensor, Tensor]: ...
    def rank2_gate_backward(
        self,
        grad_out: Tensor,
        x: Tensor,
        gate: Tensor,
        weight: Tensor,
        linear: Tensor | None,
        need_x: bool = True,
        need_gate: bool = True,
        need_weight: bool = True,
        precision: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor]: ...
    def rank2_linear(self, x: Tensor, weight: Tensor, precision: int = 0) -> Tensor: ...
    def rank2_linear_backward(
        self,
        grad_y: Tensor | None,
        grad_norm: Tensor | None,
        y: Tensor | None,
        norm: Tensor | None,
        x: Tensor,
        weight: Tensor,
        eps: float,
        need_x: bool,
        need_weight: bool,
        precision: int = 0,
    ) -> tuple[Tensor, Tensor]: ...
    def rank2_linear_norm(self, x: Tensor, weight: Tensor, eps: float, precision: int = 0) -> tuple[Tensor, Tensor]: ...
    def rank2_weight_grad(self, grad_y: Tensor, x: Tensor, precision: int = 0) -> Tensor: ...
    def reduce_bonds(
        self,
        positions: Tensor,
        cell: Tensor,
        ptr: Tensor,
        pairs: Tensor,
        bond_shifts: Tensor,
        row_ptr: Tensor,
        half: bool,
        rotations: Tensor,
        operation_ptr: Tensor,
        atoms: Tensor,
        shifts: Tensor,
        cutoffs: Sequence[float],
    ) -> tuple[
        Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor
    ]: ...
    def set_immediate_device_errors(self, is_on: bool) -> bool: ...
    def symmetrise_crystals(
        self,
        positions: Tensor,
        cell: Tensor,
        ptr: Tensor,
        atomic_numbers: Tensor,
        rotations: Tensor,
        images: Tensor,
        operation_ptr: Tensor,
        tolerance: float,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]: ...
    def tensor_readout(self, atom_scalar: Tensor, atom_vector: Tensor, atom_rank2: Tensor, ptr: Tensor) -> Tensor: ...
    def tensor_readout_backward(
        self, grad: Tensor, atom_vector: Tensor, ptr: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]: ...


# ``torch.ops.dtnn_fast`` with the types of its operations. What every other use of torch needs, such as ``.default``,
# is on ``torch.ops.dtnn_fast`` itself.
native_operations = cast(NativeOperations, torch.ops.dtnn_fast)
