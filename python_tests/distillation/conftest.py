# SPDX-License-Identifier: MIT
"""Labels of a fake teacher; all tests of this folder run on one thread."""

import pytest
from fake_teacher import SETTINGS, FakeTeacher
from model_cases import one_thread  # noqa: F401  a fixture that every test uses

from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.distillation.labels import label_crystals
from dtnn_fast.distillation.made_crystals import make_crystals


@pytest.fixture(scope="session")
def sources():
    return [crystal for crystal in load_labelled() if crystal.num_atoms <= 4][:40]


@pytest.fixture
def teacher():
    return FakeTeacher()


@pytest.fixture(scope="session")
def crystals(sources):
    return make_crystals(sources, SETTINGS.crystals, FakeTeacher.elements).crystals


@pytest.fixture(scope="session")
def labels(crystals, tmp_path_factory):
    """A folder of labels that the tests only read."""
    folder = tmp_path_factory.mktemp("labels")
    label_crystals(crystals, FakeTeacher(), folder, SETTINGS)
    return folder
