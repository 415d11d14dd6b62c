# SPDX-License-Identifier: MIT
"""The command export: a model as a program that runs without this package's Python sources."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated

import typer

from ..errors import DTNNError
from .console import stderr
from .options import FunctionalOption, ModelOption, load_model

PACKAGE_FILE, PROGRAM_FILE, DESCRIPTION_FILE = "model.pt2", "model.export.pt2", "model.json"


def export(
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            file_okay=False,
            show_default=False,
            help="Folder for the program, created if missing.",
        ),
    ],
    model: ModelOption = "dielectric",
    functional: FunctionalOption = "",
    package: Annotated[
        bool,
        typer.Option(
            "--package/--program",
            help=f"What to write: --package an AOTInductor package {PACKAGE_FILE}, compiled for this processor (needs "
            f"a C++ compiler and takes minutes); --program a torch.export program {PROGRAM_FILE}.",
        ),
    ] = True,
) -> None:
    """Export a model as a program from positions to tensors, for Python and C++ without this package's sources.

    The folder gets the program, the library of operations _ops.so, and model.json with the inputs, targets, elements
    and calibration of the error bars. examples/cpp/predict.cpp runs a package. The program does not check its input:
    unlike screen and predict, it accepts overlapping atoms and unknown elements.

    Exit code: 0 the program was written, 2 nothing could be done.
    """
    import torch

    from .. import _library
    from ..files import replacing
    from ..model.dtnn import DTNN
    from ..model.error_calibration import ERROR_BAR_FORMULA, calibrations_to_json
    from ..model.exported import PREDICTOR_INPUTS, export_predictor

    loaded = load_model(model, None, "cpu", "export", functional)
    if not isinstance(loaded, DTNN) or not loaded.uses_operations:
        raise DTNNError(
            f"export: expected a model with one native encoder, got {model}; export each model of an ensemble "
            "separately"
        )
    output.mkdir(parents=True, exist_ok=True)
    program = export_predictor(loaded.eval())
    if package:
        torch._inductor.aoti_compile_and_package(program, package_path=str(output / PACKAGE_FILE))
    else:
        torch.export.save(program, output / PROGRAM_FILE)
    shutil.copyfile(_library.LIBRARY, output / _library.LIBRARY.name)
    description = {
        "inputs": PREDICTOR_INPUTS,
        "outputs": dict.fromkeys(loaded.targets, "[members, B, 3, 3], relative permittivity"),
        "elements": list(loaded.elements),
        "functional": loaded.functional or None,
        "members": loaded.config.members,
        "tensor_calibrations": calibrations_to_json(loaded.targets, loaded.tensor_calibrations),
        "mean_calibrations": calibrations_to_json(loaded.targets, loaded.mean_calibrations),
        "error_bars": ERROR_BAR_FORMULA,
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "torch": torch.__version__,
    }
    with replacing(output / DESCRIPTION_FILE) as new:
        new.write_text(json.dumps(description, indent=2) + "\n")
    stderr().print(f"program: {output / (PACKAGE_FILE if package else PROGRAM_FILE)}")
