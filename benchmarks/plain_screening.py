# SPDX-License-Identifier: MIT
"""CIF files to predictions: `dtnn-fast screen` against a plain script, on the same files in one run.

The plain script does what one writes first: pymatgen parses a file, pymatgen finds the neighbors within each cutoff,
and the model runs on one structure at a time with the reference implementations in eager PyTorch. Its graphs are built
by our kernels, and that is not counted.

python benchmarks/plain_screening.py FOLDER_OF_CIFS --crystals 1000 --plain 60
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
import warnings
from pathlib import Path

import torch
from pymatgen.core import Structure

from dtnn_fast import DTNN, use_backend
from dtnn_fast.crystals.convert import to_crystal
from dtnn_fast.screening.input_chunks import plan_files
from dtnn_fast.screening.screening_run import ScreeningOptions, make_manifest, output_parts, run_screening


def plain_seconds(model: DTNN, files: list[Path]) -> dict[str, float]:
    """Measure the stages of the plain script. Seconds a crystal: parse, neighbors, model."""
    spent = dict.fromkeys(("parse", "neighbors", "model"), 0.0)
    for file in files:
        start = time.perf_counter()
        structure = Structure.from_file(file)
        spent["parse"] += time.perf_counter() - start
        start = time.perf_counter()
        for cutoff in dict.fromkeys(model.encoder.cutoffs):
            structure.get_neighbor_list(cutoff)
        spent["neighbors"] += time.perf_counter() - start
        graph = model.graph([to_crystal(structure)])
        start = time.perf_counter()
        with use_backend("reference"), torch.no_grad():
            model.member_tensors(graph)
        spent["model"] += time.perf_counter() - start
    return {name: seconds / len(files) for name, seconds in spent.items()}


def screen_seconds(model: DTNN, files: list[Path], readers: int) -> float:
    """Measure the screening of files, from reading to parts on disk. Seconds a crystal."""
    with tempfile.TemporaryDirectory() as folder:
        parts, inputs, options = output_parts(Path(folder)), plan_files(files), ScreeningOptions(num_readers=readers)
        parts.begin(make_manifest(model, "dielectric", inputs, [], options, "benchmark"))
        start = time.perf_counter()
        counts = run_screening(model, "dielectric", inputs, parts, options)
        return (time.perf_counter() - start) / (counts.predicted + counts.rejected)


def main() -> None:
    """Measure both, and print milliseconds a crystal and their ratio as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--crystals", type=int, default=1000)
    parser.add_argument("--plain", type=int, default=60)
    parser.add_argument("--readers", type=int, default=1)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(arguments.threads)
    files = sorted(arguments.folder.glob("*.cif"))
    random.Random(0).shuffle(files)
    files = files[: arguments.crystals]
    model = DTNN.from_pretrained("dielectric").eval()
    plain_seconds(model, files[:3])
    screen_seconds(model, files[:50], 0)
    turns = []
    for _ in range(arguments.turns):
        plain = plain_seconds(model, files[: arguments.plain])
        ours = screen_seconds(model, files, arguments.readers)
        turns.append({"plain": plain, "screen": ours, "ratio": sum(plain.values()) / ours})
        print(json.dumps(turns[-1]), flush=True)
    ratios = sorted(turn["ratio"] for turn in turns)
    print(
        f"screen is {ratios[len(ratios) // 2]:.1f} times as fast (median of {len(ratios)} turns, {len(files)} files, "
    )
    print(f"{arguments.threads} threads, {arguments.readers} readers)")


if __name__ == "__main__":
    main()
