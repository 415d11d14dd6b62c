# SPDX-License-Identifier: MIT
"""DTNN: an encoder with one decoder per target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..data.check import check_crystal
from ..data.convert import to_crystals
from ..data.crystal import Crystal
from ..data.elements import MAX_ATOMIC_NUMBER
from ..data.tensor_symmetry import find_symmetry, symmetrised
from ..encoders.build import Encoder, EncoderConfig, build_encoder, encoder_config
from ..encoders.built_bonds import built_bond_channels, with_built_bonds
from ..encoders.latents import EncodedCrystals, Latents
from ..encoders.native import NativeEncoder, NativeEncoderConfig
from ..encoders.native_layer import Channels
from ..encoders.pretrained import PretrainedEncoder
from .batches import batches_of_atoms
from .decoder import Decoder, DecoderConfig, Readout
from .decoder_inputs import take_layer
from .graph import CrystalGraph, build_graph
from .plain import from_plain
from .spread import spread

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


class DTNN(nn.Module):
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
        from .storage import load_model  # noqa: PLC0415  storage needs this class

        return load_model(name)

    def save(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors into a folder, which is made when absent."""
        from .storage import save_model  # noqa: PLC0415  storage needs this class

        save_model(self, folder)

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

    def predict(
        self, structures: Any, target: str | None = None, batch_atoms: int = 1024, symmetrise: bool = False
    ) -> np.ndarray:
        """Predict dielectric tensors.

        Args:
            structures: a pymatgen Structure, an ASE Atoms, a `Crystal`, or a list of them.
            target: which tensor; may be left out when the model has one.
            batch_atoms: about how many atoms are treated together.
            symmetrise: average each tensor over the point group of its crystal, which spglib finds within 0.1 Angstrom.
                The model's tensors have this symmetry up to rounding where the crystal has it perfectly; then what it
                forbids is exactly zero.

        Returns:
            Relative permittivity, symmetric, in the frame of each structure's cell. [B, 3, 3], float64.

        Raises:
            BadCrystalError: a structure cannot be used; the message says which one and why.
            ValueError: `target` is not one of the model's, or left out where there are several.
            MissingPackageError: `symmetrise` without spglib.
        """
        tensors = self.predict_targets(structures, batch_atoms)[self._one_target(target)]
        if symmetrise:
            for place, crystal in enumerate(to_crystals(structures)):
                symmetry = find_symmetry(crystal)
                if symmetry is not None:
                    tensors[place] = symmetrised(tensors[place], symmetry.rotations)
        return tensors

    def predict_targets(self, structures: Any, batch_atoms: int = 1024) -> dict[str, np.ndarray]:
        """Predict the tensors of all targets of the model at once; see `predict`."""
        crystals = self._checked(structures)
        results = {target: np.empty((len(crystals), 3, 3)) for target in self.config.targets}
        with self.evaluating():
            for batch in batches_of_atoms(crystals, batch_atoms):
                for target, tensors in self.predict_batch([crystals[index] for index in batch]).items():
                    results[target][batch] = tensors
        return results

    def predict_with_errors(
        self, structures: Any, target: str | None = None, batch_atoms: int = 1024
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predict tensors and how far off they may be, with an ensemble whose error bars were calibrated.

        Args:
            structures: see `predict`.
            target: see `predict`.
            batch_atoms: see `predict`.

        Returns:
            The tensors [B, 3, 3], and for each an error bar [B]: the mean absolute error over its six elements is
            expected below it for nine crystals of ten. float64.

        Raises:
            ValueError: the model is no ensemble with calibrated error bars; or see `predict`.
            BadCrystalError: see `predict`.
        """
        if not self.config.error_scales:
            raise ValueError(
                "predict_with_errors: expected an ensemble with calibrated error bars, got a model without"
            )
        chosen = self._one_target(target)
        crystals = self._checked(structures)
        tensors, errors = np.empty((len(crystals), 3, 3)), np.empty(len(crystals))
        with self.evaluating():
            for batch in batches_of_atoms(crystals, batch_atoms):
                values, bars = self.predict_batch_with_errors([crystals[index] for index in batch])
                tensors[batch], errors[batch] = values[chosen], bars[chosen]
        return tensors, errors

    def _one_target(self, target: str | None) -> str:
        targets = self.config.targets
        if target is None and len(targets) == 1:
            return targets[0]
        if target is None or target not in targets:
            raise ValueError(f"predict: expected `target` to be one of {', '.join(targets)}, got {target!r}")
        return target

    def _checked(self, structures: Any) -> list[Crystal]:
        crystals = to_crystals(structures)
        known = frozenset(self.config.elements) or None
        for crystal in crystals:
            check_crystal(crystal, known)
        return crystals

    def predict_batch(self, crystals: Sequence[Crystal]) -> dict[str, np.ndarray]:
        """Predict the tensors of crystals that passed `check_crystal`, all in one graph and in the mode of the model.

        Args:
            crystals: at least one.

        Returns:
            [B, 3, 3] for each target, float64.
        """
        return self.predict_batch_with_errors(crystals)[0]

    def predict_batch_with_errors(
        self, crystals: Sequence[Crystal]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """As `predict_batch`, and the error bars of `predict_with_errors`, none without an ensemble.

        Args:
            crystals: at least one.

        Returns:
            [B, 3, 3] for each target, float64; and [B] for each target, or an empty dictionary.
        """
        with torch.no_grad():
            members = {
                target: values.double().cpu().numpy()
                for target, values in self.member_tensors(self.graph(crystals)).items()
            }
        scales = zip(self.config.targets, self.config.error_scales, strict=False)
        errors = {target: scale * spread(members[target]) for target, scale in scales}
        return {target: values.mean(0) for target, values in members.items()}, errors

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Run the block in evaluation mode; afterwards each module has the mode that it had."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training

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

    def readouts(self) -> dict[str, Readout]:
        """The readouts of all decoders by target; a joint decoder has none for the total tensor."""
        decoders = [cast(Decoder, decoder) for decoder in self.decoders.values()]
        return {target: cast(Readout, part) for decoder in decoders for target, part in decoder.readouts.items()}

    def num_parameters(self) -> Mapping[str, int]:
        """Trainable parameters of the encoder, and of one decoder."""
        count = {"encoder": self.encoder, "decoder": next(iter(self.decoders.values()))}
        return {name: sum(p.numel() for p in part.parameters()) for name, part in count.items()}
