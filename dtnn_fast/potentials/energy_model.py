# SPDX-License-Identifier: MIT
"""Energies from a native encoder and its learned energy readout, and the file of the readout."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..crystals.checks import check_crystal
from ..crystals.convert import to_crystals
from ..crystals.elements import MAX_ATOMIC_NUMBER
from ..encoders.build import load_encoder
from ..encoders.native import NativeEncoder
from ..errors import BadFileError
from ..nn.crystal_sums import sum_over_atoms
from ..nn.graph import CrystalGraph, build_graph, crystal_batches
from ..nn.saved_folder import WEIGHTS_FILE

FORMAT = "dtnn_fast energy head 1"
HEAD_FILE, ENCODER_FOLDER = "energy_head.safetensors", "encoder"
# The model that comes with the package, and its folder beside the sources.
BUNDLED_POTENTIAL = "native"
_BUNDLED_FOLDER = Path(__file__).parents[1] / "weights" / "potential"


class EnergyHead(NamedTuple):
    """A linear readout of the energy.

    Args:
        weight: weights of the scalars of the encoder's last layer. [C], float64, eV.
        constants: by atomic number. [119], float64, eV.
        elements: atomic numbers of the training crystals.
    """

    weight: Tensor
    constants: Tensor
    elements: tuple[int, ...]


class EnergyModel(nn.Module):
    """A native encoder with an energy readout; energies are float64 for every dtype of the encoder.

    E = sum over atoms of  w . s_a + c_Z

    Args:
        encoder: encoder with all its layers.
        head: readout that was learned with the encoder.
    """

    weight: Tensor
    constants: Tensor

    def __init__(self, encoder: NativeEncoder, head: EnergyHead) -> None:
        super().__init__()
        self.encoder, self.elements = encoder, head.elements
        self.register_buffer("weight", head.weight)
        self.register_buffer("constants", head.constants)

    def forward(self, graph: CrystalGraph) -> Tensor:
        """Compute the energy of each crystal, differentiable in positions and cell. [B], eV.

        Args:
            graph: crystals of `elements`, built with the encoder's cutoffs.
        """
        scalar = self.encoder(graph)[-1].atom_scalar
        atom_energies = scalar.to(self.weight.dtype) @ self.weight + self.constants[graph.atomic_numbers]
        return sum_over_atoms(atom_energies, graph.ptr)

    def predict_energies(self, structures: Any, batch_atoms: int = 1024) -> np.ndarray:
        """Predict the energies that the potential would give.

        Args:
            structures: a pymatgen Structure, an ASE Atoms, a `Crystal`, or a list of them.
            batch_atoms: maximum number of atoms that are computed together, except for one larger crystal.

        Returns:
            The energy of each cell. [B], float64, eV.

        Raises:
            BadCrystalError: a structure cannot be used; the message says which one and why.

        Example:
            >>> load_energy_model("runs/distilled").predict_energies(structures)
        """
        crystals = to_crystals(structures)
        for crystal in crystals:
            check_crystal(crystal, frozenset(self.elements))
        parameter = next(self.encoder.parameters())
        energies = np.empty(len(crystals))
        with torch.no_grad():
            for batch in crystal_batches(crystals, batch_atoms):
                graph = build_graph([crystals[index] for index in batch], self.encoder.cutoffs, parameter.dtype)
                energies[batch] = self(graph.to(parameter.device)).cpu().numpy()
        return energies


def load_energy_model(folder: str | Path) -> EnergyModel:
    """Load an encoder with its energy readout.

    Args:
        folder: "native" for the bundled model; the folder "model" of a run of ``dtnn-fast train-potential``; or the
            folder of a run of ``dtnn-fast distill`` with an energy weight above 0.

    Returns:
        The model, in evaluation mode.

    Raises:
        BadFileError: a file is missing or damaged, or the readout belongs to another encoder.

    Example:
        >>> model = load_energy_model("native")
    """
    folder = _BUNDLED_FOLDER if str(folder) == BUNDLED_POTENTIAL else folder
    encoder_folder = Path(folder) / ENCODER_FOLDER
    encoder = load_encoder(encoder_folder)
    path = Path(folder) / HEAD_FILE
    head, digest = _read_head(path)
    if digest != encoder_digest(encoder_folder) or len(head.weight) != encoder.channels.scalar:
        raise BadFileError(f"{path}: belongs to another encoder than the one in {encoder_folder}")
    return EnergyModel(encoder, head).eval()


def save_energy_head(head: EnergyHead, folder: Path, record: dict[str, Any]) -> None:
    """Write the energy readout into the folder of a run; the encoder must have been saved there.

    Args:
        head: readout that was learned with the encoder.
        folder: folder of the run.
        record: teacher and report of the run, as plain values.
    """
    settings = {"elements": list(head.elements), "encoder": encoder_digest(folder / ENCODER_FOLDER), "record": record}
    unfinished = folder / (HEAD_FILE + ".part")
    metadata = {"format": FORMAT, "settings": json.dumps(settings)}
    save_file({"weight": head.weight, "constants": head.constants}, unfinished, metadata)
    os.replace(unfinished, folder / HEAD_FILE)


def encoder_digest(folder: Path) -> str:
    """Give the SHA-256 of the weights of a saved encoder, in hexadecimal."""
    return hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()


def _read_head(path: Path) -> tuple[EnergyHead, str]:
    """Read a readout and the digest of its encoder."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise BadFileError(f"{path}: expected the format {FORMAT!r}, got {metadata.get('format')!r}")
            settings = json.loads(metadata["settings"])
            weight, constants = file.get_tensor("weight"), file.get_tensor("constants")
            elements, digest = tuple(settings["elements"]), str(settings["encoder"])
    except FileNotFoundError as error:
        raise BadFileError(f"{path}: missing: the run learned no energies (--energy-weight)") from error
    except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise BadFileError(f"{path}: not a complete energy readout: {error}") from error
    shapes_fit = weight.dim() == 1 and constants.shape == (MAX_ATOMIC_NUMBER + 1,)
    finite = all(x.dtype == torch.float64 and bool(torch.isfinite(x).all()) for x in (weight, constants))
    elements_exist = all(type(z) is int and 1 <= z <= MAX_ATOMIC_NUMBER for z in elements)
    if not (shapes_fit and finite and elements_exist and elements):
        raise BadFileError(f"{path}: damaged: expected finite weights and constants in float64, and known elements")
    return EnergyHead(weight, constants, elements), digest
