# SPDX-License-Identifier: MIT
"""Write docs/results.md from the summary of a training run over several splits.

Usage: python tools/write_results.py runs/dielectric/summary.json "machine in words"
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
SYSTEMS = ("cubic", "tetragonal", "orthorhombic", "hexagonal", "trigonal", "monoclinic", "triclinic")
METRICS = {
    "mae_ten": "MAE_ten",
    "mae_mean_diag": "MAE_mean-diag",
    "mae_diag": "MAE_diag",
    "mae_off_diag": "MAE_off-diag",
    "median_ten": "median of the error",
}
INTRODUCTION = """# Results

Errors on the test tenth of the bundled labelled crystals that the paper's cleaning rule keeps (940 of 955): mean and
standard deviation over {count} splits (ids sorted, `numpy.random.RandomState(seed).permutation(n)`, seeds {seeds}). The
native encoder is trained from scratch together with the three decoders; nothing is pretrained. "Median" always predicts
the median of the training tensors, element by element. Two or three crystals with huge tensors move the means, so the
median over the test crystals of each crystal's MAE_ten is given too.

The paper's settings are the defaults of `dtnn-fast train`; the options below differ from them. They were chosen on the
validation errors of two short runs on the split of seed 0 (60 epochs with 64, 16, 16 channels, which also printed its
test errors at the end, and 10 epochs with 128, 32, 32 channels, stopped); nothing was tuned on test errors.

Command, on {machine}:

```
{command}
```

Training took {minutes:.0f} minutes on average for a split and the three targets together. The machine was shared with
builds and tests, so this is an upper bound; since then a training step has become 1.4 times as fast, and the code gives
the recorded errors to 1e-4 (`python_tests/nn/test_bundled_weights.py`).

Versions: {versions}. This page is written by `tools/write_results.py` from the run's `summary.json`.
"""


def spread(values: list[float]) -> str:
    """Mean and standard deviation of the sample."""
    return f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}"


def overview(runs: list[dict[str, Any]]) -> list[str]:
    """The errors on all test crystals, beside the trivial model."""
    lines = [
        "## All crystals",
        "",
        f"| target | model | {' | '.join(METRICS.values())} |",
        "| --- | --- " + "| ---: " * 5 + "|",
    ]
    for target in runs[0]["errors"]:
        rows = {
            "DTNN": [run["errors"][target]["test"]["all"] for run in runs],
            "median": [run["median_model"][target]["all"] for run in runs],
        }
        for model, errors in rows.items():
            cells = [spread([e[metric] for e in errors]) for metric in METRICS]
            if model == "DTNN":
                cells = [f"**{cell}**" for cell in cells]
            lines.append(f"| {target} | {model} | {' | '.join(cells)} |")
    return lines


def by_system(runs: list[dict[str, Any]]) -> list[str]:
    """MAE_ten in each crystal system; a split without a crystal of a system does not count for it."""
    targets = list(runs[0]["errors"])
    lines = ["## MAE_ten by crystal system", "", "| system | test crystals a split | " + " | ".join(targets) + " |"]
    lines.append("| --- | ---: " + "| ---: " * len(targets) + "|")
    for system in SYSTEMS:
        found = [run["errors"] for run in runs if system in run["errors"][targets[0]]["test"]]
        counts = [errors[targets[0]]["test"][system]["count"] for errors in found]
        cells = [spread([errors[target]["test"][system]["mae_ten"] for errors in found]) for target in targets]
        lines.append(f"| {system} | {sum(counts) / len(runs):.1f} | {' | '.join(cells)} |")
    return lines


def main(path: Path, machine: str) -> None:
    """Write the page."""
    summary = json.loads(path.read_text(encoding="utf-8"))
    runs = list(summary["splits"].values())
    settings = json.loads((path.parent / f"split-{next(iter(summary['splits']))}" / "settings.json").read_text())
    introduction = INTRODUCTION.format(
        count=len(runs),
        seeds=", ".join(summary["splits"]),
        machine=machine,
        command=summary["command"],
        minutes=statistics.fmean(run["train_seconds"] for run in runs) / 60.0,
        versions=", ".join(f"{name} {version}" for name, version in settings["versions"].items() if name != "machine"),
    )
    parts = [introduction.rstrip(), "", *overview(runs), "", *by_system(runs), "", bundled_note(runs)]
    PAGE.write_text("\n".join(parts) + "\n", encoding="utf-8")


def bundled_note(runs: list[dict[str, Any]]) -> str:
    """Which of the runs the wheel holds."""
    errors = {t: e["test"]["all"]["mae_ten"] for t, e in runs[0]["errors"].items()}
    listed = ", ".join(f"{target} {value:.2f}" for target, value in errors.items())
    return (
        "## Bundled weights\n\nThe wheel holds the model of the first split (seed 0); its MAE_ten on that split's test "
        f"tenth: {listed}.\nIts settings, command and all errors are in `dtnn_fast/weights/dielectric/training.json`, "
        "put there by\n`tools/bundle_weights.py`."
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
