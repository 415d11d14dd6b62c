# SPDX-License-Identifier: MIT
"""Screening: predictions for many crystals, where a bad one never stops the others, and the files they leave."""
