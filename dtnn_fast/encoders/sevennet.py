# SPDX-License-Identifier: MIT
"""SevenNet-0 and SevenNet-l3i5 (Y. Park et al., J. Chem. Theory Comput. 20, 4857, 2024) as encoders.

Both were trained on MPtrj. After the gate, a node of the first four layers has 128 scalars, 64 features of l = 1 and 32
of l = 2; the fifth layer has 128 scalars. l3i5 also has 32 features of l = 3, which are left out: they have no place in
a rank-2 model. The features carry no parity: they are equivariant under rotations, but under reflections only nearly.
Of the variance over the bundled crystals, less than 1e-3 changes sign where it should not
(python_tests/encoders/test_sevennet.py).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import optional_import
from .pretrained import AtomLatents, DirectedBonds, PretrainedEncoder, check_weights, find_potential

# Weight files inside the package sevenn.
_FILES = {
    "sevennet-0": "SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
    "sevennet-l3i5": "SevenNet_l3i5/checkpoint_l3i5.pth",
}
# The potential's modules after which a layer's latents are read have names that end so.
_GATE = "_equivariant_gate"
_HALF, _SIXTH = math.sqrt(1.0 / 2.0), math.sqrt(1.0 / 6.0)


class SevenNetEncoder(PretrainedEncoder):
    """Latents of SevenNet after the gate of each of its five layers."""

    def atom_latents(self, atomic_numbers: Tensor, bonds: DirectedBonds) -> list[AtomLatents]:
        """See `PretrainedEncoder.atom_latents`."""
        latents: list[AtomLatents] = []
        for name, data in self._steps(atomic_numbers, bonds):
            if name.endswith(_GATE):
                latents.append(self._split(data["x"]))
                if len(latents) == self.num_layers:
                    break
        return latents

    def atom_energies(self, atomic_numbers: Tensor, bonds: DirectedBonds) -> Tensor:
        """See `PretrainedEncoder.atom_energies`."""
        return self.atom_latents_and_energies(atomic_numbers, bonds)[1]

    def atom_latents_and_energies(
        self, atomic_numbers: Tensor, bonds: DirectedBonds
    ) -> tuple[list[AtomLatents], Tensor]:
        """See `PretrainedEncoder.atom_latents_and_energies`."""
        latents: list[AtomLatents] = []
        data: dict[str, Tensor] = {}
        for name, data in self._steps(atomic_numbers, bonds):
            if name.endswith(_GATE) and len(latents) < self.num_layers:
                latents.append(self._split(data["x"]))
            if "atomic_energy" in data:
                break
        return latents, data["atomic_energy"].squeeze(-1)

    def _steps(self, atomic_numbers: Tensor, bonds: DirectedBonds) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Run the potential module by module, and yield each module's name and the data after it."""
        data = self._start(atomic_numbers, bonds)
        for name, module in self.potential.named_children():
            data = module(data)
            if data["x"].is_floating_point() and data["x"].dtype != bonds.vectors.dtype:
                # The elements of the atoms come as float32, whatever the dtype of the weights.
                data |= {key: value.to(bonds.vectors.dtype) for key, value in data.items() if value.is_floating_point()}
            yield name, data

    def _start(self, atomic_numbers: Tensor, bonds: DirectedBonds) -> dict[str, Tensor]:
        # The model's own forward takes a data object of torch_geometric and also computes forces. Its modules take a
        # dictionary with these keys.
        numbers: Tensor = self.potential.z_to_onehot_tensor  # type: ignore[assignment]
        species = numbers.to(atomic_numbers.device)[atomic_numbers]
        return {
            "x": species,
            "node_attr": atomic_numbers,
            "atomic_numbers": atomic_numbers,
            "edge_index": bonds.pairs,
            "edge_vec": bonds.vectors,
        }

    def _split(self, features: Tensor) -> AtomLatents:
        count, channels = len(features), self.channels
        ends = (channels.scalar, channels.scalar + 3 * channels.vector)
        scalar, vector, rest = features.tensor_split(ends, dim=1)
        if vector.shape[1] == 0:  # the last layer has scalars only
            return AtomLatents(scalar, features.new_zeros(count, 3, 0), features.new_zeros(count, 6, 0))
        rank2 = rest[:, : 5 * channels.rank2]  # l = 3 comes after it
        return AtomLatents(scalar, vectors_from_irreps(vector), rank2_from_irreps(rank2))


def load(name: str, num_layers: int | None = None) -> SevenNetEncoder:
    """Load one of SevenNet's potentials; see `pretrained_encoder`."""
    package: Any = optional_import("sevenn", extra="sevennet", purpose=f"compute the latents of {name}")
    path = Path(package.__file__).parent / "pretrained_potentials" / _FILES[name]
    # The checkpoint is a pickle: it is safe to read only because its digest is that of the published file.
    check_weights(path, find_potential(name).digest)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of e3nn about TorchScript, and a hint at accelerators for Nvidia GPUs
        checkpoint: Any = optional_import("sevenn.checkpoint", extra="sevennet", purpose="read SevenNet's weights")
        potential = checkpoint.SevenNetCheckpoint(path).build_model()
    return SevenNetEncoder(name, potential, tuple(sorted(potential.type_map)), num_layers)


def vectors_from_irreps(components: Tensor) -> Tensor:
    """Turn e3nn's l = 1 features, in which the components of a channel are adjacent, into vectors.

    Args:
        components: [N, 3 * C].

    Returns:
        [N, 3, C].
    """
    return components.unflatten(1, (-1, 3)).transpose(1, 2).contiguous()


def rank2_from_irreps(components: Tensor) -> Tensor:
    """Turn e3nn's l = 2 features, in which the components of a channel are adjacent, into traceless tensors.

    Args:
        components: [N, 5 * C].

    Returns:
        xx yy zz yz xz xy. [N, 6, C].
    """
    xz, xy, axial, yz, planar = components.unflatten(1, (-1, 5)).unbind(2)
    diagonal = [-_HALF * planar - _SIXTH * axial, 2.0 * _SIXTH * axial, _HALF * planar - _SIXTH * axial]
    return torch.stack([*diagonal, _HALF * yz, _HALF * xz, _HALF * xy], dim=1)
