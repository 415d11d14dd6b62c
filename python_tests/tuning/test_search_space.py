# SPDX-License-Identifier: MIT
"""A trial sets the searched settings of a run and no others."""

from dataclasses import replace

import pytest

from dtnn_fast.errors import DTNNError
from dtnn_fast.training.training_settings import TrainingSettings
from dtnn_fast.tuning.search_space import SEARCHED_SETTINGS, parse_fixed, search_space, suggest, values_of, with_values


class Largest:
    """A trial that takes the last value of each setting."""

    def __init__(self):
        self.asked = []

    def suggest_float(self, name, low, high, *, log=False):
        self.asked.append(name)
        return high

    def suggest_categorical(self, name, choices):
        self.asked.append(name)
        return choices[-1]


def test_the_defaults_are_in_the_space():
    assert all(value in search_space(5)[name] for name, value in values_of(TrainingSettings()).items())


def test_a_trial_sets_what_is_searched_and_nothing_else():
    base = TrainingSettings(seed=3, epochs=7, clip_norm=1.5)
    trial = Largest()
    settings = suggest(trial, base, {"layer": "1-4", "batch_size": 16})
    assert trial.asked == [name for name in SEARCHED_SETTINGS if name not in ("layer", "batch_size")]
    assert values_of(settings) == {
        "layer": "1-4",
        "blocks": 3,
        "latent": 256,
        "dropout": 0.5,
        "bonds": False,
        "residual": False,
        "learning_rate": 1e-2,
        "weight_decay": 1.0,
        "batch_size": 16,
    }
    assert (settings.model.decoder.layer, settings.model.decoder.more_layers) == (4, (1, 2, 3))
    assert (settings.seed, settings.epochs, settings.clip_norm) == (3, 7, 1.5)
    assert replace(settings.model, decoder=base.model.decoder) == base.model
    assert with_values(settings, values_of(base)) == base


@pytest.mark.parametrize(
    ("num_layers", "names"),
    [
        (5, ["1", "2", "3", "4", "5", "1-4", "1-5"]),
        (3, ["1", "2", "3", "1-2", "1-3"]),
        (2, ["1", "2", "1-2"]),
        (1, ["1"]),
    ],
)
def test_layers_are_those_of_the_encoder(num_layers, names):
    model = TrainingSettings().model
    cutoffs = {"cutoffs": model.encoder.cutoffs[:num_layers], "mean_bonds": model.encoder.mean_bonds[:num_layers]}
    first = replace(model.decoder, layer=1)
    base = TrainingSettings(replace(model, encoder=replace(model.encoder, **cutoffs), decoder=first))
    assert list(search_space(num_layers)["layer"].values) == names
    assert suggest(Largest(), base, {}).model.decoder.layers == tuple(range(1, num_layers + 1))
    for name in names:
        settings = with_values(base, {"layer": name})
        assert values_of(settings)["layer"] == name
        assert parse_fixed(f"layer={name}", num_layers) == ("layer", name)
    with pytest.raises(DTNNError, match=f"to be one of 1.*, got '{num_layers + 1}'"):
        parse_fixed(f"layer={num_layers + 1}", num_layers)


def test_unknown_values_are_refused():
    model = TrainingSettings().model
    odd = replace(model, decoder=replace(model.decoder, layer=4, more_layers=(2,)))
    with pytest.raises(ValueError, match=r"expected layers that are one of 1, .*, got \[2, 4\]"):
        values_of(TrainingSettings(odd))
    with pytest.raises(ValueError, match=r"expected names of layer, .*, got epochs"):
        with_values(TrainingSettings(), {"epochs": 3})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("layer=4", ("layer", "4")),
        ("layer=1-5", ("layer", "1-5")),
        ("batch-size = 32", ("batch_size", 32)),
        ("bonds=False", ("bonds", False)),
        ("learning_rate=3e-4", ("learning_rate", 3e-4)),
    ],
)
def test_fixed_settings(text, expected):
    name, value = parse_fixed(text, num_layers=5)
    assert (name, value) == expected
    assert type(value) is type(expected[1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs=3", "expected NAME=VALUE with a name of layer, .*, got 'epochs=3'"),
        ("layer", "expected `layer` to be one of 1, 2, 3, 4, 5, 1-4, 1-5, got ''"),
        ("layer=6", "expected `layer` to be one of 1, 2, 3, 4, 5, 1-4, 1-5, got '6'"),
        ("layer=true", "got 'true'"),
        ("bonds=maybe", "expected `bonds` to be one of true, false, got 'maybe'"),
        ("dropout=0.9", "expected `dropout` to be a number from 0 to 0.5, got '0.9'"),
        ("dropout=nan", "got 'nan'"),
    ],
)
def test_fixed_settings_that_make_no_sense(text, message):
    with pytest.raises(DTNNError, match=message):
        parse_fixed(text, num_layers=5)
