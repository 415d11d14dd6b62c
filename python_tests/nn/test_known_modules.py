# SPDX-License-Identifier: MIT
"""A list of modules that notices changes of the tree."""

import copy
from collections import OrderedDict

import pytest
from torch import nn

from dtnn_fast.nn.known_modules import KnownModules


def tree():
    return nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.SiLU(), nn.Dropout()))


def replace(model):
    model[1][0] = nn.Tanh()


def add(model):
    model[1].append(nn.Dropout())


def remove(model):
    del model[1][1]


def add_behind_torch(model):
    model[0]._modules["more"] = nn.Dropout()


@pytest.mark.parametrize("change", [replace, add, remove, add_behind_torch])
def test_changes_of_the_tree_are_noticed(change):
    model, known = tree(), KnownModules()
    assert known.update((model,))
    assert not known.update((model,))
    change(model)
    assert known.update((model,))
    assert known.modules == list(model.modules())


def test_other_roots_are_another_tree():
    model, known = tree(), KnownModules()
    known.update((model,))
    assert known.update((model[0], model[1]))
    assert known.update((model[1],))
    assert known.update((copy.deepcopy(model[1]),))


def test_modes_and_hooks():
    model, known = tree().eval(), KnownModules()
    known.update((model,))
    assert not known.any_training()
    model[1][1].train()
    assert known.any_training()
    assert not known.any_hooks()
    model[0]._forward_hooks = OrderedDict()  # how some programs take hooks away
    handle = model[0].register_forward_hook(lambda *_: None)
    assert known.any_hooks()
    handle.remove()
    model[1].register_forward_pre_hook(lambda *_: None)
    assert known.any_hooks()
