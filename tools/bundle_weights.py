# SPDX-License-Identifier: MIT
"""Copy the model of a finished training run into the package, with a record of its training.

Usage: python tools/bundle_weights.py runs/dielectric/split-0
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

BUNDLED_FOLDER = Path(__file__).parents[1] / "dtnn_fast" / "weights" / "dielectric"


def main(run: Path) -> None:
    """Copy `run`/model and write training.json beside it."""
    settings = json.loads((run / "settings.json").read_text(encoding="utf-8"))
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    BUNDLED_FOLDER.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors", "training_set.json", "training_latents.safetensors"):
        shutil.copyfile(run / "model" / name, BUNDLED_FOLDER / name)
    record = {"command": settings["command"], "run": run.name, **settings, **results}
    (BUNDLED_FOLDER / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
