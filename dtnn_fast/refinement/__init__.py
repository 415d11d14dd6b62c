# SPDX-License-Identifier: MIT
"""Ionic tensors by lattice dynamics, joined with the direct prediction."""
