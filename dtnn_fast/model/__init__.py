# SPDX-License-Identifier: MIT
"""The models: decoder, DTNN, ensembles, and their saved folders."""
