# SPDX-License-Identifier: MIT
"""Random calls of the operations of dtnn_fast, valid and spoiled."""
