# SPDX-License-Identifier: MIT
"""Synthetic results of VASP: vasprun.xml and OUTCAR of a crystal with given tensors."""

import numpy as np

from dtnn_fast.crystals.elements import SYMBOLS

_ENERGIES = "".join(f'<i name="{name}">-1</i>' for name in ("e_fr_energy", "e_wo_entrp", "e_0_energy"))
_GROUND = f"<scstep><energy>{_ENERGIES}</energy></scstep>"
_FIRST = '<scstep><energy><i name="alphaZ">1</i><i name="e_fr_energy">-1</i></energy></scstep>'


def varray(name, rows, tag="varray"):
    lines = "".join(f"<v> {' '.join(f'{value:.8f}' for value in row)} </v>" for row in rows)
    return f'<{tag} name="{name}">{lines}</{tag}>' if name else f"<{tag}>{lines}</{tag}>"


def vasprun(crystal, electronic=None, ionic=None, charges=None, steps=12, nelm=100, calculations=1, tags=None):
    """The text of a vasprun.xml; `tags` are those of INCAR, such as ``{"NSW": 99, "IBRION": 2}``."""
    atoms = "".join(f"<rc><c>{SYMBOLS[z]:2}</c><c>1</c></rc>" for z in crystal.atomic_numbers.tolist())
    tensors = "".join(
        varray(name, tensor) for name, tensor in (("epsilon", electronic), ("epsilon_ion", ionic)) if tensor is not None
    )
    born = ""
    if charges is not None:
        born = f'<array name="born_charges">{"".join(varray("", z, "set") for z in charges)}</array>'
    fractional = crystal.positions @ np.linalg.inv(crystal.cell)
    tags = "".join(f'<i type="int" name="{name}"> {value}</i>' for name, value in (tags or {}).items())
    response = '<scstep><energy><i name="e_fr_energy">0</i></energy></scstep>' * 200
    calculation = f"<calculation>{_FIRST}{_GROUND * (steps - 1)}{response}{tensors}{born}</calculation>"
    return f"""<?xml version="1.0"?><modeling><incar>{tags}</incar>
<parameters><separator name="electronic"><i type="int" name="NELM">{nelm}</i></separator></parameters>
<atominfo><array name="atoms"><set>{atoms}</set></array></atominfo>{calculation * calculations}
<structure name="finalpos"><crystal>{varray("basis", crystal.cell)}</crystal>
{varray("positions", fractional)}</structure></modeling>"""


def outcar(electronic, ionic, ended=True):
    """The parts of an OUTCAR that hold the tensors."""

    def section(title, tensor):
        line = "-" * 54
        rows = "\n".join("".join(f"{value:14.6f}" for value in row) for row in tensor)
        return f" {title}\n {line}\n{rows}\n {line}\n\n"

    text = """ vasp.6.4.2
   k-points           NKPTS =     10   k-points in BZ     NKDIM =     10   number of bands    NBANDS=      8
   total plane-waves  NPLWV =   8000
   IBRION =      8    ionic relax
   LEPSILON=      T    determine dielectric tensor
 aborting loop because EDIFF is reached
"""
    text += section("MACROSCOPIC STATIC DIELECTRIC TENSOR (including local field effects in DFT)", electronic)
    text += section("MACROSCOPIC STATIC DIELECTRIC TENSOR IONIC CONTRIBUTION", ionic)
    return text + (" General timing and accounting informations for this job:\n" if ended else "")


def poscar(crystal):
    rows = [crystal.id, "1.0", *(" ".join(f"{x:.10f}" for x in row) for row in crystal.cell)]
    rows += [
        " ".join(SYMBOLS[z] for z in crystal.atomic_numbers.tolist()),
        " ".join("1" * crystal.num_atoms),
        "Cartesian",
    ]
    rows += [" ".join(f"{x:.10f}" for x in row) for row in crystal.positions]
    return "\n".join(rows) + "\n"
