# SPDX-License-Identifier: MIT
"""``python -m dtnn_fast`` is the program dtnn-fast."""

from .cli import main

main()
