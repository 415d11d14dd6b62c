# SPDX-License-Identifier: MIT
"""Which elements each encoder knows."""

from __future__ import annotations

from ..crystals.elements import MAX_ATOMIC_NUMBER, symbol

# SevenNet-0 and SevenNet-l3i5 were trained on MPtrj, the relaxations of the Materials Project (B. Deng et al., Nature
# Machine Intelligence 5, 1031, 2023): hydrogen to bismuth and actinium to plutonium, 89 elements. The tables in their
# checkpoints, in the package sevenn 0.13, say the same; a test compares them.
_MPTRJ = frozenset(range(1, 84)) | frozenset(range(89, 95))

ENCODER_ELEMENTS: dict[str, frozenset[int]] = {
    "native": frozenset(range(1, MAX_ATOMIC_NUMBER + 1)),
    "sevennet-0": _MPTRJ,
    "sevennet-l3i5": _MPTRJ,
}


def unknown_elements(atomic_numbers: list[int], encoder: str) -> list[str]:
    """Give the symbols of the elements that an encoder does not know, by atomic number.

    Args:
        atomic_numbers: 1 to 118.
        encoder: a key of `ENCODER_ELEMENTS`.
    """
    return [symbol(z) for z in sorted(set(atomic_numbers) - ENCODER_ELEMENTS[encoder])]
