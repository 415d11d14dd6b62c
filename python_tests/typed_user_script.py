# SPDX-License-Identifier: MIT
"""A program of a user, which test_typing.py checks with ``mypy --strict``; it is not run."""

from pathlib import Path
from typing import Any, assert_type

import numpy as np
import torch
from numpy.typing import NDArray

import dtnn_fast
from dtnn_fast import DTNN, Ensemble, LatticeModel
from dtnn_fast.crystals import Crystal, Rejected, check_crystal, to_crystals
from dtnn_fast.datasets import load_labelled
from dtnn_fast.errors import DTNNError
from dtnn_fast.formats import read_crystals
from dtnn_fast.numpy import neighbor_list as numpy_neighbor_list
from dtnn_fast.ops import NeighborList, SkinNeighborList, bond_to_atom_sum, bond_vectors, neighbor_list
from dtnn_fast.training.train_run import train_run
from dtnn_fast.training.training_settings import TrainingSettings

model = DTNN.from_pretrained("dielectric-total")
ensemble = Ensemble.from_pretrained(Path("runs") / "ensemble")
crystals = [one for one in read_crystals(Path("NaCl.cif")) if not isinstance(one, Rejected)]
for crystal in assert_type(to_crystals(crystals), list[Crystal]):
    check_crystal(crystal)
try:
    epsilon, error = model.predict_with_errors(crystals)
except DTNNError as problem:
    raise SystemExit(str(problem)) from problem
assert_type(model.predict(crystals[0], symmetrise=True), np.ndarray)
assert_type(ensemble.predict_targets(crystals), dict[str, np.ndarray])
assert_type(LatticeModel.from_pretrained("lattice").predict(crystals)[0].born_charges, np.ndarray)
assert_type(DTNN.from_pretrained("dielectric").with_targets(["electronic"]).targets, tuple[str, ...])

positions, cell, pbc = torch.rand(8, 3), 5 * torch.eye(3), torch.tensor([True, True, True])
bonds = assert_type(neighbor_list(positions, cell, pbc, cutoff=4.0), NeighborList)
lengths = bond_vectors(positions, cell, bonds.pairs, bonds.shifts).norm(dim=-1, keepdim=True)
assert_type(bond_to_atom_sum(torch.exp(-lengths), bonds.pairs, bonds.row_ptr), torch.Tensor)
assert_type(SkinNeighborList(cutoff=4.0, skin=1.0).update(positions, cell, pbc), NeighborList)
assert_type(dtnn_fast.ops.nearest_neighbors(positions, cell, pbc, 4).pairs, torch.Tensor)
assert_type(dtnn_fast.ops.native_operations.bond_reverses(*bonds), torch.Tensor)
centers, distances = numpy_neighbor_list("id", positions.numpy(), 4.0, cell.numpy(), pbc.numpy())
assert_type(dtnn_fast.numpy.neighbor_list("i", [[0.0, 0.0, 0.0]], 3.5), NDArray[Any] | tuple[NDArray[Any], ...])

table = dtnn_fast.screen("structures/", where="nsites <= 20", output=Path("screening"))
settings = TrainingSettings(epochs=100, learning_rate=1e-3)
results = train_run(settings, load_labelled(), Path("runs"), on_epoch=lambda trainer, epoch: print(epoch))
with dtnn_fast.use_backend("reference"):
    model.predict(crystals)
