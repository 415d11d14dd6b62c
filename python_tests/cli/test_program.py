# SPDX-License-Identifier: MIT
"""Start-up, help, errors, and the command info."""

import subprocess
import sys

import pytest

from dtnn_fast import __version__


def python(code):
    return subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "command",
    [[], ["screen"], ["predict"], ["train"], ["tune"], ["evaluate"], ["distill"], ["info"], ["data", "fetch"]],
)
def test_help_does_not_import_torch(command):
    arguments = ["dtnn-fast", *command, "--help"]
    code = (
        f"import sys; sys.argv = {arguments!r}\n"
        "from dtnn_fast.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: print('exit', end.code, 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = python(code)
    assert done.stdout.splitlines()[-1] == "exit 0 False False", done.stderr


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_missing_package_says_what_to_install(package):
    done = python(f"import sys; sys.modules[{package!r}] = None\nfrom dtnn_fast.cli import main\nmain()")
    assert done.returncode == 2
    assert 'pip install "dtnn-fast[cli]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_version(program):
    assert program("--version").stdout.strip() == f"dtnn-fast {__version__}"


def test_unknown_model_is_one_line(program, tmp_path):
    result = program("screen", "--model", tmp_path / "absent")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: from_pretrained: expected one of dielectric")
    assert result.stderr.count("\n") == 1


def test_info(program):
    lines = program("info").stdout
    assert __version__ in lines
    assert "CUDA kernels" in lines
    assert "dielectric-total" in lines
