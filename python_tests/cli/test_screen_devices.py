# SPDX-License-Identifier: MIT
"""A screening on several devices; the CPU stands in for each GPU."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from screening_processes import results_of, rows_of

from dtnn_fast.cli.screen_devices import list_devices, screen_on_devices, split_share
from dtnn_fast.errors import DTNNError
from dtnn_fast.screening.screening_run import Shard, parse_shard

# Chunks of one file, in this process and in those that it starts; a device "die" ends at its second part.
_SITE = """
import os, sys
from dtnn_fast.screening import input_chunks
input_chunks.FILES_TOGETHER = 1
if os.environ.get("DIE_WITH") and "'die'" in sys.orig_argv[-1]:
    from dtnn_fast.nn import devices
    from dtnn_fast.screening import parts
    find, write, count = devices.find_device, parts.Parts.write, 0

    def dying_write(*arguments, **more):
        global count
        count += 1
        if count > 1:
            os.kill(os.getpid(), int(os.environ["DIE_WITH"]))
        write(*arguments, **more)

    devices.find_device = lambda name, *more: find("cpu", *more)
    parts.Parts.write = dying_write
"""


@pytest.fixture(scope="module")
def data(labelled, row_of, tmp_path_factory):
    folder = tmp_path_factory.mktemp("crystals")
    small = [crystal for crystal in labelled if crystal.num_atoms < 5]
    for number in range(5):
        rows = map(row_of, small[number * 5 : number * 5 + 6])
        (folder / f"{number}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture
def arguments(data, tiny_model, tmp_path_factory, monkeypatch):
    from dtnn_fast.screening import input_chunks

    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(_SITE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), *sys.path]))
    monkeypatch.setattr(input_chunks, "FILES_TOGETHER", 1)
    return ["screen", data, "--model", tiny_model, "--threads", 1, "--top", 0, "--readers", 0]


@pytest.mark.parametrize("share", [Shard(0, 1), Shard(2, 3)])
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_shares_of_devices_are_the_whole_share(share, parts):
    found = [parse_shard(text).chunks(40) for text in split_share(*share, parts)]
    assert sorted(chunk for chunks in found for chunk in chunks) == share.chunks(40)


def test_devices_that_torch_sees(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert list_devices() == ["cuda:0", "cuda:1"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(DTNNError, match="'all' needs a GPU"):
        list_devices()


def test_two_devices_give_what_one_gives(program, arguments, tmp_path, monkeypatch):
    result = program(*arguments, "-o", tmp_path / "one")
    assert result.exit_code == 0, result.stderr
    monkeypatch.setattr("dtnn_fast.cli.screen.list_devices", lambda: ["cpu", "cpu"])
    result = program(*arguments, "-o", tmp_path / "two", "--device", "all")
    assert result.exit_code == 0, result.stderr
    assert results_of(tmp_path / "two") == results_of(tmp_path / "one")
    assert "cpu: " in result.stderr
    for more in ("--fresh", "--merge"):
        assert program(*arguments, "-o", tmp_path / "two", "--device", "all", more).exit_code == 0
    assert results_of(tmp_path / "two") == results_of(tmp_path / "one")


@pytest.mark.parametrize(("number", "how"), [(signal.SIGKILL, "signal 9, Killed"), (signal.SIGTERM, "stopped")])
def test_a_process_that_dies_is_told_and_the_next_start_heals(program, arguments, tmp_path, monkeypatch, number, how):
    monkeypatch.setattr("dtnn_fast.cli.screen.list_devices", lambda: ["cpu", "die"])
    monkeypatch.setenv("DIE_WITH", str(int(number)))
    result = program(*arguments, "-o", tmp_path / "two", "--device", "all")
    text = " ".join(result.stderr.split())
    if number == signal.SIGKILL:
        assert result.exit_code == 2
        assert f"1 of 2 processes failed: die ({how}). What has been written is kept" in text
    else:
        assert result.exit_code == 130, result.stderr
        assert how in text
    assert 0 < len(rows_of(tmp_path / "two")) < 30
    monkeypatch.delenv("DIE_WITH")
    # The devices may be others by then.
    assert program(*arguments, "-o", tmp_path / "two").exit_code == 0
    assert program(*arguments, "-o", tmp_path / "one").exit_code == 0
    assert results_of(tmp_path / "two") == results_of(tmp_path / "one")


def test_no_gpu(program, arguments, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    result = program(*arguments, "-o", tmp_path, "--device", "all")
    assert result.exit_code == 2
    assert "torch sees none" in result.stderr
    assert os.listdir(tmp_path) == []


def test_processes_that_fail_say_why(tmp_path):
    lines = []
    ended = screen_on_devices(["cpu"], ["1/2"], ["--model", str(tmp_path), "-o", str(tmp_path / "x")], lines.append)
    assert ended == ([("cpu (exit code 2)")], False)
    assert any(line.startswith("cpu: ") and str(tmp_path.name) in line for line in lines)


def test_processes_end_with_the_one_that_started_them(arguments, tmp_path):
    more = [str(argument) for argument in [*arguments[2:], "-o", tmp_path, "--batch-atoms", 1]]
    code = f"""
from dtnn_fast.cli import screen_devices

start = screen_devices._start

def telling_start(arguments):
    process = start(arguments)
    print(process.pid, flush=True)
    return process

screen_devices._start = telling_start
screen_devices.screen_on_devices(["cpu"] * 2, ["1/2", "2/2"], {more!r}, lambda line: None)
"""
    with subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True) as process:
        pids = [int(process.stdout.readline()) for _ in range(2)]
        process.kill()
    for _ in range(1500):
        if not any(map(_is_running, pids)):
            break
        time.sleep(0.02)
    assert not any(map(_is_running, pids))


def _is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
