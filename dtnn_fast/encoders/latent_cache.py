# SPDX-License-Identifier: MIT
"""Latents of a data set, computed once and kept in a file that crystals and encoder identify.

`cached_latents` is the entry; it reads the file or calls `encode_crystals`. Both give a `LatentTable`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..crystals.crystal import Crystal
from ..errors import BadFileError
from ..nn.graph import CrystalGraph, build_graph, crystal_batches
from ..nn.reduced_graph import build_reduced_graph
from .build import Encoder
from .native import NativeEncoder
from .pretrained import PretrainedEncoder

FORMAT = "dtnn_fast latents 3"
# Arrays of `Latents` with one row per atom, and with one row per bond.
ATOM_ARRAYS = ("atom_scalar", "atom_vector", "atom_rank2")
BOND_ARRAYS = ("bond_scalar", "bond_vector", "bond_length")
_CHECKSUM = "checksum"
_BATCH_ATOMS = 128


class LatentTable:
    """Latents of some layers for a list of crystals.

    Args:
        atom_counts: number of atoms of each crystal; of stored atoms where the encoder read reduced graphs. [n], int64.
        bond_counts: number of bonds of each crystal in the list of each layer; layers without bond latents are left
            out. [n], int64.
        arrays: `ATOM_ARRAYS` and `BOND_ARRAYS` of each layer, crystal after crystal. float32.
    """

    def __init__(
        self, atom_counts: Tensor, bond_counts: dict[int, Tensor], arrays: dict[int, dict[str, Tensor]]
    ) -> None:
        self.atom_counts, self.bond_counts, self.arrays = atom_counts, bond_counts, arrays
        self._atom_ptr = _row_pointers(atom_counts)
        self._bond_ptr = {layer: _row_pointers(counts) for layer, counts in bond_counts.items()}

    def __len__(self) -> int:
        return len(self.atom_counts)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that were kept."""
        return tuple(self.arrays)

    def select(self, layer: int, indices: Sequence[int]) -> dict[str, Tensor]:
        """Join the arrays of one layer for some crystals, one after the other."""
        joined = {}
        for name, values in self.arrays[layer].items():
            ptr = self._atom_ptr if name in ATOM_ARRAYS else self._bond_ptr[layer]
            joined[name] = torch.cat([values[ptr[index] : ptr[index + 1]] for index in indices])
        return joined


def _row_pointers(counts: Tensor) -> list[int]:
    ptr: list[int] = [0, *counts.cumsum(0).tolist()]
    return ptr


def cached_latents(
    encoder: Encoder,
    crystals: Sequence[Crystal],
    layers: Sequence[int],
    folder: Path | None,
    device: torch.device | str = "cpu",
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> LatentTable:
    """Read the latents of crystals from the cache, or compute them and fill the cache.

    Args:
        encoder: see `encode_crystals`.
        crystals: see `encode_crystals`.
        layers: see `encode_crystals`.
        folder: folder of the cache; created if missing. None for no cache.
        device: see `encode_crystals`.
        on_batch: see `encode_crystals`; not called when the latents are in the cache.

    Returns:
        The latents in the order of the crystals.

    Raises:
        BadFileError: the file in the cache is damaged, or holds latents of other crystals or weights.
    """
    ordered = tuple(sorted(layers))
    if folder is None:
        return encode_crystals(encoder, crystals, ordered, device, on_batch)
    key = {
        "format": FORMAT,
        "encoder": encoder_digest(encoder),
        "structures": structures_digest(crystals),
        "operations": operations_digest(crystals) if isinstance(encoder, NativeEncoder) else "",
        "layers": ",".join(map(str, ordered)),
    }
    path = folder / f"latents-{hashlib.sha256(repr(key).encode()).hexdigest()[:20]}.safetensors"
    if path.exists():
        return _read(path, key)
    table = encode_crystals(encoder, crystals, ordered, device, on_batch)
    folder.mkdir(parents=True, exist_ok=True)
    _write(path, table, key)
    return table


def encode_crystals(
    encoder: Encoder,
    crystals: Sequence[Crystal],
    layers: Sequence[int],
    device: torch.device | str = "cpu",
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> LatentTable:
    """Run an encoder once over crystals, in float32 and without gradients.

    The native encoder computes one atom and one bond of each orbit of crystals with `operations`, as
    `labelled_graph` builds them.

    Args:
        encoder: in float32, on `device`.
        crystals: crystals of elements that the encoder knows, at least one.
        layers: layers to keep, counted from 1.
        device: device to compute on; the result is on the CPU.
        on_batch: called with the number of crystals done and the number of all, for a progress bar.

    Returns:
        The latents in the order of the crystals.
    """
    rows: list[dict[int, dict[str, Tensor]]] = [{} for _ in crystals]
    bond_counts: dict[int, Tensor] = {}
    atom_counts = torch.zeros(len(crystals), dtype=torch.int64)
    reduced = isinstance(encoder, NativeEncoder)
    done = 0
    for batch in crystal_batches(crystals, _BATCH_ATOMS):
        graph = labelled_graph([crystals[index] for index in batch], encoder.cutoffs, reduced).to(device)
        atom_counts[batch] = graph.ptr.diff().cpu()
        with torch.no_grad():
            latents = encoder(graph)
        for layer in layers:
            kept = latents[layer - 1]
            num_atoms = graph.ptr.diff()
            by_crystal = {name: getattr(kept, name).cpu().split(num_atoms.tolist()) for name in ATOM_ARRAYS}
            if kept.bonds is not None:
                num_bonds = kept.bonds.row_ptr[graph.ptr].diff()
                by_crystal |= {name: getattr(kept, name).cpu().split(num_bonds.tolist()) for name in BOND_ARRAYS}
                bond_counts.setdefault(layer, torch.zeros(len(crystals), dtype=torch.int64))[batch] = num_bonds.cpu()
            for place, index in enumerate(batch):
                rows[index][layer] = {name: values[place] for name, values in by_crystal.items()}
        done += len(batch)
        on_batch(done, len(crystals))
    joined = {
        layer: {name: torch.cat([row[layer][name] for row in rows]) for name in rows[0][layer]} for layer in layers
    }
    return LatentTable(atom_counts, bond_counts, joined)


def labelled_graph(crystals: Sequence[Crystal], cutoffs: Sequence[float], reduced: bool) -> CrystalGraph:
    """Build the graph of labelled crystals, whose atoms do not move.

    Args:
        crystals: at least one.
        cutoffs: Angstrom.
        reduced: whether crystals with `operations` get one atom and one bond of each orbit; those whose operations do
            not fit keep all. For `NativeEncoder`.
    """
    if not reduced:
        return build_graph(crystals, cutoffs)
    return build_reduced_graph(crystals, cutoffs, on_failure=lambda index, reason: None)


def default_cache_folder() -> Path:
    """Return the default folder of the cache: ``$XDG_CACHE_HOME/dtnn_fast``, or ``~/.cache/dtnn_fast``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dtnn_fast"


def structures_digest(crystals: Sequence[Crystal]) -> str:
    """Compute the SHA-256 of structures in their order; ids and labels do not count."""
    digest = hashlib.sha256()
    for crystal in crystals:
        for array in (crystal.atomic_numbers, crystal.positions, crystal.cell, crystal.pbc):
            digest.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def operations_digest(crystals: Sequence[Crystal]) -> str:
    """Compute the SHA-256 of the operations of crystals, which say which atoms a reduced graph keeps."""
    digest = hashlib.sha256()
    for crystal in crystals:
        for array in crystal.operations or ():
            digest.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        digest.update(b"/")
    return digest.hexdigest()


def encoder_digest(encoder: Encoder) -> str:
    """Compute the SHA-256 of an encoder's settings and weights."""
    if isinstance(encoder, PretrainedEncoder):
        return encoder.digest
    return weights_digest(encoder.config.to_json(), encoder)


def weights_digest(settings: dict[str, Any], model: nn.Module) -> str:
    """Compute the SHA-256 of a model's settings and weights."""
    digest = hashlib.sha256(repr(settings).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _write(path: Path, table: LatentTable, key: dict[str, str]) -> None:
    tensors = {"atom_counts": table.atom_counts}
    tensors |= {f"{layer}.bond_counts": counts for layer, counts in table.bond_counts.items()}
    tensors |= {f"{layer}.{name}": values for layer, arrays in table.arrays.items() for name, values in arrays.items()}
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    # Another process may be writing the same file: each writes its own file, and the last one to finish stays.
    unfinished = path.with_suffix(f".{os.getpid()}.part")
    save_file(tensors, unfinished, metadata={**key, _CHECKSUM: _checksum(tensors)})
    os.replace(unfinished, path)


def _read(path: Path, key: dict[str, str]) -> LatentTable:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dictionary
    except (SafetensorError, OSError) as error:
        raise BadFileError(f"{path}: damaged; delete it, and the latents are computed again: {error}") from error
    for name, expected in key.items():
        actual = str(metadata.get(name))
        if actual != expected:
            raise BadFileError(
                f"{path}: made of another {name}: expected {expected[:16]}, got {actual[:16]}; remove it"
            )
    if metadata.get(_CHECKSUM) != _checksum(tensors):
        raise BadFileError(f"{path}: damaged: wrong checksum; delete it, and the latents are computed again")
    layers = [int(layer) for layer in key["layers"].split(",")]
    bond_counts = {layer: tensors[f"{layer}.bond_counts"] for layer in layers if f"{layer}.bond_counts" in tensors}
    names = {layer: ATOM_ARRAYS + BOND_ARRAYS if layer in bond_counts else ATOM_ARRAYS for layer in layers}
    arrays = {layer: {name: tensors[f"{layer}.{name}"] for name in names[layer]} for layer in layers}
    return LatentTable(tensors["atom_counts"], bond_counts, arrays)


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()
