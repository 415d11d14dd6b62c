# SPDX-License-Identifier: MIT
"""File formats of crystals: JSON, CIF, POSCAR, extended XYZ, CSV, Parquet, databases, packed sets and archives.

- ``reading.py``: `read_crystals` reads one file of any format, `iter_crystals` crystal by crystal; `FILE_FORMATS` is
  the table to extend
- ``find_files.py``: lists the files in folders, and reads many files without stopping at an unreadable one
- ``property_table.py``: `PropertyTable`, a CSV of properties that is joined to crystals by id
- ``parquet_file.py``: `iter_parquet_rows`, crystals of Parquet with OPTIMADE's names
- ``packed_set.py``: `read_packed` and `write_packed`, the format that ``dtnn-fast data fetch`` writes
- ``cif.py``, ``extxyz.py``, ``json_file.py``, ``json_lines.py``, ``poscar.py``, ``csv_file.py``, ``ase_database.py``,
  ``archives.py``: the reader of each other format
- ``json_structures.py``, ``json_containers.py``: structures in JSON, and the containers that hold them
- ``json_stream.py``, ``json_tokens.py``, ``cif_stream.py``: the same in large files, entry by entry
- ``text_files.py``, ``compressed.py``, ``csv_rows.py``, ``scalars.py``: text, decompression, rows, values
- ``file_ids.py``: ids of crystals that are named after files
- ``read_position.py``: how far a file has been read
"""

from .find_files import FoundFiles, expand_paths, read_files
from .packed_set import PackedSet, read_packed, write_packed
from .parquet_file import iter_parquet_rows
from .property_table import PropertyTable
from .reading import FILE_FORMATS, FileFormat, file_format_of, iter_crystals, read_crystals

__all__ = [
    "FILE_FORMATS",
    "FileFormat",
    "FoundFiles",
    "PackedSet",
    "PropertyTable",
    "expand_paths",
    "file_format_of",
    "iter_crystals",
    "iter_parquet_rows",
    "read_crystals",
    "read_files",
    "read_packed",
    "write_packed",
]
