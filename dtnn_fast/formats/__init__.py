# SPDX-License-Identifier: MIT
"""File formats of crystals: JSON lines, CIF, POSCAR, extended XYZ, JSON and packed sets.

- ``reading.py``: `read_crystals` reads one file of any format; `FILE_FORMATS` is the table to extend
- ``find_files.py``: lists the files in folders, and reads many files without stopping at an unreadable one
- ``packed_set.py``: `read_packed` and `write_packed`, the format that ``dtnn-fast data fetch`` writes
- ``cif.py``, ``extxyz.py``, ``json_file.py``, ``json_lines.py``, ``poscar.py``: the reader of each other format
- ``json_structures.py``, ``json_containers.py``: structures in JSON, and the containers that hold them
- ``text_files.py``, ``file_ids.py``: lines and numbers of text files; ids of crystals that are named after files
"""

from .find_files import FoundFiles, expand_paths, read_files
from .packed_set import PackedSet, read_packed, write_packed
from .reading import FILE_FORMATS, FileFormat, file_format_of, iter_crystals, read_crystals

__all__ = [
    "FILE_FORMATS",
    "FileFormat",
    "FoundFiles",
    "PackedSet",
    "expand_paths",
    "file_format_of",
    "iter_crystals",
    "read_crystals",
    "read_files",
    "read_packed",
    "write_packed",
]
