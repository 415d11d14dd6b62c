# SPDX-License-Identifier: MIT
"""Settings files: what is read, what is refused and how the message helps, and that printed files read back."""

import tomllib
from dataclasses import dataclass, field

import pytest

from dtnn_fast.errors import BadFileError
from dtnn_fast.settings_file import default_of, help_of, keys_of, parse_assignment, read_toml_settings, setting, to_toml
from dtnn_fast.settings_file import with_values as changed


@dataclass(frozen=True)
class Oven:
    """How the cake is baked.

    Only the first line is printed.
    """

    degrees: float = setting(180.0, "Temperature in degrees.", above=0.0, most=300.0)
    minutes: int = setting(40, "Baking time in minutes.", least=1)
    fan: bool = setting(True, "Use the fan.")


@dataclass(frozen=True)
class Cake:
    kind: str = setting("plain", "Kind of cake.", choices=("plain", "marble"))
    layers: tuple[int, ...] = setting((1, 2), "Layers, from the bottom.", least=1)
    size: tuple[float, float] = setting((20.0, 30.0), "Width and length in centimetres.")
    toppings: tuple[str, ...] = setting((), "What goes on top.")
    oven: Oven = field(default_factory=Oven)


def read(tmp_path, text):
    path = tmp_path / "cake.toml"
    path.write_text(text, encoding="utf-8")
    return read_toml_settings(Cake, path)


def test_an_empty_file_has_the_defaults(tmp_path):
    assert read(tmp_path, "") == Cake()


def test_values_are_read_into_their_sections(tmp_path):
    text = 'kind = "marble"\nlayers = [3]\nsize = [1, 2.5]\n[oven]\ndegrees = 200\nfan = false\n'
    expected = Cake("marble", (3,), (1.0, 2.5), (), Oven(200.0, 40, False))
    found = read(tmp_path, text)
    assert found == expected
    assert isinstance(found.oven.degrees, float)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[oven]\ndegree = 3", "unknown key `oven.degree`; did you mean `oven.degrees`?"),
        ("minutes = 3", "unknown key `minutes`; did you mean `oven.minutes`?"),
        ("zzz = 3", "unknown key `zzz`; known keys are kind, layers, size, toppings, oven.degrees"),
        ("[ovn]\nfan = true", "unknown section [ovn]; did you mean [oven]?"),
        ("oven = 3", "expected `oven` to be a section, [oven], got 3"),
        ('[oven]\nminutes = "ten"', "expected `oven.minutes` to be an integer, got 'ten'"),
        ("[oven]\nminutes = true", "expected `oven.minutes` to be an integer, got True"),
        ("[oven]\nminutes = 1.5", "expected `oven.minutes` to be an integer, got 1.5"),
        ("[oven]\nfan = 1", "expected `oven.fan` to be true or false, got 1"),
        ("[oven]\ndegrees = nan", "expected `oven.degrees` to be a finite number, got nan"),
        ("[oven]\ndegrees = 0", "expected `oven.degrees` to be above 0 and at most 300, got 0"),
        ("[oven]\nminutes = 0", "expected `oven.minutes` to be at least 1, got 0"),
        ('kind = "marbel"', "expected `kind` to be one of plain, marble, got 'marbel'; did you mean 'marble'?"),
        ("kind = 3", "expected `kind` to be a text, got 3"),
        ("layers = 3", "expected `layers` to be a list, each an integer, got 3"),
        ("layers = [1, 0]", "expected `layers` to be at least 1, got [1, 0]"),
        ('layers = [1, "a"]', "expected `layers[1]` to be an integer, got 'a'"),
        ("size = [1, 2, 3]", "expected `size` to be a list of 2, each a finite number, got [1, 2, 3]"),
        ("kind = plain", "not valid TOML: "),
    ],
)
def test_wrong_files_name_file_key_and_what_was_expected(tmp_path, text, message):
    with pytest.raises(BadFileError) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path / 'cake.toml'}: {message}")


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(BadFileError, match="there is no such file"):
        read_toml_settings(Cake, tmp_path / "absent.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadFileError, match="cannot be read"):
        read_toml_settings(Cake, tmp_path / "binary.toml")


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("kind=marble", "kind", "marble"),
        ('kind = "marble"', "kind", "marble"),
        ("kind=3", "kind", "3"),
        ("layers=1,2", "layers", [1, 2]),
        ("layers=[1, 2]", "layers", [1, 2]),
        ("layers=", "layers", []),
        ("toppings=nuts,=", "toppings", ["nuts", "="]),
        ("size=1,2.5", "size", [1, 2.5]),
        ("oven.degrees=1e2", "oven.degrees", 100.0),
        ("oven.fan=false", "oven.fan", False),
        ("oven.fan=no", "oven.fan", "no"),  # left to the check of the type
    ],
)
def test_assignments_of_the_command_line(text, key, value):
    assert parse_assignment(Cake, text) == (key, value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("oven.fan", "expected KEY=VALUE"), ("=3", "unknown key ``"), ("fan=true", "did you mean `oven.fan`")],
)
def test_wrong_assignments(text, message):
    with pytest.raises(ValueError, match=message):
        parse_assignment(Cake, text)


def test_a_printed_file_explains_every_key_and_reads_back(tmp_path):
    cake = changed(Cake(), {"kind": "marble", "oven.degrees": 150, "toppings": ['a "nut"', "\\", "ä"]})
    text = to_toml(cake, "Settings of a cake.")
    assert read(tmp_path, text) == cake
    assert text.startswith("# Settings of a cake.\n")
    assert "\n[oven]\n# How the cake is baked.\n\n# Temperature" in text
    assert "Only the first line" not in text
    for key in keys_of(Cake):
        name = key.rpartition(".")[2]
        assert f"# {help_of(Cake, key)}\n{name} = " in text
    assert tomllib.loads(text)["oven"]["degrees"] == 150.0


def test_changes_leave_the_original_alone():
    cake = Cake()
    assert changed(cake, {"oven.minutes": 5}).oven.minutes == 5
    assert cake.oven.minutes == default_of(Cake, "oven.minutes") == 40
