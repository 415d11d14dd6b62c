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
# # 5. Born charges, phonons and refined tensors
#
# The ionic part of a dielectric tensor comes from atoms that carry charges and hang on
# springs. This page predicts both, charges and springs: for the BORN file of phonopy,
# for the splitting of longitudinal and transverse phonons, and for ionic tensors that
# can be far above anything the direct model has seen.
#
# You need the extras `all` and `phonopy` ([how to install](../../install/)). The page
# runs in a few seconds.

# %%
import tempfile
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms
from pymatgen.core import Lattice, Structure

from dtnn_fast import DTNN, LatticeModel
from dtnn_fast.crystals import to_crystal
from dtnn_fast.crystals.elements import atomic_masses
from dtnn_fast.datasets import load_textbook
from dtnn_fast.formats.born_file import write_born_file
from dtnn_fast.integrations import attach_nac, dielectric_of
from dtnn_fast.phonons import ionic_tensor, polar_modes
from dtnn_fast.refinement import bundled_refiner

work = Path(tempfile.mkdtemp(prefix="dtnn_fast_"))  # for the files of this page
direct = DTNN.from_pretrained("dielectric")

# %% [markdown]
# ## Born effective charges
#
# The Born charge Z* of an atom says how much polarization its displacement makes. It is
# a 3x3 tensor, here with the order [atom, field, displacement]. In cubic SrTiO3 the
# formal charges are +2, +4 and -2. Look at titanium, and at oxygen along its bonds to
# titanium (one of the three directions) and across (the other two): the covalent bond
# makes the first ones much larger than formal.

# %%
species, sites = ["Sr", "Ti", "O"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]


def perovskite(size):
    """Make cubic SrTiO3 with a lattice constant in Angstrom."""
    return Structure.from_spacegroup("Pm-3m", Lattice.cubic(size), species, sites)


srtio3 = to_crystal(perovskite(3.905), "SrTiO3")
result = dielectric_of(srtio3, direct)
charges = result.born_charges
print("atom     Z*xx   Z*yy   Z*zz")
for site, z in zip(perovskite(3.905), charges, strict=True):
    print(f"{site.species_string:6}", *(f"{value:6.2f}" for value in z.diagonal()))
print(f"sum over the atoms: at most {np.abs(charges.sum(0)).max():.0e}")
assert np.abs(charges.sum(0)).max() < 1e-5
assert charges[1, 0, 0] > 6

# %% [markdown]
# The sum vanishes, as it must in an insulator (the acoustic sum rule); the model does
# this by construction.
#
# phonopy reads charges and the electronic tensor from a file named BORN. It holds the
# electronic tensor first, then the charges of one atom of each kind; symmetry gives the
# others.

# %%
write_born_file(work / "BORN", srtio3, charges, result.electronic)
for line in (work / "BORN").read_text().splitlines():
    print(line[:60], "..." if len(line) > 60 else "")

# %% [markdown]
# On the command line, for any files:
#
# ```bash
# dtnn-fast predict SrTiO3.cif --born born_files
# ```
#
# ## Springs too: the modes of MgO
#
# `LatticeModel` predicts Born charges and the force constants for displacements with
# the period of the cell (q = 0). `polar_modes` makes phonons of them, each with its
# share of the ionic tensor:
#
# ```
# eps_ionic = e^2 / (eps0 V)  sum over modes m of  S_m S_m^T / omega_m^2
# S_m = sum over atoms a of  Z_a e_ma / sqrt(m_a)
# ```
#
# MgO has two atoms in its primitive cell, so three optical modes of one frequency.
# Neutrons and infrared light find about 12 THz (400 waves per cm).

# %%
lattice = LatticeModel.from_pretrained("lattice")
half = 4.21 / 2
vectors = [[0, half, half], [half, 0, half], [half, half, 0]]
primitive = Structure(vectors, ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
mgo = to_crystal(primitive, "MgO")


def modes_of(crystal):
    """Predict charges and force constants, and the modes that follow from them."""
    (response,) = lattice.predict(crystal)
    masses = atomic_masses(crystal.atomic_numbers)
    volume = abs(np.linalg.det(crystal.cell))
    modes = polar_modes(response.force_constants, response.born_charges, masses, volume)
    return response, modes


def mean(tensor):
    """Return a third of the trace."""
    return float(np.trace(tensor)) / 3


response, modes = modes_of(mgo)
ionic = modes.ionic.sum(0)
print("transverse frequencies (THz)", modes.frequencies.round(2))
print(f"ionic permittivity of MgO {mean(ionic):.2f}")
# Masses drop out of the sum:
born, springs = response.born_charges, response.force_constants
assert np.allclose(ionic, ionic_tensor(springs, born, volume=2 * half**3))

# %% [markdown]
# ## Longitudinal modes, by phonopy
#
# A longitudinal wave carries an electric field of its own, which stiffens it. phonopy
# adds this if it knows charges and the electronic tensor (`nac_params`), and
# `attach_nac` predicts and sets these. Here the force constants are predicted as well;
# with force constants of a supercell from your own calculations the same line corrects
# whole bands.
#
# Infrared experiments find the longitudinal mode of MgO at about 21.5 THz (720 per cm).

# %%
cell = PhonopyAtoms(numbers=mgo.atomic_numbers, cell=mgo.cell, positions=mgo.positions)
one = np.eye(3, dtype=int)
phonon = Phonopy(cell, supercell_matrix=one, primitive_matrix=one)
# From [3 N, 3 N] to phonopy's [atom, atom, 3, 3].
phonon.force_constants = springs.reshape(2, 3, 2, 3).transpose(0, 2, 1, 3).copy()
nac = attach_nac(phonon, direct, lattice)
phonon.run_qpoints([[0, 0, 0]], nac_q_direction=[1, 0, 0])
transverse, longitudinal = modes.frequencies.max(), phonon.qpoints.frequencies[0].max()
print(f"transverse {transverse:.2f} THz, longitudinal {longitudinal:.2f} THz")

# %% [markdown]
# The two frequencies and the two permittivities are tied by the relation of Lyddane,
# Sachs and Teller: ε0 / ε∞ = (longitudinal / transverse)². So phonopy's frequency
# checks our ionic tensor.

# %%
infinite, static = mean(nac.electronic), mean(nac.electronic + ionic)
ratio = (longitudinal / transverse) ** 2
print(f"(longitudinal / transverse)²  {ratio:.4f}")
print(f"static / electronic           {static / infinite:.4f}")
assert np.isclose(ratio, static / infinite, rtol=1e-3)

# %% [markdown]
# Without damping the dielectric function is the electronic part plus a resonance for
# each mode. It starts at the static value, jumps at the transverse frequency, and
# vanishes at the longitudinal one. Between both it is negative: no light enters, and
# MgO is a mirror (the band of residual rays).

# %%
frequency = np.linspace(0.01, 35, 2000)
shares = np.trace(modes.ionic, axis1=1, axis2=2) / 3
damping = 0.02 * frequency / transverse  # a little, so that the curve stays finite
resonances = 1 - (frequency[:, None] / modes.frequencies) ** 2 - 1j * damping[:, None]
function = infinite + (shares / resonances).sum(1)
root = np.sqrt(function)
reflected = np.abs((root - 1) / (root + 1)) ** 2

panels = {"sharex": True, "figsize": (7, 4.8), "layout": "constrained"}
figure, (upper, lower) = plt.subplots(2, 1, **panels)
upper.plot(frequency, function.real)
upper.axhline(0, color="0.7", linewidth=0.8)
upper.set(ylabel="dielectric function (real)", ylim=(-60, 60))
lower.plot(frequency, reflected)
lower.set(xlabel="frequency (THz)", ylabel="reflected share of light", ylim=(0, 1.05))
for axis in (upper, lower):
    axis.axvline(transverse, color="tab:red", linestyle=":", label="transverse")
    axis.axvline(longitudinal, color="tab:green", linestyle=":", label="longitudinal")
lower.plot(
    [12.0, 21.5], [1.02, 1.02], "kv", clip_on=False, label="both, measured (about)"
)
upper.legend(frameon=False)
lower.legend(frameon=False, loc="center right")
figure.savefig(work / "mgo.png", dpi=140)

# %% [markdown]
# ## Refined tensors
#
# `refine` does this for any crystal, and joins the result with the direct prediction
# where that is better. Five crystals, from harmless to famous. Look at the error bars,
# and at the softest mode.
#
# ```bash
# dtnn-fast refine SrTiO3.cif MgO.cif
# dtnn-fast refine --ranking screening --best 50 -o best.csv   # of a screening
# ```

# %%
textbook = {entry.crystal.id: entry for entry in load_textbook()}
names = ["MgO", "ZrO2", "TiO2-anatase", "KTaO3", "SrTiO3"]
refiner = bundled_refiner(direct)
crystals = [textbook[name].crystal for name in names]
refined = dict(zip(names, refiner.refine(crystals), strict=True))

print("total:          direct         refined     DFPT  measured   softest mode (THz)")
for name, result in refined.items():
    by_both = f"{mean(result.total):.1f} ± {result.total_mean_error:.1f}"
    known = textbook[name].theory_mean("total"), textbook[name].measured_mean("total")
    theory, measured = ("-" if value is None else f"{value:.1f}" for value in known)
    columns = f"{mean(result.electronic + result.direct):8.1f} {by_both:>15}"
    print(f"{name:13} {columns} {theory:>8} {measured:>9} {result.modes[0]:12.2f}")

# %% [markdown]
# What the program itself remarks about them:

# %%
for name, result in refined.items():
    for remark in result.remarks:
        print(textwrap.fill(f"{name}: {remark}", 72, subsequent_indent="    "))
assert refined["SrTiO3"].is_unstable
assert not refined["MgO"].remarks
error = mean(refined["ZrO2"].ionic) - textbook["ZrO2"].theory_mean("ionic")
assert abs(error) < refined["ZrO2"].ionic_mean_error

# %% [markdown]
# - MgO and zirconia: both ways agree with DFPT. (The softest mode of MgO is lower than
#   above: this file has the cubic cell of eight atoms, whose modes include some that
#   are waves in the primitive cell.)
# - Anatase: a pair of modes of one frequency makes most of the permittivity (the
#   picture below; the remark counts one of the two, and the softest mode of the table
#   carries no dipole). Both ways are close to DFPT, which itself is far above the
#   measured value.
# - KTaO3: softer still. In reality the mode moves with temperature, and the measured
#   value is that of a warm crystal.
# - SrTiO3: in the harmonic picture at 0 K the crystal is not stable (the negative
#   frequency stands for an imaginary one). Zero-point motion and heat stabilize the
#   real one. No number here is to be trusted, and the error bar says so.
#
# Which modes make the permittivity? Each bar has the modes of one frequency, with their
# share in the mean ionic permittivity. These are sums of the lattice model alone:
# `refine` joins them with the direct prediction.

# %%
figure, panels = plt.subplots(1, 3, figsize=(7.8, 3.2), layout="constrained")
for panel, name in zip(panels, ("ZrO2", "TiO2-anatase", "KTaO3"), strict=True):
    _, modes = modes_of(textbook[name].crystal)
    shares = np.trace(modes.ionic, axis1=1, axis2=2) / 3
    rounded = modes.frequencies.round(1)
    levels = np.unique(rounded)  # modes of one frequency together
    heights = [shares[rounded == level].sum() for level in levels]
    sums = [0, *np.cumsum(heights), sum(heights)]
    panel.step([0, *levels, 27], sums, where="post", color="0.5", linewidth=1)
    panel.bar(levels, heights, width=0.5, color="tab:orange", zorder=2)
    panel.set(title=name, xlabel="frequency (THz)", xlim=(0, 27))
panels[0].set_ylabel("share in the ionic permittivity")
panels[2].plot([], [], color="0.5", label="sum from below")
panels[2].legend(frameon=False, loc="center right")
figure.savefig(work / "modes.png", dpi=140)

# %% [markdown]
# ## What it does not know
#
# The model learned crystals that were relaxed, and not what pressure does to them. A
# wider cell softens the polar mode of SrTiO3, in reality and here, but how much is not
# to be trusted. Use a potential (`dtnn-fast refine --potential ...`) or DFPT for such
# questions.

# %%
softest = []
for size in (3.85, 3.905, 3.95):
    (result,) = refiner.refine([to_crystal(perovskite(size), "SrTiO3")])
    print(f"SrTiO3, {size:.3f} Angstrom: softest mode {result.modes[0]:.2f} THz")
    softest.append(result.modes[0])
assert softest == sorted(softest, reverse=True)

# %% [markdown]
# Modes at other wave vectors are not seen either, nor temperature.
# [Refining](../../refine/) has formulas, errors on crystals that were held out,
# potentials, and how to train a lattice model on your own phonons.

# %%
print(f"The files of this page are in {work}")
