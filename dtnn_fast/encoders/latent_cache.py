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
from .build import Encoder
from .latent_table import ATOM_PARTS, BOND_PARTS, LatentTable, encode_crystals
from .pretrained import PretrainedEncoder

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
