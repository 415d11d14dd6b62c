# SPDX-License-Identifier: MIT
"""Tables of the elements that encoders know, against the encoders."""

import functools

import pytest
import torch

from dtnn_fast.datasets.cleaning import ENCODER_ELEMENTS, unknown_elements
from dtnn_fast.encoders.native import NUM_ELEMENTS


def test_native():
    assert ENCODER_ELEMENTS["native"] == frozenset(range(1, NUM_ELEMENTS + 1))


def test_unknown_elements():
    assert unknown_elements([8, 86, 56, 84, 86], "sevennet-0") == ["Po", "Rn"]
    assert unknown_elements([8, 86], "native") == []


@pytest.mark.parametrize(("encoder", "name"), [("sevennet-0", "7net-0"), ("sevennet-l3i5", "7net-l3i5")])
def test_sevennet(encoder, name):
    util = pytest.importorskip("sevenn.util")
    # A file of the installed package, made before torch's safe loading knew its classes.
    load = functools.partial(torch.load, weights_only=False, map_location="cpu", mmap=True)
    config = load(util.pretrained_name_to_path(name))["config"]
    assert ENCODER_ELEMENTS[encoder] == frozenset(config["_type_map"])
    assert len(ENCODER_ELEMENTS[encoder]) == 89
