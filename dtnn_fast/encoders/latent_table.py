# SPDX-License-Identifier: MIT
"""The latents of a whole data set in common arrays, crystal after crystal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..crystals.crystal import Crystal
from ..nn.batches import batches_of_atoms
from ..nn.graph import build_graph
from .build import Encoder

# Latents that belong to atoms, and those that belong to bonds.
ATOM_PARTS = ("atom_scalar", "atom_vector", "atom_rank2")
BOND_PARTS = ("bond_scalar", "bond_vector", "bond_length")
_BATCH_ATOMS = 128


class LatentTable:
    """Latents of some layers for a list of crystals.

    Args:
        atom_counts: atoms of each crystal. [n], int64.
        bond_counts: bonds of each crystal in each layer's list; layers without bond latents are left out. [n], int64.
        parts: the arrays of `ATOM_PARTS` and `BOND_PARTS` for each layer, crystal after crystal. float32.
    """

    def __init__(
        self, atom_counts: Tensor, bond_counts: dict[int, Tensor], parts: dict[int, dict[str, Tensor]]
    ) -> None:
        self.atom_counts, self.bond_counts, self.parts = atom_counts, bond_counts, parts
        ends = {layer: _ends(counts) for layer, counts in bond_counts.items()}
        self._atom_ends, self._bond_ends = _ends(atom_counts), ends

    def __len__(self) -> int:
        return len(self.atom_counts)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that were kept."""
        return tuple(self.parts)

    def of(self, layer: int, indices: Sequence[int]) -> dict[str, Tensor]:
        """The arrays of one layer for some crystals, one after the other."""
        joined = {}
        for name, values in self.parts[layer].items():
            ends = self._atom_ends if name in ATOM_PARTS else self._bond_ends[layer]
            joined[name] = torch.cat([values[ends[index] : ends[index + 1]] for index in indices])
        return joined


def _ends(counts: Tensor) -> list[int]:
    ends: list[int] = [0, *counts.cumsum(0).tolist()]
    return ends


def encode_crystals(
    encoder: Encoder,
    crystals: Sequence[Crystal],
    layers: Sequence[int],
    device: torch.device | str = "cpu",
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> LatentTable:
    """Run an encoder once over crystals, in float32 and without gradients.

    Args:
        encoder: in float32, on `device`.
        crystals: of elements that the encoder knows, at least one.
        layers: which layers to keep, counted from 1.
        device: where to compute; the result is on the CPU.
        on_batch: called with the crystals done and their number, for a progress bar.

    Returns:
        The latents in the order of the crystals.
    """
    rows: list[dict[int, dict[str, Tensor]]] = [{} for _ in crystals]
    counts: dict[int, Tensor] = {}
    done = 0
    for batch in batches_of_atoms(crystals, _BATCH_ATOMS):
        graph = build_graph([crystals[index] for index in batch], encoder.cutoffs).to(device)
        with torch.no_grad():
            latents = encoder(graph)
        for layer in layers:
            taken = latents[layer - 1]
            atoms = graph.ptr.diff()
            parts = {name: getattr(taken, name).cpu().split(atoms.tolist()) for name in ATOM_PARTS}
            if taken.bonds is not None:
                bonds = taken.bonds.row_ptr[graph.ptr].diff()
                parts |= {name: getattr(taken, name).cpu().split(bonds.tolist()) for name in BOND_PARTS}
                counts.setdefault(layer, torch.zeros(len(crystals), dtype=torch.int64))[batch] = bonds.cpu()
            for place, index in enumerate(batch):
                rows[index][layer] = {name: values[place] for name, values in parts.items()}
        done += len(batch)
        on_batch(done, len(crystals))
    joined = {
        layer: {name: torch.cat([row[layer][name] for row in rows]) for name in rows[0][layer]} for layer in layers
    }
    return LatentTable(torch.tensor([crystal.num_atoms for crystal in crystals]), counts, joined)
