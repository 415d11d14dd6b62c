# SPDX-License-Identifier: MIT
"""Makes the table of benchmark cases importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
