# SPDX-License-Identifier: MIT
"""Files that GitHub, cibuildwheel and citation tools read: they parse, and have the fields that these demand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import dtnn_fast

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# GitHub's syntax for form schemas: the attributes that a kind of element needs, and those that it may have too.
ELEMENTS = {
    "markdown": ({"value"}, set()),
    "textarea": ({"label"}, {"description", "placeholder", "value", "render"}),
    "input": ({"label"}, {"description", "placeholder", "value"}),
    "dropdown": ({"label", "options"}, {"description", "multiple", "default"}),
    "checkboxes": ({"label", "options"}, {"description"}),
}
FORM_KEYS = {"name", "description", "body", "title", "labels", "assignees", "projects", "type"}


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def test_there_are_forms_for_bugs_wrong_predictions_and_slow_calls():
    assert [path.stem for path in FORMS] == ["bug", "slow", "wrong_prediction"]
    assert read_yaml(ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml") == {"blank_issues_enabled": True}


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_form_has_what_github_demands(path):
    form = read_yaml(path)
    assert {"name", "description", "body"} <= set(form) <= FORM_KEYS
    assert is_text(form["name"])
    assert is_text(form["description"])
    assert all(map(is_text, form["labels"]))
    # A form of texts alone is refused.
    assert any(element["type"] != "markdown" for element in form["body"])
    for element in form["body"]:
        check_element(element)
    ids = [element["id"] for element in form["body"] if element["type"] != "markdown"]
    labels = [element["attributes"]["label"] for element in form["body"] if element["type"] != "markdown"]
    assert len(set(ids)) == len(ids)
    assert len(set(labels)) == len(labels)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", id) for id in ids)


def check_element(element: Mapping[str, Any]) -> None:
    needed, allowed = ELEMENTS[element["type"]]
    attributes = element["attributes"]
    assert needed <= set(attributes) <= needed | allowed
    assert set(element) <= {"type", "id", "attributes", "validations"}
    assert set(element.get("validations", {})) <= {"required"}
    assert all(is_text(attributes[name]) for name in ("label", "value", "description", "render") if name in attributes)
    options = attributes.get("options", [])
    if element["type"] == "checkboxes":
        options = [option["label"] for option in options]
    assert all(map(is_text, options))
    assert len(set(options)) == len(options)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_has_what_github_demands(path):
    workflow = read_yaml(path)
    assert is_text(workflow["name"])
    # YAML 1.1 reads the key `on` as true.
    assert set(workflow[True]) <= {"push", "pull_request", "workflow_dispatch"}
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert is_text(job["runs-on"])
        assert job["timeout-minutes"] > 0
        for step in job["steps"]:
            assert len({"uses", "run"} & set(step)) == 1
            # An action without a version would change under us.
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@v\d+(\.\d+)*", step.get("uses", "owner/action@v1"))
            check_shell(step.get("run", ""))


def check_shell(text: str) -> None:
    done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    for path in re.findall(r"(?<![\w/])\.(?:ci|devcontainer)/\w+", text):
        assert (ROOT / path).is_file()


def test_continuous_integration_runs_all_checks():
    steps = read_yaml(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["run"]["steps"]
    assert "bash .ci/run" in [step.get("run") for step in steps]


def test_wheels_are_tested_with_files_that_exist():
    settings = PROJECT["tool"]["cibuildwheel"]
    for command in settings["test-command"]:
        paths = re.findall(r"\{project\}/(\S+)", command)
        assert paths
        assert all((ROOT / path).is_file() for path in paths)
    repair = settings["linux"]["repair-wheel-command"]
    assert "{wheel}" in repair
    assert "{dest_dir}" in repair
    # The first Python builds the one wheel, which all test.
    versions = re.fullmatch(r"cp3\{(.+)\}-manylinux_x86_64", settings["build"])[1].split(",")
    assert PROJECT["project"]["requires-python"] == f">=3.{versions[0]}"
    assert PROJECT["tool"]["scikit-build"]["wheel"]["py-api"] == f"cp3{versions[0]}"


@pytest.mark.parametrize("path", sorted((ROOT / ".ci").iterdir()), ids=lambda path: path.name)
def test_scripts_of_continuous_integration_are_valid(path):
    text = path.read_text(encoding="utf-8")
    if text.startswith("#!/usr/bin/env bash"):
        check_shell(text)
    else:
        compile(text, str(path), "exec")


def test_container_for_development_is_set_up_by_a_script():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert is_text(container["image"])
    check_shell(container["postCreateCommand"])
    script = ROOT / container["postCreateCommand"].split()[-1]
    check_shell(script.read_text(encoding="utf-8"))
    assert os.path.commonpath([script, ROOT]) == str(ROOT)


def test_citation_has_its_fields_and_the_version_of_the_package():
    citation = read_yaml(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == dtnn_fast.__version__.partition("+")[0]
    paper = citation["preferred-citation"]
    assert [author["family-names"] for author in paper["authors"]] == ["Mao", "Li", "Tan"]
    assert "arXiv:2405.09052" in [identifier["value"] for identifier in paper["identifiers"]]
