# SPDX-License-Identifier: MIT
"""Prediction by a model that computes with graphs: graphs of crystals in, arrays for each crystal out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ..crystals.crystal import Crystal
from ..encoders.build import Encoder
from ..encoders.native import NativeEncoder
from ..nn.atom_images import AtomImages
from ..nn.graph import CrystalGraph, build_graph
from ..nn.latents import EncodedCrystals
from ..nn.model_watch import ModelWatch
from ..nn.reduced_graph import build_inference_graph, build_unfolding_graph
from .captured_forward import CapturedForward
from .predictor import Predictor


class GraphPredictor(Predictor):
    """A predictor with one encoder, which reads graphs of crystals; those with known operations are reduced."""

    encoder: Encoder

    @abstractmethod
    def encode(self, graph: CrystalGraph) -> EncodedCrystals:
        """Compute the latents of a graph."""

    @abstractmethod
    def member_tensors(self, crystals: CrystalGraph | EncodedCrystals) -> dict[str, Tensor]:
        """Compute the tensors of each member by target. [members, B, 3, 3]."""

    @abstractmethod
    def born_charges(self, crystals: CrystalGraph | EncodedCrystals) -> Tensor:
        """Compute Born effective charges of the atoms of a graph. [N, 3, 3], e."""

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the parameters."""
        return next(self.parameters()).dtype

    @property
    def bond_cutoff(self) -> float:
        """See `Predictor.bond_cutoff`."""
        return float(max(self.encoder.cutoffs))

    def graph(self, crystals: Sequence[Crystal]) -> CrystalGraph:
        """Build the graph of crystals for this model, on its device and in its dtype."""
        parameter = next(self.parameters())
        return build_graph(crystals, self.encoder.cutoffs, parameter.dtype, parameter.device)

    @property
    def uses_operations(self) -> bool:
        """See `Predictor.uses_operations`."""
        return isinstance(self.encoder, NativeEncoder)

    def inference_graph(self, crystals: Sequence[Crystal]) -> CrystalGraph:
        """Build the graph of crystals as `graph` does, with one atom and one bond of each orbit where it can.

        These are the crystals with `operations`, of a model that `uses_operations`. Positions carry no gradients there.
        """
        if not self.uses_operations or all(crystal.operations is None for crystal in crystals):
            return self.graph(crystals)
        return build_inference_graph(crystals, self.encoder.cutoffs, self.dtype).to(self.device)

    def predict_members(self, crystals: Sequence[Crystal]) -> dict[str, np.ndarray]:
        """See `Predictor.predict_members`."""
        with self._inference() as watch:
            graph = self.inference_graph(crystals)
            captured: CapturedForward | None = self.__dict__.get("_captured_forward")
            if captured is not None and not watch.any_training():
                found = captured.members(self.member_tensors, graph)
                if found is not None:
                    return found
            members = self.member_tensors(graph)
            return {target: values.double().cpu().numpy() for target, values in members.items()}

    def predict_batch_charges(self, crystals: Sequence[Crystal]) -> list[np.ndarray]:
        """See `Predictor.predict_batch_charges`."""
        with self._inference():
            graph, images = self._unfolding_graph(crystals)
            return _charges_by_crystal(self.born_charges(graph), images, crystals)

    def predict_members_and_charges(
        self, crystals: Sequence[Crystal]
    ) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        """See `Predictor.predict_members_and_charges`."""
        with self._inference():
            graph, images = self._unfolding_graph(crystals)
            encoded = self.encode(graph)
            charges = _charges_by_crystal(self.born_charges(encoded), images, crystals)
            members = self.member_tensors(encoded)
            return {target: values.double().cpu().numpy() for target, values in members.items()}, charges

    def use_cuda_graphs(self, max_graphs: int = 8, max_atoms: int = 8192) -> None:
        """Record predictions as CUDA graphs from now on, and replay them for batches of similar size.

        A replay spares the host hundreds of calls, which take longer than the kernels of a small batch. On other
        devices than CUDA nothing changes. Predictions of Born charges are not recorded.

        Args:
            max_graphs: largest number of recordings, each for batches up to some size; 0 turns recording off. Each
                keeps the memory of a forward pass on the GPU.
            max_atoms: batches with more atoms are predicted without a recording.

        Raises:
            ValueError: a number is negative.

        Example:
            >>> model = DTNN.from_pretrained("dielectric").to("cuda")
            >>> model.use_cuda_graphs()
            >>> tensors = model.predict(structures, "total")  # the first call of a size records, later ones replay
        """
        if min(max_graphs, max_atoms) < 0:
            raise ValueError(
                f"use_cuda_graphs: expected `max_graphs` and `max_atoms` of 0 or more, got {max_graphs} and {max_atoms}"
            )
        self.__dict__["_captured_forward"] = CapturedForward(max_graphs, max_atoms) if max_graphs else None

    @contextmanager
    def _inference(self) -> Iterator[ModelWatch]:
        """Predict in the block: without gradients, and with one look for changed weights."""
        watch: ModelWatch = self.__dict__.get("_model_watch") or self.__dict__.setdefault("_model_watch", ModelWatch())
        # Below no_grad each operation is still called in Python: a fifth of the time of a small crystal.
        with torch.inference_mode(), watch.trusted(self):
            yield watch

    def _unfolding_graph(self, crystals: Sequence[Crystal]) -> tuple[CrystalGraph, AtomImages | None]:
        """Build `inference_graph` with the images of its atoms."""
        if not self.uses_operations or all(crystal.operations is None for crystal in crystals):
            return self.graph(crystals), None
        graph, images = build_unfolding_graph(crystals, self.encoder.cutoffs, self.dtype)
        return graph.to(self.device), images


def _charges_by_crystal(values: Tensor, images: AtomImages | None, crystals: Sequence[Crystal]) -> list[np.ndarray]:
    """Turn the charges of a graph's atoms into those of each crystal's atoms, which sum to zero exactly."""
    values = values.double().cpu()
    every = (values if images is None else images.unfold(values)).numpy()
    counts = np.cumsum([crystal.num_atoms for crystal in crystals])
    # The readout cannot subtract the mean of the antisymmetric parts where it sees one atom of each orbit.
    return [part - part.mean(0) for part in np.split(every, counts[:-1])]
