# SPDX-License-Identifier: MIT
"""The decoders of all members in two native calls: `bond_perceptron_sum` and `decode`, with the modules' weights.

Elsewhere than on the CPU and CUDA, on CUDA with gradients, and with the reference implementations, each `Decoder` runs
its modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from ..nn.bond_ends import sum_at_ends
from ..nn.latents import AtomOrbits, Latents
from ..nn.radial import smooth_cutoff
from ..nn.weight_cache import PLAIN_LAYERS, WeightCache
from ..ops import bond_perceptron_sum, decode
from .decoder import Decoder, DecoderBlock, Readout
from .decoder_inputs import AtomInput, layer_latents
from .tensor_range import TensorRange


class BondWeights(NamedTuple):
    """Weights of `bond_perceptron_sum` for each member's blocks."""

    weight1: Tensor
    bias1: Tensor
    weight2: Tensor
    bias2: Tensor


class DecoderWeights(NamedTuple):
    """Weights of all members as the operations take them.

    Args:
        decoders: of `decode`. [M, P].
        bonds: weight1, bias1, weight2 and bias2 of `bond_perceptron_sum`, for each member's blocks; None without.
        ranges: of all readouts, for tensors of [M, R, B, 3, 3]; where some have a bound and others not, of each
            readout's members.
    """

    decoders: Tensor
    bonds: BondWeights | None
    ranges: TensorRange | list[list[TensorRange]]


_CLASSES = frozenset({Decoder, DecoderBlock, Readout, AtomInput, nn.ModuleList, nn.ModuleDict})


class DecoderCache(WeightCache[DecoderWeights]):
    """The weights of decoders, for `decode_members`."""

    def __init__(self) -> None:
        super().__init__(PLAIN_LAYERS | _CLASSES)

    def can_decode(self, decoders: Sequence[nn.Module], latents: Sequence[Latents | None]) -> bool:
        """Tell whether `decode_members` can run these decoders on these latents; see `WeightCache.can_fuse`."""
        given = next((layer for layer in latents if layer is not None), None)
        if given is None or not decoders or not self.can_fuse(decoders, given.atom_scalar):
            return False
        if self.is_trusted():
            return True
        first = cast(Decoder, decoders[0])
        return all(
            decoder.settings == first.settings and len(decoder.readouts) == len(first.readouts)
            for decoder in cast(Sequence[Decoder], decoders)
        )

    def __deepcopy__(self, _memo: object) -> DecoderCache:
        return DecoderCache()

    def __reduce__(self) -> tuple[type[DecoderCache], tuple[()]]:  # type: ignore[override]
        return DecoderCache, ()


def decode_members(
    decoders: Sequence[Decoder],
    latents: Sequence[Latents | None],
    ptr: Tensor,
    cache: DecoderCache,
    orbits: AtomOrbits | None = None,
) -> list[Tensor]:
    """Compute the tensors of each member's readouts, in the order of the readouts.

    Args:
        decoders: decoders for which the cache's `can_decode` holds.
        latents: latents of the encoder's layers, from the first; None for layers that are not read.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``. [B+1].
        cache: holds the weights of these decoders between calls.
        orbits: what the atoms stand for; None where every atom stands for itself.

    Returns:
        [M, B, 3, 3] for each readout.
    """
    config = decoders[0].config
    weights = cache.get(decoders, lambda: _stack_weights(decoders))
    scalar, vector, rank2 = _joined_latents(decoders[0].atom_input, latents)
    bonds: tuple[Tensor, Tensor, Tensor] | tuple[None, None, None] = (None, None, None)
    if weights.bonds is not None:
        bonds = _summed_bonds(layer_latents(latents, config.layer), weights.bonds)
    num_readouts = len(decoders[0].readouts)
    tensors = decode(
        scalar,
        vector,
        rank2,
        weights.decoders,
        ptr,
        bonds[0],
        bonds[1],
        bonds[2],
        _dropout_masks(decoders, scalar, cache),
        None if orbits is None else orbits.shares(ptr),
        blocks=config.blocks,
        latent=config.latent,
        readouts=num_readouts,
        residual=config.residual,
    )
    if orbits is not None:
        tensors = orbits.projected(tensors)
    if isinstance(weights.ranges, TensorRange):
        return list(weights.ranges.apply(tensors).unbind(1))
    return [
        torch.stack([of_member.apply(values) for of_member, values in zip(ranges, tensors[:, place], strict=True)])
        for place, ranges in enumerate(weights.ranges)
    ]


def _joined_latents(atom_input: AtomInput, latents: Sequence[Latents | None]) -> tuple[Tensor, Tensor, Tensor]:
    """Put the latents of the layers side by side. Their sizes are in the weights."""

    def joined(name: str, layers: Sequence[int]) -> Tensor:
        parts = [getattr(layer_latents(latents, layer), name) for layer in layers]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    vector_layers = atom_input.vector_layers
    return (
        joined("atom_scalar", atom_input.layers),
        joined("atom_vector", vector_layers),
        joined("atom_rank2", vector_layers),
    )


def _summed_bonds(latents: Latents, weights: BondWeights) -> tuple[Tensor, Tensor, Tensor]:
    """Sum what the blocks read of the bonds: vectors (neighbor minus center), perceptrons, envelope."""
    scalar, vector, length, tier = latents[3:]
    if scalar is None or vector is None or length is None or tier is None:
        raise ValueError("Decoder: expected latents with bonds; use DTNN-simple (bonds=False) with this encoder")
    envelope = smooth_cutoff(length, tier.cutoff)
    summed = sum_at_ends(vector, tier, "difference")
    counts = None if tier.turns is None else tier.turns.counts
    bonds = tier.pairs, tier.row_ptr, counts, tier.by_neighbor
    return summed, *bond_perceptron_sum(scalar, envelope, *weights, *bonds)


def _dropout_masks(decoders: Sequence[Decoder], scalar: Tensor, cache: DecoderCache) -> Tensor | None:
    """Draw the factors of all dropout layers; None where none is active."""
    if decoders[0].config.dropout == 0:
        return None
    if not torch.compiler.is_compiling() and not any(layer.training for layer in cache.dropouts):
        return None
    layers = [_dropout_layers(decoder) for decoder in decoders]
    active = {(layer.training, layer.p) for of_member in layers for layer in of_member}
    if not any(training and p > 0 for training, p in active):
        return None
    ones = scalar.new_ones(len(layers), len(layers[0]), scalar.shape[0], decoders[0].config.latent)
    if len(active) == 1:
        return nn.functional.dropout(ones, layers[0][0].p)
    drawn = [[layer(one) for layer, one in zip(*pair, strict=True)] for pair in zip(layers, ones, strict=True)]
    return torch.stack([torch.stack(of_member) for of_member in drawn])


def _dropout_layers(decoder: Decoder) -> list[nn.Dropout]:
    """List the dropout layers in the order of the masks of `decode`."""
    perceptrons: list[Any] = []
    for block in decoder.blocks:
        perceptrons += [block.scalar_in, block.mix]
    for readout in decoder.readouts.values():
        perceptrons += [readout.scalar_value, readout.scalar_gate]
    return [layer for perceptron in perceptrons for layer in perceptron if isinstance(layer, nn.Dropout)]


def _stack_weights(decoders: Sequence[Decoder]) -> DecoderWeights:
    readouts = [cast(list[Readout], list(decoder.readouts.values())) for decoder in decoders]
    flat = torch.stack([torch.cat([part.flatten() for part in _decoder_weights(decoder)]) for decoder in decoders])
    bonds = None
    if decoders[0].config.bonds and decoders[0].config.blocks:
        perceptrons = [cast(DecoderBlock, block).bond_hidden[0] for decoder in decoders for block in decoder.blocks]
        bonds = BondWeights(*_stack_layers(perceptrons, 0), *_stack_layers(perceptrons, 2))
    return DecoderWeights(flat, bonds, _ranges(readouts))


def _ranges(readouts: Sequence[Sequence[Readout]]) -> TensorRange | list[list[TensorRange]]:
    """Prepare the ranges of each member's readouts."""
    bounds = [[readout.bound for readout in of_member] for of_member in readouts]
    bounded = {bound is not None for of_member in bounds for bound in of_member}
    if len(bounded) > 1:
        places = zip(*readouts, strict=True)
        return [[TensorRange.of(readout.offset, readout.scale, readout.bound) for readout in place] for place in places]
    offset = torch.stack([_joined_numbers([readout.offset for readout in of_member]) for of_member in readouts])
    scale = torch.stack([_joined_numbers([readout.scale for readout in of_member]) for of_member in readouts])
    offset, scale = offset.unsqueeze(-1), scale.unsqueeze(-1)
    if True not in bounded:
        return TensorRange.of(offset, scale, None)
    return TensorRange.of(offset, scale, torch.tensor(bounds, dtype=offset.dtype, device=offset.device).unsqueeze(-1))


def _joined_numbers(numbers: Sequence[Tensor]) -> Tensor:
    """Put tensors without dimensions one after the other.

    Not by torch.stack: AOTInductor of torch 2.13 cannot unsqueeze buffers that it takes for constants.
    """
    return torch.cat([number + number.new_zeros(1) for number in numbers])


def _stack_layers(perceptrons: Sequence[Any], place: int) -> tuple[Tensor, Tensor]:
    layers = [perceptron[place] for perceptron in perceptrons]
    return torch.stack([layer.weight.t() for layer in layers]), torch.stack([layer.bias for layer in layers])


def _decoder_weights(decoder: Decoder) -> list[Tensor]:
    """List a member's weights in the order of `decode`, with the sizes of the latents and the sums' scale included."""
    sizes = decoder.atom_input.channel_sizes()
    first: tuple[Tensor | None, ...] = tuple(size.reciprocal().unsqueeze(1) for size in sizes)
    parts: list[Tensor] = []
    for block in cast(list[DecoderBlock], list(decoder.blocks)):
        scalar, vector, rank2 = first
        parts += _perceptron_weights(block.scalar_in, scalar)
        vector_in = block.vector_in.weight.t()
        if decoder.config.bonds:
            parts.append(block.bond_scale * block.bond_out.weight.t())
            own = vector_in.shape[0] - block.bond_vectors
            # The summed vectors are neighbor minus center, and away from the atom is the opposite.
            parts_of_vector = [_scaled(vector_in[:own], vector), -block.bond_scale * vector_in[own:]]
        else:
            parts_of_vector = [_scaled(vector_in, vector)]
        parts += [_scaled(block.rank2_in.weight.t(), rank2), *parts_of_vector]
        parts += _perceptron_weights(block.mix)
        parts += [block.vector_out.weight.t(), block.rank2_out.weight.t()]
        first = (None, None, None)
    for readout in cast(list[Readout], list(decoder.readouts.values())):
        scalar, vector, rank2 = first
        parts += _perceptron_weights(readout.scalar_value, scalar) + _perceptron_weights(readout.scalar_gate, scalar)
        parts += [_scaled(readout.vector_readout.weight.t(), vector), _scaled(readout.rank2_readout.weight.t(), rank2)]
    return parts


def _scaled(weight: Tensor, rows: Tensor | None) -> Tensor:
    return weight if rows is None else weight * rows


def _perceptron_weights(perceptron: nn.Sequential, rows: Tensor | None = None) -> list[Tensor]:
    parts: list[Tensor] = []
    for layer in perceptron:
        if isinstance(layer, nn.Linear):
            parts += [_scaled(layer.weight.t(), rows), layer.bias]
            rows = None
    return parts
