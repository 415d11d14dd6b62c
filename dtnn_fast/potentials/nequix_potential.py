# SPDX-License-Identifier: MIT
"""Nequix (T. Koker et al., arXiv 2508.16067 and 2601.07742) as a potential, with weights from the user's file.

The package nequix reads the file with JAX and turns the model into its torch implementation, which computes here: it
needs no compilation for each crystal, and works in float64.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..encoders.pretrained import PRETRAINED, DirectedBonds
from ..errors import BadFileError, MissingPackageError, optional_import
from .bond_potential import BondPotential

# SHA-256 of files whose results are known, by name.
KNOWN_FILES = {"nequix-oam-1": "6a43475eaeb32a7a049f36c1306d78aa1e7a17e8af37aeda7901c8fec0ca845c"}
# Larger batches save no time on the CPU.
_BATCH_ATOMS = 32


class NequixPotential(BondPotential):
    """A Nequix model.

    Args:
        path: a file of the package nequix, ``nequix-oam-1.nqx`` for example.
        trust: whether a file that is not among `KNOWN_FILES` is accepted.
        device: device to compute on.
        batch_atoms: number of atoms that are computed together, except for one larger crystal.
        dtype: dtype to compute in.

    Raises:
        BadFileError: the file cannot be read, or its SHA-256 is not known and `trust` is False.
        MissingPackageError: the package nequix, or one that it needs, is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        trust: bool = False,
        device: torch.device | str = "cpu",
        batch_atoms: int = _BATCH_ATOMS,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        name = check_nequix_file(Path(path), trust)
        self._model, config = _load_model(Path(path))
        self._model = self._model.eval().requires_grad_(False).to(device=device, dtype=dtype)
        elements = [int(z) for z in config["atomic_numbers"]]
        self._species = torch.full((max(elements) + 1,), -1, dtype=torch.int64, device=device)
        self._species[elements] = torch.arange(len(elements), device=device)
        super().__init__(name, elements, float(config["cutoff"]), batch_atoms, device, dtype)

    def atom_energies(self, atomic_numbers: Tensor, bonds: DirectedBonds) -> Tensor:
        """See `BondPotential.atom_energies`."""
        # Vectors point from the receiver of a message to its sender.
        energies: Tensor = self._model.node_energies(
            bonds.vectors, self._species[atomic_numbers], senders=bonds.pairs[1], receivers=bonds.pairs[0]
        )
        return energies.squeeze(-1)


def check_nequix_file(path: Path, trust: bool = False) -> str:
    """Check the SHA-256 of a file of Nequix before anything reads it.

    Args:
        path: the file.
        trust: whether another file than those of `KNOWN_FILES` is accepted.

    Returns:
        The name of the model; for a file that is not known the file's, but never the name of a known potential.

    Raises:
        BadFileError: the file cannot be read, or its SHA-256 is not known and `trust` is False.
    """
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BadFileError(f"{path}: the potential's weights cannot be read: {error}") from error
    for name, known in KNOWN_FILES.items():
        if digest == known:
            return name
    if not trust:
        expected = " or ".join(f"{known[:16]}... ({name})" for name, known in KNOWN_FILES.items())
        raise BadFileError(
            f"{path}: damaged, or the weights of another model: expected SHA-256 {expected}, got {digest[:16]}...; a "
            "file that you trust is read with trust=True, --trust on the command line"
        )
    return f"unknown {path.stem}" if path.stem in (*KNOWN_FILES, *PRETRAINED) else path.stem


def _load_model(path: Path) -> tuple[Any, dict[str, Any]]:
    """Read a file with the package nequix; returns the torch model and the settings in the file."""
    try:
        readers: Any = optional_import("nequix.model", extra="nequix", purpose="read a potential of Nequix")
        converters: Any = optional_import(
            "nequix.torch_impl.utils", extra="nequix", purpose="compute with a potential of Nequix"
        )
    except MissingPackageError as error:
        raise MissingPackageError(
            f"{error}; without CUDA for JAX and the packages for training, pip install --no-deps nequix and pip "
            "install jax equinox e3nn-jax jraph e3nn are enough"
        ) from error
    try:
        read, config = readers.load_model(path, False)
        model, _ = converters.convert_model_jax_to_torch(read, config, False)
    except Exception as error:  # of JSON, NumPy, JAX or Equinox, depending on where the file is damaged
        raise BadFileError(
            f"{path}: not a file of Nequix that the installed package reads: {type(error).__name__}: {error}"
        ) from error
    return model, config
