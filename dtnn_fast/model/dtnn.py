# SPDX-License-Identifier: MIT
"""DTNN: an encoder with one decoder per target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..crystals.crystal import Crystal
from ..crystals.elements import MAX_ATOMIC_NUMBER
from ..encoders.build import Encoder, EncoderConfig, build_encoder, encoder_config
from ..encoders.built_bonds import built_bond_channels, with_built_bonds
from ..encoders.native import NativeEncoder, NativeEncoderConfig
from ..encoders.pretrained import PretrainedEncoder
from ..nn.graph import CrystalGraph, build_graph
from ..nn.latents import Channels, EncodedCrystals, Latents
from ..typed_settings import from_plain
from .decoder import Decoder, DecoderConfig
from .decoder_inputs import take_layer
from .predictor import Predictor

TARGETS = ("electronic", "ionic", "total")
JOINT_READOUTS = ("electronic", "ionic")


@dataclass(frozen=True)
class DTNNConfig:
    """Settings of a model, as they stand in its config.json.

    Args:
        encoder: settings of the encoder.
        decoder: settings of the decoders, the same for each target.
        targets: the tensors that the model predicts, from `TARGETS`.
        elements: atomic numbers that the model was trained on; others are refused. Empty means all.
        members: how many models of the same kind are taken together, on one encoder.
        error_scales: for each target, the factor that makes an error bar of the members' spread; empty for none.
    """

    encoder: EncoderConfig = field(default_factory=NativeEncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    targets: tuple[str, ...] = ("total",)
    elements: tuple[int, ...] = ()
    members: int = 1
    error_scales: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain values, for a JSON file."""
        return {
            "encoder": self.encoder.to_json(),
            "decoder": self.decoder.to_json(),
            "targets": list(self.targets),
            "elements": list(self.elements),
            "members": self.members,
            "error_scales": list(self.error_scales),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> DTNNConfig:
        """From what `to_json` gave.

        Raises:
            ValueError: a setting is missing, unknown, or of another type or range.
        """
        return from_plain(cls, {**values, "encoder": encoder_config(values.get("encoder"))})


def member_name(decoder: str, member: int) -> str:
    """The name of a member's decoder: the decoder's own for the first member, then with the member's number."""
    return f"{decoder}_{member}" if member else decoder


def member_of(name: str) -> int:
    """The member that a decoder of this name belongs to."""
    return int(name.partition("_")[2] or 0)


class DTNN(Predictor):
    """Dielectric Tensor Neural Network (Z. Mao, W. Li, J. Tan, arXiv 2405.09052).

    Args:
        config: settings; the defaults are the paper's decoder on the native encoder.
        encoder: the encoder to use, of these settings and with the layers that the decoder reads; None makes one.

    Raises:
        ValueError: the settings contradict each other.
        MissingPackageError: a pretrained encoder's package is not installed.

    Example:
        >>> model = DTNN.from_pretrained("dielectric-total")
        >>> model.predict(structures)  # pymatgen Structure, ASE Atoms, or a list of them -> ndarray [B, 3, 3]
    """

    def __init__(self, config: DTNNConfig | None = None, encoder: Encoder | None = None) -> None:
        super().__init__()
        self.config = config or DTNNConfig()
        layer, cutoffs = self.config.decoder.layer, self.config.encoder.cutoffs
        if not 1 <= layer <= len(cutoffs):
            raise ValueError(f"DTNN: expected `layer` from 1 to {len(cutoffs)}, got {layer}")
        unknown = [target for target in self.config.targets if target not in TARGETS]
        if unknown or not self.config.targets:
            raise ValueError(f"DTNN: expected `targets` from {', '.join(TARGETS)}, got {list(self.config.targets)}")
        if not all(1 <= z <= MAX_ATOMIC_NUMBER for z in self.config.elements):
            found = list(self.config.elements)
            raise ValueError(f"DTNN: expected `elements` from 1 to {MAX_ATOMIC_NUMBER}, got {found}")
        scales = self.config.error_scales
        if (
            self.config.members < 1
            or (scales and len(scales) != len(self.config.targets))
            or min(scales, default=0) < 0
        ):
            raise ValueError(
                f"DTNN: expected `members` of 1 or more and no `error_scales` or one of 0 or more for each target, got "
                f"{self.config.members} and {list(scales)}"
            )
        if encoder is not None and encoder.num_layers != layer:
            raise ValueError(
                f"DTNN: expected `encoder` with the {layer} layers that are read, got {encoder.num_layers}"
            )
        # Layers above the one that is decoded would have no effect on the result.
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
                member_name(name, member): Decoder(decoder, self.encoder.channels, targets, bonds)
                for member in range(self.config.members)
                for name, targets in groups.items()
            }
        )

    @classmethod
    def of_parts(cls, config: DTNNConfig, encoder: Encoder, decoders: Mapping[str, nn.Module]) -> DTNN:
        """A model of parts that exist, whose parameters it shares.

        Args:
            config: the settings that fit the parts.
            encoder: with the layers that the decoders read.
            decoders: by `member_name`.
        """
        model = cls.__new__(cls)
        nn.Module.__init__(model)
        model.config, model.encoder = config, encoder
        model.decoders = nn.ModuleDict(dict(decoders))
        return model

    @classmethod
    def from_pretrained(cls, name: str | Path) -> DTNN:
        """Load a model that comes with the package, or one that `save` wrote.

        Args:
            name: "dielectric-total", "dielectric-electronic" or "dielectric-ionic" for one tensor, "dielectric" for the
                three together (their encoder runs once), or the folder of a saved model.

        Returns:
            The model, in evaluation mode.

        Raises:
            BadFileError: there is no such model, or its files are damaged.
        """
        from .storage import load_model

        return load_model(name)

    def save(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors into a folder, which is made when absent."""
        from .storage import save_model

        save_model(self, folder)

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
        """For each target, the factor that makes an error bar of the members' spread; empty for none."""
        return self.config.error_scales

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' dtype."""
        return next(self.parameters()).dtype

    def forward(self, crystals: CrystalGraph | EncodedCrystals) -> dict[str, Tensor]:
        """The tensors of each crystal by target, differentiable in positions and cell.

        Args:
            crystals: a graph with the encoder's cutoffs, or what this model's encoder made of one; on the device and in
                the dtype of the model.

        Returns:
            [B, 3, 3] for each target; of an ensemble the mean of its members.
        """
        tensors = self.member_tensors(crystals)
        return {target: values[0] if len(values) == 1 else values.mean(0) for target, values in tensors.items()}

    def member_tensors(self, crystals: CrystalGraph | EncodedCrystals) -> dict[str, Tensor]:
        """The tensors of each member by target; see `forward`. [members, B, 3, 3]."""
        if isinstance(crystals, CrystalGraph):
            crystals = EncodedCrystals(self.encoder(crystals), crystals.ptr, crystals)
        latents = self._with_bonds(crystals)
        members: list[dict[str, Tensor]] = [{} for _ in range(self.config.members)]
        for name, decoder in self.decoders.items():
            members[member_of(name)] |= decoder(latents, crystals.ptr)
        return {target: torch.stack([tensors[target] for tensors in members]) for target in self.config.targets}

    @property
    def _builds_bonds(self) -> bool:
        """Whether the decoders read bonds that the encoder does not give."""
        return self.config.decoder.bonds and isinstance(self.encoder, PretrainedEncoder)

    def _with_bonds(self, crystals: EncodedCrystals) -> Sequence[Latents | None]:
        if not self._builds_bonds:
            return crystals.latents
        if crystals.graph is None:
            raise ValueError("DTNN: expected `crystals` with their graph, which this model builds bond latents from")
        layer = self.config.decoder.layer
        taken = take_layer(crystals.latents, layer)
        built = with_built_bonds(taken, crystals.graph, self.config.encoder.cutoffs[layer - 1])
        return [*crystals.latents[: layer - 1], built]

    def graph(self, crystals: Sequence[Crystal]) -> CrystalGraph:
        """The graph of crystals for this model, on its device and in its dtype."""
        return build_graph(crystals, self.encoder.cutoffs, self.dtype).to(self.device)

    def predict_members(self, crystals: Sequence[Crystal]) -> dict[str, np.ndarray]:
        """See `Predictor.predict_members`."""
        with torch.no_grad():
            members = self.member_tensors(self.graph(crystals))
        return {target: values.double().cpu().numpy() for target, values in members.items()}

    def with_targets(self, targets: Iterable[str]) -> DTNN:
        """A model of some of the targets that shares the parameters of this one."""
        wanted = tuple(targets)
        scales = dict(zip(self.config.targets, self.config.error_scales, strict=False))
        kept = tuple(scales[target] for target in wanted) if scales else ()
        decoders = {
            name: decoder
            for name, decoder in self.decoders.items()
            if self.config.decoder.joint or name.partition("_")[0] in wanted
        }
        return DTNN.of_parts(replace(self.config, targets=wanted, error_scales=kept), self.encoder, decoders)

    def num_parameters(self) -> Mapping[str, int]:
        """Trainable parameters of the encoder, and of one decoder."""
        count = {"encoder": self.encoder, "decoder": next(iter(self.decoders.values()))}
        return {name: sum(p.numel() for p in part.parameters()) for name, part in count.items()}
