# SPDX-License-Identifier: MIT
"""A small fake teacher with random weights, and the settings of its labels."""

import torch

from dtnn_fast.distillation.labels import LabelSettings
from dtnn_fast.distillation.made_crystals import CrystalSettings
from dtnn_fast.encoders import Channels, NativeEncoder, NativeEncoderConfig
from dtnn_fast.nn.symmetric_tensors import trace

SETTINGS = LabelSettings(CrystalSettings(made=60, held_out=0.3, seed=3), shard_size=25)


class FakeTeacher:
    """A native encoder with random weights and traceless tensors, whose last layer has scalars only."""

    name, digest = "fake", "0123"
    elements = tuple(range(1, 84))
    cutoffs = (2.5, 3.0)
    num_layers = 2

    def __init__(self):
        torch.manual_seed(7)
        self.encoder = NativeEncoder(NativeEncoderConfig(self.cutoffs, (4.0, 7.0), Channels(6, 3, 2, 3)))
        self.calls = 0

    def forward(self, graph):
        self.calls += 1
        layers = []
        for number, latents in enumerate(self.encoder(graph), start=1):
            identity = torch.tensor([1.0, 1, 1, 0, 0, 0])[:, None]
            rank2 = latents.atom_rank2 - identity * trace(latents.atom_rank2)[:, None] / 3
            if number == 2:
                layers.append(latents._replace(atom_vector=latents.atom_vector[..., :0], atom_rank2=rank2[..., :0]))
            else:
                layers.append(latents._replace(atom_rank2=rank2))
        return layers

    def latents_and_energy(self, graph):
        """Give latents, and energies: -2 to -6 eV by element, and an attraction along the bonds."""
        tier = graph.tier(self.cutoffs[-1])
        attraction = -2.0 * torch.exp(2.0 - graph.vectors(tier).norm(dim=1))
        atoms = (-2.0 - graph.atomic_numbers % 5).index_add(0, tier.pairs[0], attraction)
        crystal_of_atom = torch.repeat_interleave(graph.ptr.diff())
        return self.forward(graph), torch.zeros(graph.num_crystals).index_add(0, crystal_of_atom, atoms)

    def to(self, device):
        """Stay on the CPU."""
        assert str(device) == "cpu"
        return self
