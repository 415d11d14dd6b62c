# SPDX-License-Identifier: MIT
"""DTNN: an encoder with one decoder per target, its settings, and its saved folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..crystals.crystal import Crystal
from ..crystals.elements import MAX_ATOMIC_NUMBER
from ..encoders.build import Encoder, EncoderConfig, build_encoder, encoder_config, load_encoder
from ..encoders.built_bonds import built_bond_channels, with_built_bonds
from ..encoders.native import NativeEncoder, NativeEncoderConfig
from ..encoders.pretrained import PretrainedEncoder
from ..errors import BadFileError
from ..nn.atom_images import AtomImages
from ..nn.graph import CrystalGraph, build_graph
from ..nn.latents import AtomOrbits, Channels, EncodedCrystals, Latents
from ..nn.reduced_graph import build_inference_graph, build_unfolding_graph
from ..nn.saved_folder import CONFIG_FILE, load_weights, put_weights, read_settings, save_folder
from ..typed_settings import from_plain
from .born_charges import BornChargeReadout
from .bundled_model import BUNDLED_MODELS, bundled_encoder_folder, bundled_folder
from .decoder import Decoder, DecoderConfig
from .decoder_inputs import take_layer
from .error_calibration import ErrorCalibration
from .functionals import FunctionalShifts
from .fused_decoders import DecoderCache, decode_members
from .predictor import Predictor
from .training_set import TrainingSet, load_training_set, save_training_set

TARGETS = ("electronic", "ionic", "total")
JOINT_READOUTS = ("electronic", "ionic")
FORMAT = "dtnn_fast model 1"
# The folder of an `Ensemble` (see ensemble_model.py) has this file instead of config.json.
ENSEMBLE_FILE = "ensemble.json"

T = TypeVar("T")


@dataclass(frozen=True)
class DTNNConfig:
    """Settings of a model, as in its config.json.

    Args:
        encoder: settings of the encoder.
        decoder: settings of the decoders, the same for each target.
        targets: the tensors that the model predicts, from `TARGETS`.
        elements: atomic numbers that the model was trained on; others are rejected. Empty means all.
        members: number of members that share the encoder; see `dtnn_fast.Ensemble`.
        error_scales: error bars of models that were calibrated by a factor alone: for each target, the factor from
            the members' spread to the error bar of a tensor. Empty otherwise.
        mean_error_scales: the same for the mean, a third of the trace. Empty also for models of version 0.1.0.
        tensor_calibrations: for each target, the error bar of a tensor; empty for no error bars, and beside
            `error_scales`.
        mean_calibrations: the same for the mean, a third of the trace.
        born_charges: whether the model has a readout of Born effective charges.
        functionals: functionals of the training labels. The model predicts for the first; the others have learned
            shifts of the latents. Empty for labels of one functional.
    """

    encoder: EncoderConfig = field(default_factory=NativeEncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    targets: tuple[str, ...] = ("total",)
    elements: tuple[int, ...] = ()
    members: int = 1
    error_scales: tuple[float, ...] = ()
    mean_error_scales: tuple[float, ...] = ()
    tensor_calibrations: tuple[ErrorCalibration, ...] = ()
    mean_calibrations: tuple[ErrorCalibration, ...] = ()
    born_charges: bool = False
    functionals: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain values, for a JSON file.

        Settings that version 0.1.0 lacks are left out where they are at their defaults, so that its runs can be
        continued.
        """
        newer = {
            "mean_error_scales": list(self.mean_error_scales),
            "tensor_calibrations": [calibration.to_json() for calibration in self.tensor_calibrations],
            "mean_calibrations": [calibration.to_json() for calibration in self.mean_calibrations],
            "born_charges": self.born_charges,
            "functionals": list(self.functionals),
        }
        return {
            "encoder": self.encoder.to_json(),
            "decoder": self.decoder.to_json(),
            "targets": list(self.targets),
            "elements": list(self.elements),
            "members": self.members,
            "error_scales": list(self.error_scales),
            **{name: value for name, value in newer.items() if value},
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> DTNNConfig:
        """Make settings from what `to_json` gave.

        Raises:
            ValueError: a setting is missing, unknown, or of another type or range.
        """
        encoder = encoder_config(values.get("encoder"))
        newer = {
            "mean_error_scales": [],
            "tensor_calibrations": [],
            "mean_calibrations": [],
            "born_charges": False,
            "functionals": [],
        }
        return from_plain(cls, {**newer, **values, "encoder": encoder})


class DTNN(Predictor):
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
        _check_config(self.config)
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
        """Make a model of an existing encoder and decoders, whose parameters it shares.

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
        """Write config.json and model.safetensors, and the training set if known; the folder is made when absent."""
        save_folder(self, folder, FORMAT, self.config.to_json())
        save_training_set(self.training_set, Path(folder))

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the tensors that the model predicts."""
        return self.config.targets

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

    @property
    def bond_cutoff(self) -> float:
        """See `Predictor.bond_cutoff`."""
        return float(max(self.encoder.cutoffs))

    def encoders_with_training_sets(self) -> list[tuple[nn.Module, TrainingSet]]:
        """See `Predictor.encoders_with_training_sets`."""
        return [] if self.training_set is None else [(self.encoder, self.training_set)]

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the parameters."""
        return next(self.parameters()).dtype

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
        """Compute the latents of a graph, which `forward`, `member_tensors` and `born_charges` take instead of it."""
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
            raise ValueError("born_charges: expected a model with `born_charges`, got one that was trained without")
        if isinstance(crystals, CrystalGraph):
            crystals = self.encode(crystals)
        charges: Tensor = self.born_readout(self._read_latents(crystals), crystals.ptr, crystals.orbits)
        return charges

    @property
    def has_born_charges(self) -> bool:
        """See `Predictor.has_born_charges`."""
        return self.born_readout is not None

    def predict_batch_charges(self, crystals: Sequence[Crystal]) -> list[np.ndarray]:
        """See `Predictor.predict_batch_charges`."""
        with torch.inference_mode():
            graph, images = self._unfolding_graph(crystals)
            return _charges_by_crystal(self.born_charges(graph), images, crystals)

    def predict_members_and_charges(
        self, crystals: Sequence[Crystal]
    ) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        """See `Predictor.predict_members_and_charges`."""
        with torch.inference_mode():
            graph, images = self._unfolding_graph(crystals)
            encoded = self.encode(graph)
            charges = _charges_by_crystal(self.born_charges(encoded), images, crystals)
            members = self.member_tensors(encoded)
            return {target: values.double().cpu().numpy() for target, values in members.items()}, charges

    def _unfolding_graph(self, crystals: Sequence[Crystal]) -> tuple[CrystalGraph, AtomImages | None]:
        """Build `inference_graph` with the images of its atoms."""
        if not self.uses_operations or all(crystal.operations is None for crystal in crystals):
            return self.graph(crystals), None
        graph, images = build_unfolding_graph(crystals, self.encoder.cutoffs, self.dtype)
        return graph.to(self.device), images

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
        return {
            target: values[[place for place, name in enumerate(names) if name == target]]
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
            return latents
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

    def graph(self, crystals: Sequence[Crystal]) -> CrystalGraph:
        """Build the graph of crystals for this model, on its device and in its dtype."""
        return build_graph(crystals, self.encoder.cutoffs, self.dtype, self.device)

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
        # Below no_grad each operation is still called in Python: a fifth of the time of a small crystal.
        with torch.inference_mode():
            members = self.member_tensors(self.inference_graph(crystals))
            return {target: values.double().cpu().numpy() for target, values in members.items()}

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


def _check_config(config: DTNNConfig) -> None:
    layer, cutoffs = config.decoder.layer, config.encoder.cutoffs
    if not 1 <= layer <= len(cutoffs):
        raise ValueError(f"DTNN: expected `layer` from 1 to {len(cutoffs)}, got {layer}")
    if not config.targets or not set(config.targets) <= set(TARGETS):
        raise ValueError(f"DTNN: expected `targets` from {', '.join(TARGETS)}, got {list(config.targets)}")
    if not all(1 <= z <= MAX_ATOMIC_NUMBER for z in config.elements):
        raise ValueError(f"DTNN: expected `elements` from 1 to {MAX_ATOMIC_NUMBER}, got {list(config.elements)}")
    if len(set(config.functionals)) != len(config.functionals) or len(config.functionals) == 1:
        raise ValueError(
            f"DTNN: expected no `functionals` or at least two different ones, got {list(config.functionals)}"
        )
    if config.members < 1:
        raise ValueError(f"DTNN: expected `members` of 1 or more, got {config.members}")
    for name, scales in (("error_scales", config.error_scales), ("mean_error_scales", config.mean_error_scales)):
        if (scales and len(scales) != len(config.targets)) or min(scales, default=0) < 0:
            raise ValueError(f"DTNN: expected no `{name}` or a number of 0 or more for each target, got {list(scales)}")
    for scales_name, name in (("error_scales", "tensor_calibrations"), ("mean_error_scales", "mean_calibrations")):
        calibrations = getattr(config, name)
        if calibrations and len(calibrations) != len(config.targets):
            raise ValueError(f"DTNN: expected no `{name}` or one for each target, got {list(calibrations)}")
        if calibrations and getattr(config, scales_name):
            raise ValueError(f"DTNN: expected `{scales_name}` or `{name}`, got both")


def _charges_by_crystal(values: Tensor, images: AtomImages | None, crystals: Sequence[Crystal]) -> list[np.ndarray]:
    """Turn the charges of a graph's atoms into those of each crystal's atoms, which sum to zero exactly."""
    values = values.double().cpu()
    every = (values if images is None else images.unfold(values)).numpy()
    counts = np.cumsum([crystal.num_atoms for crystal in crystals])
    # The readout cannot subtract the mean of the antisymmetric parts where it sees one atom of each orbit.
    return [part - part.mean(0) for part in np.split(every, counts[:-1])]


def decoder_key(name: str, member: int) -> str:
    """Key of a member's decoder in `DTNN.decoders`: the plain name for the first member, name_<member> for others."""
    return f"{name}_{member}" if member else name


def member_of_key(key: str) -> int:
    """Number of the member that the decoder of this key belongs to."""
    return int(key.partition("_")[2] or 0)


def bundled_encoder(num_layers: int | None = None) -> NativeEncoder:
    """Load the bundled encoder that was distilled from a pretrained potential, and has seen no label of any crystal.

    The encoders of the bundled models started from it and learned labels, so that they are no start for a model whose
    errors on these crystals shall be measured.

    Args:
        num_layers: number of layers, from the first; None for all that it has.

    Raises:
        ValueError: the encoder has fewer layers.
    """
    encoder = load_encoder(bundled_encoder_folder())
    wanted = encoder.num_layers if num_layers is None else num_layers
    if not 1 <= wanted <= encoder.num_layers:
        raise ValueError(f"the bundled encoder has {encoder.num_layers} layers, got {num_layers}")
    return encoder.first_layers(wanted).eval()
