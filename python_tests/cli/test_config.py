# SPDX-License-Identifier: MIT
"""Settings files of train, tune and distill: --config, --set, --print-config, and the file in each run folder."""

import re
import tomllib
from dataclasses import asdict

import pytest

from dtnn_fast.cli.config import CrystalsSection, DistillConfig, StudentSection, TrainConfig, TuneConfig
from dtnn_fast.cli.distill import TeacherName
from dtnn_fast.cli.options import Target
from dtnn_fast.distillation.distill_settings import DistillSettings
from dtnn_fast.distillation.made_crystals import CrystalSettings
from dtnn_fast.distillation.student import LayerMatch
from dtnn_fast.encoders import NativeEncoderConfig
from dtnn_fast.model.decoder import DecoderConfig
from dtnn_fast.settings_file import help_of, keys_of, read_toml_settings
from dtnn_fast.training.training_settings import TrainingSettings

CONFIGS = {"train": TrainConfig, "tune": TuneConfig, "distill": DistillConfig}
SMALL = "[encoder]\nchannels = [8, 4, 4]\n[decoder]\nlatent = 8\nlayers = [2]\n[training]\nepochs = 1\n"


@pytest.mark.parametrize("command", CONFIGS)
def test_the_printed_settings_are_the_defaults_and_read_back(program, tmp_path, command):
    printed = program(command, "--print-config")
    assert printed.exit_code == 0
    assert printed.stderr == ""
    path = tmp_path / "settings.toml"
    path.write_text(printed.stdout)
    assert read_toml_settings(CONFIGS[command], path) == CONFIGS[command]()
    again = program(command, "--config", path, "--print-config")
    assert again.stdout == printed.stdout


@pytest.mark.parametrize("command", CONFIGS)
def test_every_setting_is_explained_by_a_sentence(command):
    for key in keys_of(CONFIGS[command]):
        assert re.fullmatch(r'[A-Z"\w].*[.)]', help_of(CONFIGS[command], key)), key


def test_defaults_are_those_of_the_library():
    config = TrainConfig()
    decoder, training = asdict(config.decoder), asdict(config.training)
    assert decoder.pop("layers") == DecoderConfig().layers
    assert {name: getattr(DecoderConfig(), name) for name in decoder} == decoder
    assert {name: getattr(TrainingSettings(), name) for name in training} == training
    channels = NativeEncoderConfig().channels
    assert config.encoder.channels == (channels.scalar, channels.vector, channels.rank2)
    distill = DistillConfig()
    library = DistillSettings(NativeEncoderConfig(), (LayerMatch(1, 1, 1.0),))
    assert {name: getattr(library, name) for name in asdict(distill.training)} == asdict(distill.training)
    crystals = asdict(distill.crystals)
    assert crystals.pop("files") == ()
    assert {name: getattr(CrystalSettings(), name) for name in crystals} == crystals
    assert StudentSection().channels == config.encoder.channels
    assert CrystalsSection().files == config.data.files


def test_choices_of_options_and_files_agree():
    from dtnn_fast.cli.config import TARGET_CHOICES, TEACHERS

    assert tuple(target.value for target in Target) == TARGET_CHOICES
    assert tuple(teacher.value for teacher in TeacherName) == TEACHERS


def test_options_win_over_set_and_set_over_the_file(program, tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text('target = "ionic"\n[training]\nepochs = 7\nlearning_rate = 0.5\npatience = 3\n')
    arguments = ["--config", path, "--set", "training.epochs=8", "--set", "training.learning_rate=0.25", "--epochs", 9]
    printed = tomllib.loads(program("train", *arguments, "--print-config").stdout)
    assert printed["target"] == "ionic"
    assert printed["training"]["epochs"] == 9
    assert printed["training"]["learning_rate"] == 0.25
    assert printed["training"]["patience"] == 3


def test_flags_switch_off_what_the_file_switches_on(program, tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text('target = "all"\n[decoder]\njoint = true\nbonds = false\n[encoder]\nfinetune = true\n')
    arguments = ["train", "--config", path, "--no-joint", "--bonds", "--no-finetune", "--print-config"]
    printed = tomllib.loads(program(*arguments).stdout)
    assert (printed["decoder"]["joint"], printed["decoder"]["bonds"]) == (False, True)
    assert printed["encoder"]["finetune"] is False


def test_seed_and_splits(program, tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text("splits = [3, 4]\n")
    assert tomllib.loads(program("train", "--config", path, "--print-config").stdout)["splits"] == [3, 4]
    printed = tomllib.loads(program("train", "--config", path, "--seed", 5, "--print-config").stdout)
    assert (printed["seed"], printed["splits"]) == (5, [])


def test_a_run_folder_holds_its_settings_which_repeat_the_run(program, few_crystals, tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text(f'[data]\nfiles = ["{few_crystals}"]\n{SMALL}')
    first = program("train", "--config", path, "--splits", "0-1", "--members", 2, "--output", tmp_path / "one")
    assert first.exit_code == 0, first.output
    held = read_toml_settings(TrainConfig, tmp_path / "one" / "split-1" / "settings.toml")
    assert (held.seed, held.splits, held.ensemble.members) == (1, (), 2)
    assert held.decoder.latent == 8
    assert read_toml_settings(TrainConfig, tmp_path / "one" / "split-1" / "members" / "0" / "settings.toml") == held
    assert read_toml_settings(TrainConfig, tmp_path / "one" / "settings.toml").splits == (0, 1)
    again = program("train", "--config", tmp_path / "one" / "split-1" / "settings.toml", "-o", tmp_path / "two")
    assert again.exit_code == 0, again.output
    results = [(folder / "predictions.npz").read_bytes() for folder in (tmp_path / "one" / "split-1", tmp_path / "two")]
    assert results[0] == results[1]


def test_a_run_that_cannot_start_leaves_no_settings(program, few_crystals, tmp_path):
    output = tmp_path / "run"
    few = few_crystals.read_text().splitlines()[:5]
    (tmp_path / "five.jsonl").write_text("\n".join(few))
    assert program("train", tmp_path / "five.jsonl", "--output", output).exit_code == 2
    assert not (output / "settings.toml").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[training]\nepoch = 3", "unknown key `training.epoch`; did you mean `training.epochs`?"),
        ("[training]\nepochs = 0", "expected `training.epochs` to be at least 1, got 0"),
        ('target = "ions"', "expected `target` to be one of electronic, ionic, total, all, got 'ions'"),
        ("seed = -1", "expected `seed` to be at least 0 and at most 4294967295, got -1"),
    ],
)
def test_a_wrong_file_is_one_line(program, tmp_path, text, message):
    path = tmp_path / "settings.toml"
    path.write_text(text)
    result = program("train", "--config", path, "--output", tmp_path / "run")
    assert result.exit_code == 2
    assert f"error: {path}: {message}" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_layers_of_a_file_are_in_order(program, tmp_path):
    result = program("train", "--set", "decoder.layers=3,2", "--output", tmp_path / "run")
    assert result.exit_code == 2
    assert "expected one or more increasing layers, got [3, 2]" in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("command", "option", "key"),
    [
        ("train", "--weight-decay", "training.weight_decay"),
        ("train", "--no-clean", "data.clean"),
        ("train", "--share-encoder", "ensemble.share_encoder"),
        ("tune", "--average", "training.average"),
        ("distill", "--held-out", "crystals.held_out"),
    ],
)
def test_an_option_that_is_a_setting_is_named(program, command, option, key):
    result = program(command, option, 1)
    assert result.exit_code == 2
    said = " ".join(result.stderr.replace("│", " ").split())
    assert f"No such option: {option}. It is a setting: use --set {key}=VALUE" in said
