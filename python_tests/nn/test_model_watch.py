# SPDX-License-Identifier: MIT
"""One look at a whole model: which changes give it another state."""

import copy
import pickle
import threading

import pytest
import torch
from torch import nn

from dtnn_fast.nn.model_watch import ModelWatch, trusted_state


def tree():
    return nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()))


def state_of(watch, model):
    with watch.trusted(model):
        return trusted_state()


def change_in_place(model):
    with torch.no_grad():
        model[0].bias.add_(1)


def move_the_data(model):
    model[0].weight.data = model[0].weight.data.clone()


def replace_a_parameter(model):
    model[0].bias = nn.Parameter(model[0].bias.detach())


def change_a_buffer(model):
    model[1][0].running_mean.add_(1)


def replace_a_module(model):
    model[1][1] = nn.Dropout()


def remove_a_module(model):
    del model[1][1]


def step(model):
    model(torch.randn(4, 2)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.0, fused=True).step()


@pytest.mark.parametrize(
    "change",
    [
        change_in_place,
        move_the_data,
        replace_a_parameter,
        change_a_buffer,
        replace_a_module,
        remove_a_module,
        step,
        nn.Module.double,
    ],
)
def test_changes_give_another_state(change):
    model, watch = tree(), ModelWatch()
    before = state_of(watch, model)
    assert before is not None
    assert state_of(watch, model) is before
    change(model)
    after = state_of(watch, model)
    assert after is not None
    assert after is not before
    assert state_of(watch, model) is after


@pytest.mark.parametrize(
    "register", ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"]
)
def test_models_with_hooks_are_not_trusted(register):
    model, watch = tree(), ModelWatch()
    before = state_of(watch, model)
    handles = [getattr(model[1][1], register)(lambda *_: None) for _ in range(2)]
    assert state_of(watch, model) is None
    handles[0].remove()
    assert state_of(watch, model) is None
    handles[1].remove()
    assert state_of(watch, model) is before
    hooked = tree()
    getattr(hooked[0], register)(lambda *_: None)
    assert state_of(ModelWatch(), hooked) is None


def test_the_state_is_that_of_the_block_and_of_the_thread():
    model, other, watch, watch_of_other = tree(), tree(), ModelWatch(), ModelWatch()
    assert trusted_state() is None
    with watch.trusted(model):
        outer = trusted_state()
        with watch_of_other.trusted(other):
            assert trusted_state() not in (None, outer)
        assert trusted_state() is outer
        seen: list[object | None] = []
        thread = threading.Thread(target=lambda: seen.append(trusted_state()))
        thread.start()
        thread.join()
        assert seen == [None]
        with pytest.raises(RuntimeError, match="inner"), watch.trusted(model):
            raise RuntimeError("inner")
        assert trusted_state() is outer
    assert trusted_state() is None


def test_parameters_of_inference_mode_are_not_trusted():
    with torch.inference_mode():
        model, watch = tree(), ModelWatch()
        assert state_of(watch, model) is None
        assert state_of(watch, model) is None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda watch: pickle.loads(pickle.dumps(watch))])
def test_copies_have_states_of_their_own(copied):
    model, watch = tree(), ModelWatch()
    state = state_of(watch, model)
    assert state_of(copied(watch), model) is not state
