# SPDX-License-Identifier: MIT
"""Training: data in memory, loss and metrics, the training loop, run folders that can be resumed, and ensembles."""
