# SPDX-License-Identifier: MIT
"""Labels: the teacher's latents and energy of every crystal.

They are computed once and stored in files of some hundred crystals, called shards, beside a manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..crystals.crystal import Crystal
from ..errors import BadFileError, DTNNError
from ..nn.graph import CrystalGraph, build_graph
from ..nn.latents import Latents
from ..training.energy_readout import CompositionFit, element_counts, fit_compositions
from .made_crystals import MADE_SOURCE, CrystalSettings, is_held_out

FORMAT = "dtnn_fast distillation labels 1"
MANIFEST_FILE = "manifest.json"
RANKS = ("scalar", "vector", "rank2")
ENERGY = "energy"
# Tensors of a shard that have one row for each crystal; the others have one for each atom.
PER_CRYSTAL = ("cell", "held_out", "made", ENERGY)
DTYPES = {"float16": torch.float16, "float32": torch.float32}


class Teacher(Protocol):
    """A pretrained encoder that can be distilled."""

    name: str
    digest: str
    elements: tuple[int, ...]
    num_layers: int

    @property
    def cutoffs(self) -> tuple[float, ...]:
        """Cutoffs of the graphs that it takes, in Angstrom."""

    def latents_and_energy(self, graph: CrystalGraph) -> tuple[list[Latents], Tensor]:
        """Compute the latents of each layer, and the energy of each crystal. [B], eV."""


@dataclass(frozen=True)
class LabelSettings:
    """Settings of the labels.

    Args:
        crystals: settings of the crystals.
        shard_size: number of crystals in a file.
        dtype: dtype of the stored latents, "float16" or "float32".

    Raises:
        ValueError: a setting is out of range.
    """

    crystals: CrystalSettings
    shard_size: int = 256
    dtype: str = "float16"

    def __post_init__(self) -> None:
        if self.shard_size < 1 or self.dtype not in DTYPES:
            raise ValueError(
                f"LabelSettings: expected `shard_size` of 1 or more and `dtype` of {', '.join(DTYPES)}, got {self}"
            )


def shard_path(folder: Path, number: int) -> Path:
    """Give the path of a shard, counted from 0."""
    return folder / f"labels-{number:05d}.safetensors"


def label_crystals(
    crystals: Sequence[Crystal],
    teacher: Teacher,
    folder: Path,
    settings: LabelSettings,
    *,
    batch_atoms: int = 512,
    device: torch.device | str = "cpu",
    share: tuple[int, int] = (0, 1),
    on_shard: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Label crystals shard by shard; existing shards are kept, so that a stopped run can be continued.

    Args:
        crystals: the crystals to label, in the order of the shards.
        teacher: gives the latents and energies.
        folder: receives the shards and their manifest; created if missing.
        settings: settings of the labels.
        batch_atoms: maximum number of atoms that the teacher computes together, except for one larger crystal.
        device: device of the teacher.
        share: rank of this process and number of processes that share the work.
        on_shard: called after each shard with the numbers of finished shards and of all shards of this process.

    Raises:
        BadFileError: the folder holds other labels.
    """
    size = settings.shard_size
    shards = [crystals[start : start + size] for start in range(0, len(crystals), size)]
    _claim(folder, _manifest(crystals, teacher, settings, len(shards)))
    own_numbers = range(share[0], len(shards), share[1])
    for done, number in enumerate(own_numbers, start=1):
        path = shard_path(folder, number)
        if not path.exists():
            tensors, rejected = _label_shard(shards[number], teacher, settings, batch_atoms, device)
            unfinished = path.with_suffix(".part")
            save_file(tensors, unfinished, metadata={"rejected": json.dumps(rejected)})
            os.replace(unfinished, path)
        on_shard(done, len(own_numbers))


def _manifest(
    crystals: Sequence[Crystal], teacher: Teacher, settings: LabelSettings, num_shards: int
) -> dict[str, Any]:
    digest = hashlib.sha256()
    for crystal in crystals:
        for array in (crystal.atomic_numbers, crystal.positions, crystal.cell):
            digest.update(np.ascontiguousarray(array).tobytes())
    return {
        "format": FORMAT,
        "teacher": {"name": teacher.name, "digest": teacher.digest, "elements": list(teacher.elements)},
        "settings": asdict(settings),
        "crystals": {"count": len(crystals), "digest": digest.hexdigest()[:16], "shards": num_shards},
    }


def _claim(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest, or check that the folder holds these labels."""
    path = folder / MANIFEST_FILE
    if path.exists():
        if read_manifest(folder) != manifest:
            raise BadFileError(f"{folder}: contains labels of other crystals, of other settings or of another teacher")
        return
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".part{os.getpid()}")
    unfinished.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a folder of labels: teacher, settings, and number and digest of the crystals.

    Raises:
        BadFileError: there are no labels, or the manifest is damaged.
    """
    path = folder / MANIFEST_FILE
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadFileError(f"{path}: missing: not a folder of labels") from error
    except (OSError, ValueError) as error:
        raise BadFileError(f"{path}: not a manifest of labels: {error}") from error
    file_format = manifest.get("format") if isinstance(manifest, dict) else None
    if file_format != FORMAT:
        raise BadFileError(f"{path}: expected the format {FORMAT!r}, got {file_format!r}")
    return dict(manifest)


def _label_shard(
    crystals: Sequence[Crystal],
    teacher: Teacher,
    settings: LabelSettings,
    batch_atoms: int,
    device: torch.device | str,
) -> tuple[dict[str, Tensor], list[str]]:
    """Compute the tensors of a shard, and list the ids of the crystals without usable labels, which are left out.

    Potentials are not trained on atoms that are much too close: latents there can be infinite or too large for the
    dtype.
    """
    batches: dict[str, list[Tensor]] = {}
    energies: list[Tensor] = []
    for batch in _batches(crystals, batch_atoms):
        graph = build_graph(batch, teacher.cutoffs).to(device)
        with torch.no_grad():
            layers, energy = teacher.latents_and_energy(graph)
        energies.append(energy.double().cpu())
        for layer, latents in enumerate(layers, start=1):
            for rank, values in zip(RANKS, latents[:3], strict=True):
                if values.shape[-1]:
                    batches.setdefault(f"{rank}_{layer}", []).append(values.cpu())
    labels = {name: torch.cat(values).to(DTYPES[settings.dtype]) for name, values in batches.items()}
    tensors = labels | {
        "atomic_numbers": torch.from_numpy(np.concatenate([c.atomic_numbers for c in crystals])).to(torch.uint8),
        "positions": torch.from_numpy(np.concatenate([c.positions for c in crystals])),
        "cell": torch.from_numpy(np.stack([c.cell for c in crystals])),
        "held_out": torch.tensor([is_held_out(c, settings.crystals.held_out) for c in crystals]).to(torch.uint8),
        "made": torch.tensor([c.source == MADE_SOURCE for c in crystals]).to(torch.uint8),
        ENERGY: torch.cat(energies),
    }
    sizes = torch.tensor([c.num_atoms for c in crystals])
    usable_atoms = torch.ones(int(sizes.sum()), dtype=torch.bool)
    for values in labels.values():
        usable_atoms &= torch.isfinite(values).flatten(1).all(1)
    crystal_of_atom = torch.repeat_interleave(sizes)
    usable = torch.isfinite(tensors[ENERGY]).index_fill(0, crystal_of_atom[~usable_atoms], False)
    kept = {
        name: values[usable if name in PER_CRYSTAL else usable[crystal_of_atom]].contiguous()
        for name, values in tensors.items()
    }
    kept["ptr"] = torch.cat([sizes.new_zeros(1), sizes[usable].cumsum(0)])
    return kept, [crystals[index].id for index in torch.nonzero(~usable).flatten().tolist()]


def _batches(crystals: Iterable[Crystal], batch_atoms: int) -> Iterator[list[Crystal]]:
    """Split crystals into groups of at most `batch_atoms` atoms, or a single larger crystal; the order stays."""
    batch: list[Crystal] = []
    atoms = 0
    for crystal in crystals:
        if batch and atoms + crystal.num_atoms > batch_atoms:
            yield batch
            batch, atoms = [], 0
        batch.append(crystal)
        atoms += crystal.num_atoms
    if batch:
        yield batch


def rejected_ids(folder: Path) -> list[str]:
    """List the ids of the crystals of all shards that have no usable labels.

    Raises:
        BadFileError: a shard is missing or damaged.
    """
    ids: list[str] = []
    for number in range(int(read_manifest(folder)["crystals"]["shards"])):
        path = shard_path(folder, number)
        try:
            with safe_open(path, framework="pt") as file:
                ids += json.loads(file.metadata()["rejected"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise BadFileError(f"{path}: not a complete shard: {error}") from error
    return ids


def read_shard(folder: Path, number: int) -> dict[str, Tensor]:
    """Read the tensors of a shard.

    Raises:
        BadFileError: it is missing or damaged.
    """
    path = shard_path(folder, number)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dictionary
    except FileNotFoundError as error:
        raise BadFileError(f"{path}: missing: the same command makes the missing labels") from error
    except (SafetensorError, OSError) as error:
        raise BadFileError(f"{path}: not a complete shard: {error}") from error
    if not {"atomic_numbers", "positions", "cell", "ptr", "held_out", "made", "scalar_1"} <= tensors.keys():
        raise BadFileError(f"{path}: not a shard of labels: contains {', '.join(sorted(tensors))}")
    return tensors


def fit_labelled_energies(folder: Path) -> CompositionFit:
    """Fit the energies of the training crystals in a folder of labels; see `fit_compositions`.

    Args:
        folder: folder that `label_crystals` filled.

    Raises:
        BadFileError: a shard is missing or damaged.
        DTNNError: an older version made the labels without energies, or there are no training crystals.
    """
    counts, energies = [], []
    for number in range(int(read_manifest(folder)["crystals"]["shards"])):
        shard = read_shard(folder, number)
        if ENERGY not in shard:
            raise DTNNError(
                f"distill: the labels in {folder} have no energies, because an older version made them: "
                f"label again in another folder, or train with an energy weight of 0"
            )
        training = shard["held_out"] == 0
        counts.append(element_counts(shard["atomic_numbers"].long(), shard["ptr"])[training])
        energies.append(shard[ENERGY][training])
    if not sum(map(len, energies)):
        raise DTNNError(f"distill: expected training crystals in {folder}, got none")
    return fit_compositions(torch.cat(counts), torch.cat(energies))
