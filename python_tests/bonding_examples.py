# SPDX-License-Identifier: MIT
"""Structures for tests of bonding and warnings: bulk, layers, slabs, molecules in a box, and porous frameworks."""

import itertools

import numpy as np

from dtnn_fast.crystals.crystal import Crystal

FCC = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])


def hexagonal(a, c):
    return np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, c]])


def from_fractional(name, numbers, fractional, cell):
    return Crystal.from_fractional(name, numbers, fractional, cell)


def rock_salt(cation=12, anion=8, a=4.212):
    fractional = np.vstack([FCC, FCC + 0.5])
    return from_fractional("rock salt", [cation] * 4 + [anion] * 4, fractional, np.eye(3) * a)


def fcc_metal(z=13, a=4.05):
    return from_fractional("metal", [z] * 4, FCC, np.eye(3) * a)


def magnesia_slab(vacuum=20.0):
    """Six (001) layers of MgO and empty space along c."""
    a, step = 2.978, 2.106
    height = 5 * step + vacuum
    layers = np.arange(6)
    z = layers * step / height
    corner, center = np.zeros(6), np.full(6, 0.5)
    sides = np.where(layers % 2 == 0, corner, center), np.where(layers % 2 == 0, center, corner)
    fractional = np.vstack([np.column_stack([side, side, z]) for side in sides])
    return from_fractional("slab", [12] * 6 + [8] * 6, fractional, np.diag([a, a, height]))


def molybdenite(gap=None):
    """Bulk MoS2 (2H), or one layer with a gap between its images."""
    if gap is None:
        z = 0.621
        fractional = [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]]
        fractional += [[1 / 3, 2 / 3, z], [2 / 3, 1 / 3, z + 0.5], [2 / 3, 1 / 3, 1 - z], [1 / 3, 2 / 3, 0.5 - z]]
        return from_fractional("MoS2", [42] * 2 + [16] * 4, fractional, hexagonal(3.161, 12.295))
    c = 3.19 + gap
    fractional = [[0, 0, 0.5], [2 / 3, 1 / 3, 0.5 + 1.595 / c], [2 / 3, 1 / 3, 0.5 - 1.595 / c]]
    return from_fractional("MoS2 layer", [42, 16, 16], fractional, hexagonal(3.18, c))


def graphite():
    fractional = [[0, 0, 0.25], [0, 0, 0.75], [1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]]
    return from_fractional("graphite", [6] * 4, fractional, hexagonal(2.461, 6.708))


def layered_iodide(z=82, a=4.557, c=6.979, height=0.265):
    """PbI2, or another iodide of this structure."""
    fractional = [[0, 0, 0], [1 / 3, 2 / 3, height], [2 / 3, 1 / 3, 1 - height]]
    return from_fractional("iodide", [z, 53, 53], fractional, hexagonal(a, c))


def methane(box=10.0):
    x = 0.629118
    corners = np.array([[x, x, x], [-x, -x, x], [x, -x, -x], [-x, x, -x]])
    return Crystal.make("methane", [6, 1, 1, 1, 1], np.vstack([[0, 0, 0], corners]) + box / 2, np.eye(3) * box)


def polyethylene(box=12.0):
    """One chain along c."""
    positions = [[0.42, 0, 0], [-0.42, 0, 1.27]]
    positions += [[1.05, y, 0] for y in (0.88, -0.88)] + [[-1.05, y, 1.27] for y in (0.88, -0.88)]
    return Crystal.make("chain", [6, 6, 1, 1, 1, 1], np.array(positions), np.diag([box, box, 2.54]))


def lone_atom(z=12, box=20.0):
    return Crystal.make("atom", [z], [[0, 0, 0]], np.eye(3) * box)


def zeolite_a():
    """Siliceous zeolite A (LTA), with cages of 11 Angstrom."""
    symmetric = [
        np.array(signs)[:, None] * np.eye(3)[list(order)]
        for order in itertools.permutations(range(3))
        for signs in itertools.product((1, -1), repeat=3)
    ]
    numbers, fractional = [], []
    sites = [(14, (0.3684, 0.1823, 0)), (8, (0.5, 0.2122, 0)), (8, (0.2967, 0.2967, 0)), (8, (0.3433, 0.11, 0.11))]
    for z, site in sites:
        copies = np.unique(np.round([operation @ site for operation in symmetric], 6) % 1.0, axis=0)
        numbers += [z] * len(copies)
        fractional.append(copies)
    return from_fractional("zeolite", numbers, np.vstack(fractional), np.eye(3) * 11.919)


def carbon_frame(num_steps=10):
    """Straight carbon chains along the edges of a cube: thinner than any real crystal, but in one piece."""
    steps = np.arange(num_steps) / num_steps
    axes = [np.outer(steps[1:], axis) for axis in np.eye(3)]
    fractional = np.vstack([np.zeros((1, 3)), *axes])
    return from_fractional("frame", [6] * len(fractional), fractional, np.eye(3) * 1.55 * num_steps)


def scaled(crystal, factor):
    return Crystal.make(crystal.id, crystal.atomic_numbers, factor * crystal.positions, factor * crystal.cell)
