# SPDX-License-Identifier: MIT
"""A model of the lattice's response to a field: Born effective charges and force constants at q = 0.

Together they give the ionic tensor by lattice dynamics (`dtnn_fast.phonons`), the frequencies at q = 0, and whether the
crystal is stable against displacements with the period of its cell.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..crystals.checks import check_crystals
from ..crystals.convert import to_crystals
from ..crystals.crystal import Crystal
from ..crystals.elements import MAX_ATOMIC_NUMBER
from ..crystals.lattice import wrap_into_compact_cells
from ..encoders.native import NativeEncoder, NativeEncoderConfig
from ..errors import BadFileError
from ..nn.graph import CrystalGraph, collate, crystal_batches
from ..nn.latents import Latents
from ..nn.reduced_graph import reduce_with_images
from ..nn.saved_folder import CONFIG_FILE, load_weights, put_weights, read_settings, save_folder
from ..ops import neighbor_list
from ..ops.bond_turns import component_rotation
from ..typed_settings import from_plain
from .born_charges import BornChargeHead
from .bundled_model import BUNDLED_LATTICE_MODEL, bundled_lattice_folder
from .decoder import DecoderBlock, DecoderConfig
from .decoder_inputs import AtomInput, BondInput, layer_latents
from .functionals import FunctionalShifts, check_functional
from .pair_springs import AtomPairs, PairSprings, assemble

FORMAT = "dtnn_fast lattice 1"


@dataclass(frozen=True)
class LatticeModelConfig:
    """Settings of a `LatticeModel`, as in its config.json.

    Args:
        encoder: settings of the encoder.
        decoder: settings of the block that reads the latents.
        pair_cutoff: bonds up to this length carry springs. Angstrom.
        elements: atomic numbers that the model was trained on; others are rejected. Empty means all.
        functionals: functionals of the training labels, the main one first; the others have learned shifts of the
            latents. Empty for labels of one functional.
        functional: the one of `functionals` that predictions are for; empty for the first.
    """

    encoder: NativeEncoderConfig = field(default_factory=NativeEncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    pair_cutoff: float = 6.0
    elements: tuple[int, ...] = ()
    functionals: tuple[str, ...] = ()
    functional: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.pair_cutoff < inf:
            raise ValueError(f"LatticeModelConfig: expected a positive `pair_cutoff`, got {self.pair_cutoff}")
        if not 1 <= self.decoder.layer <= len(self.encoder.cutoffs):
            raise ValueError(
                f"LatticeModelConfig: expected `layer` from 1 to {len(self.encoder.cutoffs)}, got {self.decoder.layer}"
            )
        if not all(1 <= z <= MAX_ATOMIC_NUMBER for z in self.elements):
            raise ValueError(
                f"LatticeModelConfig: expected `elements` from 1 to {MAX_ATOMIC_NUMBER}, got {list(self.elements)}"
            )
        if len(set(self.functionals)) != len(self.functionals) or len(self.functionals) == 1:
            raise ValueError(
                f"LatticeModelConfig: expected no `functionals` or at least two different ones, got "
                f"{list(self.functionals)}"
            )
        check_functional(self.functional, self.functionals, "LatticeModel")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain values, for a JSON file."""
        values = {**asdict(self), "encoder": self.encoder.to_json(), "decoder": self.decoder.to_json()}
        values |= {"elements": list(self.elements), "functionals": list(self.functionals)}
        if not self.functional:
            del values["functional"]  # which the first models lack
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> LatticeModelConfig:
        """Make settings from what `to_json` gave.

        Raises:
            ValueError: a setting is missing, unknown, or of another type or range.
        """
        encoder = values.get("encoder")
        if not isinstance(encoder, dict) or encoder.get("kind") != "native":
            raise ValueError(f"expected an `encoder` of the kind 'native', got {encoder}")
        settings = {name: value for name, value in encoder.items() if name != "kind"}
        return from_plain(cls, {"functional": "", **values, "encoder": settings})


class LatticeGraph(NamedTuple):
    """Crystals as a `LatticeModel` reads them: one atom of each orbit for the encoder, all atoms for the springs.

    Args:
        graph: the crystals for the encoder, reduced by symmetry where they have operations.
        orbit: the graph's atom that each atom is an image of. [N], int64.
        rotation: rotation from there to the atom; None where the graph has all atoms. [N, 3, 3].
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]`` of all atoms. [B+1], int64.
        pairs: pairs of all atoms.
        sizes: number of atoms of each crystal, on the host.
    """

    graph: CrystalGraph
    orbit: Tensor
    rotation: Tensor | None
    ptr: Tensor
    pairs: AtomPairs
    sizes: tuple[int, ...]

    def to(self, device: torch.device | str) -> LatticeGraph:
        """Copy the graph to another device."""
        rotation = None if self.rotation is None else self.rotation.to(device)
        pairs = self.pairs.to(device)
        return LatticeGraph(
            self.graph.to(device), self.orbit.to(device), rotation, self.ptr.to(device), pairs, self.sizes
        )

    @classmethod
    def of(
        cls, crystal: Crystal, cutoffs: Sequence[float], pair_cutoff: float, dtype: torch.dtype = torch.float32
    ) -> LatticeGraph:
        """Build the graph of a crystal, on the CPU.

        Args:
            crystal: a crystal that passed `check_crystal`. Its `operations` are used where they fit.
            cutoffs: cutoffs of the encoder's layers. Angstrom.
            pair_cutoff: largest length of bonds with springs. Angstrom.
            dtype: dtype of what carries lengths.
        """
        found = reduce_with_images([crystal], cutoffs, dtype, on_failure=lambda index, reason: None)
        ptr = torch.tensor([0, crystal.num_atoms])
        pbc = torch.from_numpy(np.asarray(crystal.pbc, dtype=bool)).unsqueeze(0)
        # The same bonds in a compact cell: the search refuses very skewed ones.
        placed = wrap_into_compact_cells(found.positions.numpy(), found.cell.numpy(), pbc.numpy(), ptr.numpy())
        positions, cell = map(torch.from_numpy, placed)
        bonds = neighbor_list(positions, cell, pbc, pair_cutoff, ptr, half=True)
        first, second = bonds.pairs
        vectors = positions[second] - positions[first] + bonds.shifts.to(torch.float64) @ cell[0]
        different = first != second  # springs from an atom to its own image do nothing
        pairs = AtomPairs(first[different], second[different], vectors[different].to(dtype))
        orbit, rotation = torch.arange(crystal.num_atoms), None
        if found.images is not None:
            orbit, rotation = found.images.source, found.images.rotation.to(dtype)
        return cls(found.graph, orbit, rotation, ptr, pairs, (crystal.num_atoms,))

    @classmethod
    def join(cls, graphs: Sequence[LatticeGraph]) -> LatticeGraph:
        """Join graphs on the CPU into one, one after the other."""
        counts = [size for graph in graphs for size in graph.sizes]
        stored = [graph.graph.num_atoms for graph in graphs]
        starts = np.cumsum([0, *counts]).tolist()
        rotation = None
        if any(graph.rotation is not None for graph in graphs):
            like = graphs[0].pairs.vectors
            rotation = torch.cat(
                [
                    torch.eye(3, dtype=like.dtype).expand(count, 3, 3) if graph.rotation is None else graph.rotation
                    for graph, count in zip(graphs, counts, strict=True)
                ]
            )
        return cls(
            collate([graph.graph for graph in graphs]),
            torch.cat([g.orbit + s for g, s in zip(graphs, np.cumsum([0, *stored]).tolist(), strict=False)]),
            rotation,
            torch.tensor(starts),
            AtomPairs(
                torch.cat([graph.pairs.first + start for graph, start in zip(graphs, starts, strict=False)]),
                torch.cat([graph.pairs.second + start for graph, start in zip(graphs, starts, strict=False)]),
                torch.cat([graph.pairs.vectors for graph in graphs]),
            ),
            tuple(counts),
        )


class LatticeResponse(NamedTuple):
    """Response of a crystal's atoms to electric fields and displacements.

    Args:
        force_constants: symmetric, atom-major, at q = 0 without the field of long waves. [3 N, 3 N], eV/Angstrom^2.
        born_charges: Z[atom, field, displacement]. [N, 3, 3], e.
    """

    force_constants: np.ndarray
    born_charges: np.ndarray


class LatticeModel(nn.Module):
    """Model that predicts Born effective charges and force constants at q = 0.

    Args:
        config: settings.
        encoder: an encoder of these settings with the layers that are read; None builds one.
    """

    def __init__(self, config: LatticeModelConfig | None = None, encoder: NativeEncoder | None = None) -> None:
        super().__init__()
        self.config = config or LatticeModelConfig()
        layer = self.config.decoder.layer
        self.encoder = NativeEncoder(self.config.encoder, layer) if encoder is None else encoder
        decoder = replace(self.config.decoder, mean_bonds=self.config.encoder.mean_bonds[layer - 1])
        self.decoder = decoder
        self.atom_input = AtomInput(self.encoder.channels, decoder.layers)
        bonds = self.encoder.bond_channels
        inputs = [self.atom_input.channels]
        self.block = DecoderBlock(decoder, inputs[0], bonds)
        self.born_head = BornChargeHead(decoder.latent, decoder.dropout)
        self.springs = PairSprings(decoder.latent, self.config.pair_cutoff)
        functionals, scalars = len(self.config.functionals), self.encoder.channels.scalar
        self.functional_shifts = FunctionalShifts(functionals, decoder.layers, scalars) if functionals > 1 else None

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that the model knows; empty means all."""
        return self.config.elements

    @property
    def functionals(self) -> tuple[str, ...]:
        """Functionals that the model can predict for, the main one first; empty for one that it does not tell."""
        return self.config.functionals

    @property
    def functional(self) -> str:
        """The one of `functionals` that predictions are for; empty without them."""
        return self.config.functional or (self.functionals[0] if self.functionals else "")

    @property
    def _functional_index(self) -> int:
        return self.functionals.index(self.functional) if self.functionals else 0

    def with_functional(self, name: str) -> LatticeModel:
        """Make a model that predicts for another functional, and shares the parameters of this model.

        Args:
            name: one of `functionals`; empty for the first.

        Raises:
            ValueError: the model does not know the functional.
        """
        check_functional(name, self.functionals, "LatticeModel")
        model = copy.copy(self)
        model.config = replace(self.config, functional=name)
        return model

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the parameters."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    def forward(self, graph: LatticeGraph, functional: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        """Compute the response of crystals.

        Args:
            graph: the crystals.
            functional: index of each crystal's functional; None for that of the model. [B], int64.

        Returns:
            Force constants of each crystal ([3 N_b, 3 N_b] each, eV/Angstrom^2), and Born charges of all atoms
            ([N, 3, 3], e).
        """
        latents: Sequence[Latents | None] = self.encoder(graph.graph, False)
        if self.functional_shifts is not None:
            if functional is not None:
                latents = self.functional_shifts(latents, functional, graph.graph.ptr)
            else:
                latents = self.functional_shifts.shift_all(latents, self._functional_index)
        bonds = BondInput.from_latents(layer_latents(latents, self.decoder.layer)) if self.decoder.bonds else None
        scalar, vector, rank2 = self.block(*self.atom_input(latents), bonds)
        scalar, vector, rank2 = (values.index_select(0, graph.orbit) for values in (scalar, vector, rank2))
        if graph.rotation is not None:
            vector = torch.bmm(graph.rotation, vector)
            rank2 = torch.bmm(component_rotation(graph.rotation), rank2)
        charges = self.born_head.charges(scalar, vector, rank2, graph.ptr)
        return assemble(self.springs(scalar, vector, rank2, graph.pairs), graph.pairs, graph.sizes), charges

    def graph(self, crystals: Sequence[Crystal]) -> LatticeGraph:
        """Build the graph of crystals for this model, on its device."""
        cutoffs, pair_cutoff = self.encoder.cutoffs, self.config.pair_cutoff
        graphs = [LatticeGraph.of(crystal, cutoffs, pair_cutoff, self.dtype) for crystal in crystals]
        return LatticeGraph.join(graphs).to(self.device)

    @classmethod
    def from_pretrained(cls, name: str | Path) -> LatticeModel:
        """Load the bundled model "lattice", or a model that `save` wrote, in evaluation mode.

        Raises:
            BadFileError: there is no such model, or its files are damaged.
        """
        folder = bundled_lattice_folder() if str(name) == BUNDLED_LATTICE_MODEL else Path(name)
        if not folder.is_dir():
            raise BadFileError(
                f"LatticeModel.from_pretrained: expected {BUNDLED_LATTICE_MODEL!r} or the folder of a saved model, got "
                f"{str(name)!r}"
            )
        model = read_settings(folder / CONFIG_FILE, FORMAT, lambda values: cls(LatticeModelConfig.from_json(values)))
        put_weights(model, load_weights(folder), folder)
        return model.eval()

    def save(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors into a folder, which is created if missing."""
        save_folder(self, folder, FORMAT, self.config.to_json())

    def predict(self, structures: Any, batch_atoms: int = 1024) -> list[LatticeResponse]:
        """Predict the response of structures.

        Args:
            structures: a pymatgen Structure, an ASE Atoms, a `Crystal`, or a list of them. If a `Crystal` has
                `operations`, the prediction is faster and exactly symmetric.
            batch_atoms: maximum number of atoms in a batch; a larger crystal is a batch by itself.

        Returns:
            One response for each structure, atoms in its order and in the frame of its cell. float64.

        Raises:
            BadCrystalError: a structure cannot be used; the message names it and says why.
        """
        crystals = to_crystals(structures)
        for error in check_crystals(crystals, frozenset(self.elements) or None):
            if error is not None:
                raise error
        responses: list[LatticeResponse | None] = [None] * len(crystals)
        was_training = self.training
        self.eval()
        with torch.inference_mode():
            for batch in crystal_batches(crystals, batch_atoms):
                matrices, charges = self(self.graph([crystals[index] for index in batch]))
                of_crystals = charges.double().cpu().split([crystals[index].num_atoms for index in batch])
                for index, matrix, of_crystal in zip(batch, matrices, of_crystals, strict=True):
                    born = of_crystal.numpy()
                    responses[index] = LatticeResponse(matrix.double().cpu().numpy(), born - born.mean(0))
        self.train(was_training)
        return cast("list[LatticeResponse]", responses)
