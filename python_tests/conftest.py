# SPDX-License-Identifier: MIT
"""Makes the modules of this folder, such as helpers.py, importable from every test folder, and the site's tools."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "tools" / "site"))
