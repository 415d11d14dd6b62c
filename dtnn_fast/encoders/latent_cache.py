# SPDX-License-Identifier: MIT
"""Latents of a data set kept in a file, which is found again by what it was made of: the crystals and the encoder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..crystals.crystal import Crystal
from ..errors import BadFileError
from ..nn.graph import batches_of_atoms, build_graph
from .build import Encoder
from .pretrained import PretrainedEncoder

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


FORMAT = "dtnn_fast latents 2"
_CHECKSUM = "checksum"


def default_cache_folder() -> Path:
    """Where latents are kept unless said otherwise: ``$XDG_CACHE_HOME/dtnn_fast``, or ``~/.cache/dtnn_fast``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dtnn_fast"


def structures_digest(crystals: Sequence[Crystal]) -> str:
    """A fingerprint of the structures in their order; ids and labels do not count. SHA-256."""
    digest = hashlib.sha256()
    for crystal in crystals:
        for array in (crystal.atomic_numbers, crystal.positions, crystal.cell, crystal.pbc):
            digest.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def encoder_digest(encoder: Encoder) -> str:
    """A fingerprint of an encoder's settings and weights. SHA-256."""
    if isinstance(encoder, PretrainedEncoder):
        return encoder.digest
    digest = hashlib.sha256(repr(encoder.config.to_json()).encode())
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def cached_latents(
    encoder: Encoder,
    crystals: Sequence[Crystal],
    layers: Sequence[int],
    folder: Path | None,
    device: torch.device | str = "cpu",
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> LatentTable:
    """Latents of crystals from the cache, or from the encoder, which then fills the cache.

    Args:
        encoder: see `encode_crystals`.
        crystals: see `encode_crystals`.
        layers: see `encode_crystals`.
        folder: of the cache; made when absent. None keeps nothing.
        device: see `encode_crystals`.
        on_batch: see `encode_crystals`; not called when the cache has them.

    Returns:
        The latents in the order of the crystals.

    Raises:
        BadFileError: the file in the cache is damaged, or holds latents of other crystals or weights.
    """
    wanted = tuple(sorted(layers))
    key = {
        "format": FORMAT,
        "encoder": encoder_digest(encoder),
        "structures": structures_digest(crystals),
        "layers": ",".join(map(str, wanted)),
    }
    path = (
        None
        if folder is None
        else folder / f"latents-{hashlib.sha256(repr(key).encode()).hexdigest()[:20]}.safetensors"
    )
    if path is not None and path.exists():
        return _read(path, key)
    table = encode_crystals(encoder, crystals, wanted, device, on_batch)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, table, key)
    return table


def _write(path: Path, table: LatentTable, key: dict[str, str]) -> None:
    tensors = {"atom_counts": table.atom_counts}
    tensors |= {f"{layer}.bond_counts": counts for layer, counts in table.bond_counts.items()}
    tensors |= {f"{layer}.{name}": values for layer, parts in table.parts.items() for name, values in parts.items()}
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    # Another process may be writing the same file: each writes its own, and the last one to be finished stays.
    unfinished = path.with_suffix(f".{os.getpid()}.part")
    save_file(tensors, unfinished, metadata={**key, _CHECKSUM: _checksum(tensors)})
    os.replace(unfinished, path)


def _read(path: Path, key: dict[str, str]) -> LatentTable:
    try:
        with safe_open(path, framework="pt") as file:
            found = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dictionary
    except (SafetensorError, OSError) as error:
        raise BadFileError(f"{path}: damaged; remove it, and it is made again: {error}") from error
    for name, expected in key.items():
        if found.get(name) != expected:
            raise BadFileError(
                f"{path}: made of another {name}: expected {expected[:16]}, got {str(found.get(name))[:16]}; remove it"
            )
    if found.get(_CHECKSUM) != _checksum(tensors):
        raise BadFileError(f"{path}: damaged: its checksum is another; remove it, and it is made again")
    layers = [int(layer) for layer in key["layers"].split(",")]
    counts = {layer: tensors[f"{layer}.bond_counts"] for layer in layers if f"{layer}.bond_counts" in tensors}
    parts = {layer: _parts_of(layer, tensors, layer in counts) for layer in layers}
    return LatentTable(tensors["atom_counts"], counts, parts)


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def _parts_of(layer: int, tensors: Mapping[str, Tensor], has_bonds: bool) -> dict[str, Tensor]:
    names = ATOM_PARTS + BOND_PARTS if has_bonds else ATOM_PARTS
    return {name: tensors[f"{layer}.{name}"] for name in names}
