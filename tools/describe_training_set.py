# SPDX-License-Identifier: MIT
"""Write the training set of the bundled model beside its weights: counts of elements, and latents.

Usage: python tools/describe_training_set.py

Only for weights that were trained before `dtnn-fast train` wrote these files into each model folder.
"""

from __future__ import annotations

import json

import numpy as np
import torch
from dtnn_fast.model.bundled import bundled_folder

from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.datasets.cleaning import clean
from dtnn_fast.datasets.splits import split
from dtnn_fast.model.dtnn import DTNN
from dtnn_fast.model.training_set import TrainingSet, mean_scalars, save_training_set
from dtnn_fast.training.run_folder import data_digest


def main() -> None:
    """Find the training crystals by the record of the training, and write what describes them."""
    record = json.loads((bundled_folder() / "training.json").read_text(encoding="utf-8"))
    crystals, _ = clean(load_labelled())
    if data_digest(crystals) != record["data"]["digest"]:
        raise SystemExit("the bundled model was trained on other crystals than the bundled ones")
    if record["settings"].get("rotate"):
        raise SystemExit("the members of the bundled model were trained on different crystals")
    rows = split([crystal.id for crystal in crystals], record["settings"]["seed"]).train.tolist()
    model = DTNN.from_pretrained("dielectric")
    latents = []
    with torch.no_grad():
        for row in rows:
            graph = model.graph([crystals[row]])
            latents.append(mean_scalars(model.encoder(graph), graph.ptr))
    training_set = TrainingSet.of([crystals[row] for row in rows], np.concatenate(latents))
    save_training_set(training_set, bundled_folder())
    print(f"{len(rows)} crystals, {len(training_set.element_counts)} elements, limit {training_set.distance_limit:.3f}")


if __name__ == "__main__":
    main()
