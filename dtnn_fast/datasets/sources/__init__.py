# SPDX-License-Identifier: MIT
"""Public sources of labelled crystals, one file per source; docs/data.md describes them."""
