# SPDX-License-Identifier: MIT
"""Search for settings of the decoder and of its training, judged by validation crystals alone."""
