# SPDX-License-Identifier: MIT
"""A distilled energy model in torch-sim: batched molecular dynamics and relaxation."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..crystals.elements import MAX_ATOMIC_NUMBER, SYMBOLS
from ..errors import BadCrystalError, optional_import
from ..nn.graph import CrystalGraph, nested_tiers
from ..ops._batch_index import ptr_of_batch
from ..potentials.energy_model import EnergyModel, load_energy_model
from ..potentials.energy_potential import energy_derivatives

_PACKAGE = {"extra": "torchsim", "distribution": "torch-sim-atomistic", "purpose": "use the model of torch-sim"}
_torch_sim: Any = optional_import("torch_sim", **_PACKAGE)
_interface: Any = optional_import("torch_sim.models.interface", **_PACKAGE)


class DTNNSimModel(_interface.ModelInterface):
    """torch-sim model that computes energies, forces and stresses of batches of crystals with an `EnergyModel`.

    Units are torch-sim's: eV, Angstrom; stresses have ASE's sign, positive where a crystal is stretched.

    Args:
        model: the energy model, which is copied, or "native" or a folder, which `load_energy_model` takes.
        device: device to compute on; None for that of the model.
        dtype: float32 or float64, which the states must have too; None for that of the model's encoder.

    Raises:
        ValueError: `dtype` is neither float32 nor float64.
        BadFileError: the folder cannot be read; see `load_energy_model`.
        MissingPackageError: torch-sim is not installed.

    Example:
        >>> import torch_sim
        >>> model = DTNNSimModel("native", dtype=torch.float64)
        >>> final = torch_sim.optimize(list_of_atoms, model, optimizer=torch_sim.optimizers.fire)
    """

    def __init__(
        self,
        model: EnergyModel | str | Path,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        copied = load_energy_model(model) if isinstance(model, str | Path) else deepcopy(model)
        parameter = next(copied.encoder.parameters())
        self._device = torch.device(device or parameter.device)
        self._dtype = dtype or parameter.dtype
        if self._dtype not in (torch.float32, torch.float64):
            raise ValueError(f"DTNNSimModel: expected `dtype` float32 or float64, got {self._dtype}")
        self._compute_forces = self._compute_stress = True
        self._memory_scales_with = "n_atoms_x_density"
        self.energy_model = copied.to(self._device).eval().requires_grad_(False)
        # The readout stays in float64, as `EnergyModel` promises.
        self.energy_model.encoder.to(self._dtype)
        is_known = torch.zeros(MAX_ATOMIC_NUMBER + 1, dtype=torch.bool, device=self._device)
        is_known[list(copied.elements)] = True
        self.register_buffer("is_known", is_known, persistent=False)

    def forward(self, state: Any, **_: Any) -> dict[str, Tensor]:
        """Compute a batch of crystals.

        Args:
            state: a SimState, or a dictionary of its attributes, of crystals that are periodic in all directions. It
                is not changed.

        Returns:
            "energy" [B] (eV), "forces" [N, 3] (eV/Angstrom) and "stress" [B, 3, 3] (eV/Angstrom^3), detached.

        Raises:
            BadCrystalError: a crystal has elements that the model does not know, or is not periodic.
            ValueError: the state has another dtype than the model.
        """
        if isinstance(state, dict):
            state = _torch_sim.SimState(**{"masses": torch.ones_like(state["positions"][:, 0]), **state})
        if state.device != self._device:
            state = state.to(self._device)
        if state.dtype != self._dtype:
            raise ValueError(f"DTNNSimModel: expected a state of {self._dtype}, got {state.dtype}")
        found = energy_derivatives(self.energy_model, self._graph(state))
        return {"energy": found.energy.to(self._dtype), "forces": found.forces, "stress": found.stress}

    def _graph(self, state: Any) -> CrystalGraph:
        numbers, index = state.atomic_numbers.to(torch.int64), state.system_idx
        periodic = torch.as_tensor(state.pbc, device=self._device)
        if not bool(periodic.all()):
            raise BadCrystalError(
                f"DTNNSimModel: expected crystals that are periodic in all directions, got {state.pbc}"
            )
        known = self.is_known[numbers.clamp(0, MAX_ATOMIC_NUMBER)] & (numbers >= 0) & (numbers <= MAX_ATOMIC_NUMBER)
        if not bool(known.all()):
            atom = int((~known).nonzero()[0])
            z = int(numbers[atom])
            name = SYMBOLS[z] if 1 <= z <= MAX_ATOMIC_NUMBER else f"atomic number {z}"
            raise BadCrystalError(f"DTNNSimModel: system {int(index[atom])}: {name} is not an element of the model")
        positions, cell = state.positions.detach(), state.row_vector_cell.detach().contiguous()
        ptr = ptr_of_batch("DTNNSimModel", len(numbers), None, index, cell)
        assert ptr is not None  # for mypy: `index` is given
        pbc = periodic.expand(3)
        # Lists are made in float64 for every dtype, as in `build_graph`.
        tiers = nested_tiers(positions.double(), cell.double(), pbc, ptr, self.energy_model.encoder.cutoffs)
        return CrystalGraph(numbers, positions, cell, ptr, tiers)
