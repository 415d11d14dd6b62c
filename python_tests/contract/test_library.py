# SPDX-License-Identifier: MIT
"""Where the compiled operations are found, and two copies of them in one process: one is used, programs are told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dtnn_fast
from dtnn_fast import _library

LOAD_COPY = "torch.ops.load_library(sys.argv[1])"
LOAD_PACKAGE = "import dtnn_fast.ops"
USE = "print(torch.ops.dtnn_fast.rank2_linear(torch.ones(1, 1, 2), torch.ones(1, 2)).item())"


def run(library: Path, *statements: str) -> subprocess.CompletedProcess[str]:
    code = "\n".join(
        ["import sys, torch", f"sys.path.insert(0, {str(Path(dtnn_fast.__file__).parents[1])!r})", *statements]
    )
    command = [sys.executable, "-P", "-c", code, str(library)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the library, as beside an AOTInductor package."""
    return Path(shutil.copy(_library.LIBRARY, tmp_path / "_ops.so"))


@pytest.mark.parametrize("order", [(LOAD_COPY, LOAD_PACKAGE), (LOAD_COPY, LOAD_COPY, LOAD_PACKAGE, LOAD_COPY)])
def test_an_equal_copy_that_was_loaded_before_is_used(copy, order):
    done = run(copy, *order, USE, "print(torch.ops.dtnn_fast.library_path())")
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["2.0", str(copy)], "")


def test_a_copy_that_is_loaded_later_does_nothing_and_says_so(copy):
    done = run(copy, LOAD_PACKAGE, LOAD_COPY, USE, "print(torch.ops.dtnn_fast.library_path())")
    assert (done.returncode, done.stdout.split()) == (0, ["2.0", str(_library.LIBRARY)]), done.stderr
    # torch 2.10 prints a message of its own before it.
    assert done.stderr.splitlines()[-1] == (
        f"dtnn_fast: the operations are registered already, by another copy of this library; {copy} does nothing"
    )


def test_another_version_is_an_error_that_names_both(copy):
    with copy.open("ab") as file:
        file.write(b"another build")
    done = run(copy, LOAD_COPY, LOAD_PACKAGE)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        f"ImportError: dtnn_fast: expected the compiled operations of this package, {_library.LIBRARY}, got {copy}"
    )


def test_an_older_version_which_does_not_say_its_file(copy):
    older = 'library = torch.library.Library("dtnn_fast", "DEF"); library.define("has_cuda_kernels() -> bool")'
    done = run(copy, older, LOAD_PACKAGE)
    assert done.returncode == 1
    assert "got an older version, which the program loaded before" in done.stderr.splitlines()[-1]


def test_sources_and_compiled_parts_in_two_folders_as_after_an_editable_install(tmp_path):
    """``pip install -e .`` leaves the sources where they are, and puts the compiled parts into site-packages."""
    package = Path(dtnn_fast.__file__).parent
    sources, compiled = tmp_path / "project" / "dtnn_fast", tmp_path / "site-packages" / "dtnn_fast"
    sources.mkdir(parents=True)
    compiled.mkdir(parents=True)
    for entry in package.iterdir():
        if entry.suffix != ".so" and entry.name != "__pycache__":
            (sources / entry.name).symlink_to(entry)
    for name in ("__init__.py", "_library.py"):  # Path(__file__) of these must be the new folder
        (sources / name).unlink()
        shutil.copy(package / name, sources)
    shutil.copy(_library.LIBRARY, compiled / "_ops.so")
    code = (
        f"import sys, torch; sys.path.insert(0, {str(sources.parent)!r})\n"
        f"import dtnn_fast; dtnn_fast.__path__.insert(0, {str(compiled)!r})\n"
        "import dtnn_fast.ops\n"
        "from dtnn_fast import DTNN, _library\n"
        "print(dtnn_fast.__file__, _library.LIBRARY, torch.ops.dtnn_fast.library_path())\n"
        "print(DTNN.from_pretrained('dielectric-total').targets)"
    )
    command = [sys.executable, "-P", "-c", code]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    library = str(compiled / "_ops.so")
    expected = [str(sources / "__init__.py"), library, library, "('total',)"]
    assert (done.returncode, done.stdout.split()) == (0, expected), done.stderr
