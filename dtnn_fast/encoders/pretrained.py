# SPDX-License-Identifier: MIT
"""Encoders whose latents come from a frozen pretrained potential.

To add a potential, write one file with a subclass of `PretrainedEncoder` and a function `load`, as in sevennet.py, and
add an entry to `PRETRAINED`.
"""

from __future__ import annotations

import hashlib
import importlib
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import BadFileError
from ..nn.graph import BondTier, CrystalGraph
from ..nn.latents import Channels, Latents


class AtomLatents(NamedTuple):
    """Latents of the atoms after one layer of a potential.

    Args:
        scalar: [N, Cs].
        vector: [N, 3, Cv].
        rank2: [N, 6, Ct].
    """

    scalar: Tensor
    vector: Tensor
    rank2: Tensor


class DirectedBonds(NamedTuple):
    """Every bond from both of its ends, as potentials take them.

    Args:
        pairs: center and neighbor. [2, 2 E], int64.
        vectors: from center to neighbor. [2 E, 3], Angstrom.
    """

    pairs: Tensor
    vectors: Tensor

    @classmethod
    def from_half_list(cls, tier: BondTier, vectors: Tensor) -> DirectedBonds:
        """Add the reverse of each bond to a half list and its vectors."""
        return cls(torch.cat([tier.pairs, tier.pairs.flip(0)], dim=1), torch.cat([vectors, -vectors]))


@dataclass(frozen=True)
class Potential:
    """Fixed facts of a pretrained potential, known without loading it.

    Args:
        module: the module of this package whose `load` makes the encoder.
        digest: SHA-256 of its weight file; a file with another digest is never read.
        cutoff: Angstrom.
        mean_bonds: mean number of bonds of an atom, over the bundled labelled crystals.
        num_layers: layers with latents.
        channels: channels of the latents; the last layer may have only scalars.
    """

    module: str
    digest: str
    cutoff: float
    mean_bonds: float
    num_layers: int
    channels: Channels


def _sevennet(digest: str) -> Potential:
    return Potential("sevennet", digest, cutoff=5.0, mean_bonds=28.0, num_layers=5, channels=Channels(128, 64, 32))


# Each pretrained encoder by its name: module, weights with their SHA-256, cutoff, layers and channels.
PRETRAINED = {
    "sevennet-0": _sevennet("7052cb42b7b3be42b40b97fa0d21077a48c54b5548948fc4dcf346629f813c36"),
    "sevennet-l3i5": _sevennet("a7ff190d41efe5b8317a03d20a468e4036a1a3e64e0b14fdbab64ac3f4bfc09d"),
}


def find_potential(name: str) -> Potential:
    """Return the potential of this name.

    Raises:
        ValueError: there is no such potential.
    """
    if name not in PRETRAINED:
        raise ValueError(f"expected a pretrained encoder of {', '.join(PRETRAINED)}, got {name!r}")
    return PRETRAINED[name]


def check_weights(path: Path, digest: str) -> None:
    """Check the SHA-256 of a weight file before anything reads it.

    Raises:
        BadFileError: the file is missing, damaged, or of another version.
    """
    try:
        actual = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BadFileError(f"{path}: the potential's weights cannot be read: {error}") from error
    if actual != digest:
        raise BadFileError(
            f"{path}: damaged, or the weights of another version: expected SHA-256 {digest[:16]}..., "
            f"got {actual[:16]}..."
        )


@dataclass(frozen=True)
class PretrainedEncoderConfig:
    """Settings of `PretrainedEncoder`, as in a model's config.json.

    Args:
        kind: name of the potential, a key of `PRETRAINED`.
        digest: SHA-256 of the weights that the model was trained on; empty for the weights in the installed package.

    Raises:
        ValueError: there is no such potential, or dtnn_fast knows other weights of it.
    """

    kind: str
    digest: str = ""

    def __post_init__(self) -> None:
        known = find_potential(self.kind).digest
        if self.digest not in ("", known):
            raise ValueError(
                f"expected {self.kind} with weights of SHA-256 {known[:16]}..., got a model of {self.digest[:16]}..."
            )
        object.__setattr__(self, "digest", known)

    @property
    def cutoffs(self) -> tuple[float, ...]:
        """The cutoff, once per layer. Angstrom."""
        facts = find_potential(self.kind)
        return (facts.cutoff,) * facts.num_layers

    @property
    def mean_bonds(self) -> tuple[float, ...]:
        """Mean number of bonds of an atom in each layer."""
        facts = find_potential(self.kind)
        return (facts.mean_bonds,) * facts.num_layers

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain values, for a JSON file."""
        return {"kind": self.kind, "digest": self.digest}


class PretrainedEncoder(nn.Module):
    """Encoder whose latents of every layer come from a frozen potential.

    The potential's parameters are not in `parameters()` and not in `state_dict()`: they are neither trained nor saved,
    and are read from the installed package each time.

    Args:
        name: a key of `PRETRAINED`.
        potential: the potential's module.
        elements: atomic numbers that the potential knows.
        num_layers: number of layers to compute, from the first; None for all.

    Raises:
        ValueError: there is no such potential, or it has fewer layers.
    """

    def __init__(
        self, name: str, potential: nn.Module, elements: tuple[int, ...], num_layers: int | None = None
    ) -> None:
        super().__init__()
        facts = find_potential(name)
        self.name, self.digest, self.channels = name, facts.digest, facts.channels
        self.elements = elements
        self.num_layers = facts.num_layers if num_layers is None else num_layers
        if not 1 <= self.num_layers <= facts.num_layers:
            raise ValueError(f"{name}: expected `num_layers` from 1 to {facts.num_layers}, got {num_layers}")
        self.cutoffs = (facts.cutoff,)
        # In a tuple, so that torch does not register it as a submodule.
        self._unregistered = (potential.eval().requires_grad_(False),)

    @property
    def potential(self) -> nn.Module:
        """The potential's module, in evaluation mode and without gradients for its parameters."""
        return self._unregistered[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PretrainedEncoder:
        self.potential._apply(fn)
        super()._apply(fn)
        return self

    def forward(self, graph: CrystalGraph) -> list[Latents]:
        """Compute the latents of the layers 1 ... num_layers, in this order, without bond latents.

        Args:
            graph: crystals, built with this encoder's cutoffs.
        """
        return _without_bonds(self.atom_latents(graph.atomic_numbers, self._bonds(graph)))

    def energy(self, graph: CrystalGraph) -> Tensor:
        """Compute the potential's energy of each crystal. [B], eV.

        Args:
            graph: crystals, built with this encoder's cutoffs.
        """
        return _sum_over_atoms(self.atom_energies(graph.atomic_numbers, self._bonds(graph)), graph)

    def latents_and_energy(self, graph: CrystalGraph) -> tuple[list[Latents], Tensor]:
        """Compute what `forward` and `energy` give, in one pass where the potential can.

        Args:
            graph: crystals, built with this encoder's cutoffs.

        Returns:
            The latents of the layers 1 ... num_layers, and the energy of each crystal. [B], eV.
        """
        layers, energies = self.atom_latents_and_energies(graph.atomic_numbers, self._bonds(graph))
        return _without_bonds(layers), _sum_over_atoms(energies, graph)

    def _bonds(self, graph: CrystalGraph) -> DirectedBonds:
        tier = graph.tier(self.cutoffs[0])
        return DirectedBonds.from_half_list(tier, graph.vectors(tier))

    @abstractmethod
    def atom_latents(self, atomic_numbers: Tensor, bonds: DirectedBonds) -> list[AtomLatents]:
        """Compute the latents of each layer, from the first to `num_layers`.

        Args:
            atomic_numbers: atomic numbers of elements that the potential knows. [N], int64.
            bonds: the bonds within the cutoff.
        """

    @abstractmethod
    def atom_energies(self, atomic_numbers: Tensor, bonds: DirectedBonds) -> Tensor:
        """Compute each atom's part of the energy; see `atom_latents`. [N], eV."""

    def atom_latents_and_energies(
        self, atomic_numbers: Tensor, bonds: DirectedBonds
    ) -> tuple[list[AtomLatents], Tensor]:
        """Compute `atom_latents` and `atom_energies`; override this where one pass of the potential gives both."""
        return self.atom_latents(atomic_numbers, bonds), self.atom_energies(atomic_numbers, bonds)


def _without_bonds(layers: list[AtomLatents]) -> list[Latents]:
    return [Latents(*layer, None, None, None, None) for layer in layers]


def _sum_over_atoms(energies: Tensor, graph: CrystalGraph) -> Tensor:
    """Sum [N] over the atoms of each crystal. [B]."""
    crystal = torch.repeat_interleave(graph.ptr.diff())
    return energies.new_zeros(graph.num_crystals).scatter_add(0, crystal, energies)


def pretrained_encoder(name: str, num_layers: int | None = None) -> PretrainedEncoder:
    """Load a pretrained encoder from the package that ships its weights.

    Args:
        name: a key of `PRETRAINED`.
        num_layers: number of layers to compute, from the first; None for all.

    Returns:
        The encoder, in float32 on the CPU.

    Raises:
        ValueError: there is no such potential, or it has fewer layers.
        MissingPackageError: the package is not installed.
        BadFileError: its weights are missing, damaged, or of another version.

    Example:
        >>> encoder = pretrained_encoder("sevennet-0")
        >>> latents = encoder(build_graph(crystals, encoder.cutoffs))
    """
    module: Any = importlib.import_module(f".{find_potential(name).module}", __package__)
    encoder: PretrainedEncoder = module.load(name, num_layers)
    return encoder
