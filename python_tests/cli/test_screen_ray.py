# SPDX-License-Identifier: MIT
"""dtnn-fast screen --engine ray: the same parts as without Ray, also where a process dies or SIGTERM ends it."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import num_threads
from pyarrow import parquet

from dtnn_fast.errors import DTNNError
from dtnn_fast.model.load_predictor import load_predictor
from dtnn_fast.screening import input_chunks, ray_engine
from dtnn_fast.screening.input_chunks import plan_crystals, plan_files
from dtnn_fast.screening.ray_engine import RayOptions, run_screening_on_ray
from dtnn_fast.screening.ray_workers import (
    Attempts,
    Place,
    PredictingActor,
    Reading,
    Work,
    enter,
    pickled,
    read_chunks,
    unpickled,
)
from dtnn_fast.screening.readers import PreparedPiece
from dtnn_fast.screening.screening_run import (
    ScreeningOptions,
    SilentEvents,
    make_manifest,
    output_parts,
    run_screening,
)

OPTIONS = ScreeningOptions()
TWO_ACTORS = RayOptions(num_actors=2)
# Each file is a chunk, as large ones are.
PROGRAM = """
from dtnn_fast.screening import input_chunks
input_chunks.FILES_TOGETHER = 1
from dtnn_fast.cli import main
main()
"""


@pytest.fixture(scope="module")
def ray():
    """Ray on this machine, with room for two actors and a task that reads; the tests together keep two cores busy."""
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    ray.init(address="local", num_cpus=3, num_gpus=1, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture(autouse=True)
def one_thread():
    """From how many atoms on symmetry is used depends on the threads, and on that the last digits."""
    with num_threads(1):
        yield


@pytest.fixture
def folder(labelled, row_of, tmp_path, monkeypatch):
    """The working folder, with files in "in": six of twenty crystals, one of them with a bad line, and a broken one."""
    (tmp_path / "in").mkdir()
    small = [crystal for crystal in labelled if crystal.num_atoms < 12][:120]
    for number in range(6):
        rows = [row_of(crystal) for crystal in small[number * 20 : number * 20 + 20]]
        if number == 3:
            rows[4] = {**rows[4], "atomic_numbers": [18] * len(rows[4]["atomic_numbers"])}
        (tmp_path / "in" / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "in" / "page.cif").write_text("<html>not found</html>")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(input_chunks, "FILES_TOGETHER", 1)
    return tmp_path


def begin(name, model, inputs):
    parts = output_parts(Path(name))
    parts.begin(make_manifest(model, "tiny", inputs, ["in"], OPTIONS, "test"))
    return parts


def tables(parts):
    files = [*parts.part_files(), *parts.rejected_files()]
    return {file.name: parquet.read_table(file) for file in files}


def assert_equal_tables(parts, others):
    ours, theirs = tables(parts), tables(others)
    assert ours.keys() == theirs.keys()
    for name, table in ours.items():
        assert table.equals(theirs[name], check_metadata=True), name


def assert_equal_contents_but_ids(parts, others):
    """After the end of a screening, ids that occur several times have suffixes."""
    ours, theirs = tables(parts), tables(others)
    assert ours.keys() == theirs.keys()
    for name, table in ours.items():
        assert table.drop_columns("id").equals(theirs[name].drop_columns("id"), check_metadata=True), name


class Heard(SilentEvents):
    def __init__(self):
        self.share, self.crystals, self.size = (0, 0), 0, 0
        self.messages = []

    def on_start(self, done, whole):
        self.share = done, whole

    def on_crystals(self, number):
        self.crystals += number

    def on_piece(self, size, num_rejected):
        self.size += size

    def on_message(self, message):
        self.messages.append(message)


def kill_once(model, marker):
    """Make the first process that predicts with the model die, as on a node that is lost."""

    def die(module, arguments):
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    for module in model.modules():
        module.register_forward_pre_hook(die)


@pytest.mark.slow
def test_two_actors_write_the_parts_of_the_plain_engine(ray, tiny_model, folder):
    model, marker = load_predictor(str(tiny_model)), folder / "died"
    # Hooks change which operations are used, and so the last digits, in both runs.
    marker.touch()
    kill_once(model, marker)
    inputs = plan_files([Path("in")])
    assert len(inputs.chunks) == 7
    plain = begin("plain", model, inputs)
    expected = run_screening(model, "tiny", inputs, plain, OPTIONS)
    assert (expected.predicted, expected.rejected) == (119, 2)

    parts, heard = begin("ray", model, inputs), Heard()
    marker.unlink()
    assert run_screening_on_ray(model, "tiny", inputs, parts, OPTIONS, TWO_ACTORS, heard) == expected
    assert marker.exists()
    assert (heard.crystals, heard.size) == (121, heard.share[1])
    assert_equal_tables(parts, plain)

    # What is left over, and only that, is computed by the next start; with nothing left Ray does not start anything.
    parts.part(3, 0).unlink()
    parts.part(5, 0).write_bytes(b"cut off")
    again = run_screening_on_ray(model, "tiny", inputs, parts, OPTIONS, TWO_ACTORS, heard)
    assert (again.predicted, again.rejected) == (39, 1)
    assert_equal_tables(parts, plain)
    assert len(heard.messages) == 1
    assert heard.messages[0].startswith("ray/part-000005-0000.parquet: damaged, and computed again: ")
    assert run_screening_on_ray(model, "tiny", inputs, parts, OPTIONS, TWO_ACTORS).predicted == 0


@pytest.mark.slow
def test_crystals_in_memory(ray, tiny_model, labelled, tmp_path):
    model = load_predictor(str(tiny_model))
    inputs = plan_crystals([crystal for crystal in labelled if crystal.num_atoms < 6][:40])
    plain, parts = begin(tmp_path / "plain", model, inputs), begin(tmp_path / "ray", model, inputs)
    expected = run_screening(model, "tiny", inputs, plain, OPTIONS)
    assert run_screening_on_ray(model, "tiny", inputs, parts, OPTIONS, RayOptions()) == expected
    assert_equal_tables(parts, plain)


@pytest.mark.slow
def test_a_part_that_cannot_be_written_is_one_clear_error(ray, tiny_model, labelled, tmp_path):
    model = load_predictor(str(tiny_model))
    inputs = plan_crystals(labelled[:5])
    parts = begin(tmp_path / "ray", model, inputs)
    parts.part(0, 0).mkdir()
    (parts.part(0, 0) / "file").touch()
    with pytest.raises(DTNNError, match=r"part-000000-0000.parquet: cannot be written: Is a directory$"):
        run_screening_on_ray(model, "tiny", inputs, parts, OPTIONS, RayOptions())


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_each_actor_asks_for_a_gpu_and_says_where_torch_sees_none(ray, tiny_model, labelled, tmp_path, monkeypatch):
    """Ray is told of a GPU that is not there."""
    asked, map_batches = [], ray.data.Dataset.map_batches

    def note(data, function, **arguments):
        asked.append((function.__name__, arguments["num_cpus"], arguments.get("num_gpus", 0)))
        return map_batches(data, function, **arguments)

    monkeypatch.setattr(ray.data.Dataset, "map_batches", note)
    model = load_predictor(str(tiny_model))
    inputs = plan_crystals(labelled[:5])
    parts = begin(tmp_path / "ray", model, inputs)
    with pytest.raises(DTNNError, match=r"screen: the device 'cuda' needs GPU number 0, counted from 0; torch sees 0"):
        run_screening_on_ray(model, "tiny", inputs, parts, OPTIONS, RayOptions(device="cuda", threads=2))
    assert parts.part_files() == []
    assert asked == [("read_chunks", 1, 0), ("PredictingActor", 2, 1)]


def test_without_a_gpu_on_this_machine_the_screening_does_not_wait_for_one():
    """A cluster may start a node with a GPU later."""
    nothing, heard = SimpleNamespace(cluster_resources=lambda: {"CPU": 2.0}), Heard()
    with pytest.raises(DTNNError, match="'cuda' needs a GPU; Ray finds none on this machine"):
        ray_engine._check_gpus(nothing, RayOptions(device="cuda"), heard)
    ray_engine._check_gpus(nothing, RayOptions("auto", "cuda"), heard)
    assert heard.messages == ["the Ray cluster has no GPU yet: the screening waits for one"]


def outcome_of(actor, piece):
    reading = Reading(piece, ["a message"])
    (outcome,) = (one for table in actor(pickled(reading)) for one in unpickled(table))
    return outcome


@pytest.mark.slow
def test_a_piece_that_kills_its_processes_is_left_out(ray, tiny_model, labelled, tmp_path):
    model = load_predictor(str(tiny_model))
    parts = begin(tmp_path, model, plan_crystals(labelled[:2]))
    attempts = ray.remote(num_cpus=0)(Attempts).remote()
    place = Place(str(tmp_path), str(tmp_path), "elsewhere")
    piece = PreparedPiece(0, 0, labelled[:2], [], True, input_chunks.PieceKey())
    before = os.getcwd()
    try:
        for number in range(1, 7):
            actor = PredictingActor(ray.put(model), attempts, "tiny", OPTIONS, place, "cpu", 1)
            outcome = outcome_of(actor, piece)
            assert (outcome.predicted, outcome.others_go_on) == ((2, False) if number <= 4 else (0, True))
    finally:
        os.chdir(before)
    ids = f"{labelled[0].id} to {labelled[1].id}"
    assert outcome.error.startswith(f"piece 0 of chunk 0: 4 processes ended while they predicted its crystals ({ids})")
    assert parts.finished_chunks() == {0}


def test_a_node_without_the_files_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path)
    with pytest.raises(DTNNError, match="must see the working folder and --output under the same paths"):
        enter(Place(here, here + "/out", "elsewhere"))
    with pytest.raises(DTNNError, match="has no manifest on the node"):
        enter(Place(here, here, "elsewhere"))
    (tmp_path / "manifest.json").write_text('{"format": "dtnn_fast screening 1"}')
    chunk = input_chunks.Chunk(("in/a.cif",), ("a",), size=1)
    work = Work(0, chunk, {}, ())
    place = Place(here, here, "elsewhere")
    (table,) = read_chunks(pickled(work), None, place)
    (reading,) = unpickled(table)
    assert reading.piece is None
    assert reading.error.startswith("in/a.cif: not found on the node ")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--ray-address", "auto"], "needs --engine ray"),
        (["--engine", "ray", "--device", "cuda:1"], "takes cpu or cuda"),
        (["--engine", "ray", "--readers", "2"], "decides how many tasks read"),
        (["--engine", "dask"], "'dask' is not one of"),
    ],
)
def test_options_that_contradict(program, tiny_model, few_crystals, tmp_path, options, words):
    result = program("screen", few_crystals, "--model", tiny_model, "--output", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_without_ray_the_message_says_what_to_install(program, tiny_model, few_crystals, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    monkeypatch.setitem(sys.modules, "ray", None)
    result = program("screen", few_crystals, "--model", tiny_model, "--output", tmp_path / "out", "--engine", "ray")
    assert result.exit_code == 2
    assert 'ray is needed to screen with --engine ray: install it with pip install "dtnn-fast[ray]"' in " ".join(
        result.stderr.split()
    )


def processes_with(mark):
    """Processes that have a word in their environment, and that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.append((path.parent / "cmdline").read_text().replace("\0", " "))
        except OSError:  # ended, or not ours
            continue
    return found


@pytest.fixture
def many_chunks(folder, tiny_model):
    """Enough files to be stopped in the middle, and the folder of their screening without Ray."""
    for copy in range(4):
        for file in sorted((folder / "in").glob("?.jsonl")):
            (folder / "in" / f"{copy}{file.name}").write_text(file.read_text())
    model, inputs = load_predictor(str(tiny_model)), plan_files([Path("in")])
    plain = begin("plain", model, inputs)
    run_screening(model, str(tiny_model), inputs, plain, OPTIONS)
    return model, inputs, plain


@contextmanager
def started_program(tiny_model, *options, **environment):
    """The program in a process of its own, when it has written the first part."""
    command = [sys.executable, "-P", "-c", PROGRAM, "screen", "in", "--model", str(tiny_model), "--output", "out"]
    with subprocess.Popen(
        [*command, "--engine", "ray", *options],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        parts = output_parts(Path("out"))
        deadline = time.monotonic() + 120
        while not parts.part_files() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        try:
            yield process, parts
        finally:
            # One that does not end by itself must not keep the tests waiting.
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_program_ends_all_its_processes_and_goes_on(ray, tiny_model, many_chunks, number):
    model, inputs, plain = many_chunks
    mark = f"dtnn-fast-test-{os.getpid()}-{number}"
    with started_program(tiny_model, DTNN_TEST_MARK=mark) as (process, parts):
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "run the same command again to continue" in " ".join(stderr.split())
    deadline = time.monotonic() + 20
    while (left := processes_with(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
    assert 0 < len(parts.part_files()) < len(inputs.chunks)
    counts = run_screening_on_ray(model, str(tiny_model), inputs, parts, OPTIONS, TWO_ACTORS)
    assert not counts.stopped
    assert_equal_tables(parts, plain)


@pytest.mark.slow
def test_a_cluster_that_loses_the_only_node_with_actors(ray, tiny_model, many_chunks):
    """The command runs on the head, which computes nothing; all others are lost, and a new one joins."""
    from ray.cluster_utils import Cluster

    _, inputs, plain = many_chunks
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        lost = cluster.add_node(num_cpus=2)
        with started_program(tiny_model, "--ray-address", cluster.address, "--no-find-duplicates") as (process, parts):
            cluster.remove_node(lost, allow_graceful=False)
            assert 0 < len(parts.part_files()) < len(inputs.chunks)
            cluster.add_node(num_cpus=2)
            _, stderr = process.communicate(timeout=120)
    finally:
        cluster.shutdown()
    assert process.returncode == 3, stderr
    assert_equal_contents_but_ids(parts, plain)
