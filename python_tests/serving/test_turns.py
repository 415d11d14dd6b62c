# SPDX-License-Identifier: MIT
"""Requests take turns: a small one does not wait for a large one."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving_processes import ROCK_SALT

from dtnn_fast.serving.turns import Turns


def test_owners_take_turns():
    turns = Turns()
    assert turns.next() is None
    for item in ("a1", "a2", "a3"):
        turns.add("a", item)
    turns.add("b", "b1")
    taken = [turns.take()]
    turns.add("c", "c1")
    turns.add("b", "b2")
    while (item := turns.next()) is not None:
        assert turns.take() == item
        taken.append(item)
    assert taken == ["a1", "b1", "a2", "c1", "b2", "a3"]
    with pytest.raises(KeyError):
        turns.take()


@pytest.mark.slow
def test_a_small_request_overtakes_a_large_one(server):
    """A hundred crystals of 64 atoms, and then one of two atoms: it is back when most of the others are not."""
    rows = "\n".join(
        f"{i / 4} {j / 4} {k / 4 + 0.001 * ((i + j + k) % 3)}" for i in range(4) for j in range(4) for k in range(4)
    )
    large = f"C\n1.0\n9 0 0\n0 9.3 0\n0 0 9.7\nC\n64\nDirect\n{rows}\n"
    names = [f"{number}.vasp" for number in range(100)]
    with ThreadPoolExecutor(1) as pool:
        begin = time.monotonic()
        asked = pool.submit(server.predict, *({"name": name, "text": large} for name in names))
        time.sleep(0.05)
        server.predict({"name": "small.vasp", "text": ROCK_SALT})
        small = time.monotonic() - begin
        results = asked.result()
        assert small < 0.6 * (time.monotonic() - begin)
    assert [result["name"] for result in results] == names
    assert {result["status"] for result in results} == {"predicted"}
