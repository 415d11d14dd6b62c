# SPDX-License-Identifier: MIT
"""Version of the package, which scikit-build-core asks for: that of dtnn_fast/_version.py, perhaps with the build.

The environment variable ``DTNN_LOCAL_VERSION`` names the build of a wheel for publication: "cpu" for one without CUDA
kernels, "cu130" for one made with CUDA 13.0, as torch does. Other installations have the plain version.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FILE = Path(__file__).parents[1] / "dtnn_fast" / "_version.py"


def dynamic_metadata(settings: Mapping[str, Any], project: Mapping[str, Any]) -> dict[str, str]:
    """Return the field `version` of the project.

    Raises:
        ValueError: ``DTNN_LOCAL_VERSION`` is not "cpu" or "cu" with digits, or the file has no version.
    """
    match = re.search(r'^__version__ = "(.+)"$', _FILE.read_text(encoding="utf-8"), re.MULTILINE)
    if match is None:
        raise ValueError(f'{_FILE}: expected a line __version__ = "...", got none')
    local = os.environ.get("DTNN_LOCAL_VERSION", "")
    if local and not re.fullmatch(r"cpu|cu\d{2,4}", local):
        raise ValueError(f"DTNN_LOCAL_VERSION: expected cpu, or cu and a version of CUDA such as cu130, got {local!r}")
    return {"version": f"{match[1]}+{local}" if local else match[1]}
