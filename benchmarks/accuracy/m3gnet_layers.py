# SPDX-License-Identifier: MIT
"""matgl's layers of M3GNet, evaluated with fewer operations: same parameters, same functions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from dtnn_fast.ops import NeighborOrder, atom_to_bond_gather, bond_to_atom_sum, neighbor_order

from .m3gnet_bonds import COMPONENTS, RADIAL, SELF_PRODUCTS, Bonds
from .m3gnet_linear import linear, silu


def gated_tail(mlp: nn.Module, layer: Tensor, gate: Tensor) -> Tensor:
    """A gated MLP of matgl from the results of its first linear layer and of its first gate."""
    for module in [module for module in mlp.layers if isinstance(module, nn.Linear)][1:]:
        layer = linear(silu(layer), module.weight, module.bias)
    for module in [module for module in mlp.gates if isinstance(module, nn.Linear)][1:]:
        gate = linear(silu(gate), module.weight, module.bias)
    if mlp.activate_last:
        layer = silu(layer)
    return layer * torch.sigmoid(gate)


class AtomsAndBonds:
    """Linear maps of ``cat(atom i, atom j, bond ij)``: those of the atoms are computed by atom, then gathered."""

    def __init__(self, bonds: Bonds) -> None:
        self.pairs, self.row_ptr = bonds.graph.pairs, bonds.graph.row_ptr
        self.by_neighbor: NeighborOrder = neighbor_order(self.pairs, bonds.graph.num_atoms)

    def linear(self, module: nn.Linear, atoms: Tensor, bonds: Tensor) -> Tensor:
        """[N, F], [E, F] -> [E, G]."""
        features = atoms.shape[1]
        weights = module.weight.split([features, features, module.in_features - 2 * features], dim=1)
        centers = functional.linear(atoms, weights[0], module.bias)
        neighbors = functional.linear(atoms, weights[1])
        gathered = atom_to_bond_gather(centers, self.pairs, self.row_ptr) + atom_to_bond_gather(
            neighbors, self.pairs, self.row_ptr, "neighbor", self.by_neighbor
        )
        return gathered + linear(bonds, weights[2])

    def gated_mlp(self, mlp: nn.Module, atoms: Tensor, bonds: Tensor) -> Tensor:
        """[N, F], [E, F] -> [E, G]."""
        layer, gate = (self.linear(part[0], atoms, bonds) for part in (mlp.layers, mlp.gates))
        return gated_tail(mlp, layer, gate)

    def sum(self, bond_values: Tensor) -> Tensor:
        """Over the bonds of each atom. [E, F] -> [N, F]."""
        return bond_to_atom_sum(bond_values, self.pairs, self.row_ptr)


class AngleSums:
    """M3GNet's sums over pairs of short bonds of an atom, without the pairs.

    ``sum over k != j of f_n(r_ik) a_n(k) Y_l(angle jik)`` is by the addition theorem of spherical harmonics a scalar
    product of functions of the direction ij with a sum over all k, less the term of ``k = j``.
    """

    def __init__(self, bonds: Bonds, harmonics: Tensor) -> None:
        self.short, self.pairs, self.row_ptr = bonds.short, bonds.short_pairs, bonds.short_row_ptr
        self.by_neighbor = neighbor_order(self.pairs, bonds.graph.num_atoms)
        radial, direction = _columns(harmonics)
        self.radial, self.harmonics = radial, linear(harmonics, direction.mT)
        self.self_products = harmonics.new_tensor(SELF_PRODUCTS).repeat_interleave(RADIAL)

    def __call__(self, layer: nn.Module, atoms: Tensor, bonds: Tensor, angular: Tensor, cutoff: Tensor) -> Tensor:
        """The bonds after matgl's ThreeBodyInteractions. [N, F], [E, F] -> [E, F]."""
        atoms = layer.update_network_atom(atoms)
        terms = angular * atom_to_bond_gather(atoms, self.pairs, self.row_ptr, "neighbor", self.by_neighbor)
        sums = bond_to_atom_sum(linear(terms, self.radial.mT) * self.harmonics, self.pairs, self.row_ptr)
        gathered = atom_to_bond_gather(sums, self.pairs, self.row_ptr)
        others = linear(gathered * self.harmonics, self.radial) - terms * self.self_products
        mlp, others = layer.update_network_bond, cutoff * others
        first = [linear(others, part[0].weight, part[0].bias) for part in (mlp.layers, mlp.gates)]
        return bonds.index_add(0, self.short, gated_tail(mlp, *first))


def _columns(like: Tensor) -> tuple[Tensor, Tensor]:
    """Matrices of 0 and 1 that repeat radial and direction functions, so that each of a degree meets each. [., 39]."""
    radial = torch.block_diag(*[torch.eye(RADIAL).repeat_interleave(count, 1) for count in COMPONENTS])
    direction = torch.block_diag(*[torch.eye(count).repeat(1, RADIAL) for count in COMPONENTS])
    return radial.to(like), direction.to(like)
