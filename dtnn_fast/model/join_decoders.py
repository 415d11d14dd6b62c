# SPDX-License-Identifier: MIT
"""Several models that were trained alike as one: their mean, and how far they lie apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..encoders.latent_cache import encoder_digest
from .dtnn import DTNN, member_name


def combine(models: Sequence[DTNN], error_scales: Mapping[str, float] | None = None) -> DTNN:
    """Make an ensemble, whose encoder runs once for all members.

    Args:
        models: single models with the same settings and the same encoder, at least one.
        error_scales: for each target, the factor that turns the spread of the members into an error bar; see
            `dtnn_fast.training.error_bars`.

    Returns:
        A model whose tensors are the means over the members, in evaluation mode; it shares their parameters.

    Raises:
        ValueError: the models differ in more than the weights of their decoders.
    """
    if not models:
        raise ValueError("combine: expected at least one model, got none")
    first = models[0]
    digest = encoder_digest(first.encoder)
    for place, model in enumerate(models):
        if model.config != first.config or model.config.members != 1 or model.dtype != first.dtype:
            raise ValueError(f"combine: expected single models of the same settings, model {place} has others")
        if encoder_digest(model.encoder) != digest:
            raise ValueError(f"combine: expected models on one encoder, that of model {place} has other weights")
    scales = tuple(error_scales[target] for target in first.config.targets) if error_scales else ()
    config = replace(first.config, members=len(models), error_scales=scales)
    decoders = {
        member_name(name, place): decoder
        for place, model in enumerate(models)
        for name, decoder in model.decoders.items()
    }
    return DTNN.of_parts(config, first.encoder, decoders).eval()
