# SPDX-License-Identifier: MIT
"""Bad input is an error with the operation's name, and the process and the device go on working."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_bad_input_is_an_error_and_the_process_lives_on(device):
    """In a separate process: an index that got through would end the device's context for all later tests."""
    script = Path(__file__).parent / "bad_calls.py"
    run = subprocess.run([sys.executable, str(script), device.type], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    results = json.loads(run.stdout)
    assert results
    assert {name: works for name, (_, works) in results.items() if not works} == {}
    messages = {name: message for name, (message, _) in results.items()}
    assert {name: m for name, m in messages.items() if not m.startswith(name.partition(":")[0] + ": ")} == {}
