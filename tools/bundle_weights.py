# SPDX-License-Identifier: MIT
"""Copy into the package the model of a run of dtnn-fast train, and the encoder of one of dtnn-fast distill.

Beside each lies a record of how it was trained and how good it is.

Usage: python tools/bundle_weights.py runs/finetuned-shared/split-0 runs/distilled
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

WEIGHTS = Path(__file__).parents[1] / "dtnn_fast" / "weights"
FILES = ("config.json", "model.safetensors")


def main(runs: list[Path]) -> None:
    """Bundle each run: `run`/model as the dielectric model, or `run`/encoder as the encoder."""
    for run in runs:
        if (run / "encoder").is_dir():
            copy(run / "encoder", WEIGHTS / "encoder")
            shutil.copyfile(run / "report.json", WEIGHTS / "encoder" / "report.json")
        else:
            copy(run / "model", WEIGHTS / "dielectric")
            settings, results = (
                json.loads((run / f"{name}.json").read_text("utf-8")) for name in ("settings", "results")
            )
            record = {"command": settings["command"], "run": run.name, **settings, **results}
            place = WEIGHTS / "dielectric" / "training.json"
            place.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def copy(source: Path, target: Path) -> None:
    """Copy settings and weights; not their permissions, which may be for the one who trained only."""
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(source / name, target / name)


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
