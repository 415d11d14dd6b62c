# SPDX-License-Identifier: MIT
"""One training of a `LatticeModel` in its folder: split, train or resume, write the model and its held-out errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..crystals.crystal import Crystal
from ..crystals.elements import atomic_masses
from ..datasets.bundled import load_labelled
from ..datasets.splits import split_by_group
from ..encoders.build import save_encoder
from ..encoders.latent_cache import encoder_digest, weights_digest
from ..encoders.native import NativeEncoder
from ..errors import DTNNError
from ..model.decoder import DecoderConfig
from ..model.lattice_model import LatticeModel, LatticeModelConfig, LatticeResponse
from ..phonons import SOFTEST, frequencies, gamma_modes, ionic_tensor
from .charge_errors import charge_errors
from .held_out import without_held_out
from .lattice_loss import TERMS
from .lattice_training import LatticeData, LatticeSettings, LatticeTrainer
from .metrics import crystal_errors, ranking_quality
from .run_folder import MODEL_FOLDER, RESULTS_FILE, data_digest, is_new, write_record
from .term_trainer import TermEpoch
from .train_run import known_elements

# Folder of the trained encoder beside the model, which dtnn-fast train --encoder reads.
ENCODER_FOLDER = "encoder"
_EVALUATION_BATCH = 16
# Stiffness below which a mode counts as unstable. eV/Angstrom^2
_UNSTABLE = -0.05


class HeldOut(StrEnum):
    """What a training leaves out, to measure errors on it."""

    systems = "systems"
    bundled = "bundled"
    nothing = "nothing"


def usable_crystals(crystals: Sequence[Crystal]) -> list[Crystal]:
    """Select the crystals with force constants, Born charges or an ionic tensor, of two atoms or more."""
    return [
        crystal
        for crystal in crystals
        if crystal.num_atoms > 1
        and (crystal.force_constants is not None or crystal.born_charges is not None or "ionic" in crystal.targets)
    ]


def hold_out(crystals: Sequence[Crystal], choice: HeldOut, seed: int) -> tuple[list[Crystal], list[Crystal]]:
    """Split crystals into those to learn from and those to test.

    Args:
        crystals: labelled crystals with unique ids.
        choice: "systems" holds out a tenth of the chemical systems; "bundled" the crystals that come with dtnn-fast,
            by id and structure; "nothing" tests nothing.
        seed: seed of the split by systems.

    Returns:
        Crystals for training and for testing.

    Raises:
        DTNNError: there are too few chemical systems.
    """
    everything = list(crystals)
    if choice is HeldOut.nothing:
        return everything, []
    if choice is HeldOut.bundled:
        kept = without_held_out(everything, load_labelled())
        ids = {crystal.id for crystal in kept}
        return kept, [crystal for crystal in everything if crystal.id not in ids]
    try:
        names = [crystal.id for crystal in everything]
        parts = split_by_group(names, [crystal.chemical_system for crystal in everything], seed)
    except ValueError as error:
        raise DTNNError(f"the crystals cannot be split by chemical system: {error}") from error
    learned = np.sort(np.concatenate([parts.train, parts.validation]))
    return [everything[index] for index in learned], [everything[index] for index in parts.test]


def train_lattice_run(
    settings: LatticeSettings,
    crystals: Sequence[Crystal],
    folder: Path,
    encoder: NativeEncoder,
    decoder: DecoderConfig,
    command: str = "",
    *,
    held_out: HeldOut = HeldOut.systems,
    functionals: Sequence[str] = (),
    start: LatticeModel | None = None,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[LatticeTrainer, TermEpoch], None] = lambda trainer, epoch: None,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
    on_start: Callable[[LatticeTrainer], None] = lambda trainer: None,
) -> dict[str, Any]:
    """Train in a run folder, or resume the run that it holds, and record everything there.

    Args:
        settings: settings of the training.
        crystals: labelled, cleaned and checked; those without a label of the lattice are ignored.
        folder: folder of the run; created if missing.
        encoder: encoder with the initial weights; it is trained too, in place. Ignored with `start`.
        decoder: settings of the block that reads the latents; of these, `start` takes the dropout alone.
        command: the command line, stored in settings.json.
        held_out: see `hold_out`.
        functionals: functionals of the labels, the one to predict for first; empty for labels of one. Ignored with
            `start`, whose own remain.
        start: model with the initial weights of everything; it stays as it is. Its elements remain known.
        device: device to train on.
        on_epoch: called after each epoch.
        on_batch: called after each batch with the number of batches done and the number of all batches.
        on_start: called before the first epoch, after a checkpoint has been read.

    Returns:
        The content of results.json; see `lattice_errors`.

    Raises:
        BadFileError: the folder holds a run with other settings or data, or a damaged one.
        DTNNError: there are too few crystals, a label has a functional that `start` does not know, or the loss became
            NaN or infinite.
    """
    usable = usable_crystals(crystals)
    learned, tested = hold_out(usable, held_out, settings.seed)
    torch.manual_seed(settings.seed)
    elements = known_elements((), learned)
    if start is None:
        config = LatticeModelConfig(encoder.config, decoder, elements=elements, functionals=tuple(functionals))
        model, digest = LatticeModel(config, encoder), encoder_digest(encoder)
    else:
        model = _continued(start, elements, decoder.dropout)
        config, digest, elements = model.config, weights_digest(model.config.to_json(), model), model.elements
    entries = {
        "settings": {**asdict(settings), "held_out": held_out.value, "start": digest},
        "model": {**config.to_json(), "elements": list(elements)},
        "data": {"crystals": len(usable), "digest": data_digest(usable)},
    }
    run_key: dict[str, Any] = json.loads(json.dumps(entries))
    new_run = is_new(folder, run_key)
    model.requires_grad_(True).to(device)
    data = LatticeData(learned, model)
    trainer = LatticeTrainer(model, data, settings, folder, set_input_sizes=start is None)
    if new_run:
        write_record(folder, run_key, command)
    on_start(trainer)
    for epoch in trainer.epochs(on_batch):
        on_epoch(trainer, epoch)
    result = trainer.mean.model.eval()
    result.save(folder / MODEL_FOLDER)
    save_encoder(result.encoder, folder / ENCODER_FOLDER, {"trained_on": "force constants and Born charges"})
    known = set(elements)
    tested = [crystal for crystal in tested if known.issuperset(crystal.atomic_numbers.tolist())]
    labels = {name: sum(name in label.names for label in trainer.data.labels) for name in TERMS}
    results = {
        "epochs": len(trainer.history),
        "train_seconds": sum(epoch.seconds for epoch in trainer.history),
        "crystals": len(learned),
        "labels": labels,
        "loss": trainer.history[-1].terms,
        "held_out": lattice_errors(result, tested),
    }
    (folder / RESULTS_FILE).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return results


def _continued(start: LatticeModel, elements: Sequence[int], dropout: float) -> LatticeModel:
    """Copy a model, to be trained on further crystals."""
    # A model of all elements has none listed.
    known = tuple(sorted({*start.elements, *elements})) if start.elements else ()
    decoder = replace(start.config.decoder, dropout=dropout)
    model = LatticeModel(replace(start.config, decoder=decoder, elements=known))
    # By order: without dropout, layers of a perceptron have other numbers in their names.
    model.load_state_dict(dict(zip(model.state_dict(), start.state_dict().values(), strict=True)))
    return model


def predict_for_functionals(model: LatticeModel, crystals: Sequence[Crystal]) -> list[LatticeResponse]:
    """Predict crystals for the functional of their labels, in their order."""
    data = LatticeData(crystals, model)
    responses: list[LatticeResponse] = []
    with torch.no_grad():
        for start in range(0, len(data), _EVALUATION_BATCH):
            rows = list(range(start, min(start + _EVALUATION_BATCH, len(data))))
            graph, functional, _ = data.batch(rows, model.device)
            matrices, charges = model(graph, functional)
            parts = charges.double().cpu().split([data.crystals[row].num_atoms for row in rows])
            responses += [
                LatticeResponse(matrix.double().cpu().numpy(), (part - part.mean(0)).numpy())
                for matrix, part in zip(matrices, parts, strict=True)
            ]
    return responses


def lattice_errors(model: LatticeModel, crystals: Sequence[Crystal]) -> dict[str, Any]:
    """Measure the errors on labelled crystals, for the functional of their labels.

    Args:
        model: the model.
        crystals: crystals of its elements; may be empty.

    Returns:
        "ionic" by functional: of crystals with a published ionic tensor, count, "mae_ten", "median_ten", and
        `ranking_quality`. "force_constants": relative mean error of the elements; error of the softest mode in
        eV/Angstrom^2, and of the frequencies, in rising order, in THz; the unstable crystals, how many were found, and
        how many stable ones were called unstable. "born_charges": see `charge_errors`; {"atoms": 0} without labels.
    """
    responses = predict_for_functionals(model, crystals)
    return {
        "crystals": len(crystals),
        "ionic": _ionic_errors(crystals, responses),
        "force_constants": force_constant_errors(crystals, [response.force_constants for response in responses]),
        "born_charges": _born_charge_errors(crystals, responses),
    }


def _ionic_errors(crystals: Sequence[Crystal], responses: Sequence[LatticeResponse]) -> dict[str, Any]:
    by_functional: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for crystal, response in zip(crystals, responses, strict=True):
        if "ionic" in crystal.targets:
            volume = float(abs(np.linalg.det(crystal.cell)))
            tensor = ionic_tensor(response.force_constants, response.born_charges, volume, SOFTEST, condensed=True)
            name = str(crystal.info.get("functional", "unknown"))
            by_functional.setdefault(name, []).append((tensor, crystal.targets["ionic"]))
    errors = {}
    for name, pairs in sorted(by_functional.items()):
        predicted, expected = (np.array(tensors) for tensors in zip(*pairs, strict=True))
        of_crystals = crystal_errors(predicted, expected)["mae_ten"]
        errors[name] = {
            "count": len(pairs),
            "mae_ten": float(of_crystals.mean()),
            "median_ten": float(np.median(of_crystals)),
            **(ranking_quality(predicted, expected) if len(pairs) > 1 else {}),
        }
    return errors


def force_constant_errors(crystals: Sequence[Crystal], matrices: Sequence[np.ndarray]) -> dict[str, Any]:
    """Compare force constants with labels.

    Args:
        crystals: those without force constants, or with one atom, are left out.
        matrices: predicted force constants. [3 N_b, 3 N_b] each, eV/Angstrom^2.

    Returns:
        See "force_constants" of `lattice_errors`.
    """
    relative, softest, is_unstable, found_unstable, of_modes = [], [], [], [], []
    for crystal, matrix in zip(crystals, matrices, strict=True):
        if crystal.force_constants is None or crystal.num_atoms < 2:
            continue
        expected = np.asarray(crystal.force_constants, dtype=float)
        relative.append(np.abs(matrix - expected).mean() / np.abs(expected).mean())
        charges = np.zeros((crystal.num_atoms, 3, 3))
        lowest = [gamma_modes(one, charges).stiffness[0] for one in (matrix, expected)]
        softest.append(abs(lowest[0] - lowest[1]))
        masses = atomic_masses(crystal.atomic_numbers)
        modes = [frequencies(one, masses) for one in (matrix, expected)]
        of_modes.append(np.abs(modes[0] - modes[1]).mean())
        found_unstable.append(lowest[0] < _UNSTABLE)
        is_unstable.append(lowest[1] < _UNSTABLE)
    if not relative:
        return {"count": 0}
    found, true = np.array(found_unstable), np.array(is_unstable)
    return {
        "count": len(relative),
        "relative_error": float(np.mean(relative)),
        "softest_mode_error": float(np.mean(softest)),
        "frequency_error_thz": float(np.mean(of_modes)),
        "unstable": int(true.sum()),
        "unstable_found": int((true & found).sum()),
        "stable_called_unstable": int((~true & found).sum()),
    }


def _born_charge_errors(crystals: Sequence[Crystal], responses: Sequence[LatticeResponse]) -> dict[str, Any]:
    pairs = [
        (crystal, response.born_charges, crystal.born_charges)
        for crystal, response in zip(crystals, responses, strict=True)
        if crystal.born_charges is not None
    ]
    if not pairs:
        return {"atoms": 0}
    labelled, predicted, expected = zip(*pairs, strict=True)
    return charge_errors(
        np.array([crystal.num_atoms for crystal in labelled]),
        np.concatenate([crystal.atomic_numbers for crystal in labelled]),
        np.concatenate(predicted),
        np.concatenate(expected),
    )
