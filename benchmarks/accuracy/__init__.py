# SPDX-License-Identifier: MIT
"""The baselines of the paper's Table 2, trained on the data, splits and loss of dtnn_fast: docs/baselines.md."""
