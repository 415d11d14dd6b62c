# SPDX-License-Identifier: MIT
"""Distillation: the native encoder learns the latents of a pretrained potential."""
