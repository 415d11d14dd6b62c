# SPDX-License-Identifier: MIT
"""Rock salt of springs, whose force constants at q = 0 are known by hand, for phonopy."""

from __future__ import annotations

import numpy as np

EDGE, SPRING, CHARGE = 4.2, 3.0, 1.9
VOLUME = EDGE**3 / 4
CONF = "DIM = 2 2 2\nPRIMITIVE_AXIS = 0 1/2 1/2  1/2 0 1/2  1/2 1/2 0\n"


def unit_cell():
    """The conventional cell, with 8 atoms."""
    from phonopy.structure.atoms import PhonopyAtoms

    sites = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    return PhonopyAtoms(
        symbols=["Mg"] * 4 + ["O"] * 4, cell=EDGE * np.eye(3), scaled_positions=np.vstack([sites, (sites + 0.5) % 1])
    )


def spring_forces(ideal, displaced):
    """Forces of springs between nearest neighbors, at rest in the ideal crystal."""
    forces = np.zeros((len(ideal), 3))
    inverse = np.linalg.inv(ideal.cell)
    for atom in range(len(ideal)):
        offsets = ideal.positions - ideal.positions[atom]
        moved = displaced.positions - displaced.positions[atom]
        images = np.rint(offsets @ inverse) @ ideal.cell
        at_rest, now = offsets - images, moved - images
        for other in np.flatnonzero(np.abs(np.linalg.norm(at_rest, axis=1) - EDGE / 2) < 0.01):
            direction = at_rest[other] / np.linalg.norm(at_rest[other])
            forces[atom] += SPRING * np.dot(now[other] - at_rest[other], direction) * direction
    return forces
