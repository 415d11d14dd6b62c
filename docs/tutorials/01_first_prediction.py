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
# # 1. A first prediction
#
# From a crystal structure to its dielectric tensor, with an error bar, in a few lines.
# Then: what the numbers mean, when not to trust them, and how close they come for
# crystals that you know.
#
# You need the extra `all` ([how to install](../../install/)). The page runs in a few
# seconds; no GPU and no network are needed.

# %%
import tempfile
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from ase.build import bulk, make_supercell
from ase.spacegroup import crystal as ase_crystal
from pymatgen.core import Lattice, Structure

from dtnn_fast import DTNN
from dtnn_fast.datasets import load_textbook
from dtnn_fast.errors import BadCrystalError
from dtnn_fast.formats import read_crystals
from dtnn_fast.integrations import dielectric_of
from dtnn_fast.screening.engine import crystal_warnings

work = Path(tempfile.mkdtemp(prefix="dtnn_fast_"))  # for the files of this page


# %% [markdown]
# ## A crystal and its tensor
#
# Zirconia, ZrO2, is monoclinic at room temperature. Three atoms of the measured
# structure (C. J. Howard et al., Acta Cryst. B44, 116, 1988) and the space group give
# the cell of twelve atoms.
#
# `dielectric_of` predicts everything that a model knows about one structure.
# `DTNN.from_pretrained("dielectric")` loads the model that comes with the package.

# %%
cell_lengths, beta = (5.1505, 5.2116, 5.3173), 99.23
elements = ["Zr", "O", "O"]
sites = [[0.2754, 0.0395, 0.2083], [0.0700, 0.3317, 0.3447], [0.4496, 0.7569, 0.4792]]
zirconia = Structure.from_spacegroup(
    "P2_1/c", Lattice.monoclinic(*cell_lengths, beta), elements, sites
)

model = DTNN.from_pretrained("dielectric")
result = dielectric_of(zirconia, model)


def show(tensor):
    """Print a tensor with two decimals."""
    print(np.round(tensor, 2) + 0.0)  # + 0.0 turns -0.0 into 0.0


for target, tensor in result.tensors.items():
    mean, error = result.mean(target), result.mean_errors[target]
    print(f"{target}: mean {mean:.2f} ± {error:.2f}")
    show(tensor)

# %% [markdown]
# There are three tensors, all relative to vacuum:
#
# | tensor | what responds | symbol |
# | --- | --- | --- |
# | electronic | the electrons, while the atoms stand still: light | ε∞ |
# | ionic | the atoms, which the field displaces | |
# | total | both, electronic + ionic: a capacitor at low frequency | ε0, or κ |
#
# "Mean" is a third of the trace, the value of a powder or a polycrystal to first order.
# The error bar behind it, `±`, is made to hold for nine of ten crystals.
# Density-functional perturbation theory (DFPT) with the PBE functional is what the
# model learned, so that is what it predicts: at 0 K, for the structure exactly as you
# give it.
#
# The thirty textbook crystals of the package have the DFPT value of zirconia. The
# prediction should meet it within its error bar.

# %%
textbook = {entry.crystal.id: entry for entry in load_textbook()}
by_dfpt = textbook["ZrO2"].theory_mean("total")
mean, error = result.mean("total"), result.mean_errors["total"]
print(f"total, mean: predicted {mean:.1f} ± {error:.1f}, by DFPT {by_dfpt:.1f}")
assert abs(mean - by_dfpt) < error

# %% [markdown]
# ## Principal values and refractive indices
#
# Principal values do not depend on the frame. They are the eigenvalues of the tensor,
# and its eigenvectors the principal axes. The refractive indices, far below the band
# gap, are the roots of the electronic principal values; those measured for zirconia in
# yellow light lie at about 2.13 to 2.20. PBE makes band gaps too small and electronic
# tensors too large, so expect the indices to be a few per cent too high.

# %%
values, axes = np.linalg.eigh(result.total)
for value, axis in zip(values, axes.T, strict=True):
    print(f"principal value {value:5.2f} along {np.round(axis, 2) + 0.0}")
indices = np.sqrt(np.linalg.eigvalsh(result.electronic))
print("refractive indices", np.round(indices, 2))

# %% [markdown]
# ## Three ways in, and the frame
#
# A structure of pymatgen, an `Atoms` of ASE, or a file: all are good. But a tensor
# belongs to a Cartesian frame, and this is the frame of the lattice vectors that you
# give. pymatgen puts c along z. ASE puts a along x. A CIF has lengths and angles only,
# and is read into pymatgen's frame.
#
# Look at the element xz below: it changes from one frame to the other, while the mean
# and the principal values stay.

# %%
atoms = ase_crystal(
    elements, sites, spacegroup=14, cellpar=[*cell_lengths, 90, beta, 90]
)
zirconia.to(filename=str(work / "zirconia.cif"))
(from_cif,) = read_crystals(work / "zirconia.cif")

ways = {"pymatgen": zirconia, "ASE": atoms, "CIF": from_cif}
tensors = {
    name: dielectric_of(structure, model).total for name, structure in ways.items()
}
for name, tensor in tensors.items():
    xx, xz, zz = tensor[0, 0], tensor[0, 2], tensor[2, 2]
    principal = np.round(np.linalg.eigvalsh(tensor), 2)
    print(f"{name:9} xx {xx:.2f}  xz {xz:.2f}  zz {zz:.2f}  principal {principal}")

# %% [markdown]
# If the same crystal has the lattice vectors `A` (rows) in one frame and `B` in
# another, the rotation `R` below turns tensors of the second frame into the first.

# %%
A, B = zirconia.lattice.matrix, atoms.cell.array
R = (np.linalg.inv(B) @ A).T
difference = np.abs(R @ tensors["ASE"] @ R.T - tensors["pymatgen"]).max()
print(f"largest difference after the rotation: {difference:.1e}")
assert difference < 1e-3

# %% [markdown]
# ## A picture
#
# A field E of fixed strength, turned through all directions, makes the displacement D =
# ε0 ε E. The tips of D form an ellipsoid, whose semi-axes are the principal values (in
# units of ε0 E). On the left is its section with the plane of a and c, and the same for
# the other two tensors. In an isotropic crystal they would be circles.

# %%
angle = np.linspace(0, 2 * np.pi, 200)
zero, one = np.zeros_like(angle), np.ones_like(angle)
circle = np.stack([np.sin(angle), zero, np.cos(angle)])  # in the plane of a and c
polar = np.linspace(0, np.pi, 40)[:, None]
sphere = np.sin(polar) * np.stack([np.cos(angle), np.sin(angle), zero])[:, None]
sphere[2] = np.cos(polar) * one

figure = plt.figure(figsize=(7.5, 3.6), layout="constrained", dpi=120)
flat = figure.add_subplot(1, 2, 1)
for target in ("total", "ionic", "electronic"):
    x, _, z = result.tensors[target] @ circle
    flat.plot(x, z, label=target)
for name, vector in (("a", A[0]), ("c", A[2])):
    x, _, z = 30 * vector / np.linalg.norm(vector)
    flat.annotate("", (x, z), (0, 0), arrowprops={"arrowstyle": "->", "color": "0.4"})
    flat.text(1.05 * x, 1.05 * z, name, color="0.4", ha="center", va="center")
flat.set(xlabel="$D_x$ / ($\\varepsilon_0 E$)", ylabel="$D_z$ / ($\\varepsilon_0 E$)")
flat.set(xlim=(-34, 34), ylim=(-34, 34), aspect="equal")
flat.legend(frameon=False, loc="lower left")

solid = figure.add_subplot(1, 2, 2, projection="3d")
shape = np.tensordot(result.total, sphere, axes=1)
solid.plot_surface(*shape, color="tab:blue", alpha=0.35, linewidth=0)
for value, axis in zip(values, axes.T, strict=True):
    solid.plot(*np.stack([-value * axis, value * axis], axis=1), color="k", linewidth=1)
solid.set(xlabel="x", ylabel="y", zlabel="z", aspect="equal")
solid.set(xticks=(-20, 0, 20), yticks=(-20, 0, 20), zticks=(-10, 0, 10))
solid.set_title("total, with its principal axes", fontsize=10)
solid.set_box_aspect(None, zoom=0.85)
figure.savefig(work / "tensor.png")

# %% [markdown]
# The same crystal as a page with its atoms, to turn with the mouse, is one command. Run
# it in the folder of this page's files, which the last line prints:
#
# ```bash
# dtnn-fast predict zirconia.cif --html zirconia.html
# ```

# %% [markdown]
# ## When not to trust it
#
# The model answers for any structure of known elements. `crystal_warnings` says what
# speaks against an answer. Zirconia has no warnings. Then three typical accidents: a
# metal, lengths in Bohr instead of Angstrom, and a slab with vacuum.

# %%
magnesia = bulk("MgO", "rocksalt", a=4.21)
in_bohr = bulk("MgO", "rocksalt", a=4.21 / 0.529)
slab = make_supercell(bulk("MgO", "rocksalt", a=4.21, cubic=True), np.diag([1, 1, 2]))
slab.center(vacuum=8.0, axis=2)
candidates = {
    "zirconia": zirconia,
    "copper": bulk("Cu"),
    "MgO in Bohr": in_bohr,
    "slab of MgO": slab,
}
codes = {}
for name, structure in candidates.items():
    warnings = crystal_warnings(structure, model)
    codes[name] = {warning.code for warning in warnings}
    print(f"{name}, warnings: {len(warnings)}")
    for warning in warnings[:2]:
        text = textwrap.fill(f"{warning.code}: {warning.text}", 68)
        print(textwrap.indent(text, "    "))
assert not codes["zirconia"]
assert "metals_only" in codes["copper"]
assert "bohr" in codes["MgO in Bohr"]
assert "gap" in codes["slab of MgO"]

# %% [markdown]
# What is no crystal at all is refused, with the reason:

# %%
squeezed = magnesia.copy()
squeezed.set_cell(0.4 * squeezed.cell, scale_atoms=True)
try:
    dielectric_of(squeezed, model)
except BadCrystalError as error:
    print(textwrap.fill(str(error), 72))

# %% [markdown]
# [All warnings](../../screening/#warnings) and what to do about each.
#
# ## Thirty crystals that you know
#
# Now predict thirty textbook crystals, and compare with DFPT where it means something,
# and with experiment elsewhere. The model was trained on nearly all of them, so this is
# no test of how it does on new crystals (the [model card](../../model_card/) has
# these). It shows what a good model of PBE can tell you, and what it cannot.

# %%
TOLERANCE = {"electronic": 0.15, "total": 0.25}
comparison = []
for target, tolerance in TOLERANCE.items():
    crystals = [entry.crystal for entry in textbook.values()]
    means, errors = model.predict_mean_with_errors(crystals, target)
    for entry, mean, error in zip(textbook.values(), means, errors, strict=True):
        row = {"target": target, "name": entry.crystal.id, "mean": mean, "error": error}
        row["unstable"] = entry.near_instability
        row["from_theory"] = entry.theory_mean(target) is not None
        row["reference"] = entry.theory_mean(target) or entry.measured_mean(target)
        if row["reference"] is not None:
            row["good"] = abs(mean / row["reference"] - 1) < tolerance
            comparison.append(row)

for target, tolerance in TOLERANCE.items():
    rows = [row for row in comparison if row["target"] == target]
    num_good = sum(row["good"] for row in rows)
    print(f"{target}: {num_good} of {len(rows)} within {tolerance:.0%}. The others:")
    for row in rows:
        if not row["good"]:
            source = "by DFPT" if row["from_theory"] else "measured"
            near = ", near an instability" if row["unstable"] else ""
            predicted = f"{row['mean']:5.1f} ± {row['error']:4.1f}"
            print(
                f"  {row['name']:12} {predicted}, {source} {row['reference']:.1f}{near}"
            )

# %%
figure, panels = plt.subplots(1, 2, figsize=(7.8, 3.9), layout="constrained", dpi=120)
for panel, target, ends in zip(panels, TOLERANCE, ((1.5, 30), (3, 8000)), strict=True):
    panel.plot(ends, ends, color="0.5", linewidth=1)
    for row in comparison:
        if row["target"] != target:
            continue
        place = (row["reference"], row["mean"])
        color = "tab:red" if row["unstable"] else "tab:blue"
        face = color if row["from_theory"] else "white"
        down = min(row["error"], 0.9 * row["mean"])  # not below zero
        bar = {"yerr": [[down], [row["error"]]], "linewidth": 0.8}
        panel.errorbar(*place, **bar, fmt="o", color=color, mfc=face, markersize=5)
        if not row["good"]:
            panel.annotate(
                row["name"], place, (5, -9), textcoords="offset points", fontsize=8
            )
    ticks = [tick for tick in (2, 5, 10, 20, 50, 100, 1000) if ends[0] < tick < ends[1]]
    panel.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
    panel.set_xticks(ticks, map(str, ticks))
    panel.set_yticks(ticks, map(str, ticks))
    panel.minorticks_off()
    panel.set(xlabel=f"{target} permittivity, reference", ylabel="predicted")
panels[0].plot([], [], "o", color="tab:blue", label="reference: DFPT")
panels[0].plot(
    [], [], "o", color="tab:blue", mfc="white", label="reference: experiment"
)
panels[0].plot([], [], "o", color="tab:red", label="near an instability")
panels[0].legend(frameon=False, fontsize=9, loc="upper left")
figure.savefig(work / "textbook.png")

# %% [markdown]
# Where it fails, it fails for reasons:
#
# - **Germanium and gallium arsenide.** PBE closes or nearly closes their gap, so DFPT
#   gives no good label for them. The prediction is too high by a fifth and more.
# - **SrTiO3, KTaO3, BaTiO3, rutile.** A soft mode makes the static permittivity: it
#   depends on temperature, volume and functional. The labels of the model end at 100,
#   so it cannot say 300. [Lattice dynamics](../05_born_charges_and_refine/) finds the
#   modes, and marks such crystals.
#
# ## Many structures at once
#
# A list of structures goes to the model in batches. `predict` gives an array,
# `predict_with_errors` the error bars of the tensors too. These are for the mean
# absolute error of the six elements, and usually smaller than those of the means:
# elements that are zero by symmetry have no error.

# %%
tensors, errors = model.predict_with_errors([magnesia, zirconia], target="total")
print(tensors.shape, np.round(errors, 2))

# %% [markdown]
# On the command line, with files in place of structures:
#
# ```bash
# dtnn-fast predict zirconia.cif          # a table; --json for programs
# dtnn-fast screen my_crystals/           # whole folders
# ```
#
# Next: [screen a folder](../02_screen_a_folder/).

# %%
print(f"The files of this page are in {work}")
