# SPDX-License-Identifier: MIT
"""Screening of many crystals: their sources, predictions, ranking, and the files and figure of the results."""
