# SPDX-License-Identifier: MIT
"""Training: data in memory, losses and metrics, runs that can be resumed."""
