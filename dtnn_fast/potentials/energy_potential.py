# SPDX-License-Identifier: MIT
"""Forces and stresses of an `EnergyModel`, and the model as a `Potential`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ..crystals.crystal import Crystal
from ..nn.crystal_sums import crystal_of_atom
from ..nn.graph import CrystalGraph, build_graph, crystal_batches
from .energy_model import EnergyModel
from .potential import Potential, PotentialResult


class EnergyDerivatives(NamedTuple):
    """Energies of crystals and their first derivatives.

    Args:
        energy: energy of each cell. [B], float64, eV.
        forces: minus the derivatives by the positions. [N, 3], dtype of the positions, eV/Angstrom.
        stress: derivative by the strain over the volume; positive where a crystal is stretched. [B, 3, 3], dtype of
            the positions, eV/Angstrom^3.
    """

    energy: Tensor
    forces: Tensor
    stress: Tensor


def energy_slopes(
    model: Callable[[CrystalGraph], Tensor], graph: CrystalGraph, create_graph: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute energies, and their derivatives by the positions and by the strain of `energy_derivatives`.

    Args:
        model: computes the energy of each crystal. [B].
        graph: a plain graph of crystals.
        create_graph: whether the results can be differentiated, by the weights of the model.

    Returns:
        Energies [B], derivatives by the positions [N, 3], and by the strain [B, 3, 3].
    """
    positions = graph.positions.detach().requires_grad_()
    strain = positions.new_zeros(graph.num_crystals, 3, 3).requires_grad_()
    with torch.enable_grad():
        deformation = torch.eye(3, dtype=strain.dtype, device=strain.device) + 0.5 * (strain + strain.mT)
        of_atom = deformation[crystal_of_atom(graph.ptr, graph.num_atoms)]
        strained = (positions[:, None, :] @ of_atom).squeeze(1)
        energy = model(replace(graph, positions=strained, cell=graph.cell.detach() @ deformation))
        # Zero for crystals whose atoms are all alone.
        slope, virial = torch.autograd.grad(
            energy.sum(), (positions, strain), create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
    return energy, slope, virial


def energy_derivatives(model: EnergyModel, graph: CrystalGraph) -> EnergyDerivatives:
    """Compute energies, forces and stresses by one backward pass; no graph of them is kept.

    The positions and lattice vectors of a crystal are multiplied by 1 + (e + e^T) / 2 with a strain e of zero, by which
    the energy is differentiated.

    Args:
        model: the model, in evaluation mode.
        graph: a plain graph of crystals of `model.elements`, built with the encoder's cutoffs, on the model's device.
    """
    energy, slope, virial = energy_slopes(model, graph)
    volume = torch.linalg.det(graph.cell.detach().double()).abs().to(virial.dtype)
    return EnergyDerivatives(energy.detach(), -slope, virial / volume[:, None, None])


class EnergyPotential(Potential):
    """An `EnergyModel` as a potential: for relaxation, force constants, and the calculators of other packages.

    Args:
        model: the model; it is put into evaluation mode.
        batch_atoms: maximum number of atoms in a batch; a larger crystal is a batch by itself.
        name: for messages.

    Example:
        >>> relaxed = relax(crystal, EnergyPotential(load_energy_model("runs/distilled")))
    """

    # `train-potential` teaches force constants by displacements of about this size. Below it the energy is rougher than
    # the teacher's: on 300 crystals of unseen chemical systems, the relative error of the force constants is 0.151 with
    # 0.03 Angstrom, 0.156 with 0.01 and 0.163 with 0.0005.
    displacement: ClassVar[float] = 0.03
    # These forces are derivatives of an energy, so an asymmetry is an error of third order in the displacement.
    largest_asymmetry: ClassVar[float] = 0.3

    def __init__(self, model: EnergyModel, batch_atoms: int = 512, name: str = "the energy model") -> None:
        super().__init__(name, frozenset(model.elements))
        self.model, self.batch_atoms = model.eval(), batch_atoms

    def evaluate(self, crystals: Sequence[Crystal]) -> list[PotentialResult]:
        """See `Potential.evaluate`; a crystal of unknown elements raises `BadCrystalError` too."""
        for crystal in crystals:
            self.check(crystal)
        parameter = next(self.model.encoder.parameters())
        results: dict[int, PotentialResult] = {}
        for batch in crystal_batches(crystals, self.batch_atoms):
            chosen = [crystals[index] for index in batch]
            graph = build_graph(chosen, self.model.encoder.cutoffs, parameter.dtype, parameter.device)
            found = energy_derivatives(self.model, graph)
            forces = found.forces.double().cpu().split([crystal.num_atoms for crystal in chosen])
            stress = found.stress.double().cpu().numpy()
            for index, energy, of_atoms, of_cell in zip(batch, found.energy.tolist(), forces, stress, strict=True):
                results[index] = PotentialResult(energy, of_atoms.numpy(), of_cell)
        return [results[index] for index in range(len(crystals))]
