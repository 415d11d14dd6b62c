# SPDX-License-Identifier: MIT
"""The command info."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from rich.table import Table

from .. import __version__
from ..errors import DTNNError
from .console import stdout

# Package by the name it is imported with.
_OPTIONAL = {
    "pymatgen": "CIF and pymatgen structures",
    "ase": "ASE Atoms",
    "moyopy": "crystal systems",
    "pyarrow": "predictions.parquet",
    "matplotlib": "plot.png",
    "sevenn": "the encoders sevennet-0 and sevennet-l3i5",
}


def info() -> None:
    """Say what is installed: versions, CUDA kernels, threads, the bundled models and optional packages."""
    import torch

    from .. import ops  # noqa: F401  registers the operations
    from ..model.storage import BUNDLED, bundled_folder

    table = Table(box=None, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("dtnn-fast", __version__)
    table.add_row("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no usable GPU"
    table.add_row("torch", f"{torch.__version__}, {device}")
    has_cuda = torch.ops.dtnn_fast.has_cuda_kernels()
    table.add_row("CUDA kernels", "built" if has_cuda else "not built")
    table.add_row("CPU threads", str(torch.get_num_threads()))
    for name, purpose in _OPTIONAL.items():
        found = metadata.version(name) if find_spec(name) else 'not installed: pip install "dtnn-fast[all]"'
        table.add_row(name, f"{found}   ({purpose})")
    table.add_row("bundled models", ", ".join(BUNDLED))
    for name, value in _describe_bundled(bundled_folder()):
        table.add_row(f"  {name}", value)
    stdout().print(table)


def _describe_bundled(folder: Path) -> list[tuple[str, str]]:
    from ..crystals.elements import SYMBOLS
    from ..model.storage import load_model

    try:
        model = load_model("dielectric")
    except DTNNError as error:
        return [("not usable", str(error))]
    counts = model.num_parameters()
    elements = model.config.elements
    rows = [
        ("targets", ", ".join(model.config.targets)),
        ("parameters", f"encoder {counts['encoder']:,}, {len(model.decoders)} decoders of {counts['decoder']:,}"),
        ("members", f"{model.config.members}" + (", with error bars" if model.config.error_scales else "")),
        ("elements", f"{len(elements)}: {' '.join(SYMBOLS[z] for z in elements)}" if elements else "all"),
    ]
    return rows + _describe_training(folder / "training.json")


def _describe_training(path: Path) -> list[tuple[str, str]]:
    """What the record beside the weights says; its "errors" are those of results.json of the run."""
    if not path.exists():
        return []
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        rows = [("trained by", record["command"])] if "command" in record else []
        for target, parts in record.get("errors", {}).items():
            errors = parts["test"]["all"]
            rows.append(
                (f"{target} error", f"MAE_ten {errors['mae_ten']:.3f} on {errors['count']} crystals kept for testing")
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [("training.json", f"cannot be read: {error}")]
    return rows
