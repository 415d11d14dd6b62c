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
# # 2. Screen a folder
#
# From a folder of CIF files to a short list: predict all of them, see what was refused
# and what is doubtful, survive a crash, rank by your own conditions, and make a page to
# send around.
#
# You need the extras `all` and `pandas` ([how to install](../../install/)). The page
# runs in about 15 seconds on one core.

# %%
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from pymatgen.core import Lattice, Structure

import dtnn_fast
from dtnn_fast.datasets import load_labelled
from dtnn_fast.integrations import to_dataframe
from dtnn_fast.screening.ranking import RankingRules, open_ranking

work = Path(tempfile.mkdtemp(prefix="dtnn_fast_"))  # for the files of this page

# %% [markdown]
# ## A folder as they come
#
# The package comes with 955 crystals of known dielectric tensors (I. Petousis et al.,
# Scientific Data 4, 160134, 2017). Here they play the part of your own crystals: one
# CIF each.
#
# Band gaps are in a table beside them, `gaps.csv`. A CSV with a column of ids is joined
# to the crystals by the names of their files. The gaps make a figure of merit possible,
# and they tell the program that a crystal is no metal.

# %%
folder = work / "structures"
folder.mkdir()
known = load_labelled()
for crystal in known:
    atoms = (crystal.cell, crystal.atomic_numbers, crystal.positions)
    structure = Structure(*atoms, coords_are_cartesian=True)
    structure.to(filename=str(folder / f"{crystal.id}.cif"))

gaps = pd.DataFrame([(c.id, c.info["band_gap_ev"]) for c in known])
gaps.columns = ["id", "band_gap"]  # in eV
gaps.to_csv(folder / "gaps.csv", index=False)
print(gaps.head(3).to_string(index=False))

# %% [markdown]
# Real folders have other things in them too. These files are broken or unsuitable on
# purpose.

# %%
good_text = (folder / "mp-441.cif").read_text()
(folder / "empty.cif").write_text("")
(folder / "truncated.cif").write_text(good_text[: len(good_text) // 3])
(folder / "renamed_copy.cif").write_text(good_text)
(folder / "notes.txt").write_text("remember to relax these\n")


def write_cubic(name, size, *species):
    """Write a crystal of one species (fcc), or of two as in rock salt."""
    sites = [[0, 0, 0], [0.5, 0.5, 0.5]][: len(species)]
    cubic = Structure.from_spacegroup("Fm-3m", Lattice.cubic(size), species, sites)
    cubic.to(filename=str(folder / f"{name}.cif"))


write_cubic("half_size", 2.1, "Mg", "O")  # should be 4.2 Angstrom
write_cubic("mixed", 4.5, {"Mg": 0.5, "Ca": 0.5}, "O")  # a solid solution
write_cubic("curium_nitride", 5.0, "Cm", "N")
write_cubic("copper", 3.61, "Cu")  # a metal
num_files = len(list(folder.glob("*.cif")))
print(num_files, "CIF files")

# %% [markdown]
# ## Screen it, and lose the power
#
# The command is
#
# ```bash
# dtnn-fast screen structures -o screening
# ```
#
# Here Python starts it, and kills it without warning (`kill -9`) as soon as the first
# part of the results is on the disk. Look at what is left: a whole part, and no ranking
# yet.

# %%
screening = work / "screening"
command = [sys.executable, "-m", "dtnn_fast", "screen", "structures", "-o", "screening"]
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
with subprocess.Popen(command, cwd=work, **quiet) as first_start:
    while first_start.poll() is None and not list(screening.glob("part-*.parquet")):
        time.sleep(0.005)
    first_start.kill()
print("after the crash:")
for path in sorted(screening.glob("[a-z]*")):
    print("   ", path.name)

# %% [markdown]
# The same command goes on where it was. It prints a long table, which is left out here;
# its messages go to stderr. The exit code 3 says: done, but some crystals were
# rejected.

# %%
captured = {"capture_output": True, "text": True}
second_start = subprocess.run(command, cwd=work, **captured, check=False)
print(second_start.stderr.strip())
print("exit code", second_start.returncode)
assert second_start.returncode == 3

# %% [markdown]
# Is the result the same as without the crash? `dtnn_fast.screen` is the command as a
# function. It returns the ranked crystals as a table of pyarrow; the file `ranking.csv`
# of the command must list the same crystals with the same numbers.

# %%
undisturbed = dtnn_fast.screen(folder).to_pandas()
ranking = pd.read_csv(screening / "ranking.csv")
assert ranking["id"].tolist() == undisturbed["id"].tolist()
assert np.allclose(ranking["total_mean"], undisturbed["total_mean"], atol=1e-4)
print(f"{len(ranking)} crystals are ranked, the same as without a crash")

# %% [markdown]
# ## What was rejected, what is doubtful
#
# Nothing disappears silently. `rejected.csv` has what could not be predicted, each with
# its reason. A file without a readable crystal is listed by its full name.

# %%
rejected = pd.read_csv(screening / "rejected.csv")
for row in rejected.itertuples():
    reason = textwrap.shorten(row.reason, 140)
    print(textwrap.fill(f"{row.id}: {reason}", 72, subsequent_indent="    "))
assert len(rejected) == 5

# %% [markdown]
# `unranked.csv` has crystals that were predicted, but whose numbers mean little:
# `why_not_ranked` has the codes of the [warnings](../../screening/#warnings). Copper is
# a metal; the copy has the structure of an earlier crystal.

# %%
unranked = pd.read_csv(screening / "unranked.csv")
reasons = unranked["why_not_ranked"].str.split().explode()
print(reasons.value_counts().to_string(), end="\n\n")
for row in unranked.itertuples():
    if row.id in ("copper", "renamed_copy"):
        print(f"{row.id}, {row.formula}: total {row.total_mean:.1f}")
        print("    not ranked:", *row.why_not_ranked.split()[:4])
assert len(ranking) + len(unranked) + len(rejected) == num_files

# %% [markdown]
# ## The overview
#
# `plot.png` shows all predictions: (a) ionic against electronic permittivity, with the
# first ranks named, and (b) how the total permittivity is distributed. "Labelled" are
# crystals whose tensors the package knows from DFPT, recognized by their structure.

# %%
overview = plt.imread(screening / "plot.png")
height, width = overview.shape[:2]
figure = plt.figure(figsize=(width / 200, height / 200), dpi=160)
axis = figure.add_axes((0, 0, 1, 1))
axis.imshow(overview)
axis.axis("off")
figure.savefig(work / "overview.png")

# %% [markdown]
# ## Rank anew
#
# The default order is the figure of merit of the paper: band gap times mean total
# permittivity. A good insulator in a small capacitor needs both, and they work against
# each other.


# %%
def show(table, *more):
    """Print the first ranks: gap in eV, permittivity, its error bar and so on."""
    columns = ["id", "formula", "band_gap", "total_mean", "total_mean_error", *more]
    print(table[columns].head(8).round(2).to_string(index=False))


show(ranking, "figure_of_merit")

# %% [markdown]
# Look at the error bars of the first ones: large values come with large errors, and the
# top of any list gathers values that are too high by accident. More cautious is the
# lower end of the error bar. Any SQL expression can rank, and ranking needs no new
# prediction. The command replaces `ranking.csv`; the function below changes no file.
#
# ```bash
# dtnn-fast rank screening --by "band_gap * (total_mean - total_mean_error)"
# ```

# %%


def ranked(**rules):
    """Rank the screening by rules, as a data frame."""
    with open_ranking([screening], RankingRules(**rules)) as ranking:
        return ranking.table().to_pandas()


cautious = ranked(by="band_gap * (total_mean - total_mean_error)")
show(cautious)

# %% [markdown]
# Conditions are SQL too. Here: oxides with a gap above 4 eV, small cells only, and one
# crystal of each structure type.
#
# ```bash
# dtnn-fast rank screening --where "band_gap > 4 and nsites <= 12" --elements O \
#     --per-prototype 1
# ```

# %%
oxides = ranked(
    where="band_gap > 4 and nsites <= 12", elements=("O",), most_of_prototype=1
)
show(oxides)
assert (oxides["band_gap"] > 4).all()

# %% [markdown]
# Another question for the same predictions: which transparent crystals have the
# strongest birefringence, measured by the anisotropy of the electronic tensor (largest
# minus smallest principal value) over its mean?

# %%
relative = "electronic_anisotropy / electronic_mean"
birefringent = ranked(by=relative, where="band_gap > 3")
columns = ["id", "formula", "band_gap", "electronic_mean", "electronic_anisotropy"]
print(birefringent[columns].head(5).round(2).to_string(index=False))

# %% [markdown]
# The Pareto front has the crystals that no other one beats in both gap and figure of
# merit. They are joined by the line in the picture; the dotted lines are curves of an
# equal figure of merit. (The front of the report below is that of gap and permittivity,
# and has more crystals.)

# %%
front = ranked(pareto=True)
everything = to_dataframe(screening)
show(front, "figure_of_merit")

figure, axis = plt.subplots(figsize=(7, 4.6), layout="constrained", dpi=140)
gap = np.geomspace(0.1, 15, 100)
for merit in (20, 50, 100, 200):
    axis.plot(gap, merit / gap, ":", color="0.6", linewidth=1)
    axis.text(1.03 * merit / 125, 125, f"{merit} eV", color="0.4", fontsize=8)
for table, color, label in (
    (everything, "0.75", "predicted, not ranked"),
    (ranking, "tab:blue", "ranked"),
):
    axis.scatter(table["band_gap"], table["total_mean"], s=9, color=color, label=label)
front = front.sort_values("band_gap")
line = {"color": "tab:red", "markersize": 5, "linewidth": 1}
axis.plot(front["band_gap"], front["total_mean"], "o-", **line, label="Pareto front")
labelled = np.inf
for row in front.itertuples():
    if abs(row.total_mean / labelled - 1) > 0.12:  # else the names hide each other
        labelled, place = row.total_mean, (row.band_gap, row.total_mean)
        axis.annotate(
            row.formula, place, (6, 3), textcoords="offset points", fontsize=8
        )
axis.set(xscale="log", yscale="log", xlim=(0.1, 15), ylim=(1.5, 150))
axis.set_xticks([0.1, 0.3, 1, 3, 10], ["0.1", "0.3", "1", "3", "10"])
axis.set_yticks([2, 5, 10, 20, 50, 100], ["2", "5", "10", "20", "50", "100"])
axis.minorticks_off()
axis.set(xlabel="band gap (eV)", ylabel="total permittivity, predicted (mean)")
axis.legend(frameon=False, loc="lower left")
figure.savefig(work / "pareto.png")

# %% [markdown]
# ## A page to send around
#
# One HTML file with these figures, a table to sort and filter, the crystals with their
# tensors as ellipsoids, and all reasons for rejection. It opens without a network.
#
# ```bash
# dtnn-fast report screening
# ```

# %%
report = [sys.executable, "-m", "dtnn_fast", "report", "screening"]
print(subprocess.run(report, cwd=work, **captured, check=True).stdout.strip())

# %% [markdown]
# What it looks like is on the page about [reports](../../report/).
# [Screening](../../screening/) has large and shared screenings,
# [refine](../05_born_charges_and_refine/) better ionic tensors for the short list, and
# [DFPT](../../dfpt/) the input files for computing the best ones.

# %%
print(f"The files of this page are in {work}")
