"""Several processes: flags, launchers that jax detects, a host that does not come, one that dies."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from kdfas_jax.commands import train
from kdfas_jax.parallel import distributed

ROOT = Path(__file__).resolve().parents[1]
# What a process says of itself after `start`.
ASK = """
import logging, sys
from kdfas_jax.parallel import distributed
logging.basicConfig(level=logging.INFO, format="%(message)s")
distributed.LINGER_SECONDS = 2
coordinator, processes, process, timeout = sys.argv[1:]
distributed.start(coordinator, int(processes or 0) or None, int(process) if process else None, int(timeout))
import jax
print(jax.distributed.is_initialized(), jax.process_index(), "of", jax.process_count())
"""


def free_port():
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return server.getsockname()[1]


def ask(*flags, **environment):
    """A process that calls `start` with the flags, under a launcher's environment."""
    launchers = ("SLURM", "OMPI", "KUBERNETES", "JOB_COMPLETION", "TPU")  # the tests themselves may run under one
    ours = {name: value for name, value in os.environ.items() if not name.startswith(launchers)}
    environment = {**ours, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **environment}
    command = [sys.executable, "-c", ASK, *map(str, flags)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answers(processes):
    """[(exit code, stdout, stderr)] of all of them."""
    said = [process.communicate(timeout=120) for process in processes]
    return [(process.returncode, *texts) for process, texts in zip(processes, said, strict=True)]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("", 2, None), "--coordinator, --process_id missing"),
        (("a:1", None, 0), "--num_processes missing"),
        (("a:1", 2, None), "--process_id missing"),
        (("a", 2, 0), "--coordinator=a: expected host:port"),
        (("a:b", 2, 0), "--coordinator=a:b: expected host:port"),
        (("a:1", 2, 2), "--process_id=2: expected 0 .. 1 for --num_processes=2"),
        (("a:1", 2, -1), "--process_id=-1: expected 0 .. 1"),
    ],
)
def test_flags_that_are_incomplete_or_do_not_fit(flags, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        distributed.start(*flags, 5)


def test_a_machine_without_a_launcher_is_alone():
    assert answers([ask("", "", "", 60)]) == [(0, "False 0 of 1\n", "")]


SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}


def test_slurm_is_detected_unless_a_process_is_to_be_alone():
    port = str(free_port())
    tasks = [
        ask("", "", "", 60, **SLURM, JAX_COORDINATOR_PORT=port, SLURM_PROCID=str(task), SLURM_LOCALID="0")
        for task in (0, 1)
    ]
    for task, (code, said, log) in enumerate(answers(tasks)):
        assert (code, said.splitlines()[-1]) == (0, f"True {task} of 2"), log
        assert f"process {task} of 2 is connected to the coordinator at localhost:{port}" in log
    alone = ask("", 1, "", 60, **SLURM, SLURM_PROCID="0", SLURM_LOCALID="0")
    assert answers([alone]) == [(0, "False 0 of 1\n", "")]


def test_a_pod_of_an_indexed_job_is_not_left_alone_unasked():
    """jax's detection needs the package `kubernetes`, which is not among the requirements."""
    ((code, _, log),) = answers([ask("", "", "", 60, KUBERNETES_SERVICE_HOST="10.0.0.1", JOB_COMPLETION_INDEX="1")])
    assert code == 1
    assert "pip install 'jax[k8s]', or give --coordinator" in log


@pytest.mark.slow
def test_a_host_that_does_not_come_is_missed_in_time():
    """Two of three come to process 0, and one looks for a process 0 that is not there."""
    address, nowhere = f"localhost:{free_port()}", f"localhost:{free_port()}"
    first, second, lost = answers([ask(address, 3, 0, 10), ask(address, 3, 2, 10), ask(nowhere, 3, 1, 10)])
    assert [first[0], second[0], lost[0]] == [1, 1, 1]
    assert f"error: after 10 s (--initialization_timeout) 2 of 3 processes connected to {address}, from " in first[2]
    assert f"process 2 of 3 reached process 0 at {address}, but not all others did" in second[2]
    assert f"process 1 of 3 found nothing at {nowhere}: check that process 0 runs there" in lost[2]


def launch(config, folder, *flags):
    """local_cluster.sh with 2 processes x 2 devices, in the making."""
    command = [ROOT / "launch" / "local_cluster.sh", "--devices=2", f"--logs={folder / 'logs'}", "2", "--"]
    return subprocess.Popen(
        [*command, f"--config={config}", f"--workdir={folder / 'run'}", *flags],
        env={**os.environ, "PYTHON": sys.executable, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def losses(folder):
    table = pd.read_csv(folder / "run" / "metrics.csv")
    return table[table["metric"] == "loss"].set_index("step")["value"]


@pytest.mark.slow
def test_a_process_that_dies_ends_the_others_and_the_job_goes_on(tmp_path, tiny_config, tiny, without_pages):
    """Killed after the first checkpoint and started again, it follows the loss of an undisturbed single process."""
    student, teacher = "train", "teachers.spoof.config.train"
    changes = {f"{student}.epochs": 20.0, f"{teacher}.epochs": 10.0, "optim.lr": 4e-3}
    changes |= {f"{who}.eval_epochs": 10.0 for who in (student, teacher)}  # every 30 steps
    flags = [f"--config.{key}={value}" for key, value in changes.items()]
    tiny.update_from_flattened_dict(changes)
    one, two = tmp_path / "one", tmp_path / "two"
    train.train(tiny, str(one / "run"))
    two.mkdir()
    shutil.copytree(one / "teachers", two / "teachers")

    with launch(tiny_config, two, *flags) as job:
        victim = int(re.search(r"process 1: pid (\d+)", job.stdout.readline() + job.stdout.readline())[1])
        metrics = two / "run" / "metrics.csv"
        while not (metrics.exists() and "\n40,loss," in metrics.read_text()):
            assert job.poll() is None, job.stderr.read()
            time.sleep(0.02)
        os.kill(victim, signal.SIGKILL)
        _, errors = job.communicate(timeout=300)
    assert job.returncode > 0
    assert "process 1 ended with code 137" in errors
    assert re.search(r"process 0 ended with code [1-9]\d* ", errors)
    assert re.search(r"^error: |Terminating process because", errors, re.MULTILINE)
    assert losses(two).index[-1] < 60

    with launch(tiny_config, two, *flags) as job:
        _, errors = job.communicate(timeout=300)
    assert job.returncode == 0, errors
    assert "resuming at step 30 of 60" in (two / "logs" / "0.log").read_text()
    pd.testing.assert_series_equal(losses(two), losses(one), rtol=1e-4)
    for name in ("scores.csv", "results.json"):
        assert (two / "run" / "eval" / name).exists()
