# SPDX-License-Identifier: MIT
"""Mutated copies of a file, and the check that no reader takes one for another crystal."""

import random
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dtnn_fast.crystals.crystal import Crystal, Rejected
from dtnn_fast.errors import BadFileError
from dtnn_fast.formats.reading import read_crystals

# First and last byte, exclusive.
Span = tuple[int, int]

_NUMBER = re.compile(rb"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")
_TAG = re.compile(rb"[A-Za-z_][A-Za-z_.]{2,}")
_LINE = re.compile(rb"[^\n]*\n|[^\n]+$")
_SECONDS_PER_FILE = 2.0


class Mutation(NamedTuple):
    """A changed copy of a file.

    Args:
        name: what was changed, for messages.
        data: the changed file.
        touched: the bytes of the original that were changed or removed.
    """

    name: str
    data: bytes
    touched: tuple[Span, ...]


def mutations(data: bytes, count: int, seed: int = 0) -> Iterator[Mutation]:
    """Yield mutated copies: bytes flipped, lines dropped, doubled or exchanged, tags renamed, numbers exchanged.

    Args:
        data: the file.
        count: number of copies.
        seed: seed of the random numbers.
    """
    rng = random.Random(seed)
    lines = [match.span() for match in _LINE.finditer(data)]
    tags = [match.span() for match in _TAG.finditer(data)]
    numbers = [match.span() for match in _NUMBER.finditer(data)]
    for _ in range(count):
        kind = rng.choice(("byte", "byte", "drop", "double", "tag", "numbers", "lines", "cut"))
        if kind == "byte":
            place = rng.randrange(len(data))
            new = bytes([data[place] ^ (1 << rng.randrange(8))])
            # A changed end of a line changes the next line too.
            touched = (place, place + (2 if data[place : place + 1] == b"\n" else 1))
            yield _replaced(f"byte {place} is {new!r}", data, [((place, place + 1), new)], [touched])
        elif kind == "drop":
            span = rng.choice(lines)
            yield _replaced(f"dropped {data[slice(*span)]!r}", data, [(span, b"")])
        elif kind == "double":
            span = rng.choice(lines)
            yield _replaced(f"doubled {data[slice(*span)]!r}", data, [(span, data[slice(*span)] * 2)])
        elif kind == "tag":
            span = rng.choice(tags)
            old = data[slice(*span)]
            letter = rng.randrange(len(old))
            new = rng.choice(
                [
                    old[:letter] + old[letter + 1 :],
                    old[:letter] + b"x" + old[letter + 1 :],
                    old.swapcase(),
                    data[slice(*rng.choice(tags))],
                ]
            )
            yield _replaced(f"{old!r} is {new!r}", data, [(span, new)])
        elif kind == "cut":
            place = rng.randrange(1, len(data))
            yield Mutation(f"cut at {place}", data[:place], ((place, len(data)),))
        else:
            spans = lines if kind == "lines" and len(lines) > 1 else numbers
            first, second = sorted(rng.sample(spans, 2))
            changes = [(first, data[slice(*second)]), (second, data[slice(*first)])]
            yield _replaced(f"exchanged {data[slice(*first)]!r} and {data[slice(*second)]!r}", data, changes)


def _replaced(
    name: str, data: bytes, changes: Sequence[tuple[Span, bytes]], touched: Sequence[Span] | None = None
) -> Mutation:
    for (begin, end), new in sorted(changes, reverse=True):
        data = data[:begin] + new + data[end:]
    return Mutation(name, data, tuple(touched or [span for span, _ in changes]))


def spans_of(pattern: str, data: bytes) -> list[Span]:
    """Return the spans of the first group of a pattern, or of the whole match."""
    return [match.span(min(1, match.re.groups)) for match in re.finditer(pattern.encode(), data, re.MULTILINE)]


def check_mutations(path: Path, data: bytes, sensitive: Sequence[Span], count: int, seed: int = 0) -> int:
    """Check that mutated copies are read as the crystals of the file, or refused.

    A copy may only raise BadFileError, within two seconds. Each crystal that is accepted must have the composition and
    the volume of a crystal of the original, unless the mutation touches a sensitive span.

    Args:
        path: the file to write the copies to; its name tells the format.
        data: the original file.
        sensitive: spans that hold atoms, occupancies, numbers of atoms, the cell or symmetry.
        count: number of copies.
        seed: seed of the random numbers.

    Returns:
        Number of copies that were checked against the original and accepted.
    """
    path.write_bytes(data)
    original = read_crystals(path)
    assert original
    assert not [item for item in original if isinstance(item, Rejected)]
    expected = [_fingerprint(crystal) for crystal in original]
    num_accepted = 0
    for mutation in mutations(data, count, seed):
        path.write_bytes(mutation.data)
        start = time.perf_counter()
        try:
            items = read_crystals(path)
        except BadFileError:
            continue
        finally:
            assert time.perf_counter() - start < _SECONDS_PER_FILE, mutation
        if any(begin < last and first < end for first, last in mutation.touched for begin, end in sensitive):
            continue
        crystals = [item for item in items if isinstance(item, Crystal)]
        num_accepted += bool(crystals)
        for crystal in crystals:
            composition, volume = _fingerprint(crystal)
            assert any(composition == c and abs(volume - v) <= 1e-6 * v for c, v in expected), (mutation, crystal)
    return num_accepted


def _fingerprint(crystal: Crystal) -> tuple[Counter[int], float]:
    return Counter(crystal.atomic_numbers.tolist()), abs(float(np.linalg.det(crystal.cell)))
