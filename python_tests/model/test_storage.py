# SPDX-License-Identifier: MIT
"""Saved models: what comes back is the same to the bit, and damage is named."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from model_cases import VARIANTS, asymmetric_crystals, config, randomised
from safetensors.torch import load_file, save_file

from dtnn_fast import DTNN
from dtnn_fast.errors import BadFileError
from dtnn_fast.model.decoder import DecoderConfig
from dtnn_fast.model.dtnn import DTNNConfig

CRYSTALS = asymmetric_crystals()
TARGETS = ("electronic", "ionic", "total")


@pytest.fixture
def folder(tmp_path):
    """A saved model in float32."""
    randomised(config(2)).float().save(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("settings", [config(5), config(3, bonds=False, residual=False), config(targets=TARGETS)])
def test_a_saved_model_comes_back_to_the_bit(tmp_path, settings, dtype):
    model = randomised(settings).to(dtype)
    model.config = DTNNConfig(settings.encoder, settings.decoder, settings.targets, elements=(8, 14, 22))
    model.save(tmp_path / "new" / "folder")
    again = DTNN.from_pretrained(tmp_path / "new" / "folder")
    assert again.config == model.config
    assert not again.training
    assert again.dtype == dtype
    state = model.state_dict()
    assert list(again.state_dict()) == list(state)
    for name, value in again.state_dict().items():
        assert value.dtype == state[name].dtype
        assert torch.equal(value, state[name]), name
    graph = model.graph(CRYSTALS)
    with torch.no_grad():
        for target, tensor in model(graph).items():
            assert torch.equal(again(graph)[target], tensor)


@pytest.mark.parametrize("way", ["to_empty", "assign", "assign within the device", "functional_call"])
def test_weights_are_all_that_a_model_on_meta_lacks(way):
    """Large models are made on the device "meta", and get their values from a state_dict."""
    model = randomised(config(2)).float()
    state, expected = model.state_dict(), model.predict(CRYSTALS)
    if way == "to_empty":
        empty = copy.deepcopy(model).to("meta").to_empty(device="cpu")
        empty.encoder.elements.fill_(7.0)  # what uninitialised memory may hold
        empty.load_state_dict(state, strict=True)
    elif way == "functional_call":
        graph = model.graph(CRYSTALS)
        tensors = torch.func.functional_call(DTNN(model.config).eval(), state, (graph,))["total"]
        assert torch.equal(tensors, model(graph)["total"])
        return
    else:
        with torch.device("meta"):
            empty = DTNN(model.config).eval()
            if way == "assign within the device":
                empty.load_state_dict(state, strict=True, assign=True)
        empty.load_state_dict(state, strict=True, assign=True)
    assert {x.device.type for x in (*empty.parameters(), *empty.buffers())} == {"cpu"}
    assert (empty.predict(CRYSTALS) == expected).all()


def test_every_buffer_outside_of_a_state_dict_is_filled_when_one_is_loaded():
    """A new buffer of this kind must be filled by hand, as the table of elements is."""
    for settings in VARIANTS.values():
        model = DTNN(settings)
        buffers, state = dict(model.named_buffers()), model.state_dict()
        left_out = buffers.keys() - state.keys()
        assert left_out == {"encoder.elements"}
        values = {name: buffers[name].clone() for name in left_out}
        for name in left_out:
            buffers[name].fill_(7.0)
        model.load_state_dict(state, strict=True)
        assert all(torch.equal(dict(model.named_buffers())[name], values[name]) for name in left_out)


def test_saving_leaves_two_plain_files_and_no_pickle(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert json.loads((folder / "config.json").read_text())["format"] == "dtnn_fast model 1"
    assert b"\x80\x02}" not in (folder / "model.safetensors").read_bytes()[:64]


def test_one_target_of_several_shares_the_weights_and_saves_alone(tmp_path):
    model = randomised(config(targets=TARGETS))
    ionic = model.with_targets(["ionic"])
    assert ionic.encoder is model.encoder
    ionic.save(tmp_path / "ionic")
    again = DTNN.from_pretrained(tmp_path / "ionic")
    assert again.config.targets == ("ionic",)
    assert (again.predict(CRYSTALS) == model.predict(CRYSTALS, target="ionic")).all()


def expect_bad_file(folder, name, message):
    with pytest.raises(BadFileError, match=message) as caught:
        DTNN.from_pretrained(folder)
    assert str(folder / name) in str(caught.value)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, missing):
    (folder / missing).unlink()
    expect_bad_file(folder, missing, "missing")


# The message about a file that cannot be read.
UNREADABLE = {"config.json": "cannot be read", "model.safetensors": "not a whole safetensors file"}


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_named(folder, name, part):
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(whole[: min(int(part * len(whole)), len(whole) - 3)])
    expect_bad_file(folder, name, UNREADABLE[name])


@pytest.mark.parametrize("content", [b"\x80\x04\x95pickle", b"PK\x03\x04zip", bytes(range(256)), b"{}", b"\xff" * 99])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_of_another_kind_is_named(folder, name, content):
    (folder / name).write_bytes(content)
    is_json = (name, content) == ("config.json", b"{}")
    expect_bad_file(folder, name, "expected the format" if is_json else UNREADABLE[name])


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_in_place_of_a_file_is_named(folder, name):
    (folder / name).unlink()
    (folder / name).mkdir()
    expect_bad_file(folder, name, UNREADABLE[name])


def test_a_pickled_checkpoint_is_not_loaded(folder):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    torch.save({"weights": Bomb()}, folder / "model.safetensors")
    expect_bad_file(folder, "model.safetensors", "not a whole safetensors file")


@pytest.mark.parametrize("content", ['{"format": "other"}', '{"format": ["model 1"]}'])
def test_settings_of_another_format_are_refused(folder, content):
    (folder / "config.json").write_text(content)
    expect_bad_file(folder, "config.json", "expected the format")


@pytest.mark.parametrize("content", ["[]", "null", "3", '"text"'])
def test_settings_that_are_no_object_are_refused(folder, content):
    (folder / "config.json").write_text(content)
    expect_bad_file(folder, "config.json", "expected a JSON object")


def change_weights(folder, change):
    path = folder / "model.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("encoder.embedding.weight"), "does not fit"),
        (lambda s: s.update(extra=torch.zeros(1)), "does not fit"),
        (lambda s: s.update({"encoder.embedding.weight": torch.zeros(16, 18)}), "does not fit"),
        (lambda s: s.update({"encoder.embedding.weight": torch.zeros(16, 19, dtype=torch.int32)}), "dtype"),
        (lambda s: s.update({"encoder.embedding.weight": torch.zeros(16, 19, dtype=torch.float64)}), "dtype"),
        (lambda s: s["encoder.embedding.weight"].fill_(float("nan")), "not finite"),
        (lambda s: s["decoders.total.readouts.total.offset"].fill_(float("inf")), "not finite"),
        (lambda s: s["decoders.total.blocks.1.mix.0.bias"][3:4].fill_(-float("inf")), "not finite"),
        (lambda s: s.clear(), "does not fit"),
    ],
    ids=["missing", "unknown", "shape", "integers", "mixed dtypes", "nan", "infinite offset", "one infinite", "empty"],
)
def test_weights_that_do_not_fit_or_are_not_finite_are_refused(folder, change, message):
    change_weights(folder, change)
    expect_bad_file(folder, "model.safetensors", message)


def outcome_of_loading(folder):
    """Load a model: "refused" with an error that names the folder, "accepted", or another error."""
    try:
        DTNN.from_pretrained(folder)
    except BadFileError as error:
        return "refused" if str(folder) in str(error) else str(error)
    except Exception as error:
        return repr(error)
    return "accepted"


def places(value, path=()):
    """Every place in nested JSON."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def test_no_wrong_setting_leads_to_anything_but_a_clear_error(folder):
    """Each setting replaced by values of other types and ranges, removed, and joined by an unknown one."""
    path = folder / "config.json"
    whole = path.read_text().replace('"elements": []', '"elements": [8]')
    wrong = [None, "x", -1, -1.5, [], {}, [None], {"a": 1}, float("nan")]
    survived = []
    for place in places(json.loads(whole)):
        for value in [*wrong, "remove", "unknown"]:
            values = json.loads(whole)
            parent = values
            for key in place[:-1]:
                parent = parent[key]
            if value == "remove":
                del parent[place[-1]]
            elif value == "unknown":
                if not isinstance(parent[place[-1]], dict):
                    continue
                parent[place[-1]]["surprise"] = 1
            else:
                parent[place[-1]] = value
            path.write_text(json.dumps(values))
            outcome = outcome_of_loading(folder)
            possible = (place[0] == "elements" and value in ([], "remove")) or (
                place
                in (("decoder", "more_layers"), ("decoder", "positive"), ("encoder", "readout"), ("error_scales",))
                and value == []
            )
            if outcome != "refused" and not possible:
                survived.append((place, value, outcome))
    assert not survived, "\n".join(map(str, survived))


def test_error_bars_of_means_come_back_and_version_0_1_0_has_none(tmp_path):
    model = randomised(config(targets=TARGETS))
    settings = model.config.to_json()
    # Without them the settings are those of version 0.1.0, by which runs of that version are recognised.
    assert "mean_error_scales" not in settings
    assert DTNNConfig.from_json(json.loads(json.dumps(settings))).mean_error_scales == ()
    model.config = replace(model.config, members=1, error_scales=(1.0, 2.0, 3.0), mean_error_scales=(4.0, 5.0, 6.0))
    model.save(tmp_path)
    again = DTNN.from_pretrained(tmp_path)
    assert again.mean_error_scales == (4.0, 5.0, 6.0)
    assert again.with_targets(["total", "ionic"]).mean_error_scales == (6.0, 5.0)
    path = tmp_path / "config.json"
    record = json.loads(path.read_text())
    for wrong in ([1.0], [1.0, 2.0, -3.0], [1.0, 2.0, "x"], None, {}, 3.0):
        path.write_text(json.dumps(record | {"mean_error_scales": wrong}))
        expect_bad_file(tmp_path, "config.json", "mean_error_scales")
    del record["mean_error_scales"]
    path.write_text(json.dumps(record))
    old = DTNN.from_pretrained(tmp_path)
    assert (old.error_scales, old.mean_error_scales) == ((1.0, 2.0, 3.0), ())
    with pytest.raises(ValueError, match="error bars of means"):
        old.predict_mean_with_errors(CRYSTALS, "total")


@pytest.mark.parametrize("name", ["dielectric-optical", "", "no/such/folder"])
def test_a_model_that_does_not_exist_is_named(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadFileError, match=r"expected one of dielectric, dielectric-electronic.*or the folder of"):
        DTNN.from_pretrained(name or tmp_path / "absent")


def test_a_file_instead_of_a_folder_is_named(folder):
    with pytest.raises(BadFileError, match="the folder of a saved model"):
        DTNN.from_pretrained(folder / "model.safetensors")


def test_settings_go_through_json_and_back():
    for settings in (DTNNConfig(), config(5, bonds=False), config(targets=TARGETS, blocks=3)):
        assert DTNNConfig.from_json(json.loads(json.dumps(settings.to_json()))) == settings
    assert DecoderConfig(**DecoderConfig(layer=2).to_json()) == DecoderConfig(layer=2)
