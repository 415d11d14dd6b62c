# SPDX-License-Identifier: MIT
"""Sizes and times: what is too large, too many or too slow is refused, and the service goes on."""

import gzip
import io
import json
import os
import re
import signal
import socket
import tarfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from serving_processes import ROCK_SALT, started

pytestmark = pytest.mark.slow

MAX_BYTES = int(0.02 * (1 << 20))
XYZ = '2\nLattice="0 2.8 2.8 2.8 0 2.8 2.8 2.8 0"\nNa 0 0 0\nCl 2.8 2.8 2.8\n'


def works(server):
    return server.predict({"name": "NaCl.vasp", "text": ROCK_SALT})[0]["formula"] == "NaCl"


def wait_for_readers(server, gone=()):
    """Wait until as many readers as usual have started, and return their process ids."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found = server.readers()
        # Readers limit their memory when they are ready.
        limits = [Path(f"/proc/{pid}/limits").read_text(encoding="ascii") for pid in found]
        if len(found) == 2 and not set(found) & set(gone) and all("open files            0" in text for text in limits):
            return found
        time.sleep(0.05)
    raise AssertionError(f"no new readers: {found}")


def chain(num_atoms):
    """A row of carbon atoms."""
    rows = "\n".join(f"0 0 {2 * k}" for k in range(num_atoms))
    return f"C\n1.0\n3 0 0\n0 3 0\n0 0 {2 * num_atoms}\nC\n{num_atoms}\nCartesian\n{rows}\n"


def head_of(*headers):
    """Write the head of a request to /v1/predict."""
    lines = ["POST /v1/predict HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def is_whole(answer):
    head, separator, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    return bool(separator) and length is not None and len(body) >= int(length[1])


def talk(server, *parts, pause=0.0, seconds=10):
    """Send bytes in parts on one connection, and return the answer, or what comes of it until the end."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as connection:
        received = b""
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
            while not is_whole(received) and (chunk := connection.recv(1 << 16)):
                received += chunk
        except OSError:
            pass
        return received


def test_a_large_body_is_refused_before_it_is_sent(small_server):
    head = head_of(f"Content-Length: {10**9}")
    answer = talk(small_server, head)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "too_large"
    status, answer = small_server.post({"crystals": [{"text": "x" * MAX_BYTES}]})
    assert (status, answer["error"]["code"]) == (413, "too_large")
    assert f"{MAX_BYTES:,} bytes" in answer["error"]["message"]
    assert works(small_server)


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "1e9", "0x10", ""])
def test_lengths_that_are_no_numbers(small_server, length):
    head = head_of(f"Content-Length: {length}")
    answer = talk(small_server, head)
    assert answer[9:12] in (b"400", b"413"), answer
    assert works(small_server)


def test_a_body_in_chunks_is_counted_while_it_comes(small_server):
    head = head_of("Transfer-Encoding: chunked")
    chunk = b"%x\r\n%s\r\n" % (4096, b" " * 4096)
    answer = talk(small_server, head, *[chunk] * 8)
    assert answer.startswith(b"HTTP/1.1 413 ")
    # Small ones are read.
    body = json.dumps({"crystals": [{"text": ROCK_SALT}]}).encode()
    chunks = [b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:20], body[20:])]
    answer = talk(small_server, head, *chunks, b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert works(small_server)


@pytest.mark.parametrize(
    "request_bytes",
    [
        head_of("Content-Length: 5", "Content-Length: 6") + b"hello",
        head_of("Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\nGET /health HTTP/1.1\r\n\r\n",
        head_of("Transfer-Encoding: xchunked") + b"0\r\n\r\n",
        head_of("Content-Length: 5", "X: a\r\n b") + b"hello",
        b"\x16\x03\x01\x02\x00" + b"a" * 500,
    ],
)
def test_requests_that_a_proxy_may_read_in_another_way_are_refused(small_server, request_bytes):
    assert talk(small_server, request_bytes).startswith(b"HTTP/1.1 400 ")
    assert works(small_server)


@pytest.mark.parametrize(
    "endless",
    [
        b"X-Long: " + b"a" * 200_000,
        b"".join(b"X-%d: a\r\n" % k for k in range(20_000)),
    ],
)
def test_heads_without_end_are_cut_off(small_server, endless):
    assert b"200 OK" not in talk(small_server, b"GET /health HTTP/1.1\r\nHost: localhost\r\n", endless)
    assert works(small_server)


def test_trailers_and_chunk_extensions_without_end_are_cut_off(small_server):
    head = head_of("Transfer-Encoding: chunked")
    for endless in (b"0\r\n" + b"X-a: b\r\n" * 100_000, b"1;" + b"a" * 500_000, b"1\r\n \r\n" * 100_000):
        assert b"200 OK" not in talk(small_server, head, endless)
    assert works(small_server)


def test_a_request_that_does_not_come_is_given_up(small_server):
    head = head_of("Content-Length: 100")
    begin = time.monotonic()
    answer = talk(small_server, head, b'{"crystals"')
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert 3 < time.monotonic() - begin < 9
    assert works(small_server)


def test_too_many_crystals(small_server):
    status, answer = small_server.post({"crystals": [{"text": ROCK_SALT}] * 5})
    assert (status, answer["error"]["code"]) == (413, "too_many")
    status, answer = small_server.send_files([(f"{k}.vasp", ROCK_SALT.encode()) for k in range(5)])
    assert (status, answer["error"]["code"]) == (413, "too_many")
    # Several in one file: the first ones are predicted.
    results = small_server.predict({"name": "many.xyz", "text": XYZ * 50})
    assert [result["status"] for result in results] == ["predicted"] * 4 + ["rejected"]
    assert results[-1]["code"] == "too_many"
    # Of several files, at least one each.
    results = small_server.predict({"name": "many.xyz", "text": XYZ * 4}, {"name": "more.xyz", "text": XYZ * 4})
    predicted = [result["input"] for result in results if result["status"] == "predicted"]
    assert len(predicted) == 4
    assert set(predicted) == {0, 1}
    assert sum(result["status"] == "rejected" for result in results) >= 1


def test_large_crystals(small_server):
    (result,) = small_server.predict({"name": "a.vasp", "text": chain(12)})
    assert result["status"] == "predicted"
    (result,) = small_server.predict({"name": "a.vasp", "text": chain(13)})
    assert (result["code"], result["status"]) == ("too_large", "rejected")
    assert "13 atoms: at most 12" in result["reason"]


def test_crystals_of_many_bonds(small_server):
    # Atoms of hydrogen, as close as the checks of crystals let them be.
    rows = "\n".join(f"{k % 2 / 2} {k // 2 % 2 / 2} {k // 4 / 3}" for k in range(12))
    text = f"H\n0.9\n2 0 0\n0 2 0\n0 0 3\nH\n12\nDirect\n{rows}\n"
    (result,) = small_server.predict({"name": "a.vasp", "text": text})
    assert result["code"] == "too_large"
    assert "bonds within 5 Angstrom" in result["reason"]


def test_compressed_requests_files_and_archives_are_refused(small_server):
    body = json.dumps({"crystals": [{"text": ROCK_SALT}]}).encode()
    status, answer = small_server.post(gzip.compress(body), content_encoding="gzip")
    assert (status, answer["error"]["code"]) == (415, "compressed")
    bomb = gzip.compress(bytes(2 << 20), 9)
    packed, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.vasp", ROCK_SALT)
    with tarfile.open(fileobj=tarred, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.vasp"), io.BytesIO())
    files = [("a.cif.gz", bomb), ("b.zip", packed.getvalue()), ("c.cif", bomb), ("POSCAR.gz", bomb)]
    status, answer = small_server.send_files(files)
    assert status == 200
    assert [result["code"] for result in answer["results"]] == ["unreadable"] * 4
    assert "unpack it first" in answer["results"][0]["reason"]
    assert "compressed by gzip" in answer["results"][2]["reason"]
    status, answer = small_server.send_files([("a.tar", tarred.getvalue()), ("b", packed.getvalue()), ("a.npz", bomb)])
    assert [result["code"] for result in answer["results"]] == ["unreadable"] * 3
    assert works(small_server)


def test_a_file_that_hangs_is_refused_and_its_reader_replaced(small_server):
    before = wait_for_readers(small_server)
    for pid in before:
        os.kill(pid, signal.SIGSTOP)
    begin = time.monotonic()
    first, second = small_server.predict({"name": "a.vasp", "text": ROCK_SALT}, {"name": "b.vasp", "text": ROCK_SALT})
    assert 0.9 < time.monotonic() - begin < 4
    for result in (first, second):
        assert (result["status"], result["code"]) == ("rejected", "timeout")
        assert "longer than 1 seconds" in result["reason"]
    assert works(small_server)
    assert not set(before) & set(small_server.readers())
    assert not [pid for pid in before if Path(f"/proc/{pid}").exists()]


def test_readers_that_die_lose_nothing(small_server):
    """Also all at once, while many clients wait: each file is read again, by a third reader if need be."""
    before = wait_for_readers(small_server)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(works, small_server) for _ in range(60)]
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        assert all(one.result() for one in asked)
    wait_for_readers(small_server, before)


def test_what_is_done_in_time_is_kept(small_server):
    """One file hangs, in the only reader that is left: the others are answered."""
    stopped, _ = wait_for_readers(small_server)
    os.kill(stopped, signal.SIGSTOP)
    results = small_server.predict(*({"name": f"{k}.vasp", "text": ROCK_SALT} for k in range(4)))
    statuses = [result["status"] for result in results]
    assert statuses.count("predicted") == 3
    assert works(small_server)


def test_a_request_that_takes_too_long_is_given_up_and_memory_is_limited():
    with started("--timeout", 1, "--reading-timeout", 60, "--workers", 1) as server:
        (reader,) = server.readers()
        limits = Path(f"/proc/{reader}/limits").read_text(encoding="ascii")
        space, files = (
            next(line for line in limits.splitlines() if line.startswith(name))
            for name in ("Max address", "Max open files")
        )
        assert int(space.split()[3]) < 8 << 30
        assert files.split()[3] == "0"
        os.kill(reader, signal.SIGSTOP)
        status, answer = server.post({"crystals": [{"text": ROCK_SALT}]})
        assert (status, answer["error"]["code"]) == (504, "timeout")
        os.kill(reader, signal.SIGCONT)
        assert works(server)


def test_more_than_the_service_holds_is_refused_with_a_time_to_try_again():
    """20 crystals are in the service at most: of twelve requests of 2 crystals, two are refused, and none is lost."""
    body = json.dumps({"crystals": [{"text": ROCK_SALT}] * 2}).encode()
    with started("--workers", 1, "--reading-timeout", 30, "--max-waiting", 20, "--max-crystals", 2) as server:
        (reader,) = server.readers()
        os.kill(reader, signal.SIGSTOP)

        def ask(_):
            return server.request("POST", "/v1/predict", body, {"content-type": "application/json"})

        with ThreadPoolExecutor(12) as pool:
            asked = [pool.submit(ask, k) for k in range(12)]
            time.sleep(2)
            os.kill(reader, signal.SIGCONT)
            answers = [one.result() for one in asked]
        statuses = [status for status, _, _ in answers]
        assert statuses.count(200) == 10
        assert statuses.count(503) == 2
        assert all(headers["retry-after"] == "1" for status, headers, _ in answers if status == 503)
        assert all(json.loads(answer)["predicted"] == 2 for status, _, answer in answers if status == 200)


def test_what_has_come_is_answered_before_the_end():
    """By Ctrl-C here; `started` stops all other servers by SIGTERM."""
    with started("--workers", 1) as server, ThreadPoolExecutor(4) as pool:
        (reader,) = server.readers()
        os.kill(reader, signal.SIGSTOP)
        asked = [pool.submit(works, server) for _ in range(4)]
        time.sleep(0.7)
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        os.kill(reader, signal.SIGCONT)
        assert all(one.result() for one in asked)
        assert server.process.wait(timeout=20) == 0
        with pytest.raises(OSError, match="refused"):
            server.get("/health")


def test_memory_stays_over_many_requests(server):
    """A small version of what docs/serve.md measures over 10,000 requests."""

    def resident():
        return int(Path(f"/proc/{server.process.pid}/statm").read_text(encoding="ascii").split()[1]) * 4096

    def load(number):
        body = json.dumps({"crystals": [{"text": ROCK_SALT}]})
        with server.connect() as connection:
            for _ in range(number):
                connection.request("POST", "/v1/predict", body, {"content-type": "application/json"})
                assert connection.getresponse().read().startswith(b'{"model"')

    load(100)
    before = resident()
    load(300)
    assert resident() - before < 4 << 20
