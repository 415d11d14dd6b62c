# SPDX-License-Identifier: MIT
"""The figures of an evaluation, each a PNG with its numbers beside it as CSV."""
