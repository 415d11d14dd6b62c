# SPDX-License-Identifier: MIT
"""Errors of the bundled model in float32 and with products in bfloat16, against float64, over the bundled crystals.

    python benchmarks/matmul_precision.py [--crystals N]

prints a table of docs/performance.md: relative errors of the tensors (Frobenius norm of the difference over that of the
tensor), and how the ranking by their means changes. Products are in bfloat16 only on a CPU with AVX-512 BF16.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch

from dtnn_fast import DTNN
from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.screening.sources import open_source

_BATCH = 256
_TOP = 100


def predict(model: DTNN, crystals: Sequence[Crystal], setting: str) -> dict[str, np.ndarray]:
    """Predict tensors [B, 3, 3] of each target with all atoms and bonds, under a setting of matmul precision."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(setting)
    parts: dict[str, list[np.ndarray]] = {target: [] for target in model.config.targets}
    try:
        with torch.inference_mode():
            for first in range(0, len(crystals), _BATCH):
                tensors = model(model.graph(crystals[first : first + _BATCH]))
                for target, found in parts.items():
                    found.append(tensors[target].double().numpy())
    finally:
        torch.set_float32_matmul_precision(before)
    return {target: np.concatenate(found) for target, found in parts.items()}


def relative_errors(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Divide the norm of each difference by that of the exact tensor. [B, 3, 3] twice to [B]."""
    return np.linalg.norm(found - exact, axis=(1, 2)) / np.linalg.norm(exact, axis=(1, 2))


def ranking(tensors: np.ndarray) -> np.ndarray:
    """Sort crystals by the mean of the diagonal, the largest first."""
    return np.argsort(-tensors.trace(axis1=1, axis2=2), kind="stable")


def rank_changes(found: np.ndarray, exact: np.ndarray) -> tuple[float, int]:
    """Return Spearman's correlation of two rankings, and how many of the first hundred both have."""
    orders = [ranking(tensors) for tensors in (found, exact)]
    ranks = [np.argsort(order) for order in orders]
    return float(np.corrcoef(*ranks)[0, 1]), len(set(orders[0][:_TOP]) & set(orders[1][:_TOP]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crystals", type=int, help="take this many only")
    count = parser.parse_args().crystals
    model = DTNN.from_pretrained("dielectric")
    bundled = [item for item in open_source([], model.elements).read() if isinstance(item, Crystal)]
    crystals = bundled if count is None else bundled[:count]
    single = {name: predict(model, crystals, setting) for name, setting in (("float32", "highest"), ("bf16", "medium"))}
    exact = predict(model.double(), crystals, "highest")
    print(f"{len(crystals):,} crystals\n")
    print("| target | products | median | 99 % | largest | Spearman | first 100 in common |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for target, true in exact.items():
        for name, predictions in single.items():
            errors = relative_errors(predictions[target], true)
            correlation, common = rank_changes(predictions[target], true)
            middle, most = np.quantile(errors, (0.5, 0.99))
            print(
                f"| {target} | {name} | {middle:.1e} | {most:.1e} | {errors.max():.1e} | {correlation:.7f} | {common} |"
            )


if __name__ == "__main__":
    main()
