# SPDX-License-Identifier: MIT
"""Copy trained models into the package, each with a record of its training.

python tools/bundle_weights.py direct runs/shipped/split-0 --encoder-saw ionic total
python tools/bundle_weights.py lattice runs/lattice --held-out runs/lattice-systems runs/lattice-bundled --join FOLDER
python tools/bundle_weights.py potential runs/potential --errors compared.json --join FOLDER

"direct" records too which of the bundled labelled crystals the run held out, and the errors on them, so that tests can
repeat them. --encoder-saw lists the tensors of the held-out crystals that its encoder had learned from before the run.
With --after, the record also has the earlier runs that the run went on from, the first one first.
"lattice" takes the joins and their errors (join.json and record.json, and those of potentials) of tools/fit_join.py,
and the errors of runs that held crystals out. "potential" takes the errors of tools/compare_force_constants.py, and of
FOLDER the join of its force constants, which the lattice model gets.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtnn_fast import DTNN
from dtnn_fast.datasets import clean, load_labelled
from dtnn_fast.screening.engine import screen_crystals
from dtnn_fast.training.metrics import crystal_errors, summarise
from dtnn_fast.training.run_folder import PREDICTIONS_FILE, load_predictions

WEIGHTS = Path(__file__).parents[1] / "dtnn_fast" / "weights"


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def bundle_direct(run: Path, encoder_saw: Sequence[str]) -> None:
    """Copy the direct model."""
    folder = WEIGHTS / "dielectric"
    for name in ("config.json", "model.safetensors", "training_set.json", "training_latents.safetensors"):
        shutil.copyfile(run / "model" / name, folder / name)
    settings, results = _read(run / "settings.json"), _read(run / "results.json")
    members = run / PREDICTIONS_FILE
    predictions = load_predictions(members)
    part_of = dict(zip(predictions.ids, predictions.parts, strict=True))
    crystals, _ = clean(load_labelled())
    model = DTNN.from_pretrained(folder)
    held_out: dict[str, Any] = {}
    for part in ("test", "validation"):
        chosen = [crystal for crystal in crystals if part_of.get(crystal.id) == part]
        screened, _ = screen_crystals(model, chosen)
        systems = [str(crystal.info["crystal_system"]) for crystal in chosen]
        held_out[part] = {"ids": [crystal.id for crystal in chosen]}
        for target in model.targets:
            errors = crystal_errors(screened.tensors[target], screened.known[target])
            held_out[part][target] = {
                **summarise(screened.tensors[target], screened.known[target], systems)["all"],
                "within_tensor_error": float((errors["mae_ten"] <= screened.errors[target]).mean()),
                "within_mean_error": float((errors["mae_mean_diag"] <= screened.mean_errors[target]).mean()),
                "median_model": float(
                    np.abs(screened.known[target] - np.median(screened.known[target], axis=0)).mean()
                ),
            }
    record = {"run": run.name, **settings, **results, "encoder_saw": list(encoder_saw), "held_out_bundled": held_out}
    _write(folder / "training.json", record)


def _earlier_runs(after: Sequence[Path]) -> list[dict[str, Any]]:
    return [
        {"run": one.name, **_read(one / "settings.json"), "epochs": _read(one / "results.json")["epochs"]}
        for one in after
    ]


def bundle_lattice(run: Path, held_out: Sequence[Path], join: Path, after: Sequence[Path]) -> None:
    """Copy the lattice model and its join."""
    folder = WEIGHTS / "lattice"
    folder.mkdir(exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(run / "model" / name, folder / name)
    joins = sorted(join.glob("join*.json"))
    for path in joins:
        shutil.copyfile(path, folder / path.name)
    record = {"run": run.name, **_read(run / "settings.json"), **_read(run / "results.json")}
    record["held_out"] = {other.name: _read(other / "results.json")["held_out"] for other in held_out}
    # The errors of the joins: "join", "join-nequix-oam-1" and so on.
    for path in joins:
        record[path.stem] = _read(path.with_name(path.name.replace("join", "record", 1)))
    # A run without a start of its own began from the distilled encoder.
    record["earlier_runs"] = _earlier_runs(after)
    _write(folder / "training.json", record)


def bundle_potential(run: Path, errors: Path, join: Path, after: Sequence[Path]) -> None:
    """Copy the potential, and its join to the lattice model's."""
    folder = WEIGHTS / "potential"
    (folder / "encoder").mkdir(parents=True, exist_ok=True)
    for name in ("encoder/config.json", "encoder/model.safetensors", "energy_head.safetensors"):
        shutil.copyfile(run / "model" / name, folder / name)
    shutil.copyfile(join / "join-native.json", WEIGHTS / "lattice" / "join-native.json")
    record = {"run": run.name, **_read(run / "settings.json"), **_read(run / "results.json")}
    record["earlier_runs"] = _earlier_runs(after)
    record["compared"] = _read(errors)
    record["join"] = _read(join / "record-native.json")
    _write(folder / "training.json", record)


def main() -> None:
    """Read the arguments and copy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("direct", "lattice", "potential"))
    parser.add_argument("run", type=Path)
    parser.add_argument("--held-out", nargs="*", type=Path, default=[])
    parser.add_argument("--join", type=Path)
    parser.add_argument("--after", nargs="*", type=Path, default=[])
    parser.add_argument("--encoder-saw", nargs="*", default=[])
    parser.add_argument("--errors", type=Path)
    options = parser.parse_args()
    if options.kind == "potential":
        bundle_potential(options.run, options.errors, options.join, options.after)
    elif options.kind == "direct":
        bundle_direct(options.run, options.encoder_saw)
    else:
        bundle_lattice(options.run, options.held_out, options.join, options.after)


if __name__ == "__main__":
    main()
