# SPDX-License-Identifier: MIT
"""The pool of reading processes: a file that its readers die of is refused, and the pool goes on."""

import asyncio

import pytest
from serving_processes import ROCK_SALT

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.serving import reading_pool
from dtnn_fast.serving.crystal_messages import RefusalCode
from dtnn_fast.serving.reading_pool import ReadingPool
from dtnn_fast.serving.reading_process import ReaderSettings

SETTINGS = ReaderSettings((), (2, 200), 50, 3, 1 << 30)


@pytest.mark.slow
def test_a_file_that_three_readers_die_of_is_refused(monkeypatch):
    read = reading_pool._Reader.read
    deaths = []

    async def die(reader, name, data, file_format):
        if name != "deadly.vasp":
            return await read(reader, name, data, file_format)
        deaths.append(reader.process.pid)
        reader.process.kill()
        return await read(reader, name, data, file_format)

    monkeypatch.setattr(reading_pool._Reader, "read", die)

    async def scenario():
        pool = ReadingPool(2, SETTINGS, 20.0)
        await pool.start()
        try:
            names = ("a.vasp", "deadly.vasp", "b.vasp")
            return await asyncio.gather(*(pool.read(name, ROCK_SALT.encode(), None) for name in names))
        finally:
            await pool.close()

    (first,), (deadly,), (last,) = asyncio.run(scenario())
    assert isinstance(first, Crystal)
    assert isinstance(last, Crystal)
    assert deadly.code == RefusalCode.CRASHED
    assert len(set(deaths)) == 3


@pytest.mark.slow
def test_a_reader_that_answers_nonsense_is_replaced(monkeypatch):
    """Damaged messages and lengths are the end of a reader, and no crystal."""
    receive = reading_pool._Reader._receive
    answers = []

    async def spoiled(reader):
        message = await receive(reader)
        if not message:  # the start
            return message
        answers.append(message)
        return message[:-8] if len(answers) == 1 else message

    monkeypatch.setattr(reading_pool._Reader, "_receive", spoiled)

    async def scenario():
        pool = ReadingPool(1, SETTINGS, 20.0)
        await pool.start()
        try:
            return await pool.read("a.vasp", ROCK_SALT.encode(), None)
        finally:
            await pool.close()

    (crystal,) = asyncio.run(scenario())
    assert crystal.formula == "NaCl"
    assert len(answers) == 2
