# SPDX-License-Identifier: MIT
"""The files in docs/clusters.md are whole: scripts run with stand-ins for SLURM, commands and options exist."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from dtnn_fast.cli.app import app

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(bash|yaml)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
SCRIPTS = [text for language, text in BLOCKS if language == "bash"]
ARRAY, MERGE, SUBMIT, RAY = (
    next(text for text in SCRIPTS if word in text) for word in ("--array=", "--merge", "--parsable", "symmetric-run")
)
(JOB,) = (yaml.safe_load(text) for language, text in BLOCKS if language == "yaml")
# Stand-ins write what they are called with into the file LOG.
SRUN = """#!/bin/bash
echo "srun $*" >> "$LOG"
[ -n "$SLOW" ] && { sleep 0.2; kill -USR1 "$PPID"; sleep 5; }
exit "${CODE:-0}"
"""
OTHERS = """#!/bin/bash
echo "${0##*/} $*" >> "$LOG"
case "${0##*/}" in
  sbatch) echo 42 ;;
  scontrol) [ "$1" = show ] && printf 'node7\\nnode8\\n' ;;
  dtnn-fast) exit "${CODE:-0}" ;;
esac
exit 0
"""


@pytest.fixture
def run(tmp_path):
    """A function that runs a script with stand-ins for the programs of SLURM, and returns exit code and calls."""
    for name in ("srun", "scontrol", "sbatch", "dtnn-fast"):
        (tmp_path / name).write_text(SRUN if name == "srun" else OTHERS)
        (tmp_path / name).chmod(0o755)

    def run_script(text, **environment):
        log = tmp_path / "log"
        log.write_text("")
        slurm = {"SLURM_CPUS_PER_TASK": "8", "SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
        nodes = {"SLURM_JOB_NODELIST": "node[7-8]", "SLURM_JOB_NUM_NODES": "2"}
        paths = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(log)}
        finished = subprocess.run(
            ["bash", "-u", "-c", text],
            env={**os.environ, **slurm, **nodes, "SLOW": "", **paths, **environment},
            check=False,
        )
        return finished.returncode, log.read_text().splitlines()

    return run_script


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_bash(script):
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def screen_commands():
    for text in [*SCRIPTS, JOB["spec"]["entrypoint"]]:
        for line in text.replace("\\\n", " ").splitlines():
            # Up to what the shell reads as another command.
            yield from re.findall(r"dtnn-fast (screen [^&|#']*)", line)


@pytest.mark.parametrize("command", list(screen_commands()))
def test_options_exist(command):
    screen = typer.main.get_command(app).commands["screen"]
    context = screen.make_context("screen", shlex.split(command.replace("$SLURM_ARRAY_TASK_ID", "3"))[1:])
    assert (context.params["engine"] == "ray") == ("--engine ray" in command)
    assert context.params["output"] == Path("screening")
    assert context.params["paths"] == [Path("crystals")]


def test_a_task_of_the_array_screens_its_share(run):
    code, calls = run(ARRAY)
    assert code == 0
    (shares,) = re.findall(r"--array=1-(\d+)$", ARRAY, re.MULTILINE)
    screen = f"dtnn-fast screen crystals --output screening --device cuda --shard 3/{shares}"
    assert calls == [f"srun --cpus-per-task=8 {screen}"]


def test_a_task_that_is_stopped_is_queued_again(run):
    code, calls = run(ARRAY, CODE="130")
    assert code == 130
    assert calls[1:] == ["scontrol requeue 7_3"]
    code, calls = run(ARRAY, CODE="2")
    assert (code, len(calls)) == (2, 1)


@pytest.mark.parametrize(("ended", "code"), [("0", 0), ("3", 0), ("2", 2), ("130", 130)])
def test_merge_succeeds_where_crystals_were_rejected(run, ended, code):
    assert run(MERGE, CODE=ended) == (code, ["dtnn-fast screen crystals --output screening --merge"])


def test_the_merge_waits_for_the_array(run):
    code, calls = run(SUBMIT)
    assert code == 0
    assert calls == [
        "sbatch --parsable screen_array.sh",
        "sbatch --dependency=afterok:42 --kill-on-invalid-dep=yes screen_merge.sh",
    ]
    assert "`screen_array.sh`" in PAGE
    assert "`screen_merge.sh`" in PAGE


def test_ray_on_slurm_starts_on_the_first_node(run):
    code, calls = run(RAY, CODE="0")
    assert code == 0
    assert calls[0] == "scontrol show hostnames node[7-8]"
    start = "srun --cpus-per-task=8 ray symmetric-run --address node7:6379 --min-nodes 2 --num-cpus 8 "
    assert calls[1].startswith(start)
    assert calls[1].split(" -- ")[1].startswith("dtnn-fast screen crystals")
    (gpus,) = re.findall(r"--gpus-per-task=(\d+)$", RAY, re.MULTILINE)
    assert f"--num-gpus {gpus} " in calls[1]


def test_ray_on_slurm_is_queued_again_before_the_time_is_over(run):
    _, calls = run(RAY, SLOW="1")
    assert calls[-1] == "scontrol requeue 9"
    assert "#SBATCH --signal=B:USR1@" in RAY


def test_the_rayjob(run):
    assert (JOB["apiVersion"], JOB["kind"]) == ("ray.io/v1", "RayJob")
    cluster = JOB["spec"]["rayClusterSpec"]
    assert f"ray=={cluster['rayVersion']}" in (ROOT / "constraints.txt").read_text().split()
    pods = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for pod in pods:
        (container,), (volume,) = (pod["template"]["spec"][name] for name in ("containers", "volumes"))
        (mount,) = container["volumeMounts"]
        assert mount["name"] == volume["name"]
        assert volume["persistentVolumeClaim"] == {"claimName": "screening-data"}
        assert mount["mountPath"] == "/data"
        assert container["resources"]["requests"] == container["resources"]["limits"]
    assert len({pod["template"]["spec"]["containers"][0]["image"] for pod in pods}) == 1
    entrypoint = JOB["spec"]["entrypoint"].replace("cd /data", "true")
    assert [run(entrypoint, CODE=code)[0] for code in ("0", "3", "2")] == [0, 0, 1]
