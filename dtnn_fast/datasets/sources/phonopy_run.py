# SPDX-License-Identifier: MIT
"""Read a folder of a phonopy calculation: structure, electronic tensor, Born charges and force constants at Gamma.

Such folders make up the phonon database of Kyoto University (A. Togo, https://mdr.nims.go.jp/collections/8g84ms862).
phonopy reads the files, applies the symmetry and makes force constants of displacements and forces.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...crystals.crystal import Crystal, dielectric_targets
from ...errors import BadCrystalError, optional_import
from ...phonons import gamma_modes, ionic_tensor, without_translations

_PURPOSE = "read phonopy calculations"
# In the order of preference. The first two hold all settings; POSCAR needs the supercell beside it.
_SETTINGS = ("phonopy_params.yaml", "phonopy.yaml", "phonopy_disp.yaml", "phonon.yaml", "disp.yaml")
_UNIT_CELLS = ("POSCAR-unitcell", "POSCAR")
_FORCE_CONSTANTS = ("FORCE_CONSTANTS", "force_constants.hdf5")
# eV/Angstrom^2. Below this, an eigenvalue of the force constants is an instability and no rounding.
_UNSTABLE = -1e-3


def read_phonopy_run(folder: Path, id: str, source: str) -> Crystal:
    """Read a calculation.

    Args:
        folder: holds the settings and the unit cell (phonopy_params.yaml, phonopy.yaml, phonopy_disp.yaml or
            phonon.yaml, or POSCAR-unitcell with phonopy.conf), and what there is of BORN and of FORCE_CONSTANTS,
            force_constants.hdf5 or FORCE_SETS.
        id: name of the crystal.
        source: where it came from, for messages.

    Returns:
        The primitive cell with the labels that the files give. The ionic tensor is computed from Born charges and
        force constants, unless the crystal is unstable; `info["unstable"]` tells.

    Raises:
        BadCrystalError: files are missing or damaged, or do not fit each other; the message says which.
        MissingPackageError: phonopy is not installed.
    """
    phonopy = optional_import("phonopy", extra="phonopy", purpose=_PURPOSE)
    calculation = _load(phonopy.load, folder, id)
    primitive = calculation.primitive
    fields: dict[str, Any] = {"info": {}}
    nac = calculation.nac_params
    if nac is not None:
        # phonopy has averaged both over the space group, and made the charges sum to zero.
        fields["born_charges"] = np.array(nac["born"], dtype=np.float64)
        fields["targets"] = dielectric_targets(np.array(nac["dielectric"]))
    if calculation.force_constants is not None:
        fields["force_constants"] = gamma_force_constants(calculation)
    if nac is None and "force_constants" not in fields:
        raise BadCrystalError(f"{id}: {folder.name} has neither BORN nor forces or force constants")
    crystal = Crystal.from_fractional(
        id, primitive.numbers, primitive.scaled_positions, primitive.cell, source=source, **fields
    )
    return _with_ionic_tensor(crystal)


def _with_ionic_tensor(crystal: Crystal) -> Crystal:
    charges, constants = crystal.born_charges, crystal.force_constants
    if charges is None or constants is None:
        return crystal
    stiffness = gamma_modes(constants, charges).stiffness
    crystal.info["unstable"] = bool(len(stiffness) and stiffness[0] < _UNSTABLE)
    if not crystal.info["unstable"]:
        ionic = ionic_tensor(constants, charges, abs(float(np.linalg.det(crystal.cell))))
        crystal.targets.update(dielectric_targets(crystal.targets["electronic"], ionic=ionic))
    return crystal


def _load(load: Callable[..., Any], folder: Path, id: str) -> Any:
    files = {path.name: path for path in folder.iterdir() if path.is_file()}
    options: dict[str, Any] = {"log_level": 0, "is_compact_fc": True, "primitive_matrix": "auto"}
    settings = next((name for name in _SETTINGS if name in files), None)
    unit_cell = next((name for name in _UNIT_CELLS if name in files), None)
    if unit_cell is not None and "phonopy.conf" in files:
        options |= {"unitcell_filename": str(files[unit_cell]), **_read_settings(files["phonopy.conf"], id)}
    elif settings is not None:
        options["phonopy_yaml"] = str(files[settings])
    else:
        expected = ", ".join((*_SETTINGS, "or POSCAR-unitcell with phonopy.conf"))
        raise BadCrystalError(f"{id}: {folder.name} has no unit cell with its supercell: expected {expected}")
    forces = next((name for name in _FORCE_CONSTANTS if name in files), None)
    if forces is not None:
        options["force_constants_filename"] = str(files[forces])
    elif "FORCE_SETS" in files:
        _check_force_sets(files["FORCE_SETS"], folder, id)
        options["force_sets_filename"] = str(files["FORCE_SETS"])
    if "BORN" in files:
        options["born_filename"] = str(files["BORN"])
    else:
        options["is_nac"] = settings is not None
    try:
        return load(**options)
    except Exception as error:  # phonopy passes on the errors of its parsers, of NumPy, yaml and spglib
        raise BadCrystalError(
            f"{id}: phonopy cannot read {folder.name}: {type(error).__name__}: {' '.join(str(error).split())}"
        ) from error


def _check_force_sets(path: Path, folder: Path, id: str) -> None:
    """Count the numbers of a FORCE_SETS file, before phonopy's compiled parts take what is there for whole arrays.

    The file starts with the number of atoms and of displacements; each displacement has the number of its atom, a
    vector, and a force on every atom. The other form, six numbers a line, is phonopy's to check.
    """
    lines = [line.partition("#")[0].split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    words = [word for line in lines for word in line]
    first = next((line for line in lines if line), [])
    if len(first) != 1 or len(words) < 2:
        return
    try:
        num_atoms, num_displacements = int(words[0]), int(words[1])
        numbers = [float(word) for word in words]
    except ValueError as error:
        raise BadCrystalError(f"{id}: phonopy cannot read {folder.name}: {path.name}: {error}") from error
    expected = 2 + num_displacements * (4 + 3 * num_atoms)
    if len(numbers) != expected:
        raise BadCrystalError(
            f"{id}: phonopy cannot read {folder.name}: {path.name}: expected {expected} numbers for "
            f"{num_displacements} displacements of {num_atoms} atoms, got {len(numbers)}"
        )


def _read_settings(path: Path, id: str) -> dict[str, Any]:
    """Read the supercell and the primitive cell from a phonopy.conf (tags DIM, PRIMITIVE_AXES or PRIMITIVE_AXIS)."""
    tags = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        name, equals, value = line.partition("#")[0].partition("=")
        if equals:
            tags[name.strip().upper()] = value.split()
    if "DIM" not in tags:
        raise BadCrystalError(f"{id}: {path.name} has no supercell (tag DIM)")
    try:
        supercell = np.array([int(word) for word in tags["DIM"]])
        axes = tags.get("PRIMITIVE_AXES", tags.get("PRIMITIVE_AXIS"))
        options: dict[str, Any] = {"supercell_matrix": supercell if supercell.size == 3 else supercell.reshape(3, 3)}
        if axes is not None and len(axes) > 1:
            options["primitive_matrix"] = np.array([_number(word) for word in axes]).reshape(3, 3)
        elif axes:
            options["primitive_matrix"] = axes[0].lower() if axes[0].lower() == "auto" else axes[0].upper()
    except ValueError as error:
        raise BadCrystalError(f"{id}: {path.name}: supercell or primitive cell cannot be read: {error}") from error
    return options


def _number(word: str) -> float:
    """Read a number or a fraction such as 1/2."""
    numerator, slash, denominator = word.partition("/")
    return float(numerator) / float(denominator) if slash else float(numerator)


def gamma_force_constants(calculation: Any) -> np.ndarray:
    """Sum force constants over the images of each atom, so that they are those of displacements at q = 0.

    Args:
        calculation: a phonopy.Phonopy with force constants, compact or full.

    Returns:
        Force constants of the primitive cell, without what is left of a force under a translation. [3 N, 3 N],
        eV/Angstrom^2.
    """
    primitive = calculation.primitive
    stored = calculation.force_constants
    places = primitive.p2s_map
    rows = stored if len(stored) == len(primitive) else stored[places]
    # Index in the primitive cell of each atom of the supercell.
    index = {int(place): number for number, place in enumerate(places)}
    images = np.array([index[int(place)] for place in primitive.s2p_map])
    num_atoms = len(primitive)
    summed = np.zeros((num_atoms, num_atoms, 3, 3))
    for image, number in enumerate(images):
        summed[:, number] += rows[:, image]
    matrix = summed.transpose(0, 2, 1, 3).reshape(3 * num_atoms, 3 * num_atoms)
    matrix = 0.5 * (matrix + matrix.T)
    basis = without_translations(num_atoms)
    result: np.ndarray = basis @ (basis.T @ matrix @ basis) @ basis.T
    return result
