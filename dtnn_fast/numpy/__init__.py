# SPDX-License-Identifier: MIT
"""Neighbor lists for NumPy users: no torch needed, arrays in and arrays out."""

from .neighbor_list import neighbor_list

__all__ = ["neighbor_list"]
