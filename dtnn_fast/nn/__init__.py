# SPDX-License-Identifier: MIT
"""Parts that encoders and decoders are built from: graphs of crystals, latents, layers, saved folders."""
