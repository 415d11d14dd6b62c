# SPDX-License-Identifier: MIT
"""The program, a tiny model with random weights, and files of crystals."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from dtnn_fast.cli.app import app
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.encoders import Channels, NativeEncoderConfig
from dtnn_fast.model.decoder import DecoderConfig
from dtnn_fast.model.dtnn import DTNN, TARGETS, DTNNConfig


@pytest.fixture(scope="session")
def labelled():
    return load_labelled()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, labelled):
    """The folder of a model of all targets, without noble gases among its elements."""
    torch.manual_seed(0)
    elements = sorted({int(z) for crystal in labelled for z in crystal.atomic_numbers})
    config = DTNNConfig(
        encoder=NativeEncoderConfig(channels=Channels(8, 4, 4)),
        decoder=DecoderConfig(latent=8),
        targets=TARGETS,
        elements=tuple(elements),
    )
    folder = tmp_path_factory.mktemp("model")
    DTNN(config).save(folder)
    return folder


@pytest.fixture(scope="session")
def program():
    """A function that runs the program and returns its `stdout`, `stderr` and `exit_code`."""

    def run(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture(scope="session")
def row_of():
    """A function that makes the row of a .jsonl file from a crystal with its tensors."""

    def make(crystal):
        return {
            "id": crystal.id,
            "lattice_angstrom": crystal.cell.tolist(),
            "atomic_numbers": crystal.atomic_numbers.tolist(),
            "frac_coords": (crystal.positions @ np.linalg.inv(crystal.cell)).tolist(),
            "eps_electronic": crystal.targets["electronic"].tolist(),
            "eps_total": crystal.targets["total"].tolist(),
        }

    return make


@pytest.fixture(scope="session")
def few_crystals(labelled, row_of, tmp_path_factory):
    """A file of thirty small labelled crystals."""
    inside = [c for c in labelled if np.abs(c.targets["total"]).max() < 90 and c.num_atoms < 5][:30]
    path = tmp_path_factory.mktemp("data") / "data.jsonl"
    path.write_text("\n".join(json.dumps(row_of(crystal)) for crystal in inside))
    return path
