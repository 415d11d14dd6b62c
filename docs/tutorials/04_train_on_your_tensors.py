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
# You have tensors of your own: from another functional, of another class of materials,
# or of another property that is a symmetric tensor. This page turns them into a data
# file, trains a model with error bars on them in some 15 seconds, tests it on crystals
# that it never saw, and uses it.
#
# You need the extra `all` ([how to install](../../install/)).

# %%
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from pymatgen.core import Structure

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
# The simplest form is JSON lines: one crystal as a JSON object on each line, with
# lattice vectors as rows, and one tensor or several. Here the electronic tensors of 640
# bundled crystals are "yours"; 120 more stay out of the file for a test. `clean` leaves
# out crystals with elements above 100 or below -10, whose gap or softest phonon nearly
# vanishes; the training does so too.

# %%
crystals = [crystal for crystal in clean(load_labelled())[0] if crystal.num_atoms <= 12]
order = np.random.default_rng(0).permutation(len(crystals))
yours = [crystals[index] for index in order[:640]]
kept_aside = [crystals[index] for index in order[640:760]]


def data_row(name, structure, tensor):
    """Return a structure of pymatgen with its tensor as an object for the data file."""
    return {
        "id": name,
        "lattice_angstrom": structure.lattice.matrix.tolist(),
        "atomic_numbers": list(structure.atomic_numbers),
        "frac_coords": structure.frac_coords.tolist(),
        "eps_electronic": tensor.tolist(),
    }


data_file = work / "own.jsonl"
with data_file.open("w") as file:
    for crystal in yours:
        atoms = (crystal.cell, crystal.atomic_numbers, crystal.positions)
        structure = Structure(*atoms, coords_are_cartesian=True)
        row = data_row(crystal.id, structure, crystal.targets["electronic"])
        file.write(json.dumps(row) + "\n")
for key, value in row.items():
    print(f"{key}: {str(value)[:48]} ...")

# %% [markdown]
# The keys of the other tensors are `eps_ionic` and `eps_total`; two of them give the
# third. Output of VASP needs no script: `dtnn-fast data fetch vasp --file runs/ -o
# own.npz` reads `vasprun.xml` files. [Data](../../data/) has all forms.
#
# ## Check the frame
#
# The classic mistake is a tensor in another Cartesian frame than its structure. It
# costs accuracy silently. A tensor must have the symmetry of its crystal, and this is
# quickly checked: how much of each tensor is forbidden by symmetry?


# %%
def forbidden_part(crystal, tensor):
    """Return what symmetry forbids of a tensor, in parts of its largest element."""
    symmetry = find_symmetry(crystal)  # None if it cannot be found
    return 0.0 if symmetry is None else symmetry_violation(tensor, symmetry.rotations)


checked = read_crystals(data_file)  # a Rejected would say what is wrong with a line
tensors = [crystal.targets["electronic"] for crystal in checked]
parts = [forbidden_part(*pair) for pair in zip(checked, tensors, strict=True)]
print(f"{len(parts)} crystals, largest forbidden part {max(parts):.3f}")
assert max(parts) < 0.1

# The same, had somebody swapped the axes x and z of the tensors alone:
swapped = [tensor[::-1, ::-1] for tensor in tensors]
parts = np.array([forbidden_part(*pair) for pair in zip(checked, swapped, strict=True)])
print(f"with swapped axes {np.sum(parts > 0.1)} have a forbidden part above 0.1")
assert np.sum(parts > 0.1) > 50

# %% [markdown]
# Not all crystals can show such a mistake: the tensor of a cubic one is the same in
# every frame. A few percent of a data set are enough to notice.
#
# ## Train
#
# 640 tensors are too few for a deep network from scratch. So we take an encoder that
# has learned atoms in their surroundings from an interatomic potential (`distilled`; it
# has seen no dielectric tensor), keep its weights, and train three small decoders on
# it. Their spread becomes the error bar.
#
# ```bash
# dtnn-fast train own.jsonl --encoder distilled --layer 1-3 --target electronic \
#     --members 3 --epochs 20 --learning-rate 2e-3 --set decoder.latent=32 \
#     --set training.batch_size=32 --output run
# ```
#
# A tenth of the crystals is for validation, which stops the training and calibrates the
# error bars; a tenth is for testing. `dtnn-fast train --print-config` lists all
# settings.

# %%
run = work / "run"
options = "--encoder distilled --layer 1-3 --target electronic --members 3 --epochs 20 "
options += "--learning-rate 2e-3 --set decoder.latent=32 --set training.batch_size=32 "
options += "--threads 1"
command = [sys.executable, "-m", "dtnn_fast", "train", str(data_file)]
command += [*options.split(), "--output", str(run), "--cache", str(work / "cache")]
subprocess.run(command, check=True, capture_output=True)

results = json.loads((run / "results.json").read_text())
errors = results["errors"]["electronic"]["test"]["all"]
median_errors = results["median_model"]["electronic"]["all"]
print(f"mean absolute error of the six elements, {errors['count']} test crystals:")
print(f"    model {errors['mae_ten']:.2f}")
print(f"    always the median of the training set {median_errors['mae_ten']:.2f}")
print("the run has", *sorted(path.name for path in run.glob("*.*")), sep="\n    ")
assert errors["mae_ten"] < 0.5 * median_errors["mae_ten"]

# %% [markdown]
# The command prints such errors by crystal system too. The folder `run` holds
# everything about the run: settings, predictions of all crystals, the crystals that
# were rejected, the history of each member, and the model.
#
# ## The learning curve
#
# Look whether the validation error still falls at the end (train longer) or rises (stop
# earlier, or more dropout). The weights of the best epoch are what is kept.

# %%
histories = []
for member in range(3):
    with (run / "members" / str(member) / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = ("train_loss", "validation_electronic")
    histories.append(np.array([[float(row[name]) for name in columns] for row in rows]))
histories = np.array(histories)  # [members, epochs, loss and error]
first, last = histories[:, 0, 0].mean(), histories[:, -1, 0].mean()
print(f"training loss: {first:.2f} in the first epoch, {last:.2f} in the last")
assert last < 0.5 * first

# %% [markdown]
# ## Test it yourself
#
# Load the folder of the model like a bundled one, and predict the crystals that were
# kept out of the file. The error bar of a mean should hold for about nine of ten; with
# 64 validation crystals behind it, eight to ten. Compare mean and median error: a few
# crystals with a tiny gap, and so a huge tensor, make most of the mean.

# %%
model = DTNN.from_pretrained(run / "model")
predicted, bars = model.predict_mean_with_errors(kept_aside)
expected = np.array([np.trace(c.targets["electronic"]) / 3 for c in kept_aside])
off = np.abs(predicted - expected)
print(f"{len(off)} crystals: mean error {off.mean():.2f}, median {np.median(off):.2f}")
print(
    f"{np.mean(off < bars):.0%} within their error bars (median {np.median(bars):.2f})"
)
assert 0.75 < np.mean(off < bars) <= 1.0

# %%
figure, (curve, parity) = plt.subplots(1, 2, figsize=(7.8, 3.9), layout="constrained")
epochs = np.arange(1, histories.shape[1] + 1)
for column, color, label in (
    (0, "tab:blue", "training loss"),
    (1, "tab:orange", "error"),
):
    for member in range(3):
        curve.plot(epochs, histories[member, :, column], color=color, linewidth=1)
    curve.plot([], [], color=color, label=label + (" in validation" if column else ""))
curve.set(xlabel="epoch", ylabel="mean absolute error (six elements)", ylim=(0, None))
curve.legend(frameon=False, title="three members")

ends, good = (1.5, 100), off < bars
parity.plot(ends, ends, color="0.5", linewidth=1)
for chosen, color, label in (
    (good, "tab:blue", "within the bar"),
    (~good, "tab:red", "not"),
):
    x, y, bar = expected[chosen], predicted[chosen], bars[chosen]
    down = np.minimum(bar, 0.9 * y)  # an error bar cannot reach below zero here
    style = {"fmt": "o", "markersize": 3, "linewidth": 0.6, "color": color}
    parity.errorbar(x, y, yerr=[down, bar], label=label, **style)
parity.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
parity.set_xticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
parity.set_yticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
parity.minorticks_off()
parity.set(xlabel="electronic permittivity by DFPT", ylabel="predicted, kept aside")
parity.legend(frameon=False, loc="upper left")
figure.savefig(work / "training.png", dpi=120)

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
strangers = [c for c in load_structures() if set(c.atomic_numbers.tolist()) - known]
try:
    model.predict(strangers[0])
except BadCrystalError as error:
    print(str(error).partition(";")[0])

# %% [markdown]
# And it warns of what it hardly knows: elements in fewer than five training crystals,
# and crystals unlike all that it learned from. With a small training set this happens
# often.

# %%
warnings = [w for crystal in kept_aside for w in crystal_warnings(crystal, model)]
codes = [str(warning.code) for warning in warnings]
for code in ("few_training_crystals", "far_from_training"):
    print(f"{code}: {codes.count(code)} of {len(kept_aside)}")

# %% [markdown]
# ## Where to go from here
#
# - Better errors, in minutes: `--finetune` trains the encoder too.
# - All three tensors: `--target all --joint`.
# - More data, with other labels or another functional: `data.more`
#   ([how](../../model/#partial-labels-and-functionals)).
# - Good settings: `dtnn-fast tune` searches for them ([how](../../tune/)).
# - Several models on the same test crystals: `dtnn-fast evaluate runs`
#   ([how](../../evaluate/)).
#
# Next: [Born charges and refined tensors](../05_born_charges_and_refine/).

# %%
print(f"The files of this page are in {work}")
