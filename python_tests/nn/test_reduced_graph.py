# SPDX-License-Identifier: MIT
"""Reduced graphs: latents, tensors and gradients equal to those of the plain graph, and the errors."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from model_cases import (
    SMALL,
    TINY,
    assert_close,
    asymmetric_crystals,
    config,
    orthogonal,
    permuted,
    randomised,
    rattled,
    recelled,
    transformed,
    unwrapped,
    variant,
)

from dtnn_fast.crystals import Crystal, SymmetryOperations
from dtnn_fast.datasets.bundled import load_labelled, load_structures
from dtnn_fast.encoders import NativeEncoder, NativeEncoderConfig
from dtnn_fast.errors import BadCrystalError
from dtnn_fast.model.decoder_inputs import AtomInput
from dtnn_fast.model.exported import graph_tensors
from dtnn_fast.model.training_set import mean_scalars
from dtnn_fast.nn.graph import CrystalGraph, build_graph, collate, with_identity_turns
from dtnn_fast.nn.reduced_graph import build_reduced_graph
from dtnn_fast.ops import BondTurns, symmetrise_crystals
from dtnn_fast.symmetry import SNAP_TOLERANCE, find_operations

pytest.importorskip("moyopy")

EXACT = 1e-10


def with_operations(crystal: Crystal, tolerance: float = SNAP_TOLERANCE) -> Crystal:
    """Search for the operations of a crystal."""
    return replace(crystal, operations=find_operations(crystal, tolerance))


def snapped(crystal: Crystal, tolerance: float = SNAP_TOLERANCE) -> Crystal:
    """Make a crystal symmetric under its operations; the atoms are moved into the cell."""
    if crystal.operations is None:
        return crystal
    result = symmetrise_crystals(
        torch.from_numpy(crystal.positions),
        torch.from_numpy(crystal.cell)[None],
        torch.tensor([0, crystal.num_atoms]),
        torch.from_numpy(crystal.atomic_numbers),
        torch.from_numpy(crystal.operations.rotations),
        torch.from_numpy(crystal.operations.images),
        torch.tensor([0, len(crystal.operations)]),
        tolerance,
    )
    assert result.faults.tolist() == [[0, 0]]
    return replace(crystal, positions=result.positions.numpy(), cell=result.cell[0].numpy())


def stored_atoms(reduced: CrystalGraph, full: CrystalGraph) -> torch.Tensor:
    """Find the atoms of a plain graph of snapped crystals that a reduced graph keeps."""
    found = (full.positions[None] - reduced.positions[:, None]).abs().amax(2).argmin(1)
    assert (full.positions[found] - reduced.positions).abs().max() < 1e-12
    return found


@cache
def one_of_each_space_group() -> list[Crystal]:
    """Return the smallest bundled crystal of each space group, by the number that its source gives."""
    smallest: dict[int, Crystal] = {}
    for crystal in sorted([*load_labelled(), *load_structures()], key=lambda c: c.num_atoms):
        smallest.setdefault(crystal.info["space_group"], crystal)
    return [smallest[number] for number in sorted(smallest)]


@cache
def symmetric(space_group: int) -> Crystal:
    """Return a small labelled crystal of a space group, with its operations."""
    crystals = [crystal for crystal in load_labelled() if crystal.info["space_group"] == space_group]
    return with_operations(min(crystals, key=lambda crystal: crystal.num_atoms))


def forms(crystal: Crystal) -> dict[str, Crystal]:
    """Describe a crystal in sheared, repeated, unwrapped, rotated and reordered forms, without operations."""
    crystal = replace(crystal, operations=None)
    order = np.random.RandomState(3).permutation(crystal.num_atoms)
    return {
        "sheared": recelled(crystal, [[1, 3, -2], [0, 1, 4], [0, 0, 1]]),
        "left-handed": recelled(crystal, [[0, 1, 0], [1, 0, 0], [0, 0, 1]]),
        "long supercell": recelled(crystal, [[1, 0, 0], [0, 1, 0], [0, 0, 3]]),
        "doubled": recelled(crystal, [[2, 0, 0], [0, 2, 0], [0, 0, 2]]),
        "skew supercell": recelled(crystal, [[1, 1, 0], [-1, 1, 0], [0, 1, 1]]),
        "unwrapped": unwrapped(crystal, seed=1),
        "turned": transformed(unwrapped(crystal, seed=2), orthogonal(1, improper=False)),
        "mirrored": transformed(crystal, orthogonal(2, improper=True)),
        "reordered": permuted(crystal, order),
        "moved": replace(crystal, positions=crystal.positions + np.array([0.31, -7.2, 12.9])),
    }


# Cubic with half-translations, hexagonal, tetragonal, orthorhombic, monoclinic and triclinic.
GROUPS = (227, 225, 221, 194, 167, 152, 136, 62, 15, 14, 2)


class TestEqualToThePlainGraph:
    def test_every_space_group_of_the_bundled_crystals(self):
        model = randomised(config(layer=5, channels=TINY, latent=8))
        crystals = one_of_each_space_group()
        assert len(crystals) >= 150
        reduced_atoms = 0
        for crystal in map(with_operations, crystals):
            full = build_graph([snapped(crystal)], model.encoder.cutoffs, torch.float64)
            reduced = build_reduced_graph([crystal], model.encoder.cutoffs, torch.float64)
            if crystal.operations is None:
                assert not reduced.is_reduced
                continue
            with torch.no_grad():
                plain, ours = model.encoder(full), model.encoder(reduced)
                stored = stored_atoms(reduced, full)
                for a, b in zip(plain, ours, strict=True):
                    # Vectors and tensors that symmetry forbids are rounding, so the scalars give the size.
                    size = float(a.atom_scalar.abs().max())
                    for name in ("atom_scalar", "atom_vector", "atom_rank2"):
                        difference = getattr(b, name) - getattr(a, name)[stored]
                        assert difference.abs().max() < EXACT * size, (crystal.id, name)
                assert_close(model(reduced)["total"], model(full)["total"], EXACT)
            assert reduced.atom_weight.sum() == full.num_atoms
            for small, large in zip(reduced.tiers, full.tiers, strict=True):
                directed = (small.turns.counts * reduced.atom_weight[small.pairs]).sum()
                assert directed == 2 * large.num_bonds, crystal.id
            reduced_atoms += full.num_atoms - reduced.num_atoms
        assert reduced_atoms > 800

    @pytest.mark.parametrize("space_group", GROUPS)
    def test_other_forms_of_a_crystal(self, space_group):
        model = variant("layer5-bonds-residual")
        crystal = snapped(symmetric(space_group))
        with torch.no_grad():
            expected = model(model.graph([crystal]))["total"][0]
        for name, form in forms(crystal).items():
            with_symmetry = with_operations(form)
            assert with_symmetry.operations is not None, name
            reduced = build_reduced_graph([with_symmetry], model.encoder.cutoffs, torch.float64)
            num_bonds = build_graph([form], model.encoder.cutoffs).tiers[-1].num_bonds
            assert reduced.tiers[-1].num_bonds <= 0.6 * num_bonds, name
            # The frame of the cell is that of the form.
            frame = np.linalg.lstsq(crystal.cell, form.cell, rcond=None)[0]
            turned = frame.T if name in ("turned", "mirrored") else np.eye(3)
            with torch.no_grad():
                tensor = model(reduced)["total"][0]
            assert_close(tensor, turned @ expected.numpy() @ turned.T, EXACT)

    @pytest.mark.parametrize("name", ["layer4-bonds-residual", "layer3-simple-plain", "positive", "joint", "no-blocks"])
    def test_gradients_of_parameters(self, name):
        model = variant(name)
        crystals = [symmetric(number) for number in (225, 194, 62)] + [asymmetric_crystals()[2]]
        reduced = build_reduced_graph(crystals, model.encoder.cutoffs, torch.float64)
        full = build_graph([snapped(crystal) for crystal in crystals], model.encoder.cutoffs, torch.float64)
        weights = torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

        def gradients(graph):
            loss = (model(graph)["total"] * weights).square().sum()
            return torch.autograd.grad(loss, parameters, allow_unused=True)

        compared = 0
        largest = max(float(g.abs().max()) for g in gradients(full) if g is not None)
        for ours, plain in zip(gradients(reduced), gradients(full), strict=True):
            if plain is None:
                assert ours is None
                continue
            torch.testing.assert_close(ours, plain, rtol=0, atol=EXACT * largest)
            compared += 1
        assert compared > 10

    def test_batches_of_plain_and_reduced_graphs(self):
        model = variant("layer5-bonds-residual")
        cutoffs = model.encoder.cutoffs
        crystals = [asymmetric_crystals()[1], symmetric(221), asymmetric_crystals()[3], symmetric(167), symmetric(2)]
        one_call = build_reduced_graph(crystals, cutoffs, torch.float64)
        singles = [build_reduced_graph([crystal], cutoffs, torch.float64) for crystal in crystals]
        assert [graph.is_reduced for graph in singles] == [False, True, False, True, True]
        with torch.no_grad():
            expected = torch.cat([model(graph)["total"] for graph in singles])
            assert_close(model(one_call)["total"], expected, EXACT)
            assert_close(model(collate(singles))["total"], expected, EXACT)
            assert_close(model(collate(singles[::-1]))["total"], expected.flip(0), EXACT)

    def test_identity_turns_change_nothing(self):
        model = variant("layer4-bonds-residual")
        graph = model.graph(asymmetric_crystals())
        written = with_identity_turns(graph)
        assert written.is_reduced
        with torch.no_grad():
            assert_close(model(written)["total"], model(graph)["total"], EXACT)
        # A crystal without symmetry takes the same values on its way through the reduction.
        symmetry = SymmetryOperations.identity()
        crystals = [replace(crystal, operations=symmetry) for crystal in asymmetric_crystals()]
        reduced = build_reduced_graph(crystals, model.encoder.cutoffs, torch.float64)
        for ours, plain in zip(reduced.tiers, written.tiers, strict=True):
            ours_bonds = {(*pair, *s) for pair, s in zip(ours.pairs.T.tolist(), ours.shifts.tolist(), strict=True)}
            plain_bonds = {(*pair, *s) for pair, s in zip(plain.pairs.T.tolist(), plain.shifts.tolist(), strict=True)}
            backward = {(j, i, -a, -b, -c) for i, j, a, b, c in plain_bonds}
            assert len(ours_bonds) == len(plain_bonds)
            assert ours_bonds <= plain_bonds | backward
            for name in ("rotation", "counts"):
                assert torch.equal(getattr(ours.turns, name), getattr(plain.turns, name))
            for name in ("vector", "rank2"):
                assert torch.equal(getattr(ours.sites, name), getattr(plain.sites, name))

    def test_float32(self):
        model = variant("layer4-bonds-residual")
        single = randomised(config(channels=SMALL)).float()
        single.load_state_dict(model.state_dict())
        crystals = [symmetric(number) for number in GROUPS[:5]]
        with torch.no_grad():
            graph = build_reduced_graph(crystals, model.encoder.cutoffs)
            assert graph.tiers[0].turns.rotation.dtype == torch.float32
            expected = model(build_reduced_graph(crystals, model.encoder.cutoffs, torch.float64))["total"]
            assert_close(single(graph)["total"].double(), expected, 1e-4)
            converted = build_reduced_graph(crystals, model.encoder.cutoffs, torch.float64).to(dtype=torch.float32)
            assert_close(single(converted)["total"], single(graph)["total"], 1e-5)

    def test_means_over_atoms(self):
        encoder = NativeEncoder(NativeEncoderConfig(channels=TINY)).double()
        crystals = [symmetric(number) for number in (136, 62)]
        reduced = build_reduced_graph(crystals, encoder.cutoffs, torch.float64)
        full = build_graph([snapped(crystal) for crystal in crystals], encoder.cutoffs, torch.float64)
        with torch.no_grad():
            ours, plain = encoder(reduced), encoder(full)
        assert_close(
            mean_scalars(ours, reduced.ptr, reduced.atom_weight), torch.as_tensor(mean_scalars(plain, full.ptr)), EXACT
        )
        sizes = []
        for latents, weight in ((ours, reduced.atom_weight), (plain, None)):
            atoms = AtomInput(encoder.channels, (2, 4)).double()
            atoms.set_sizes(latents, weight)
            sizes.append(torch.cat([atoms.scalar_size, atoms.vector_size, atoms.rank2_size]))
        assert_close(*sizes, EXACT)


class TestNearlySymmetricCrystals:
    @pytest.mark.parametrize("space_group", [225, 194, 62])
    @pytest.mark.parametrize("amplitude", [1e-4, 3e-4])
    def test_differ_by_what_the_tolerance_explains(self, space_group, amplitude):
        model = variant("layer4-bonds-residual")
        exact = snapped(symmetric(space_group))
        random = np.random.RandomState(5)
        strain = np.eye(3) + random.uniform(-1, 1, (3, 3)) * 0.3 * amplitude / np.abs(exact.cell).max()
        positions = exact.positions + random.uniform(-amplitude, amplitude, exact.positions.shape) / 2
        nearly = replace(exact, positions=positions @ strain, cell=exact.cell @ strain)
        graph = model.graph([nearly])
        found = with_operations(nearly, 1e-3)
        assert len(found.operations) == len(exact.operations)
        reduced = build_reduced_graph([found], model.encoder.cutoffs, torch.float64, tolerance=1e-3)
        with torch.no_grad():
            tensor, plain = model(reduced)["total"], model(graph)["total"]
            symmetric_tensor = model(model.graph([exact]))["total"]
        # Snapping moves the crystal by about as far as it had been moved away from symmetry.
        change = float((plain - symmetric_tensor).abs().max())
        assert 0 < float((tensor - plain).abs().max()) < 4 * change + 1e-9
        # The reduced graph is that of the snapped crystal.
        with torch.no_grad():
            assert_close(tensor, model(model.graph([snapped(found, 1e-3)]))["total"], EXACT)

    def test_atoms_beyond_the_tolerance(self):
        crystal = symmetric(225)
        moved = crystal.positions.copy()
        moved[1] += [0.004, 0.0, 0.0]
        off = replace(crystal, positions=moved, id="off")
        with pytest.raises(BadCrystalError, match=r"off .*: expected (atoms within|`operations` that map)"):
            build_reduced_graph([off], (3.0,), torch.float64)
        strained = replace(crystal, cell=crystal.cell @ np.diag([1.01, 1.0, 1.0]))
        strained = replace(strained, positions=crystal.positions @ np.diag([1.01, 1.0, 1.0]))
        with pytest.raises(BadCrystalError, match="expected a cell within `tolerance` of its symmetric form"):
            build_reduced_graph([strained], (3.0,), torch.float64)

    def test_the_frame_does_not_rotate(self):
        crystal = symmetric(194)
        random = np.random.RandomState(1)
        random_matrix = random.normal(size=(3, 3))
        strain = np.eye(3) + 1e-5 * (random_matrix + random_matrix.T)
        nearly = replace(crystal, positions=crystal.positions @ strain, cell=crystal.cell @ strain)
        change = np.linalg.solve(nearly.cell, snapped(nearly).cell)
        assert np.abs(change - np.eye(3)).max() > 1e-6
        np.testing.assert_allclose(change, change.T, atol=1e-14)


class TestBadInput:
    def cases(self):
        crystal = symmetric(225)
        rotations, images = crystal.operations
        assert len(images) == 48
        other_element = int(np.flatnonzero(crystal.atomic_numbers != crystal.atomic_numbers[0])[0])
        wrong_images = images.copy()
        wrong_images[5] = other_element
        far = images.copy()
        far[3] = 99
        singular = rotations.copy()
        singular[4, 0] = 0
        shear = rotations.copy()
        shear[4] = [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
        flat = np.zeros((0, 3, 3), np.int32), np.zeros(0, np.int64)
        return {
            "element": (SymmetryOperations(rotations, wrong_images), "operation 5 takes atom 0 to another element"),
            "atom": (SymmetryOperations(rotations, far), "among its atoms, operation 3"),
            "matrix": (SymmetryOperations(singular, images), "determinant 1 or -1 .* operation 4"),
            "shear": (SymmetryOperations(shear, images), "cell within|map the crystal"),
            "part": (SymmetryOperations(rotations[:-1], images[:-1]), "are a group"),
            "twice": (
                SymmetryOperations(np.concatenate([rotations, rotations[:1]]), np.append(images, images[0])),
                "are a group, each once",
            ),
            "no identity": (SymmetryOperations(rotations[1:], images[1:]), "are a group"),
            "none": (SymmetryOperations(*flat), r"shape \[G, 3, 3\]"),
            "floats": (SymmetryOperations(rotations.astype(float), images), "of integers"),
            "shapes": (SymmetryOperations(rotations, images[:-1]), "shape"),
        }

    def test_operations_that_do_not_fit(self):
        crystal = symmetric(225)
        good = symmetric(194)
        for name, (operations, message) in self.cases().items():
            bad = replace(crystal, operations=operations, id=name, source="")
            with pytest.raises(BadCrystalError, match=f"^{name}: .*{message}"):
                build_reduced_graph([good, bad], (3.0, 4.0), torch.float64)

    def test_failures_keep_all_atoms_of_their_crystal(self):
        model = variant("layer4-bonds-residual")
        crystal, good = symmetric(225), symmetric(194)
        for name, (operations, _) in self.cases().items():
            bad = replace(crystal, operations=operations)
            failed = []
            graph = build_reduced_graph(
                [bad, good], model.encoder.cutoffs, torch.float64, on_failure=lambda *why, to=failed: to.append(why)
            )
            assert [index for index, _ in failed] == [0], name
            plain = replace(bad, operations=None)
            with torch.no_grad():
                expected = model(build_reduced_graph([plain, good], model.encoder.cutoffs, torch.float64))["total"]
                assert_close(model(graph)["total"], expected, EXACT)
            assert graph.atom_weight[: crystal.num_atoms].tolist() == [1.0] * crystal.num_atoms

    def test_operations_of_another_crystal(self):
        crystal = rattled(symmetric(225), amplitude=0.05)
        with pytest.raises(BadCrystalError, match="expected"):
            build_reduced_graph([crystal], (3.0,), torch.float64)

    def test_empty_and_non_periodic(self):
        with pytest.raises(BadCrystalError, match="expected at least one crystal"):
            build_reduced_graph([], (3.0,))
        empty = Crystal.make("void", [], [], np.eye(3))
        with pytest.raises(BadCrystalError, match="void: expected at least one atom"):
            build_reduced_graph([empty], (3.0,))
        slab = replace(symmetric(225), pbc=np.array([True, True, False]), id="slab", source="")
        with pytest.raises(BadCrystalError, match="slab: expected a crystal that is periodic"):
            build_reduced_graph([slab], (3.0,))

    @pytest.mark.parametrize("tolerance", [0.0, 1e-12, -1.0, float("nan"), float("inf")])
    def test_tolerance_below_rounding(self, tolerance):
        with pytest.raises(RuntimeError, match="expected a finite `tolerance` of 1e-09 Angstrom or more"):
            build_reduced_graph([symmetric(225)], (3.0,), tolerance=tolerance)

    def test_graphs_that_cannot_be_joined(self):
        reduced = build_reduced_graph([symmetric(225)], (3.0,), torch.float64)
        plain = build_graph([symmetric(225)], (3.0,))
        with pytest.raises(ValueError, match="collate: expected `graphs` with the same dtype"):
            collate([reduced, plain])
        with pytest.raises(ValueError, match="collate: expected `graphs` with the same cutoffs"):
            collate([reduced, build_graph([symmetric(225)], (4.0,), torch.float64)])
        with pytest.raises(ValueError, match="collate: expected `graphs` with the same device"):
            collate([reduced, build_graph([symmetric(225)], (3.0,), torch.float64).to("meta")])

    def test_export_takes_plain_graphs(self):
        with pytest.raises(ValueError, match="expected a plain `graph`"):
            graph_tensors(build_reduced_graph([symmetric(225)], (3.0,)))


def test_compiles():
    model = variant("layer4-bonds-residual")
    compiled = torch.compile(model, backend="aot_eager", dynamic=True, fullgraph=True)
    for groups in ((225, 194), (225, 62, 2)):
        graph = build_reduced_graph([symmetric(group) for group in groups], model.encoder.cutoffs, torch.float64)
        assert_close(compiled(graph)["total"].detach(), model(graph)["total"].detach(), 1e-12)


def test_isolated_atoms_have_no_bonds():
    """A cell without any bond shorter than the cutoff."""
    crystal = Crystal.make("thin", [2], [[1.0, 2.0, 3.0]], 9.0 * np.eye(3))
    crystal = with_operations(crystal)
    assert len(crystal.operations) == 48
    graph = build_reduced_graph([crystal], (3.0, 4.0, 6.0), torch.float64)
    assert [tier.num_bonds for tier in graph.tiers] == [0, 0, 0]
    model = variant("layer4-bonds-residual")
    with torch.no_grad():
        tensor = model(build_reduced_graph([crystal], model.encoder.cutoffs, torch.float64))["total"]
        assert_close(tensor, model(model.graph([crystal]))["total"], EXACT)


def test_bonds_at_the_cutoff_itself():
    """Rounding decides whether a list holds bonds of exactly the longest cutoff; their messages are zero."""
    cell = 4.0 * transformed(Crystal.make("", [1], [[0, 0, 0]], np.eye(3)), orthogonal(7, improper=False)).cell
    crystal = Crystal.make("sc", [14], [[0.1, 0.2, 0.3]], cell)
    found = with_operations(crystal)
    model = variant("layer4-bonds-residual")
    for cutoffs in ((3.0, 4.0), (3.0, 4.0 * np.sqrt(2.0)), (4.0, 4.0 * np.sqrt(3.0))):
        graph = build_reduced_graph([found], cutoffs, torch.float64)
        assert graph.tiers[-1].num_bonds <= 3
    assert found.operations is not None
    with torch.no_grad():
        tensor = model(build_reduced_graph([found], model.encoder.cutoffs, torch.float64))["total"]
        assert_close(tensor, model(model.graph([crystal]))["total"], EXACT)


def test_turns_of_no_bonds():
    turns = BondTurns.identity(0, torch.zeros(1))
    assert [list(values.shape) for values in turns] == [[0, 3, 3], [2, 0]]
