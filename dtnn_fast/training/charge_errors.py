# SPDX-License-Identifier: MIT
"""Errors of Born effective charges on crystals that a run did not learn from, in all and by element."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..crystals.crystal import Crystal
from ..crystals.elements import symbol
from ..errors import BadFileError
from ..model.dtnn import DTNN
from ..nn.graph import crystal_batches

CHARGES_FILE = "born_charges.npz"


@dataclass(frozen=True)
class ChargePredictions:
    """Predicted and expected Born charges of crystals, whose atoms follow each other.

    Args:
        ids: ids of the crystals. [n].
        parts: "test" or "validation" for each crystal. [n].
        num_atoms: [n], int64.
        atomic_numbers: [N], int64.
        predicted: Z[atom, field, displacement]. [N, 3, 3], e.
        expected: the same of the labels. [N, 3, 3], e.
    """

    ids: np.ndarray
    parts: np.ndarray
    num_atoms: np.ndarray
    atomic_numbers: np.ndarray
    predicted: np.ndarray
    expected: np.ndarray

    @classmethod
    def of(cls, model: DTNN, held_out: Mapping[str, Sequence[Crystal]]) -> ChargePredictions:
        """Predict crystals with charges, each for the functional of its labels.

        Crystals of elements or of a functional that the model does not know are left out: it does not predict them.

        Args:
            model: a model of Born charges, in evaluation mode.
            held_out: crystals by part; see `held_out_with_charges`.
        """
        pairs = [(part, c) for part, crystals in held_out.items() for c in crystals if _is_known(model, c)]
        crystals = [crystal for _, crystal in pairs]
        none = np.zeros((0, 3, 3))
        return cls(
            np.array([crystal.id for crystal in crystals], dtype=str),
            np.array([part for part, _ in pairs], dtype=str),
            np.array([crystal.num_atoms for crystal in crystals], dtype=np.int64),
            np.concatenate([np.zeros(0, dtype=np.int64), *(crystal.atomic_numbers for crystal in crystals)]),
            np.concatenate([none, *_predict(model, crystals)]),
            np.concatenate([none, *(c.born_charges for c in crystals if c.born_charges is not None)]),
        )

    @classmethod
    def mean(cls, members: Sequence[ChargePredictions], weights: Sequence[float]) -> ChargePredictions | None:
        """Average the predictions of members for the crystals that all were tested on; None where there are none.

        Members that validate on different crystals may have learned from different further ones.

        Args:
            members: at least one.
            weights: number of models that each one is the mean of.
        """
        tested = [member.select("test") for member in members]
        keys = [member._keys() for member in tested]
        common = set(keys[0]).intersection(*keys[1:])
        if not common:
            return None
        chosen = [
            member._take([own.index(key) for key in keys[0] if key in common])
            for member, own in zip(tested, keys, strict=True)
        ]
        predicted = np.average([member.predicted for member in chosen], axis=0, weights=weights)
        return replace(chosen[0], predicted=predicted)

    def _keys(self) -> list[tuple[str, bytes]]:
        """Return the id and the labels of each crystal: two sets may have a crystal under one id."""
        labels = np.split(self.expected, np.cumsum(self.num_atoms)[:-1])
        return [(str(id), own.tobytes()) for id, own in zip(self.ids, labels, strict=True)] if len(self.ids) else []

    def select(self, part: str) -> ChargePredictions:
        """Return the crystals of one part."""
        return self._take(np.flatnonzero(self.parts == part).tolist())

    def _take(self, crystals: Sequence[int]) -> ChargePredictions:
        """Return some crystals, in the given order."""
        starts = np.cumsum(self.num_atoms) - self.num_atoms
        ranges = [np.arange(starts[k], starts[k] + self.num_atoms[k]) for k in crystals]
        atoms = np.concatenate([np.zeros(0, dtype=np.int64), *ranges])
        rows = list(crystals)
        return ChargePredictions(
            self.ids[rows],
            self.parts[rows],
            self.num_atoms[rows],
            self.atomic_numbers[atoms],
            self.predicted[atoms],
            self.expected[atoms],
        )

    def summary(self) -> dict[str, Any]:
        """Compute the errors by part, as results.json holds them.

        Returns:
            For each part with crystals what `charge_errors` gives.
        """
        parts = {part: self.select(part) for part in ("test", "validation")}
        return {
            part: charge_errors(selected.num_atoms, selected.atomic_numbers, selected.predicted, selected.expected)
            for part, selected in parts.items()
            if len(selected.ids)
        }

    def save(self, path: Path) -> None:
        """Write an .npz with an array for each field."""
        np.savez_compressed(path, **vars(self))

    @classmethod
    def load(cls, path: Path) -> ChargePredictions | None:
        """Read what `save` wrote; None where there is no file.

        Raises:
            BadFileError: the file is damaged.
        """
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as archive:
                return cls(**{name: archive[name] for name in archive.files})
        except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
            raise BadFileError(f"{path}: not the Born charges of a run: {error}") from error


def charge_errors(
    num_atoms: np.ndarray, atomic_numbers: np.ndarray, predicted: np.ndarray, expected: np.ndarray
) -> dict[str, Any]:
    """Compute the errors of Born charges of crystals, at least one, whose atoms follow each other.

    Args:
        num_atoms: of each crystal. [n], int64.
        atomic_numbers: [N], int64.
        predicted: [N, 3, 3], e.
        expected: [N, 3, 3], e.

    Returns:
        "crystals", "atoms", "mae" (mean absolute error of a component, e), "mean_size" (mean absolute component of the
        labels, e), and "by_element" with these four for each element by its symbol, in the order of the atomic numbers.
    """
    errors = np.abs(predicted - expected).mean((1, 2))
    sizes = np.abs(expected).mean((1, 2))
    crystal = np.repeat(np.arange(len(num_atoms)), num_atoms)

    def describe(atoms: np.ndarray) -> dict[str, Any]:
        return {
            "crystals": len(np.unique(crystal[atoms])),
            "atoms": int(atoms.sum()),
            "mae": float(errors[atoms].mean()),
            "mean_size": float(sizes[atoms].mean()),
        }

    by_element = {symbol(z): describe(atomic_numbers == z) for z in np.unique(atomic_numbers).tolist()}
    return {**describe(np.ones(len(crystal), dtype=bool)), "by_element": by_element}


def _is_known(model: DTNN, crystal: Crystal) -> bool:
    has_elements = not model.elements or set(crystal.atomic_numbers.tolist()) <= set(model.elements)
    functionals = model.config.functionals
    return has_elements and (not functionals or crystal.info.get("functional", functionals[0]) in functionals)


def _predict(model: DTNN, crystals: Sequence[Crystal]) -> list[np.ndarray]:
    """Predict charges for the functionals of the labels. [N, 3, 3] each, float64, e."""
    functionals = model.config.functionals
    results: list[np.ndarray] = [np.empty(0)] * len(crystals)
    with torch.no_grad():
        for batch in crystal_batches(crystals, model.default_batch_atoms()):
            chosen = [crystals[index] for index in batch]
            encoded = model.encode(model.graph(chosen))
            if functionals:
                names = [crystal.info.get("functional", functionals[0]) for crystal in chosen]
                indices = torch.tensor([functionals.index(name) for name in names], device=model.device)
                encoded = encoded._replace(functional=indices)
            values = model.born_charges(encoded).double().cpu().numpy()
            ends = np.cumsum([crystal.num_atoms for crystal in chosen])
            for index, part in zip(batch, np.split(values, ends[:-1]), strict=True):
                results[index] = part
    return results
