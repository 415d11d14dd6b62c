# SPDX-License-Identifier: MIT
"""The decoders of all members in two native calls: when they are used, dropout, and weights that change."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import CallsOf
from model_cases import VARIANTS, config, randomised, small_crystals, variant
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from dtnn_fast import use_backend
from dtnn_fast.model.dtnn import DTNN
from dtnn_fast.model.fused_decoders import DecoderCache

DECODE = torch.ops.dtnn_fast.decode.default


def tensors_of(model: DTNN) -> dict[str, Tensor]:
    with torch.no_grad():
        return model.member_tensors(model.graph(small_crystals(5, max_atoms=4)))


def calls_of_decode(model: DTNN) -> int:
    with CallsOf(DECODE) as calls:
        tensors_of(model)
    return len(calls.arguments)


@pytest.mark.parametrize("name", VARIANTS)
def test_one_call_for_all_members(name):
    assert calls_of_decode(variant(name)) == 1
    with use_backend("reference"):
        assert calls_of_decode(variant(name)) == 0


@pytest.mark.parametrize("positive", [(), ("electronic",), ("electronic", "ionic", "total")])
@pytest.mark.parametrize("joint", [True, False])
def test_ranges_with_and_without_bounds(joint, positive):
    settings = config(targets=("electronic", "ionic", "total"), joint=joint, positive=positive)
    model = randomised(replace(settings, members=2))
    for place, decoder in enumerate(model.decoders.values()):
        for number, readout in enumerate(decoder.readouts.values()):
            readout.set_range(3.0 + place + 0.5 * number, 0.7 - 0.1 * place)
    assert calls_of_decode(model) == 1
    tensors = tensors_of(model)
    with use_backend("reference"):
        torch.testing.assert_close(tensors, tensors_of(model))


def test_latents_on_other_devices_run_the_modules():
    model = variant("joint")
    graph = model.graph(small_crystals(2, max_atoms=4))
    latents = model.encoder(graph)
    decoders = list(model.decoders.values())
    assert DecoderCache().can_decode(decoders, latents)
    elsewhere = [layer._replace(atom_scalar=layer.atom_scalar.to("meta")) for layer in latents]
    assert not DecoderCache().can_decode(decoders, elsewhere)


def test_cuda_has_the_operation_with_gradients_too():
    model = variant("joint")
    decoders = list(model.decoders.values())
    latents = model.encoder(model.graph(small_crystals(2, max_atoms=4)))
    with FakeTensorMode():
        on_cuda = torch.empty(latents[-1].atom_scalar.shape, device="cuda")
    latents = [layer._replace(atom_scalar=on_cuda) for layer in latents]
    assert DecoderCache().can_decode(decoders, latents)
    with torch.no_grad():
        assert DecoderCache().can_decode(decoders, latents)


def test_modules_with_hooks_are_run():
    model = copy.deepcopy(variant("joint"))
    expected, seen = tensors_of(model), []
    hook = next(iter(model.decoders.values())).blocks[0].mix.register_forward_hook(lambda *_: seen.append(1))
    assert calls_of_decode(model) == 0
    hooked = tensors_of(model)
    assert len(seen) == 2
    hook.remove()
    assert calls_of_decode(model) == 1
    for target, values in expected.items():
        torch.testing.assert_close(hooked[target], values)


class TwiceAsLarge(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(2 * x for x in self.inner(*inputs))


def test_replaced_blocks_are_run():
    model = copy.deepcopy(variant("joint"))
    before = tensors_of(model)
    decoder = next(iter(model.decoders.values()))
    decoder.blocks[-1] = TwiceAsLarge(decoder.blocks[-1])
    assert calls_of_decode(model) == 0
    assert not torch.equal(tensors_of(model)["total"], before["total"])


def change_a_weight(model: DTNN) -> None:
    with torch.no_grad():
        next(iter(model.decoders.values())).blocks[0].mix[0].weight.mul_(1.5)


def replace_the_data(model: DTNN) -> None:
    weight = next(iter(model.decoders.values())).blocks[0].mix[0].weight
    weight.data = 1.5 * weight.data


def replace_a_parameter(model: DTNN) -> None:
    layer = next(iter(model.decoders.values())).blocks[0].mix[0]
    layer.weight = nn.Parameter(1.5 * layer.weight.detach())


def replace_a_layer(model: DTNN) -> None:
    perceptron = next(iter(model.decoders.values())).blocks[0].mix
    layer = copy.deepcopy(perceptron[0])
    with torch.no_grad():
        layer.weight.mul_(1.5)
    perceptron[0] = layer


def load_other_weights(model: DTNN) -> None:
    state = model.state_dict()
    model.load_state_dict({name: 1.1 * values for name, values in state.items()})


def change_a_size(model: DTNN) -> None:
    next(iter(model.decoders.values())).atom_input.scalar_size.mul_(1.5)


def change_the_range(model: DTNN) -> None:
    next(iter(next(iter(model.decoders.values())).readouts.values())).set_range(3.0, 2.0)


def take_an_optimizer_step(model: DTNN) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model(model.graph(small_crystals(2, max_atoms=4)))["electronic"].sum().backward()
    optimizer.step()


def take_a_fused_optimizer_step(model: DTNN) -> None:
    """Torch does not raise the versions of parameters in this step."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    model(model.graph(small_crystals(2, max_atoms=4)))["electronic"].sum().backward()
    optimizer.step()


CHANGES = [
    change_a_weight,
    replace_the_data,
    replace_a_parameter,
    replace_a_layer,
    load_other_weights,
    change_a_size,
    change_the_range,
    take_an_optimizer_step,
    take_a_fused_optimizer_step,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_changed_weights_are_noticed(change, mode):
    model = copy.deepcopy(variant("joint"))
    graph = model.graph(small_crystals(5, max_atoms=4))
    with mode():
        before = model.member_tensors(graph)
        again = model.member_tensors(graph)
    assert all(torch.equal(before[target], again[target]) for target in before)
    change(model)
    with mode():
        after = model.member_tensors(graph)
        with use_backend("reference"):
            expected = model.member_tensors(graph)
    assert not torch.equal(after["electronic"], before["electronic"])
    for target, values in expected.items():
        torch.testing.assert_close(after[target], values)


@pytest.mark.parametrize("change", CHANGES)
def test_changes_between_predictions_are_noticed(change):
    """Where one look at the whole model replaces the looks of its caches."""
    model, crystals = copy.deepcopy(variant("joint")), small_crystals(5, max_atoms=4)
    before = model.predict_targets(crystals)
    np.testing.assert_array_equal(model.predict_targets(crystals)["total"], before["total"])
    change(model)
    after = model.predict_targets(crystals)
    with use_backend("reference"):
        expected = model.predict_targets(crystals)
    for target, values in expected.items():
        np.testing.assert_allclose(after[target], values, rtol=1e-9, atol=1e-9)
    assert not np.array_equal(after["electronic"], before["electronic"])


def test_weights_made_elsewhere_do_not_stay_for_the_next_prediction():
    model, crystals = copy.deepcopy(variant("joint")), small_crystals(5, max_atoms=4)
    before = model.predict_targets(crystals)
    weight = next(iter(model.decoders.values())).blocks[0].mix[0].weight
    own = weight.data
    weight.data = 1.5 * own
    tensors_of(model)  # the caches now hold the other weights
    weight.data = own  # the model is again as at the last prediction
    np.testing.assert_array_equal(model.predict_targets(crystals)["total"], before["total"])


def test_models_with_a_common_encoder_both_notice_its_change():
    model, crystals = randomised(config(targets=("electronic", "total"))), small_crystals(5, max_atoms=4)
    part = model.with_targets(["electronic"])
    for _ in range(2):
        whole = model.predict(crystals, "electronic")
        np.testing.assert_array_equal(part.predict(crystals, "electronic"), whole)
        with torch.no_grad():
            model.encoder.layers[0].update[0].weight.mul_(1.5)
        assert not np.array_equal(part.predict(crystals, "electronic"), whole)
    np.testing.assert_array_equal(model.predict(crystals, "electronic"), part.predict(crystals, "electronic"))


def test_hooks_are_called_between_predictions():
    model, crystals = copy.deepcopy(variant("joint")), small_crystals(5, max_atoms=4)
    expected = model.predict_targets(crystals)["total"]
    model.predict_targets(crystals)
    calls: list[int] = []
    block = next(iter(model.decoders.values())).blocks[0]
    handle = block.mix.register_forward_hook(lambda *_: calls.append(1))
    np.testing.assert_allclose(model.predict_targets(crystals)["total"], expected, rtol=1e-9, atol=1e-12)
    assert len(calls) == 1
    handle.remove()
    model.predict_targets(crystals)
    assert len(calls) == 1


def test_parameters_made_in_inference_mode():
    with torch.inference_mode():
        model = randomised(VARIANTS["joint"])
        tensors = tensors_of(model)
        with use_backend("reference"):
            expected = tensors_of(model)
    torch.testing.assert_close(tensors, expected)


def test_functional_call_and_vmap_over_weights():
    model = variant("joint")
    graph = model.graph(small_crystals(3, max_atoms=4))
    tensors_of(model)  # fills the cache
    names = [name for name, _ in model.named_parameters() if "vector_out" in name]
    parameters = dict(model.named_parameters())

    def energy(factor: Tensor) -> Tensor:
        changed = {name: factor * parameters[name] for name in names}
        return torch.func.functional_call(model, changed, (graph,))["total"]

    with torch.no_grad():
        factors = torch.tensor([1.0, 0.5], dtype=torch.float64)
        both = torch.func.vmap(energy)(factors)
        torch.testing.assert_close(both, torch.stack([energy(factor) for factor in factors]))
    assert not torch.equal(both[0], both[1])


def test_copies_do_not_share_weights():
    model = copy.deepcopy(variant("joint"))
    expected = tensors_of(model)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(tensors_of(copied), expected)
        change_a_weight(copied)
        assert not torch.equal(tensors_of(copied)["total"], expected["total"])
    torch.testing.assert_close(tensors_of(model), expected)


def with_dropout(probability: float) -> DTNN:
    model = copy.deepcopy(variant("joint"))
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = probability
    return model.train()


def test_dropout_in_training():
    """The mean over many draws is the tensor without dropout for a perceptron's last layer, which is linear in it."""
    model = with_dropout(0.5)
    graph = model.graph(small_crystals(3, max_atoms=4))
    with CallsOf(DECODE) as calls, torch.no_grad():
        torch.manual_seed(0)
        first = model.member_tensors(graph)["electronic"]
        second = model.member_tensors(graph)["electronic"]
        torch.manual_seed(0)
        again = model.member_tensors(graph)["electronic"]
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    masks = calls.arguments[0][6]
    assert set(masks.unique().tolist()) == {0.0, 2.0}
    assert abs(masks.mean() - 1) < 0.1
    # Every mask differs from the others: no two layers, atoms or members drop the same channels.
    assert len({tuple(mask) for mask in masks.flatten(0, 2).tolist()}) > 0.9 * masks.flatten(0, 2).shape[0]


def test_dropout_of_chosen_layers():
    """Single layers can be switched on, as for Monte Carlo dropout."""
    model = with_dropout(0.25).eval()
    assert torch.equal(tensors_of(model)["total"], tensors_of(variant("joint"))["total"])
    decoder = next(iter(model.decoders.values()))
    decoder.blocks[0].mix[2].train()
    with CallsOf(DECODE) as calls:
        tensors_of(model)
    masks = calls.arguments[0][6]
    dropped = [(mask != 1).any().item() for mask in masks[0]]
    assert dropped == [False, False, True, *[False] * (len(dropped) - 3)]


def test_without_dropout_there_are_no_masks():
    model = with_dropout(0.0)
    with CallsOf(DECODE) as calls:
        tensors_of(model)
    assert calls.arguments[0][6] is None
