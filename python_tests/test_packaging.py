# SPDX-License-Identifier: MIT
"""What a wheel and a conda package are made from: stable ABIs, versions, pinned packages, the first prediction."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import dtnn_fast
from dtnn_fast.numpy import _core

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
# Packages that conda-forge calls by another name.
CONDA_NAMES = {"torch": "pytorch", "duckdb": "python-duckdb", "matplotlib": "matplotlib-base"}
FIRST_PREDICTION = re.compile(r"<!-- ci: first prediction -->\n```python\n(.*?)```.*?```text\n(.*?)```", re.DOTALL)


def symbols_of(library: Path) -> str:
    """The dynamic symbols, each after its address, if it is defined, and a letter: U for undefined ones."""
    return subprocess.run(["nm", "-D", str(library)], capture_output=True, text=True, check=True).stdout


def needed_libraries(library: Path) -> list[str]:
    headers = subprocess.run(["objdump", "-p", str(library)], capture_output=True, text=True, check=True).stdout
    return re.findall(r"^ +NEEDED +(\S+)$", headers, re.MULTILINE)


def test_one_file_serves_every_python_from_3_11():
    path = Path(_core.__file__)
    # An older build beside it, which Python prefers, has another name: delete it.
    assert path.name == "_core.abi3.so"
    symbols = symbols_of(path)
    defined = re.findall(r"^[0-9a-f]+ \w (\S+)$", symbols, re.MULTILINE)
    assert [name for name in defined if name not in ("_init", "_fini")] == ["PyInit__core"]
    used = set(re.findall(r"^ +U (_?Py\w+)$", symbols, re.MULTILINE))
    assert "PyModuleDef_Init" in used
    # Of the private names these four are in the stable ABI (PEP 652).
    private = {name for name in used if name.startswith("_")}
    assert private <= {"_Py_Dealloc", "_Py_NoneStruct", "_Py_TrueStruct", "_Py_FalseStruct"}
    needed = needed_libraries(path)
    assert "libc.so.6" in needed
    assert not [name for name in needed if re.search("python|torch|numpy", name)]


def test_the_torch_operations_know_no_python():
    library = pytest.importorskip("dtnn_fast._library").LIBRARY
    symbols = symbols_of(library)
    assert "aoti_torch" in symbols
    assert not re.findall(r" U (_?Py[A-Z_]\w+)$", symbols, re.MULTILINE)
    needed = needed_libraries(library)
    assert "libtorch_cpu.so" in needed
    assert not [name for name in needed if "python" in name]


def test_cmake_and_the_wheel_agree_on_the_oldest_python():
    cmake = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    major, minor = map(int, re.fullmatch(r">=(\d)\.(\d+)", PROJECT["project"]["requires-python"]).groups())
    assert f"Py_LIMITED_API=0x{major:02X}{minor:02X}0000" in cmake
    assert f"find_package(Python {major}.{minor} REQUIRED" in cmake
    assert PROJECT["tool"]["scikit-build"]["wheel"]["py-api"] == f"cp{major}{minor}"


@pytest.fixture
def package_version(monkeypatch) -> ModuleType:
    provider = next(entry["provider"] for entry in PROJECT["tool"]["dynamic-metadata"])
    monkeypatch.syspath_prepend(str(ROOT / provider["path"]))
    sys.modules.pop(provider["module"], None)
    return __import__(provider["module"])


@pytest.mark.parametrize(
    ("local", "expected"), [(None, ""), ("", ""), ("cpu", "+cpu"), ("cu130", "+cu130"), ("cu128", "+cu128")]
)
def test_local_version_tells_builds_apart(package_version, monkeypatch, local, expected):
    if local is None:
        monkeypatch.delenv("DTNN_LOCAL_VERSION", raising=False)
    else:
        monkeypatch.setenv("DTNN_LOCAL_VERSION", local)
    version = package_version.dynamic_metadata({}, {})["version"]
    assert version == dtnn_fast.__version__.partition("+")[0] + expected


@pytest.mark.parametrize("local", ["CPU", "cu13.0", "cuda", "cpu+x", "cu130 ", "rocm7"])
def test_other_local_versions_are_refused(package_version, monkeypatch, local):
    monkeypatch.setenv("DTNN_LOCAL_VERSION", local)
    with pytest.raises(ValueError, match=f"DTNN_LOCAL_VERSION: expected cpu, or cu .*, got {re.escape(repr(local))}"):
        package_version.dynamic_metadata({}, {})


def test_a_wheel_knows_its_version():
    (generated,) = PROJECT["tool"]["scikit-build"]["generate"]
    assert (ROOT / generated["path"]).is_file()
    assert '__version__ = "$version"' in generated["template"]
    assert "version" in PROJECT["project"]["dynamic"]


def test_pinned_versions_are_those_that_the_package_allows():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith("#"):
            name, version = re.fullmatch(r"([\w.-]+)==([\w.]+)", line).groups()
            assert pins.setdefault(canonicalize_name(name), version) == version, name
    required = [*PROJECT["build-system"]["requires"], *PROJECT["project"]["dependencies"]]
    required += [text for extra in EXTRAS.values() for text in extra]
    for requirement in map(Requirement, required):
        name = canonicalize_name(requirement.name)
        if name in ("dtnn-fast", "nequix"):  # itself, and one whose dependencies are too large (docs/architecture.md)
            continue
        assert name in pins, f"{name} is not in constraints.txt"
        assert requirement.specifier.contains(pins[name]), f"{name}: {pins[name]} is not {requirement.specifier}"


def resolved(requirement: str) -> list[str]:
    """The requirements of an extra of our own package in place of its name."""
    parsed = Requirement(requirement)
    if canonicalize_name(parsed.name) != "dtnn-fast":
        return [requirement]
    return [one for extra in sorted(parsed.extras) for text in EXTRAS[extra] for one in resolved(text)]


def read_recipe() -> dict:
    return yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text(encoding="utf-8"))


def conda_requirement(requirement: str) -> str:
    parsed = Requirement(requirement)
    return f"{CONDA_NAMES.get(parsed.name, parsed.name)} {parsed.specifier}"


def test_conda_recipe_needs_what_the_package_needs():
    recipe = read_recipe()
    needed = [*PROJECT["project"]["dependencies"], *resolved("dtnn-fast[all]")]
    assert set(recipe["requirements"]["run"]) == {"python", *map(conda_requirement, needed)}
    assert len(recipe["requirements"]["run"]) == len(set(recipe["requirements"]["run"]))
    built_with = {conda_requirement(text) for text in PROJECT["build-system"]["requires"] if "torch" not in text}
    assert built_with <= {entry for entry in recipe["requirements"]["host"] if isinstance(entry, str)}
    cmake = PROJECT["tool"]["scikit-build"]["cmake"]["version"]
    assert f"cmake {cmake}" in recipe["requirements"]["build"]


def test_conda_recipe_agrees_with_the_package():
    recipe = read_recipe()
    project = PROJECT["project"]
    assert recipe["schema_version"] == 1
    assert recipe["context"]["version"] == dtnn_fast.__version__.partition("+")[0]
    assert f">={recipe['context']['python_min']}" == project["requires-python"]
    variants = yaml.safe_load((ROOT / "conda" / "conda_build_config.yaml").read_text(encoding="utf-8"))
    assert variants["python_min"] == [recipe["context"]["python_min"]]
    assert recipe["package"]["name"] == project["name"]
    assert recipe["build"]["python"]["entry_points"] == [f"{k} = {v}" for k, v in project["scripts"].items()]
    assert recipe["about"]["summary"] == project["description"]
    assert recipe["about"]["license"] == project["license"]
    patterns = project["license-files"]
    files = {path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern)}
    assert set(recipe["about"]["license_file"]) == files
    tested = [name for test in recipe["tests"] for name in test.get("files", {}).get("source", [])]
    assert tested
    assert all((ROOT / name).exists() for name in tested)
    commands = [command for test in recipe["tests"] for command in test.get("script", [])]
    for settings in PROJECT["tool"]["cibuildwheel"]["test-command"]:
        assert settings.replace("{project}/", "") in commands


@pytest.mark.parametrize("name", ["README.md", "docs/install.md"])
def test_first_prediction_prints_what_the_page_says(name):
    found = FIRST_PREDICTION.findall((ROOT / name).read_text(encoding="utf-8"))
    assert found or name == "README.md"
    for code, expected in found:
        assert len([line for line in code.splitlines() if line]) == 5
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, {})
        # The sign of a zero is that of a rounding error.
        assert re.sub(r"-(0\.)(?=[\s\]])", r" \1", printed.getvalue()) == expected
