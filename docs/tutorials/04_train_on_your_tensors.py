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
# # 4. Train on your own tensors
#
# You have tensors of your own: from another functional, of another class of materials, or of another property that is a
# symmetric tensor. This page turns them into a data file, trains a model with error bars on them in some 15 seconds,
# tests it on crystals that it never saw, and uses it.
#
# You need `pip install "dtnn-fast[all]"`.

# %%
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from dtnn_fast import DTNN
from dtnn_fast.datasets import clean, load_labelled, load_structures
from dtnn_fast.errors import BadCrystalError
from dtnn_fast.formats import read_crystals
from dtnn_fast.screening.engine import crystal_warnings
from dtnn_fast.symmetry import find_symmetry, symmetry_violation

work = Path(tempfile.mkdtemp(prefix="dtnn_fast_"))  # for the files of this page

# %% [markdown]
# ## The data file
#
# The simplest form is JSON lines: one crystal as a JSON object on each line, with lattice vectors as rows, and one
# tensor or several. Here the electronic tensors of 640 bundled crystals are "yours"; 120 more stay out of the file for
# a test. `clean` leaves out crystals with elements above 100 or below -10, whose gap or softest phonon nearly vanishes;
# the training does so too.

# %%
crystals = [crystal for crystal in clean(load_labelled())[0] if crystal.num_atoms <= 12]
order = np.random.default_rng(0).permutation(len(crystals))
yours = [crystals[index] for index in order[:640]]
kept_aside = [crystals[index] for index in order[640:760]]


def as_row(crystal):
    """Return a crystal with its tensor as a line of the data file."""
    return {
        "id": crystal.id,
        "lattice_angstrom": crystal.cell.tolist(),  # of pymatgen: structure.lattice.matrix.tolist()
        "atomic_numbers": crystal.atomic_numbers.tolist(),  # list(structure.atomic_numbers)
        "frac_coords": (crystal.positions @ np.linalg.inv(crystal.cell)).tolist(),  # structure.frac_coords.tolist()
        "eps_electronic": crystal.targets["electronic"].tolist(),
    }


data_file = work / "own.jsonl"
data_file.write_text("".join(json.dumps(as_row(crystal)) + "\n" for crystal in yours))
print(data_file.read_text().splitlines()[0][:200], "...")

# %% [markdown]
# The keys of the other tensors are `eps_ionic` and `eps_total`; two of them give the third. Output of VASP needs no
# script: `dtnn-fast data fetch vasp --file runs/ -o own.npz` reads `vasprun.xml` files. [Data](../../data/) has all
# forms.
#
# ## Check the frame
#
# The classic mistake is a tensor in another Cartesian frame than its structure. It costs accuracy silently. A tensor
# must have the symmetry of its crystal, and this is quickly checked: how much of each tensor is forbidden by symmetry?

# %%
items = read_crystals(data_file)  # a Rejected in place of a Crystal would say what is wrong with a line
violations = {}
for crystal in items:
    symmetry = find_symmetry(crystal)
    if symmetry is not None:
        violations[crystal.id] = symmetry_violation(crystal.targets["electronic"], symmetry.rotations)
print(f"{len(violations)} crystals, largest violation {max(violations.values()):.3f} of the largest element")
assert max(violations.values()) < 0.1

# The same check, if somebody had swapped the axes x and z of the tensors but not of the structures:
swapped = []
for crystal in items[:200]:
    symmetry = find_symmetry(crystal)
    if symmetry is not None:
        swapped.append(symmetry_violation(crystal.targets["electronic"][::-1, ::-1], symmetry.rotations))
print(f"with swapped axes {sum(value > 0.1 for value in swapped)} of {len(swapped)} crystals are off by more than 0.1")
assert max(swapped) > 0.1

# %% [markdown]
# Cubic crystals cannot show it: their tensor is the same in every frame.
#
# ## Train
#
# 640 tensors are too few for a deep network from scratch. So we take an encoder that has learned atoms in their
# surroundings from an interatomic potential (`distilled`; it has seen no dielectric tensor), keep its weights, and
# train three small decoders on it. Their spread becomes the error bar.
#
# ```bash
# dtnn-fast train own.jsonl --encoder distilled --layer 1-3 --target electronic --members 3 \
#     --epochs 20 --learning-rate 2e-3 --set decoder.latent=32 --set training.batch_size=32 -o run
# ```
#
# A tenth of the crystals is for validation, which stops the training and calibrates the error bars; a tenth is for
# testing. `dtnn-fast train --print-config` lists all settings.

# %%
run = work / "run"
command = ["train", str(data_file), "--encoder", "distilled", "--layer", "1-3", "--target", "electronic"]
command += ["--members", "3", "--epochs", "20", "--learning-rate", "2e-3"]
command += ["--set", "decoder.latent=32", "--set", "training.batch_size=32"]
command += ["--output", str(run), "--cache", str(work / "cache"), "--threads", "1"]
subprocess.run([sys.executable, "-m", "dtnn_fast", *command], check=True, capture_output=True)

results = json.loads((run / "results.json").read_text())
errors = results["errors"]["electronic"]["test"]["all"]
median_errors = results["median_model"]["electronic"]["all"]
print(f"{errors['count']} test crystals: mean absolute error of the six elements {errors['mae_ten']:.2f}")
print(f"always the median of the training set: {median_errors['mae_ten']:.2f}")
print("the run has", *sorted(path.name for path in run.iterdir()))
assert errors["mae_ten"] < 0.5 * median_errors["mae_ten"]

# %% [markdown]
# The command prints such errors by crystal system too. The folder `run` holds everything about the run: settings,
# predictions of all crystals, the crystals that were rejected, the history of each member, and the model.
#
# ## The learning curve
#
# Look whether the validation error still falls at the end (train longer) or rises (stop earlier, or more dropout). The
# weights of the best epoch are what is kept.

# %%
histories = []
for member in range(3):
    with (run / "members" / str(member) / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    histories.append({name: np.array([float(row[name]) for row in rows]) for name in rows[0]})
first, last = (np.mean([history["train_loss"][place] for history in histories]) for place in (0, -1))
print(f"training loss of the members: {first:.2f} in the first epoch, {last:.2f} in the last")
assert last < 0.5 * first

# %% [markdown]
# ## Test it yourself
#
# Load the folder of the model like a bundled one, and predict the crystals that were kept out of the file. The error
# bar of a mean should hold for about nine of ten; with 64 validation crystals behind it, eight to ten. Compare mean and
# median error: a few crystals with a tiny gap, and so a huge tensor, make most of the mean.

# %%
model = DTNN.from_pretrained(run / "model")
predicted, bars = model.predict_mean_with_errors(kept_aside)
expected = np.array([np.trace(crystal.targets["electronic"]) / 3 for crystal in kept_aside])
off = np.abs(predicted - expected)
print(f"{len(off)} crystals: mean error {off.mean():.2f}, median error {np.median(off):.2f}")
print(f"{np.mean(off < bars):.0%} are within their error bar, of a median length of {np.median(bars):.2f}")
assert 0.75 < np.mean(off < bars) <= 1.0

# %%
figure, (curve, parity) = plt.subplots(1, 2, figsize=(9.5, 4.4), layout="constrained", dpi=120)
for history in histories:
    curve.plot(history["epoch"], history["train_loss"], color="tab:blue", linewidth=1)
    curve.plot(history["epoch"], history["validation_electronic"], color="tab:orange", linewidth=1)
curve.plot([], [], color="tab:blue", label="training loss, three members")
curve.plot([], [], color="tab:orange", label="validation error")
curve.set(xlabel="epoch", ylabel="mean absolute error (six elements)", ylim=(0, None))
curve.legend(frameon=False)

ends = (1.5, 100)
parity.plot(ends, ends, color="0.5", linewidth=1)
low = np.minimum(bars, 0.9 * predicted)  # an error bar cannot reach below zero on this axis
good = off < bars
for chosen, color, label in ((good, "tab:blue", "within the error bar"), (~good, "tab:red", "outside")):
    parity.errorbar(
        expected[chosen],
        predicted[chosen],
        yerr=[low[chosen], bars[chosen]],
        fmt="o",
        markersize=3,
        linewidth=0.6,
        color=color,
        label=label,
    )
parity.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
parity.set_xticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
parity.set_yticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
parity.minorticks_off()
parity.set(xlabel="electronic permittivity by DFPT (mean)", ylabel="predicted, crystals kept aside (mean)")
parity.legend(frameon=False, loc="upper left")
figure.savefig(work / "training.png")

# %% [markdown]
# ## Use it
#
# All commands take the folder in place of a name:
#
# ```bash
# dtnn-fast screen structures/ --model run/model
# dtnn-fast predict NaCl.cif --model run/model
# ```
#
# The model knows its training set. It refuses elements that it never saw:

# %%
known = set(model.elements)
stranger = next(crystal for crystal in load_structures() if not known.issuperset(crystal.atomic_numbers.tolist()))
try:
    model.predict(stranger)
except BadCrystalError as error:
    print(str(error).partition(";")[0])

# %% [markdown]
# And it warns of what it hardly knows: elements in fewer than five training crystals, and crystals unlike all that it
# learned from. With a small training set this happens often.

# %%
codes = [str(warning.code) for crystal in kept_aside for warning in crystal_warnings(crystal, model)]
for code in ("few_training_crystals", "far_from_training"):
    print(f"{code}: {codes.count(code)} of {len(kept_aside)}")

# %% [markdown]
# ## Where to go from here
#
# | you want | option |
# | --- | --- |
# | better errors, and have minutes | `--finetune` trains the encoder too |
# | all three tensors | `--target all --joint` |
# | to add data with other labels or functionals | `data.more` ([how](../../model/#partial-labels-and-functionals)) |
# | good settings by a search | `dtnn-fast tune` ([how](../../tune/)) |
# | to compare several models on the same crystals | `dtnn-fast evaluate runs` ([how](../../evaluate/)) |
#
# Next: [Born charges and refined tensors](../05_born_charges_and_refine/).

# %%
print(f"The files of this page are in {work}")
