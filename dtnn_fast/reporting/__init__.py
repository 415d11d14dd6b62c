# SPDX-License-Identifier: MIT
"""Self-contained HTML pages: the report of a screening, and predicted tensors in their crystals."""
