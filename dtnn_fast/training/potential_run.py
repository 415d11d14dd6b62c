# SPDX-License-Identifier: MIT
"""One training of a potential in its folder: split, train or resume, write the model and its held-out errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..crystals.crystal import Crystal, Rejected
from ..encoders.build import save_encoder
from ..encoders.latent_cache import encoder_digest
from ..encoders.native import NativeEncoder
from ..errors import DTNNError
from ..potentials import gamma_force_constants
from ..potentials.energy_model import ENCODER_FOLDER, EnergyModel, load_energy_model, save_energy_head
from ..potentials.energy_potential import EnergyPotential
from .force_frames import ForceFrame, frames_digest
from .lattice_run import HeldOut, force_constant_errors, hold_out
from .potential_training import PotentialSettings, PotentialTrainer, new_learner
from .run_folder import MODEL_FOLDER, RESULTS_FILE, data_digest, is_new, write_record
from .term_trainer import TermEpoch


def train_potential_run(
    settings: PotentialSettings,
    crystals: Sequence[Crystal],
    frames: Sequence[ForceFrame],
    folder: Path,
    encoder: NativeEncoder,
    command: str = "",
    *,
    held_out: HeldOut = HeldOut.systems,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[PotentialTrainer, TermEpoch], None] = lambda trainer, epoch: None,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
    on_start: Callable[[PotentialTrainer], None] = lambda trainer: None,
) -> dict[str, Any]:
    """Train in a run folder, or resume the run that it holds, and record everything there.

    Args:
        settings: settings of the training.
        crystals: checked; those without force constants, or of one atom, are ignored.
        frames: crystals with energies and forces.
        folder: folder of the run; created if missing. "model" in it is for `load_energy_model`.
        encoder: encoder with the initial weights and all its layers; it is trained in place.
        command: the command line, stored in settings.json.
        held_out: see `hold_out`, of the crystals with force constants; frames of the chemical systems of what is held
            out are held out, too.
        device: device to train on.
        on_epoch: called after each epoch.
        on_batch: called after each batch with the number of batches done and the number of all batches.
        on_start: called before the first epoch, after a checkpoint has been read.

    Returns:
        The content of results.json; see `potential_errors`.

    Raises:
        BadFileError: the folder holds a run with other settings or data, or a damaged one.
        DTNNError: there are no frames to learn from, or the loss became NaN or infinite.
    """
    usable = [crystal for crystal in crystals if crystal.force_constants is not None and crystal.num_atoms > 1]
    learned, tested = hold_out(usable, held_out, settings.seed) if usable else ([], [])
    systems = {crystal.chemical_system for crystal in tested}
    learned_frames = [frame for frame in frames if frame.crystal.chemical_system not in systems]
    tested_frames = [frame for frame in frames if frame.crystal.chemical_system in systems]
    if not learned_frames:
        raise DTNNError("train-potential: expected crystals with energies and forces, got none")
    torch.manual_seed(settings.seed)
    entries = {
        "settings": {**asdict(settings), "held_out": held_out.value, "start": encoder_digest(encoder)},
        "model": encoder.config.to_json(),
        "data": {
            "crystals": len(usable),
            "frames": len(frames),
            "digest": data_digest(usable),
            "frames_digest": frames_digest(frames),
        },
    }
    run_key: dict[str, Any] = json.loads(json.dumps(entries))
    new_run = is_new(folder, run_key)
    learner = new_learner(encoder, learned_frames).requires_grad_(True).to(device)
    trainer = PotentialTrainer(learner, learned, learned_frames, settings, folder)
    if new_run:
        write_record(folder, run_key, command)
    on_start(trainer)
    for epoch in trainer.epochs(on_batch):
        on_epoch(trainer, epoch)
    mean = trainer.mean.model
    results: dict[str, Any] = {
        "epochs": len(trainer.history),
        "train_seconds": sum(epoch.seconds for epoch in trainer.history),
        "crystals": len(learned),
        "frames": len(learned_frames),
        "loss": trainer.history[-1].terms,
    }
    target = folder / MODEL_FOLDER
    save_encoder(mean.encoder, target / ENCODER_FOLDER, {"trained_on": "energies, forces and force constants"})
    save_energy_head(mean.term.head(), target, results)
    results["held_out"] = potential_errors(load_energy_model(target).to(device), tested, tested_frames)
    (folder / RESULTS_FILE).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return results


def potential_errors(
    model: EnergyModel, crystals: Sequence[Crystal], frames: Sequence[ForceFrame]
) -> dict[str, dict[str, Any]]:
    """Measure the errors of an energy model; crystals of elements that it does not know are left out.

    Args:
        model: the model.
        crystals: crystals with force constants; may be empty.
        frames: crystals with energies and forces; may be empty.

    Returns:
        "force_constants": see `lattice_run.lattice_errors`. "frames": "count"; mean errors of the energy per atom
        ("energy", eV), of the components of forces ("forces", eV/Angstrom) and stresses ("stress", eV/Angstrom^3), and
        the mean size of these components ("mean_force", "mean_stress").
    """
    potential = EnergyPotential(model)
    known = set(model.elements)
    crystals = [c for c in crystals if known.issuperset(c.atomic_numbers.tolist())]
    frames = [f for f in frames if known.issuperset(f.crystal.atomic_numbers.tolist())]
    pairs = [
        (crystal, found.matrix)
        for crystal, found in zip(crystals, gamma_force_constants(crystals, potential), strict=True)
        if not isinstance(found, Rejected)
    ]
    return {
        "force_constants": force_constant_errors([c for c, _ in pairs], [matrix for _, matrix in pairs]),
        "frames": _frame_errors(potential, frames),
    }


def _frame_errors(potential: EnergyPotential, frames: Sequence[ForceFrame]) -> dict[str, Any]:
    if not frames:
        return {"count": 0}
    found = potential.evaluate([frame.crystal for frame in frames])
    pairs = list(zip(frames, found, strict=True))
    energy = [abs(one.energy - frame.energy) / frame.crystal.num_atoms for frame, one in pairs]
    forces = np.concatenate([one.forces - frame.forces for frame, one in pairs])
    errors = {
        "count": len(frames),
        "energy": float(np.mean(energy)),
        "forces": float(np.abs(forces).mean()),
        "mean_force": float(np.abs(np.concatenate([frame.forces for frame in frames])).mean()),
    }
    stresses = [
        (one.stress, frame.stress) for frame, one in pairs if frame.stress is not None and one.stress is not None
    ]
    if stresses:
        predicted, expected = (np.array(side) for side in zip(*stresses, strict=True))
        errors |= {"stress": float(np.abs(predicted - expected).mean()), "mean_stress": float(np.abs(expected).mean())}
    return errors
