# SPDX-License-Identifier: MIT
"""Stand-ins for the CUDA libraries that PyPI's torch is linked with, so that its CPU half can be tested without them.

PyPI's torch for Linux is a CUDA build: several GB a version with its CUDA packages, and it cannot be imported without
them. The stand-ins define the same names. Their functions do nothing and return an error, so torch finds no GPU. Needs
objdump and gcc.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections import defaultdict
from pathlib import Path

_UNVERSIONED = "libunversioned_stub.so"
_NO_DEVICE = 100  # cudaErrorNoDevice: torch reports no GPU
_SPECIAL = {
    "cudaGetDeviceCount": f"int cudaGetDeviceCount(int* count) {{ *count = 0; return {_NO_DEVICE}; }}",
    "cudaGetErrorString": 'const char* cudaGetErrorString(int code) { return "a stand-in without a GPU"; }',
    "cudaGetErrorName": 'const char* cudaGetErrorName(int code) { return "a stand-in without a GPU"; }',
}


def make_stubs(torch_libraries: Path, folder: Path) -> list[str]:
    """Make a stand-in for each library that those in `torch_libraries` need and that is not there.

    Args:
        torch_libraries: the folder torch/lib of an installed torch.
        folder: where the stand-ins go; for LD_LIBRARY_PATH.

    Returns:
        The names of the libraries.
    """
    present = sorted(path for path in torch_libraries.iterdir() if ".so" in path.name and path.is_file())
    absent: set[str] = set()
    versions: dict[str, set[str]] = defaultdict(set)  # of each library
    defined: set[str] = set()
    wanted: dict[str, set[str]] = defaultdict(set)  # symbols of each version; "" for none
    for path in present:
        headers = _run("objdump", "-p", str(path))
        absent.update(re.findall(r"NEEDED\s+(\S+)", headers))
        library = ""
        for line in headers.partition("Version References:")[2].splitlines():
            if match := re.fullmatch(r"\s+required from (\S+):", line):
                library = match[1]
            elif match := re.fullmatch(r"\s+0x\S+ 0x\S+ \d+ (\S+)", line):
                versions[library].add(match[1])
        for line in _run("objdump", "-T", str(path)).splitlines():
            # address, flags, section, size, version (may be absent), name
            match = re.fullmatch(r"[0-9a-f]+ (.{7}) (\S+)\t[0-9a-f]+\s+(?:(\S+)\s+)?(\S+)", line)
            if match is None:
                continue
            flags, section, version, symbol = match.groups("")
            if section != "*UND*":
                defined.add(symbol)
            elif "w" not in flags:
                wanted[version.strip("()").replace("Base", "")].add(symbol)
    absent = {name for name in absent - {path.name for path in present} if not _loads(name)}
    folder.mkdir(parents=True, exist_ok=True)
    # A name without a version does not say which library it is from. One library, which the others load, has them all.
    here = [ctypes.CDLL(name) for name in (None, "libstdc++.so.6", "libm.so.6", "libgcc_s.so.1")]
    unknown = {symbol for symbol in wanted[""] - defined if not any(hasattr(library, symbol) for library in here)}
    _compile(folder / _UNVERSIONED, {"": unknown})
    for name in absent:
        _compile(folder / name, {version: wanted[version] for version in versions[name]}, folder / _UNVERSIONED)
    return sorted(absent)


def _compile(library: Path, symbols: dict[str, set[str]], *linked: Path) -> None:
    names = sorted(set().union(*symbols.values()))
    source, script = library.with_name(f"{library.name}.c"), library.with_name(f"{library.name}.map")
    source.write_text("\n".join(_SPECIAL.get(name, f"long {name}() {{ return {_NO_DEVICE}; }}") for name in names))
    script.write_text(
        "\n".join(f"{v} {{ global: {''.join(f'{name}; ' for name in sorted(symbols[v]))} }};" for v in symbols if v)
    )
    options = ["-shared", "-fPIC", "-w", "-fno-builtin", f"-Wl,-soname,{library.name}", "-Wl,--no-as-needed"]
    if script.stat().st_size:
        options.append(f"-Wl,--version-script,{script}")
    _run("gcc", *options, "-Wl,-rpath,$ORIGIN", "-o", str(library), str(source), *map(str, linked))
    source.unlink()
    script.unlink()


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
