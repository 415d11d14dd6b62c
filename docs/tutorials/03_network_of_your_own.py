# ---
# jupyter:
#   SPDX-License-Identifier: MIT
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3. A network of your own
#
# The operations of `dtnn_fast` are ordinary PyTorch operations. Here they carry an
# equivariant network of 60 lines, which learns the electronic dielectric tensors of
# small crystals in a few seconds on one core. Nothing of the package's own models is
# used.
#
# You need the extra `all` ([how to install](../../install/)), and should have seen a
# `torch.nn.Module` before.

# %%
import math
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

from dtnn_fast.datasets import load_labelled
from dtnn_fast.ops import (
    bond_to_atom_sum,
    bond_vectors,
    neighbor_list,
    rank2_gate,
    rank2_linear,
    tensor_readout,
)

torch.manual_seed(0)
torch.set_num_threads(1)  # for small networks more threads are no faster
work = Path(tempfile.mkdtemp(prefix="dtnn_fast_"))  # for the pictures of this page

# %% [markdown]
# ## Bonds
#
# A batch of crystals is one long list of atoms: `ptr` says where each crystal begins.
# `neighbor_list` finds all bonds shorter than the cutoff in all crystals at once,
# periodic images included. Here: MgO and diamond, in their primitive cells.

# %%
mgo = 2.105 * torch.tensor([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
diamond = 1.783 * torch.tensor([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
cells = torch.stack([mgo, diamond])
positions = torch.tensor([[0.0] * 3, [2.105] * 3, [0.0] * 3, [0.8915] * 3])
ptr = torch.tensor([0, 2, 4])
periodic = torch.tensor([True, True, True])

bonds = neighbor_list(positions, cells, periodic, 2.2, ptr)
print("centers  ", bonds.pairs[0].tolist())
print("neighbors", bonds.pairs[1].tolist())
print("the bonds of atom i are row_ptr[i]:row_ptr[i + 1]:", bonds.row_ptr.tolist())

# %% [markdown]
# Mg and O have six neighbors each, carbon four. `bond_vectors` is the differentiable
# part, from center to neighbor. `bond_to_atom_sum` adds up what the bonds of an atom
# carry. The sum of ones is the coordination number; the sum of the vectors vanishes at
# these symmetric sites.

# %%
vectors = bond_vectors(positions, cells, bonds.pairs, bonds.shifts, ptr)
lengths = {round(length, 3) for length in vectors.norm(dim=1).tolist()}
ones = torch.ones(len(vectors), 1)
coordination = bond_to_atom_sum(ones, bonds.pairs, bonds.row_ptr)
print("lengths (Angstrom)", sorted(lengths))
print("coordination", coordination.flatten().tolist())
assert bond_to_atom_sum(vectors, bonds.pairs, bonds.row_ptr).abs().max() < 1e-5

# %% [markdown]
# ## The network
#
# Each atom has channels of scalars s, vectors v and symmetric tensors t. Tensors are
# stored as six numbers in the order xx, yy, zz, yz, xz, xy. Shapes are [atoms,
# channels], [atoms, 3, channels] and [atoms, 6, channels].
#
# From a bond come its direction u, the six numbers of u ⊗ u, a few functions of its
# length, and a factor that fades to zero at the cutoff. A layer sends a message along
# each bond, sums the messages at the atoms, and updates the atoms. What keeps it
# equivariant is that vectors and tensors are only ever multiplied by scalars, and mixed
# among channels:
#
# - `rank2_linear` mixes channels, and gives the norms, which are scalars;
# - `rank2_gate` mixes channels, scales them with the sigmoid of a scalar, and adds a
#   residual;
# - `tensor_readout` makes the tensor of each crystal: the mean over its atoms of s 1 +
#   v ⊗ v + t.

# %%
CUTOFF, C, RADIAL = 4.5, 16, 8  # Angstrom, number of channels, of radial functions


def mixing():
    """Make the weights of a linear map between channels."""
    return nn.Parameter(torch.randn(C, C) / C**0.5)


def perceptron(inputs, outputs):
    """Make a network for scalars."""
    return nn.Sequential(nn.Linear(inputs, 2 * C), nn.SiLU(), nn.Linear(2 * C, outputs))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.message = perceptron(2 * C + RADIAL, 5 * C)
        self.update = perceptron(4 * C, 3 * C)
        self.mix_v, self.mix_t = mixing(), mixing()
        self.gate_v, self.gate_t = mixing(), mixing()

    def forward(self, s, v, t, bonds, geometry, bond_sum):
        i, j = bonds.pairs
        direction, square, radial, fade = geometry
        factors = fade * self.message(torch.cat([s[i], s[j], radial], dim=1))
        a, b, c, d, e = factors.unsqueeze(1).chunk(5, dim=2)
        # A scalar, a vector and a tensor for each bond and channel. [E, 1 + 3 + 6, C]
        messages = [a, b * direction + c * v[j], d * square + e * t[j]]
        sums = bond_sum(torch.cat(messages, dim=1), bonds.pairs, bonds.row_ptr)
        sum_s, sum_v, sum_t = (sums / 10).split([1, 3, 6], dim=1)
        v, v_norm = rank2_linear(v + sum_v, self.mix_v, norm=True)
        t, t_norm = rank2_linear(t + sum_t, self.mix_t, norm=True)
        scalars = self.update(torch.cat([s, sum_s.squeeze(1), v_norm, t_norm], dim=1))
        change, v_gate, t_gate = scalars.chunk(3, dim=1)
        v = rank2_gate(v, v_gate, self.gate_v, residual=v)
        t = rank2_gate(t, t_gate, self.gate_t, residual=t)
        return s + change, v, t


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.elements = nn.Embedding(100, C)
        self.layers = nn.ModuleList([Layer(), Layer()])
        self.out_s, self.out_v, self.out_t = nn.Linear(C, C), mixing(), mixing()

    def forward(self, numbers, positions, cells, ptr, bonds, bond_sum=bond_to_atom_sum):
        d = bond_vectors(
            positions, cells, bonds.pairs, bonds.shifts, ptr, bonds.row_ptr
        )
        length = d.norm(dim=1, keepdim=True)
        direction = (d / length).unsqueeze(2)
        x, y, z = direction.unbind(1)
        square = torch.stack([x * x, y * y, z * z, y * z, x * z, x * y], dim=1)
        waves = torch.arange(1, RADIAL + 1) * math.pi / CUTOFF
        radial = torch.sin(waves * length) / length
        fade = 0.5 + 0.5 * torch.cos(math.pi / CUTOFF * length)  # zero at the cutoff
        s = self.elements(numbers)
        v, t = s.new_zeros(len(s), 3, C), s.new_zeros(len(s), 6, C)
        for layer in self.layers:
            s, v, t = layer(s, v, t, bonds, (direction, square, radial, fade), bond_sum)
        v, t = 0.3 * rank2_linear(v, self.out_v), rank2_linear(t, self.out_t)
        return tensor_readout(self.out_s(s), v, t, ptr)


network = Network()
print(sum(parameter.numel() for parameter in network.parameters()), "parameters")

# %% [markdown]
# ## Is it equivariant?
#
# Before any training: turn and mirror the two crystals by an orthogonal matrix Q. The
# predicted tensors must turn with them, to Q ε Q^T. In double precision the difference
# is rounding only. (The tensors of an untrained network mean nothing otherwise.)

# %%
double = Network().double()
Q = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
Q[0] *= -torch.det(Q).sign()  # with a reflection
numbers = torch.tensor([12, 8, 6, 6])
# Strained: in cubic crystals the tensor would be isotropic and the check too easy.
strained = (torch.eye(3) + 0.2 * torch.randn(3, 3)).double()
xyz, lattices = positions.double() @ strained, cells.double() @ strained


def predict(xyz, lattices):
    """Predict from positions and cells: bonds, then network."""
    bonds = neighbor_list(xyz, lattices, periodic, CUTOFF, ptr)
    return double(numbers, xyz, lattices, ptr, bonds)


epsilon = predict(xyz, lattices)
turned = predict(xyz @ Q.T, lattices @ Q.T)
violation = (turned - Q @ epsilon @ Q.T).abs().max().item()
print(np.round(epsilon[0].detach().numpy(), 3))
print(f"largest violation: {violation:.1e}")
assert violation < 1e-12

# %% [markdown]
# ## Real data
#
# The 955 bundled crystals have electronic tensors by DFPT. We take small cells, and
# leave out the largest tensors, whose crystals have nearly no gap. A sixth of the
# crystals is kept aside. The neighbor lists are made once.

# %%
crystals = [crystal for crystal in load_labelled() if crystal.num_atoms <= 10]
crystals = [c for c in crystals if np.trace(c.targets["electronic"]) < 45]
order = np.random.default_rng(0).permutation(len(crystals))
held_out, learned = np.split(order, [len(crystals) // 6])


def make_batch(indices):
    """Join crystals, with their bonds and their tensors."""
    chosen = [crystals[index] for index in indices]
    numbers = torch.tensor(np.concatenate([c.atomic_numbers for c in chosen]))
    xyz = torch.tensor(np.concatenate([c.positions for c in chosen])).float()
    lattices = torch.tensor(np.stack([c.cell for c in chosen])).float()
    ptr = torch.tensor(np.cumsum([0, *(c.num_atoms for c in chosen)]))
    bonds = neighbor_list(xyz, lattices, periodic, CUTOFF, ptr)
    tensors = torch.tensor(np.stack([c.targets["electronic"] for c in chosen])).float()
    return (numbers, xyz, lattices, ptr, bonds), tensors


test_inputs, test_tensors = make_batch(held_out)
parts = np.array_split(learned, len(learned) // 32)
batches = [make_batch(part) for part in parts]
num_bonds = sum(inputs[-1].pairs.shape[1] for inputs, _ in batches)
print(f"{len(learned)} crystals to learn from, with {num_bonds:,} bonds")
print(f"{len(held_out)} crystals kept aside")

# %% [markdown]
# ## Train
#
# Nothing special: AdamW, a mean absolute error over the nine elements, a learning rate
# that rises and falls. Watch the error of the crystals that were kept aside. Predicting
# the median tensor for all of them would give the first number.

# %%
EPOCHS = 25
optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.1)
steps = EPOCHS * len(batches)
schedule = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=0.01, total_steps=steps
)
median = torch.cat([tensors for _, tensors in batches]).median(dim=0).values
baseline = (test_tensors - median).abs().mean().item()
print(f"median of the training set: error {baseline:.3f}")

history = []
for epoch in range(EPOCHS):
    losses = []
    for index in torch.randperm(len(batches)).tolist():
        inputs, tensors = batches[index]
        loss = (network(*inputs) - tensors).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    with torch.no_grad():
        predicted = network(*test_inputs)
    error = (predicted - test_tensors).abs().mean().item()
    history.append((np.mean(losses), error))
    if epoch % 6 == 0 or epoch == EPOCHS - 1:
        mean_loss = np.mean(losses)
        print(f"epoch {epoch + 1:2}: training {mean_loss:.3f}, kept aside {error:.3f}")
assert history[-1][0] < 0.2 * history[0][0]
assert history[-1][1] < 0.5 * baseline

# %%
figure, (curve, parity) = plt.subplots(1, 2, figsize=(7.8, 3.7), layout="constrained")
curve.plot(np.arange(1, EPOCHS + 1), history, label=["training", "kept aside"])
curve.axhline(baseline, color="0.5", linestyle=":", label="median of the training set")
curve.set(xlabel="epoch", ylabel="mean absolute error of the elements", yscale="log")
curve.set_yticks([0.2, 0.5, 1, 2], ["0.2", "0.5", "1", "2"])
curve.minorticks_off()
curve.legend(frameon=False, fontsize=9)

by_dfpt, by_network = torch.linalg.eigvalsh(torch.stack([test_tensors, predicted]))
parity.plot([1, 20], [1, 20], color="0.5", linewidth=1)
parity.scatter(by_dfpt.flatten(), by_network.flatten(), s=9, alpha=0.6)
parity.set(xlabel="electronic principal values by DFPT", ylabel="predicted, kept aside")
parity.set(xlim=(1, 20), ylim=(1, 20), aspect="equal")
parity.set(xticks=(5, 10, 15, 20), yticks=(5, 10, 15, 20))
figure.savefig(work / "training.png", dpi=120)

# %% [markdown]
# The bundled models have deeper networks, and learned from far more atoms; but the
# parts are these.
#
# ## The same without `bond_to_atom_sum`
#
# PyTorch has `index_add_`, and the network gives the same with it.

# %%


def plain_sum(values, pairs, row_ptr):
    """Sum bonds into atoms by PyTorch alone."""
    sums = values.new_zeros(len(row_ptr) - 1, *values.shape[1:])
    return sums.index_add_(0, pairs[0], values)


with torch.no_grad():
    plain = network(*test_inputs, bond_sum=plain_sum)
difference = (plain - predicted).abs().max().item()
print(f"largest difference of the predicted tensors: {difference:.1e}")
assert difference < 1e-4

# %% [markdown]
# The operation adds in a fixed order, for any number of threads and on GPUs, where
# `index_add_` adds in any order. As to speed, look at the two sizes below, with forward
# and backward pass: for the crystals that were kept aside there is nothing to gain, for
# a cell of 4,096 atoms there is. ([All sizes](../../performance/), beside other
# packages.)

# %%


def milliseconds(bond_sum, bonds):
    """Time forward and backward pass of a sum of messages: the best of five."""
    values = torch.randn(len(bonds.shifts), 10, C, requires_grad=True)
    weights = torch.randn(len(bonds.row_ptr) - 1, 10, C)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        (bond_sum(values, bonds.pairs, bonds.row_ptr) * weights).sum().backward()
        times.append(1e3 * (time.perf_counter() - start))
    return min(times)


box = 33.6 * torch.eye(3)
large = neighbor_list(33.6 * torch.rand(4096, 3), box, periodic, CUTOFF)
for bonds in (test_inputs[-1], large):
    ours, plain = milliseconds(bond_to_atom_sum, bonds), milliseconds(plain_sum, bonds)
    count = len(bonds.shifts)
    print(
        f"{count:7,} bonds: bond_to_atom_sum {ours:4.1f} ms, index_add_ {plain:4.1f} ms"
    )

# %% [markdown]
# ## Derivatives
#
# Everything is differentiable in positions and cell, twice if need be. The derivative
# of ε with respect to the atoms is what makes Raman intensities. Moving all atoms
# together changes nothing, so it sums to zero over the atoms of a crystal.

# %%
xyz.requires_grad_()
yz = predict(xyz, lattices)[1, 1, 2]  # of the second crystal, diamond
(raman,) = torch.autograd.grad(yz, xyz)
print("derivative of yz with respect to the atoms (1/Angstrom):")
print(np.round(raman[2:].numpy(), 4))
assert raman[2:].abs().max() > 1e-3
assert raman[2:].sum(0).abs().max() < 1e-10

# %% [markdown]
# All operations, with what each computes: [operations](../../kernels/). Code for other
# packages needs small changes only: [coming from another package](../../coming_from/).
# Next: [train on your own tensors](../04_train_on_your_tensors/).

# %%
print(f"The pictures of this page are in {work}")
