# SPDX-License-Identifier: MIT
"""The command info: what is installed, and what the bundled model is."""

from __future__ import annotations

import platform
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from rich.table import Table

from .. import __version__
from ..errors import DTNNError
from ..files import read_json_object
from .console import counted, stdout

# Purpose of each optional package, by the name it is imported with.
_OPTIONAL = {
    "pymatgen": "structures of pymatgen, duplicates",
    "gemmi": "CIF files",
    "ase": "structures and databases of ASE",
    "moyopy": "symmetry of crystals",
    "pyarrow": "Parquet files of screenings",
    "matplotlib": "figures",
    "duckdb": "rankings and reports",
    "plotly": "figures of reports",
    "fastapi": "dtnn-fast serve",
    "sevenn": "encoders and potentials sevennet-0 and sevennet-l3i5",
    "nequix": "potentials in Nequix files",
}
# Extras of packages that the extra "all" leaves out.
_EXTRAS = {"sevenn": "sevennet", "nequix": "nequix", "fastapi": "serve"}


def info() -> None:
    """Show versions, GPU and CUDA kernels, number of CPU threads, optional packages, and the bundled models.

    For the bundled models, this lists the targets, parameters, elements, the command that trained them, and MAE_ten on
    test crystals: the mean absolute error over the six unique elements of the tensor.
    """
    import torch

    from .. import ops  # noqa: F401  registers the operations
    from ..model.bundled_model import BUNDLED_MODELS, bundled_folder

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
        missing = f'not installed: pip install "dtnn-fast[{_EXTRAS.get(name, "all")}]"'
        version = metadata.version(name) if find_spec(name) else missing
        table.add_row(name, f"{version}   ({purpose})")
    table.add_row("bundled models", ", ".join(BUNDLED_MODELS))
    for name, value in _describe_bundled(bundled_folder()):
        table.add_row(f"  {name}", value)
    stdout().print(table)


def _describe_bundled(folder: Path) -> list[tuple[str, str]]:
    from ..crystals.elements import SYMBOLS
    from ..model.dtnn import DTNN

    try:
        model = DTNN.from_pretrained("dielectric")
    except DTNNError as error:
        return [("not usable", str(error))]
    counts = model.num_parameters()
    elements = model.config.elements
    rows = [
        ("targets", ", ".join(model.config.targets)),
        ("parameters", f"encoder {counts['encoder']:,}, {len(model.decoders)} decoders of {counts['decoder']:,}"),
        ("members", f"{model.config.members}" + (", with error bars" if model.tensor_calibrations else "")),
        ("elements", f"{len(elements)}: {' '.join(SYMBOLS[z] for z in elements)}" if elements else "all"),
    ]
    return rows + _describe_training(folder / "training.json")


def _describe_training(path: Path) -> list[tuple[str, str]]:
    """Rows about training.json, the record beside the weights; it has the "errors" of the run's results.json."""
    if not path.exists():
        return []
    try:
        record = read_json_object(path)
        rows = [("trained by", record["command"])] if "command" in record else []
        for target, by_part in record.get("errors", {}).items():
            errors = by_part["test"]["all"]
            seen = ", which its encoder had learned from: see docs/model_card.md for others"
            rows.append(
                (
                    f"{target} error",
                    f"MAE_ten {errors['mae_ten']:.3f} on {counted(errors['count'], 'crystal')} kept for testing"
                    + (seen if target in record.get("encoder_saw", []) else ""),
                )
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [("training.json", f"cannot be read: {error}")]
    return rows
