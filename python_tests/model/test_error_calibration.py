# SPDX-License-Identifier: MIT
"""The error bar as a function of spread and mean: by hand, its properties, and through saved folders."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from model_cases import config, labelled, randomised

from dtnn_fast import DTNN, Ensemble
from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.errors import BadFileError
from dtnn_fast.model.dtnn import DTNNConfig
from dtnn_fast.model.ensemble_model import join_members
from dtnn_fast.model.error_calibration import LEAST_SIZE, ErrorCalibration, calibrations_to_json
from dtnn_fast.model.exported import export_predictor, predictor_inputs
from dtnn_fast.model.predictor import mean_permittivity, mean_spread, spread
from dtnn_fast.typed_settings import from_plain

TARGETS = ("electronic", "ionic", "total")
BY_SIZE = ErrorCalibration((0.5, 3.0, 20.0), (2.0, 8.0, 5.0), size_weight=0.1, vacuum=1.0)
SILICON = Crystal.from_fractional("Si", [14, 14], [[0, 0, 0], [0.25] * 3], 0.5 * 5.43 * (1 - np.eye(3)))


def of_targets(seed: int) -> tuple[ErrorCalibration, ...]:
    rng = np.random.default_rng(seed)
    return tuple(
        ErrorCalibration(
            tuple(np.sort(rng.lognormal(size=3)).tolist()), tuple(rng.lognormal(size=3).tolist()), 0.1, vacuum
        )
        for vacuum in (1.0, 0.0, 1.0)
    )


def ensemble(**changes) -> DTNN:
    settings = {"members": 2, "tensor_calibrations": of_targets(0), "mean_calibrations": of_targets(1), **changes}
    return randomised(replace(config(targets=TARGETS), **settings))


@pytest.fixture(scope="module")
def crystals():
    return [SILICON, *(crystal for crystal in labelled() if crystal.num_atoms <= 6)][:12]


def bars_by_hand(calibration: dict, spreads: np.ndarray, means: np.ndarray) -> list[float]:
    """The formula of the docstring, from the values of a JSON file."""
    bars = []
    for deviation, mean in zip(spreads.tolist(), means.tolist(), strict=True):
        size = max(mean - calibration["vacuum"], LEAST_SIZE)
        sizes, factors = calibration["sizes"], calibration["factors"]
        factor = factors[0] if size <= sizes[0] else factors[-1]
        for (low, high), (left, right) in zip(pairwise(sizes), pairwise(factors), strict=True):
            if low <= size <= high:
                part = np.log(size / low) / np.log(high / low)
                factor = (1 - part) * left + part * right
        bars.append(factor * np.sqrt(deviation**2 + (calibration["size_weight"] * size) ** 2))
    return bars


def test_bars_by_hand():
    means = np.array([-3.0, 0.0, 1.0, 1.3, 1.5, 2.0, 4.0, 9.0, 21.0, 300.0])
    spreads = np.linspace(0, 2, len(means))
    np.testing.assert_allclose(BY_SIZE.bars(spreads, means), bars_by_hand(asdict(BY_SIZE), spreads, means))
    # Halfway between 3 and 20 in the logarithm, and with the size's part of 0.1.
    size = np.sqrt(60)
    bar = 6.5 * np.hypot(0.4, 0.1 * size)
    np.testing.assert_allclose(BY_SIZE.bars(np.array([0.4]), np.array([1 + size])), [bar])


def test_bars_are_continuous_and_rise_with_the_spread():
    means = np.exp(np.linspace(np.log(0.5), np.log(200), 200_001))
    for spreads in (np.zeros_like(means), np.full_like(means, 0.3)):
        bars = BY_SIZE.bars(spreads, means)
        # No jump: a step of 3e-5 in the mean changes the bar by a few 1e-5.
        assert np.abs(np.diff(bars) / bars[1:]).max() < 1e-3
    spreads = np.linspace(0, 5, 500)
    for mean in (-1.0, 1.0, 1.2, 4.0, 50.0):
        assert (np.diff(BY_SIZE.bars(spreads, np.full_like(spreads, mean))) > 0).all()


def test_a_zero_by_symmetry_has_no_bar_and_equal_members_have_one():
    ionic = replace(BY_SIZE, vacuum=0.0)
    bars = ionic.bars(np.array([0.0, 0.0, 1e-9]), np.array([0.0, 3.0, 0.0]))
    assert bars[0] == 0.0
    assert (bars[1:] > 0).all()


def test_a_plain_factor_is_the_product_to_the_bit():
    spreads = np.random.default_rng(0).lognormal(sigma=5, size=1000)
    bars = ErrorCalibration.plain(7.6287874172505585).bars(spreads, np.linspace(-1, 50, 1000))
    np.testing.assert_array_equal(bars, 7.6287874172505585 * spreads)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": ()}, "positive `sizes` that rise"),
        ({"sizes": (0.0, 1.0, 2.0)}, "positive `sizes` that rise"),
        ({"sizes": (1.0, 1.0, 2.0)}, "positive `sizes` that rise"),
        ({"sizes": (3.0, 2.0, 1.0)}, "positive `sizes` that rise"),
        ({"factors": (1.0, 2.0)}, "one for each of the 3 `sizes`"),
        ({"factors": (1.0, -2.0, 3.0)}, "`factors` of 0 or more"),
        ({"size_weight": -0.1}, "`size_weight` of 0 or more"),
        ({"size_weight": float("nan")}, "finite numbers"),
        ({"factors": (1.0, float("inf"), 1.0)}, "finite numbers"),
        ({"vacuum": float("-inf")}, "finite numbers"),
    ],
)
def test_bad_numbers_are_refused(changes, message):
    with pytest.raises(ValueError, match=f"ErrorCalibration: expected .*{message}"):
        replace(BY_SIZE, **changes)


def test_error_bars_are_the_calibrated_ones(crystals):
    model = ensemble()
    members = model.predict_members(crystals)
    for index, target in enumerate(TARGETS):
        tensors, errors = model.predict_with_errors(crystals, target)
        means, mean_errors = model.predict_mean_with_errors(crystals, target)
        np.testing.assert_allclose(means, mean_permittivity(tensors))
        for bars, spread_of, own in (
            (errors, spread, model.config.tensor_calibrations),
            (mean_errors, mean_spread, model.config.mean_calibrations),
        ):
            spreads = spread_of(members[target])
            expected = np.array(bars_by_hand(json.loads(json.dumps(own[index].to_json())), spreads, means))
            # The first is silicon: its ionic part is set to zero, and its total to the electronic part.
            np.testing.assert_allclose(bars[1:], expected[1:], rtol=1e-4)
            assert (bars[1:] > 0).all()
            assert (bars[0] == 0.0) == (target == "ionic")


def test_calibrations_come_back_to_the_bit(crystals, tmp_path):
    model = ensemble()
    model.save(tmp_path)
    again = DTNN.from_pretrained(tmp_path)
    assert again.config == model.config
    assert again.config.error_scales == ()
    np.testing.assert_array_equal(
        again.predict_with_errors(crystals, "ionic")[1], model.predict_with_errors(crystals, "ionic")[1]
    )
    some = again.with_targets(["total", "electronic"])
    assert some.tensor_calibrations == model.tensor_calibrations[::-2]
    assert some.mean_calibrations == model.mean_calibrations[::-2]
    settings = again.config.to_json()
    assert DTNNConfig.from_json(json.loads(json.dumps(settings))) == again.config
    # Without calibrations the settings are those of version 0.1.0, by which its runs are recognised.
    assert not {"tensor_calibrations", "mean_calibrations"} & config(targets=TARGETS).to_json().keys()


def test_a_model_with_plain_factors_has_the_error_bars_of_old(crystals, tmp_path):
    model = ensemble(
        tensor_calibrations=(), mean_calibrations=(), error_scales=(1.7, 2.9, 3.1), mean_error_scales=(4.3, 5.7, 6.1)
    )
    model.save(tmp_path)
    assert "calibrations" not in (tmp_path / "config.json").read_text()
    again = DTNN.from_pretrained(tmp_path)
    with again.evaluating():
        prediction = again.predict_batch_with_errors(crystals)
        members = again.predict_members(crystals)
    for target, scale, mean_scale in zip(TARGETS, (1.7, 2.9, 3.1), (4.3, 5.7, 6.1), strict=True):
        ordinary = slice(1, None)  # all but silicon, whose ionic part is set to zero
        np.testing.assert_array_equal(
            prediction.tensor_errors[target][ordinary], (scale * spread(members[target]))[ordinary]
        )
        np.testing.assert_array_equal(
            prediction.mean_errors[target][ordinary], (mean_scale * mean_spread(members[target]))[ordinary]
        )
    assert prediction.tensor_errors["ionic"][0] == prediction.mean_errors["ionic"][0] == 0.0


# What replaces the calibrations in a file, or a field of the first one.
WRONG = [None, {}, 3.0, "x", [], [1.0, 2.0, 3.0], [None] * 3, [{}] * 3]
WRONG_FIELDS = {
    "sizes": [None, 1.0, [], [0.0, 1.0, 2.0], [1.0, 2.0], [2.0, 1.0, 3.0], [1.0, "x", 3.0], [1.0, float("nan"), 3.0]],
    "factors": [None, 1.0, [], [1.0, -1.0, 1.0], [1.0, True, 1.0], [1.0, float("inf"), 1.0]],
    "size_weight": [None, "x", -1.0, [1.0], float("nan"), True],
    "vacuum": [None, "x", [1.0], float("inf")],
}


@pytest.mark.parametrize("name", ["tensor_calibrations", "mean_calibrations"])
def test_wrong_calibrations_in_a_file_are_refused(name, tmp_path):
    ensemble().save(tmp_path)
    path = tmp_path / "config.json"
    record = json.loads(path.read_text())
    whole = record[name]
    wrong = [value for value in WRONG if value != []]  # none at all is a model without these error bars
    wrong += [whole[:2], [*whole, whole[0]]]
    for field, values in WRONG_FIELDS.items():
        wrong += [[whole[0] | {field: value}, *whole[1:]] for value in values]
        wrong.append([{key: value for key, value in whole[0].items() if key != field}, *whole[1:]])
    wrong.append([whole[0] | {"surprise": 1.0}, *whole[1:]])
    for value in wrong:
        path.write_text(json.dumps(record | {name: value}))
        with pytest.raises(BadFileError) as caught:
            DTNN.from_pretrained(tmp_path)
        assert str(path) in str(caught.value), value
    scales = {"tensor_calibrations": "error_scales", "mean_calibrations": "mean_error_scales"}[name]
    path.write_text(json.dumps(record | {scales: [1.0, 2.0, 3.0]}))
    with pytest.raises(BadFileError, match=f"`{scales}` or `{name}`, got both"):
        DTNN.from_pretrained(tmp_path)


def models() -> list[DTNN]:
    """Two models of one member, on encoders of their own."""
    made = []
    for seed in range(2):
        torch.manual_seed(seed)
        made.append(DTNN(config(layer=2, targets=TARGETS)).eval())
    return made


def test_an_ensemble_of_several_encoders(crystals, tmp_path):
    by_target = [dict(zip(TARGETS[::-1], of_targets(seed)[::-1], strict=True)) for seed in range(2)]
    whole = Ensemble(models(), tensor_calibrations=by_target[0], mean_calibrations=by_target[1])
    assert (whole.tensor_calibrations, whole.mean_calibrations) == (of_targets(0), of_targets(1))
    whole.save(tmp_path)
    again = Ensemble.from_pretrained(tmp_path)
    assert (again.error_scales, again.mean_error_scales) == ((), ())
    assert (again.tensor_calibrations, again.mean_calibrations) == (of_targets(0), of_targets(1))
    members = again.predict_members(crystals)["electronic"]
    expected = bars_by_hand(of_targets(0)[0].to_json(), spread(members), mean_permittivity(members.mean(0)))
    np.testing.assert_allclose(again.predict_with_errors(crystals, "electronic")[1], expected, rtol=1e-4)
    expected = bars_by_hand(of_targets(1)[0].to_json(), mean_spread(members), mean_permittivity(members.mean(0)))
    np.testing.assert_allclose(again.predict_mean_with_errors(crystals, "electronic")[1], expected, rtol=1e-4)
    path = tmp_path / "ensemble.json"
    record = json.loads(path.read_text())
    for name in ("tensor_calibrations", "mean_calibrations"):
        one = record[name]["ionic"]
        for value in (
            None,
            [],
            {"ionic": one},
            record[name] | {"ionic": 2.0},
            record[name] | {"ionic": one | {"sizes": [-1.0]}},
            record[name] | {"ionic": one | {"surprise": 1.0}},
        ):
            path.write_text(json.dumps(record | {name: value}))
            with pytest.raises(BadFileError, match=r"ensemble\.json: "):
                Ensemble.from_pretrained(tmp_path)
        scales = dict.fromkeys(TARGETS, 1.0)
        with pytest.raises(ValueError, match="factors or calibrations of the same error bars, got both"):
            Ensemble(models(), scales, scales, **{name: by_target[0]})


def test_members_that_share_an_encoder(crystals):
    first = models()[0]
    second = DTNN.from_modules(first.config, first.encoder, models()[1].decoders, like=first)
    by_target = [dict(zip(TARGETS, of_targets(seed), strict=True)) for seed in range(2)]
    joined = join_members([first, second], *by_target)
    assert (joined.tensor_calibrations, joined.mean_calibrations) == (of_targets(0), of_targets(1))
    assert (joined.predict_with_errors(crystals, "total")[1] > 0).all()
    with pytest.raises(ValueError, match="`tensor_calibrations` for electronic, ionic, total"):
        join_members([first, second], {"ionic": of_targets(0)[1]})


def test_an_exported_program_gives_the_same_error_bars(crystals):
    """The members come from the program, the rest from model.json by its formula."""
    model = ensemble()
    members = dict(zip(TARGETS, export_predictor(model).module()(*predictor_inputs(crystals)), strict=True))
    described = json.loads(json.dumps(calibrations_to_json(model.targets, model.tensor_calibrations)))
    assert from_plain(ErrorCalibration, described["electronic"]) == model.tensor_calibrations[0]
    values = members["electronic"].detach().numpy()
    bars = bars_by_hand(described["electronic"], spread(values), mean_permittivity(values.mean(0)))
    np.testing.assert_allclose(model.predict_with_errors(crystals, "electronic")[1], bars, rtol=1e-6)
