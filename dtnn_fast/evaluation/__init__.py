# SPDX-License-Identifier: MIT
"""Comparison of finished runs of any model: tables of errors, figures, and a page of results."""
