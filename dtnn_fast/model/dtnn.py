# SPDX-License-Identifier: MIT
"""DTNN: an encoder with one decoder per target, and its saved folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from ..encoders.build import Encoder, build_encoder
from ..encoders.built_bonds import built_bond_channels, with_built_bonds
from ..encoders.native import NativeEncoder
from ..encoders.pretrained import PretrainedEncoder
from ..errors import BadFileError
from ..nn.graph import CrystalGraph
from ..nn.latents import AtomOrbits, Channels, EncodedCrystals, Latents
from ..nn.saved_folder import CONFIG_FILE, load_weights, put_weights, read_settings, save_folder
from .born_charges import BornChargeReadout
from .bundled_model import BUNDLED_MODELS, bundled_encoder, bundled_folder
from .decoder import Decoder
from .decoder_inputs import take_layer
from .dtnn_config import JOINT_READOUTS, TARGETS, DTNNConfig, check_config, decoder_key, member_of_key
from .error_calibration import ErrorCalibration
from .functionals import FunctionalShifts, check_functional
from .fused_decoders import DecoderCache, decode_members
from .graph_predictor import GraphPredictor
from .training_set import TrainingSet, load_training_set, save_training_set

# Settings, keys and the bundled encoder are in files of their own, and belong to this module for those who import them.
__all__ = [
    "DTNN",
    "ENSEMBLE_FILE",
    "FORMAT",
    "JOINT_READOUTS",
    "TARGETS",
    "DTNNConfig",
    "bundled_encoder",
    "decoder_key",
    "member_of_key",
]

FORMAT = "dtnn_fast model 1"
# The folder of an `Ensemble` (see ensemble_model.py) has this file instead of config.json.
ENSEMBLE_FILE = "ensemble.json"

T = TypeVar("T")


class DTNN(GraphPredictor):
    """Dielectric Tensor Neural Network (Z. Mao, W. Li, J. Tan, arXiv 2405.09052).

    Args:
        config: settings; the defaults are the paper's decoder on the native encoder.
        encoder: an encoder of these settings, with the layers that the decoder reads; None builds one.

    Raises:
        ValueError: the settings contradict each other.
        MissingPackageError: a pretrained encoder's package is not installed.

    Example:
        >>> model = DTNN.from_pretrained("dielectric-total")
        >>> model.predict(structures)  # pymatgen Structure, ASE Atoms, or a list of them -> ndarray [B, 3, 3]
    """

    # What the model learned from; None for models of version 0.1.0 and untrained ones.
    training_set: TrainingSet | None = None

    def __init__(self, config: DTNNConfig | None = None, encoder: Encoder | None = None) -> None:
        super().__init__()
        self._decoder_weights = DecoderCache()
        self.config = config or DTNNConfig()
        check_config(self.config)
        layer = self.config.decoder.layer
        if encoder is not None and encoder.num_layers != layer:
            raise ValueError(
                f"DTNN: expected `encoder` with the {layer} layers that are read, got {encoder.num_layers}"
            )
        # Layers above the decoded layer would have no effect on the result.
        self.encoder = build_encoder(self.config.encoder, num_layers=layer) if encoder is None else encoder
        mean_bonds = self.config.encoder.mean_bonds[layer - 1]
        decoder = replace(self.config.decoder, mean_bonds=mean_bonds)
        bonds: Channels | None = None
        if isinstance(self.encoder, NativeEncoder):
            bonds = self.encoder.bond_channels
        elif self._builds_bonds:
            bonds = built_bond_channels(self.encoder.channels)
        groups = {"joint": JOINT_READOUTS} if decoder.joint else {target: (target,) for target in self.config.targets}
        self.decoders = nn.ModuleDict(
            {
                decoder_key(name, member): Decoder(decoder, self.encoder.channels, targets, bonds)
                for member in range(self.config.members)
                for name, targets in groups.items()
            }
        )
        channels = self.encoder.channels
        self.born_readout = BornChargeReadout(decoder, channels, bonds) if self.config.born_charges else None
        functionals, read = len(self.config.functionals), decoder.layers
        self.functional_shifts = FunctionalShifts(functionals, read, channels.scalar) if functionals > 1 else None

    @classmethod
    def from_modules(
        cls, config: DTNNConfig, encoder: Encoder, decoders: Mapping[str, nn.Module], like: DTNN | None = None
    ) -> DTNN:
        """Make a model from an existing encoder and decoders, whose parameters it shares.

        Args:
            config: settings that fit the modules.
            encoder: encoder with the layers that the decoders read.
            decoders: by `decoder_key`.
            like: model whose readout of Born charges and shifts of functionals are shared; None without them.
        """
        model = cls.__new__(cls)
        nn.Module.__init__(model)
        model._decoder_weights = DecoderCache()
        model.config, model.encoder = config, encoder
        model.decoders = nn.ModuleDict(dict(decoders))
        model.born_readout = None if like is None else like.born_readout
        model.functional_shifts = None if like is None else like.functional_shifts
        return model

    @classmethod
    def from_pretrained(cls, name: str | Path) -> DTNN:
        """Load a bundled model, or a model that `save` wrote, in evaluation mode.

        Args:
            name: "dielectric-total", "dielectric-electronic" or "dielectric-ionic" for one tensor, "dielectric" for the
                three together (their encoder runs once), or the folder of a saved model.

        Returns:
            The model.

        Raises:
            BadFileError: there is no such model, or its files are damaged.
        """
        if str(name) in BUNDLED_MODELS:
            return cls._load(bundled_folder()).with_targets(BUNDLED_MODELS[str(name)]).eval()
        folder = Path(name)
        if not folder.is_dir():
            raise BadFileError(
                f"from_pretrained: expected one of {', '.join(BUNDLED_MODELS)} or the folder of a saved model, "
                f"got {str(name)!r}"
            )
        if (folder / ENSEMBLE_FILE).is_file():
            raise BadFileError(
                f"{folder}: holds an ensemble of several models: load it with dtnn_fast.Ensemble.from_pretrained"
            )
        return cls._load(folder).eval()

    @classmethod
    def _load(cls, folder: Path) -> DTNN:
        model = read_settings(folder / CONFIG_FILE, FORMAT, lambda values: cls(DTNNConfig.from_json(values)))
        put_weights(model, load_weights(folder), folder)
        model.training_set = load_training_set(folder)
        return model

    def save(self, folder: str | Path) -> None:
        """Write config.json, model.safetensors and, if known, the training set into a folder, created if missing."""
        save_folder(self, folder, FORMAT, self.config.to_json())
        save_training_set(self.training_set, Path(folder))

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the tensors that the model predicts."""
        return self.config.targets

    @property
    def functionals(self) -> tuple[str, ...]:
        """See `Predictor.functionals`."""
        return self.config.functionals

    @property
    def functional(self) -> str:
        """See `Predictor.functional`."""
        return self.config.functional or super().functional

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that the model was trained on; empty means all."""
        return self.config.elements

    @property
    def error_scales(self) -> tuple[float, ...]:
        """See `Predictor.error_scales`."""
        return self.config.error_scales

    @property
    def mean_error_scales(self) -> tuple[float, ...]:
        """See `Predictor.mean_error_scales`."""
        return self.config.mean_error_scales

    @property
    def tensor_calibrations(self) -> tuple[ErrorCalibration, ...]:
        """See `Predictor.tensor_calibrations`."""
        return self.config.tensor_calibrations or super().tensor_calibrations

    @property
    def mean_calibrations(self) -> tuple[ErrorCalibration, ...]:
        """See `Predictor.mean_calibrations`."""
        return self.config.mean_calibrations or super().mean_calibrations

    def encoders_with_training_sets(self) -> list[tuple[nn.Module, TrainingSet]]:
        """See `Predictor.encoders_with_training_sets`."""
        return [] if self.training_set is None else [(self.encoder, self.training_set)]

    def forward(self, crystals: CrystalGraph | EncodedCrystals) -> dict[str, Tensor]:
        """Compute the tensors of each crystal, differentiable in positions and cell.

        Args:
            crystals: a graph with the encoder's cutoffs, or crystals that this model's encoder has encoded; on the
                device and in the dtype of the model.

        Returns:
            The mean over the members, [B, 3, 3] for each target.
        """
        tensors = self.member_tensors(crystals)
        return {target: values[0] if len(values) == 1 else values.mean(0) for target, values in tensors.items()}

    def encode(self, graph: CrystalGraph) -> EncodedCrystals:
        """Compute the latents of a graph; `forward`, `member_tensors` and `born_charges` accept them instead of it."""
        # The decoders read the bonds of the last layer.
        all_bonds = (False,) if isinstance(self.encoder, NativeEncoder) else ()
        return EncodedCrystals(self.encoder(graph, *all_bonds), graph.ptr, graph, AtomOrbits.of(graph))

    def member_tensors(self, crystals: CrystalGraph | EncodedCrystals) -> dict[str, Tensor]:
        """Compute the tensors of each member by target; see `forward`. [members, B, 3, 3]."""
        if isinstance(crystals, CrystalGraph):
            crystals = self.encode(crystals)
        latents = self._read_latents(crystals)
        decoders = list(self.decoders.values())
        if self._decoder_weights.can_decode(decoders, latents):
            return self._fused_tensors(cast("list[Decoder]", decoders), latents, crystals.ptr, crystals.orbits)
        members: list[dict[str, Tensor]] = [{} for _ in range(self.config.members)]
        for name, decoder in self.decoders.items():
            members[member_of_key(name)] |= decoder(latents, crystals.ptr, crystals.orbits)
        return {target: torch.stack([tensors[target] for tensors in members]) for target in self.config.targets}

    def born_charges(self, crystals: CrystalGraph | EncodedCrystals) -> Tensor:
        """Compute Born effective charges of the atoms, differentiable in positions and cell; see `BornChargeReadout`.

        Args:
            crystals: see `forward`. Of a reduced graph, the charges of the stored atoms are returned.

        Returns:
            Z[atom, field, displacement]. [N, 3, 3], e.

        Raises:
            ValueError: the model has no readout of Born charges.
        """
        if self.born_readout is None:
            raise ValueError("born_charges: expected a model with `born_charges`, got one without")
        if isinstance(crystals, CrystalGraph):
            crystals = self.encode(crystals)
        charges: Tensor = self.born_readout(self._read_latents(crystals), crystals.ptr, crystals.orbits)
        return charges

    @property
    def has_born_charges(self) -> bool:
        """See `Predictor.has_born_charges`."""
        return self.born_readout is not None

    def _fused_tensors(
        self,
        decoders: Sequence[Decoder],
        latents: Sequence[Latents | None],
        ptr: Tensor,
        orbits: AtomOrbits | None,
    ) -> dict[str, Tensor]:
        """Do the decoders' part of `member_tensors` in two native calls for all members."""
        results = decode_members(decoders, latents, ptr, self._decoder_weights, orbits)
        if self.config.decoder.joint:
            tensors = dict(zip(JOINT_READOUTS, results, strict=True))
            tensors["total"] = results[0] + results[1]
            return {target: tensors[target] for target in self.config.targets}
        names = [name.partition("_")[0] for name in self.decoders]
        (values,) = results
        # Not by lists of indices, which a CUDA graph cannot capture: they are copied to the GPU.
        return {
            target: torch.stack([values[place] for place, name in enumerate(names) if name == target])
            for target in self.config.targets
        }

    @property
    def _builds_bonds(self) -> bool:
        """Whether the decoders read bond latents that the encoder does not give."""
        return self.config.decoder.bonds and isinstance(self.encoder, PretrainedEncoder)

    def _read_latents(self, crystals: EncodedCrystals) -> Sequence[Latents | None]:
        """Return the latents as decoders read them: with bonds, and shifted to the functionals of the crystals."""
        latents = self._with_bonds(crystals)
        if crystals.functional is None:
            if self.functional_shifts is None or self.functional == self.functionals[0]:
                return latents
            return self.functional_shifts.shift_all(latents, self.functionals.index(self.functional))
        if self.functional_shifts is None:
            raise ValueError("DTNN: expected `crystals` without `functional`, since the model knows one functional")
        return cast(list[Latents | None], self.functional_shifts(latents, crystals.functional, crystals.ptr))

    def _with_bonds(self, crystals: EncodedCrystals) -> Sequence[Latents | None]:
        if not self._builds_bonds:
            return crystals.latents
        if crystals.graph is None:
            raise ValueError("DTNN: expected `crystals` with their graph, from which this model builds bond latents")
        layer = self.config.decoder.layer
        taken = take_layer(crystals.latents, layer)
        built = with_built_bonds(taken, crystals.graph, self.config.encoder.cutoffs[layer - 1])
        return [*crystals.latents[: layer - 1], built]

    def with_functional(self, name: str) -> DTNN:
        """See `Predictor.with_functional`."""
        check_functional(name, self.functionals, "DTNN")
        config = replace(self.config, functional=name)
        model = DTNN.from_modules(config, self.encoder, dict(self.decoders.items()), like=self)
        model.training_set = self.training_set
        return model.train(self.training)

    def with_targets(self, targets: Iterable[str]) -> DTNN:
        """Make a model of some of the targets, which shares the parameters of this model."""
        wanted = tuple(targets)

        def of_wanted(calibrations: tuple[T, ...]) -> tuple[T, ...]:
            return tuple(calibrations[self.config.targets.index(t)] for t in wanted) if calibrations else ()

        decoders = {
            name: decoder
            for name, decoder in self.decoders.items()
            if self.config.decoder.joint or name.partition("_")[0] in wanted
        }
        config = replace(
            self.config,
            targets=wanted,
            error_scales=of_wanted(self.config.error_scales),
            mean_error_scales=of_wanted(self.config.mean_error_scales),
            tensor_calibrations=of_wanted(self.config.tensor_calibrations),
            mean_calibrations=of_wanted(self.config.mean_calibrations),
        )
        model = DTNN.from_modules(config, self.encoder, decoders, like=self)
        model.training_set = self.training_set
        return model

    def num_parameters(self) -> Mapping[str, int]:
        """Number of trainable parameters of the encoder, and of one decoder."""
        modules = {"encoder": self.encoder, "decoder": next(iter(self.decoders.values()))}
        return {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}
