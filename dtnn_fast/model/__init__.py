# SPDX-License-Identifier: MIT
"""Models: decoder, DTNN, ensembles, prediction, export."""
