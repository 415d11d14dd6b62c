# SPDX-License-Identifier: MIT
"""Public sources of labelled crystals, one file a source; docs/data.md describes them."""
