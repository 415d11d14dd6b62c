# SPDX-License-Identifier: MIT
"""README says what a user sees: the output of its first prediction, and sections of one screen."""

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
# Lines of a window.
SCREEN = 45


def sections():
    heading, *rest = re.split(r"^## (.*)\n", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {"": heading, **dict(zip(rest[::2], rest[1::2], strict=True))}


def test_the_first_prediction_prints_what_is_written_below_it(tmp_path):
    text = sections()["First prediction"]
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (output,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "utf-8"}
    found = subprocess.run(
        [sys.executable, "-P", "-c", code],
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment,
        cwd=tmp_path,
    )
    assert found.stderr == ""
    assert found.stdout == output
    assert len([line for line in code.splitlines() if line.strip()]) == 5


def test_no_section_is_longer_than_a_screen():
    lengths = {name: text.count("\n") for name, text in sections().items()}
    assert len(lengths) >= 8
    assert {name: length for name, length in lengths.items() if length > SCREEN} == {}
