# SPDX-License-Identifier: MIT
"""The model and its parts: graphs, layers, decoder, DTNN."""
