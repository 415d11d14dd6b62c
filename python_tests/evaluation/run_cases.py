# SPDX-License-Identifier: MIT
"""Run folders with predictions that are off by known amounts, on twenty made-up crystals."""

import json

import numpy as np

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.evaluation.runs import DataSet
from dtnn_fast.training.run_folder import RunPredictions, save_predictions

TARGETS = ("electronic", "ionic", "total")


def made_up_crystals(count=20):
    """Every second one is NaCl and cubic, the others are MgO and hexagonal."""
    crystals = []
    for number in range(count):
        numbers, system = ([11, 17], "cubic") if number % 2 == 0 else ([12, 8], "hexagonal")
        electronic, ionic = np.eye(3) * (2.0 + number), np.diag([1.0, 2.0, 3.0 + number])
        crystals.append(
            Crystal.make(
                f"c{number:02d}",
                numbers,
                [[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]],
                np.eye(3) * 4.0,
                targets={"electronic": electronic, "ionic": ionic, "total": electronic + ionic},
                info={"crystal_system": system, "band_gap_ev": 0.5 * number},
            )
        )
    return crystals


CRYSTALS = made_up_crystals()
DATA = DataSet(CRYSTALS)


def off_by(amount):
    """An error of the diagonal, by which MAE_diag and MAE_mean-diag are `amount`, and MAE_ten half of it."""
    return lambda id, part: amount * np.eye(3)


def write_run(folder, seed, error, label="", layer=4, targets=("total",), data=DATA, **changes):
    """A run whose predictions are the expected tensors plus `error(id, part)`; `layer=None` makes a baseline."""
    by = data.split_by
    parts = [part for part in ("test", "validation", "train") for _ in data.part_ids(seed, part)]
    ids = [id for part in ("test", "validation", "train") for id in data.part_ids(seed, part)]
    expected = {target: data.tensors(ids, target) for target in targets}
    off = np.array([error(id, part) for id, part in zip(ids, parts, strict=True)])
    predictions = RunPredictions(ids, parts, {target: tensors + off for target, tensors in expected.items()}, expected)
    model = {"name": "other"} if layer is None else {"decoder": {"layer": layer, "latent": 8}}
    record = {
        "command": f"train --seed {seed}",
        "label": label,
        "settings": {
            "model": model,
            "seed": seed,
            "learning_rate": 1e-3,
            **({} if by == "crystals" else {"split_by": by}),
        },
        "data": {"crystals": len(data), "digest": data.digest},
        "versions": {"dtnn_fast": "0.1.0", "machine": "x86_64"},
        "hardware": {"cpu": "a processor", "cores": 2, "gpu": None},
        "threads": 1,
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_predictions(folder / "predictions.npz", predictions)
    (folder / "settings.json").write_text(json.dumps({**record, **changes}))
    (folder / "results.json").write_text(
        json.dumps({"train_seconds": 60.0 * (1 + seed), "parameters": {"decoder": 1234}})
    )
    return folder


def write_model(folder, amounts, **more):
    """Runs of a model, with an error on the diagonal for each seed."""
    for seed, amount in amounts.items():
        write_run(folder / f"split-{seed}", seed, off_by(amount), **more)
    return folder
