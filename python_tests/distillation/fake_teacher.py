# SPDX-License-Identifier: MIT
"""A teacher that is made in a moment, and the settings of its labels."""

import torch

from dtnn_fast.distillation.crystals import CrystalSettings
from dtnn_fast.distillation.labels import LabelSettings
from dtnn_fast.encoders import Channels, NativeEncoder, NativeEncoderConfig
from dtnn_fast.nn.symmetric import trace

SETTINGS = LabelSettings(CrystalSettings(made=60, held_out=0.3, seed=3), shard_size=25)


class FakeTeacher:
    """A native encoder with random weights and traceless tensors, whose last layer has scalars only."""

    name, digest = "fake", "0123"
    elements = tuple(range(1, 84))
    cutoffs = (2.5, 3.0)

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
        """Energies of -2 to -6 eV per element, and something of the scalars of the first layer."""
        layers = self.forward(graph)
        constants = -2.0 - graph.atomic_numbers % 5
        atoms = constants + 0.3 * layers[0].atom_scalar.tanh().sum(1)
        crystal = torch.repeat_interleave(graph.ptr.diff())
        return layers, torch.zeros(graph.num_crystals).index_add(0, crystal, atoms)

    def to(self, device):
        """It stays on the CPU."""
        assert str(device) == "cpu"
        return self
