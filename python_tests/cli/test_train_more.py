# SPDX-License-Identifier: MIT
"""`dtnn-fast train` with further crystals, of which only some labels are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from model_cases import small_crystals

from dtnn_fast import DTNN
from dtnn_fast.formats import write_packed

CRYSTALS = small_crystals(24, max_atoms=4)
MORE = small_crystals(5, max_atoms=4, skip=24)
SMALL = ["encoder.channels=8,4,4", "decoder.latent=8", "training.born_weight=0.5"]


@pytest.fixture
def train(program, tmp_path):
    def run(main, more, *arguments):
        write_packed(tmp_path / "main.npz", main, {})
        write_packed(tmp_path / "more.npz", more, {})
        settings = [*SMALL, f"data.more={tmp_path / 'more.npz'}"]
        options = [word for setting in settings for word in ("--set", setting)]
        return program(
            "train", tmp_path / "main.npz", "--target", "all", "--joint", "--layer", "2", "--epochs", "1",
            *options, "-o", tmp_path / "run", *arguments,
        )  # fmt: skip

    return run


def of_functional(crystal, functional):
    return replace(
        crystal, born_charges=np.zeros((crystal.num_atoms, 3, 3)), info=crystal.info | {"functional": functional}
    )


def test_they_are_learned_from(train, tmp_path):
    result = train(CRYSTALS, [of_functional(crystal, "PBEsol") for crystal in MORE])
    assert result.exit_code == 0, result.stderr
    assert "crystals to learn from, 5 more with some labels" in result.stderr
    model = DTNN.from_pretrained(tmp_path / "run" / "model")
    assert model.config.functionals == ("PBE", "PBEsol")
    assert model.born_readout is not None


def test_crystals_with_predicted_labels_alone_are_learned_from_but_not_known(train, tmp_path):
    """They are no reason to trust the model: neither its training set nor its elements have them."""
    taught = [
        replace(crystal, atomic_numbers=np.full(crystal.num_atoms, 94), info={"labels_are_predicted": True})
        for crystal in small_crystals(6, max_atoms=4, skip=29)
    ]
    assert train(CRYSTALS, MORE, "-o", tmp_path / "without").exit_code == 0
    result = train(CRYSTALS, [*MORE, *taught])
    assert result.exit_code == 0, result.stderr
    assert "10 more with some labels" in result.stderr
    model, without = (DTNN.from_pretrained(tmp_path / name / "model") for name in ("run", "without"))
    assert model.training_set.formulas == without.training_set.formulas
    assert len(model.training_set.latents) == len(without.training_set.latents)
    assert model.elements == without.elements
    assert not np.array_equal(model.training_set.latents, without.training_set.latents)


def test_errors_of_charges_are_printed(train, tmp_path):
    charges = [replace(crystal, born_charges=np.ones((crystal.num_atoms, 3, 3))) for crystal in CRYSTALS]
    result = train(charges, MORE)
    assert result.exit_code == 0, result.stderr
    assert "(mean size 1.000 e), over" in " ".join(result.stdout.split())
    without = train(CRYSTALS, MORE, "-o", tmp_path / "without")
    assert "no test crystal has labels" in without.stdout


def test_crystals_without_labels_are_rejected_and_named(train, tmp_path):
    result = train(CRYSTALS, [of_functional(MORE[0], "PBE"), replace(MORE[1], targets={})])
    assert result.exit_code == 0, result.stderr
    assert f"{MORE[1].id}," in (tmp_path / "run" / "rejected.csv").read_text()
    assert DTNN.from_pretrained(tmp_path / "run" / "model").config.functionals == ()


def test_the_split_has_one_functional(train):
    result = train([of_functional(CRYSTALS[0], "PBEsol"), *CRYSTALS[1:]], MORE)
    assert result.exit_code == 2
    assert "expected labels of one functional" in result.stderr


def test_frozen_encoders_are_refused(train):
    result = train(CRYSTALS, MORE, "--encoder", "distilled")
    assert result.exit_code == 2
    assert "--encoder distilled --finetune" in result.stderr
