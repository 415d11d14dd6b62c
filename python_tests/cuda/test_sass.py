# SPDX-License-Identifier: MIT
"""What ptxas makes of the kernels: which loads are in flight together, as docs/kernels says, and what a loop costs."""

from __future__ import annotations

import pytest
from sass import kernel, loads_before_use

MULTIPLY = {"f": "FFMA", "d": "DFMA"}
BFLOAT16, FLOAT16 = "NS0_8BFloat16E", "NS0_7Float16E"  # mangled


@pytest.mark.parametrize("architecture", ["80", "90"])
@pytest.mark.parametrize("type_and_pack", ["fLi4", "fLi1", "dLi2", "dLi1"])
def test_gather_loads_four_indices_then_four_values(type_and_pack: str, architecture: str) -> None:
    instructions = kernel("atom_to_bond_gather_cuda", f"gather_rowsI{type_and_pack}E", architecture).loops()[-2]
    indices_and_values = loads_before_use(instructions, "LDG", rf"ISETP\.GE\.U32|{MULTIPLY[type_and_pack[0]]}")
    assert indices_and_values == [4, 4, 4, 4]  # of both ends
    assert not any(found.opcode.startswith("MUFU") for found in instructions)  # a division starts with a reciprocal


@pytest.mark.parametrize("architecture", ["80", "90"])
@pytest.mark.parametrize("type_and_pack", ["fLi4", "fLi1", "dLi2", "dLi1"])
def test_tiles_of_bonds_are_copied_without_waiting(type_and_pack: str, architecture: str) -> None:
    """A thread waits for the order of four bonds, not for values; bonds by center are copied without any load."""
    loops = kernel("bond_to_atom_sum_cuda", f"sum_tiled_rowsI{type_and_pack}E", architecture).loops()
    copies = [[found for found in loop if found.opcode.startswith(("LDG", "BAR"))] for loop in loops]
    copies = [loop for loop in copies if any(found.opcode.startswith("LDGSTS") for found in loop)]
    inner = [loop for loop in copies if not any(found.opcode.startswith("BAR") for found in loop)]
    plain = [loop for loop in inner if all(found.opcode.startswith("LDGSTS") for found in loop)]
    ordered = [loop for loop in inner if loop not in plain]
    assert len(plain) == 4  # values and atoms, for each end
    assert [loads_before_use(loop, r"LDG\.", "LDGSTS") for loop in ordered] == [[4]]  # the center has no order


@pytest.mark.parametrize("architecture", ["80", "90"])
@pytest.mark.parametrize("type_and_pack", ["fLi4", "fLi1", "dLi2", "dLi1"])
@pytest.mark.parametrize("name", ["sum_tiles", "sum_segments"])
def test_readout_has_ten_loads_in_flight(name: str, type_and_pack: str, architecture: str) -> None:
    loops = kernel("tensor_readout_cuda", name, architecture, f"AtomTensorsI{type_and_pack}E").loops()
    loads = [loads_before_use(loop, "LDG", "FFMA|FADD|DFMA|DADD") for loop in loops[:4]]
    assert [10] in loads


@pytest.mark.parametrize("architecture", ["80", "90"])
@pytest.mark.parametrize("name", ["count_bonds", "write_bonds"])
def test_one_image_a_lane(name: str, architecture: str) -> None:
    """32 candidates cost little more than the float64 operations of the criterion; nothing is divided or reloaded."""
    loops = kernel("neighbor_list_cuda", name, architecture, "SearchMethodE0E").loops()
    loop = next(loop for loop in loops if any(found.opcode.startswith("FRND") for found in loop))
    opcodes = [found.opcode for found in loop]
    begin = next(i for i, opcode in enumerate(opcodes) if opcode.startswith("FRND"))
    assert sum(opcode.startswith("FRND.F64") for opcode in opcodes) == 3
    assert sum(opcode.startswith(("DADD", "DMUL", "DFMA")) for opcode in opcodes) < 40
    assert not any(opcode.startswith(("CALL", "MUFU", "LDG.E.U8", "LDL", "STL")) for opcode in opcodes[:begin])
    assert len(loop) < {"count_bonds": 170, "write_bonds": 200}[name]  # about 60 of them for cells that are not kept


@pytest.mark.parametrize("architecture", ["80", "90"])
@pytest.mark.parametrize("type_name", [BFLOAT16, FLOAT16])
def test_16_bits_come_in_packs_of_eight(type_name: str, architecture: str) -> None:
    gather = kernel("atom_to_bond_gather_cuda", f"gather_rowsI{type_name}Li8E", architecture).loops()[-2]
    assert loads_before_use(gather, r"LDG", r"ISETP\.GE\.U32|FFMA") == [2, 2, 2, 2]
    assert sum(found.opcode.startswith("LDG.E.128") for found in gather) == 4
    rows = kernel("bond_to_atom_sum_cuda", f"sum_rowsI{type_name}Li8E", architecture).instructions
    assert sum(found.opcode.startswith("LDG.E.128") for found in rows) >= 8  # of four bonds, for each end
    assert not any(found.opcode.startswith("LDG.E.U16") for found in rows)


@pytest.mark.parametrize("architecture", ["80", "90"])
@pytest.mark.parametrize("type_and_pack", ["fLi4", "fLi1", "dLi2", "dLi1", f"{BFLOAT16}Li8"])
def test_rows_of_bonds_have_four_bonds_in_flight(type_and_pack: str, architecture: str) -> None:
    """Indices and values by center, the same by neighbor without and with an order."""
    loops = kernel("bond_to_atom_sum_cuda", f"sum_rowsI{type_and_pack}E", architecture).loops()
    loads = [loads_before_use(loop, "LDG", "FFMA|DFMA") for loop in loops]
    assert [runs for runs in loads if len(runs) == 1 and runs != [0]] == [[8], [8], [12]]
