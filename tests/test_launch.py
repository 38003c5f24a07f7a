"""The launchers: what they would run (--dry_run), what they do on a cloud that a script plays, and their hygiene."""

import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
LAUNCH = ROOT / "launch"
WORKDIR = "--workdir=gs://bucket/run"
SETUP = [
    "git archive --format=tar.gz --prefix=kdfas_jax/ --output=/tmp/kdfas_jax.tar.gz HEAD",
    "gcloud compute tpus tpu-vm scp /tmp/kdfas_jax.tar.gz kdfas: --quiet --worker=all --zone=z",
    "gcloud compute tpus tpu-vm ssh kdfas --quiet --worker=all '--command=tar -xzf kdfas_jax.tar.gz && cd kdfas_jax && "
    "python3 -m pip install --quiet --user uv && "
    "python3 -m uv venv --quiet --allow-existing --python=3.11 .venv && "
    "python3 -m uv pip install --quiet --python=.venv/bin/python -r requirements-lock.txt -r requirements-tpu.txt' "
    "--zone=z",
]
DESCRIBE = "gcloud compute tpus queued-resources describe kdfas '--format=value(state.state)' --zone=z"
STATE = "gcloud compute tpus tpu-vm ssh kdfas --quiet --worker=0 '--command=kdfas_jax/launch/job.sh state' --zone=z"
AGAIN = "start delete create start"  # what is done to the cloud around a preemption
CREATE = (
    "gcloud compute tpus queued-resources create kdfas --node-id=kdfas --accelerator-type={type} "
    "--runtime-version={version} {options}--zone=z"
)


def launch(script, *flags, **environment):
    """The finished launcher, text captured."""
    return subprocess.run(
        [str(LAUNCH / script), *map(str, flags)],
        env={**os.environ, "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def printed(script, *flags):
    done = launch(script, *flags)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_shellcheck_finds_nothing():
    scripts = sorted(path for path in LAUNCH.iterdir() if path.suffix in (".sh", ".sbatch"))
    assert len(scripts) >= 7
    shellcheck = Path(sys.executable).with_name("shellcheck")
    command = [shellcheck, "--external-sources", f"--source-path={ROOT}:{LAUNCH}", *scripts]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_what_local_cluster_would_run():
    lines = printed("local_cluster.sh", "--dry_run", "--devices=2", "2", "--", "--config=a b", "--mode=eval")
    port = lines[0].split("localhost:")[1].split()[0]
    assert lines == [
        f"env JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=2 {sys.executable} main.py '--config=a b' --mode=eval "
        f"--coordinator=localhost:{port} --num_processes=2 --process_id={number}"
        for number in (0, 1)
    ]


def test_what_slurm_would_run():
    """One task a GPU; the job goes back to the queue where main.py was told to save and leave."""
    assert printed("slurm.sbatch", "--dry_run", "--config=a b") == [
        "srun --kill-on-bad-exit=1 launch/job.sh run '--config=a b'",
        "scontrol requeue JOB",
    ]
    options = [line for line in (LAUNCH / "slurm.sbatch").read_text().splitlines() if line.startswith("#SBATCH")]
    assert {"#SBATCH --requeue", "#SBATCH --signal=TERM@180"} <= set(options)


@pytest.mark.parametrize(
    ("kind", "version"),
    [
        ("v4-128", "tpu-ubuntu2204-base"),
        ("v5litepod-256", "v2-alpha-tpuv5-lite"),
        ("v5p-128", "v2-alpha-tpuv5"),
        ("v6e-16", "v2-alpha-tpuv6e"),
    ],
)
def test_each_tpu_has_its_runtime(kind, version):
    lines = printed("tpu_vm.sh", "--zone=z", "--dry_run", f"--type={kind}", "create")
    assert lines == [CREATE.format(type=kind, version=version, options=""), DESCRIBE]


def test_what_a_whole_run_on_a_tpu_slice_would_run():
    flags = ("--zone=z", "--spot", "--dry_run", "run", "--config=a b", WORKDIR)
    assert printed("tpu_vm.sh", *flags) == [
        DESCRIBE,
        CREATE.format(type="v5litepod-16", version="v2-alpha-tpuv5-lite", options="--spot "),
        DESCRIBE,
        STATE,
        *SETUP,
        "gcloud compute tpus tpu-vm ssh kdfas --quiet --worker=all "
        rf"'--command=kdfas_jax/launch/job.sh start '\''--config=a b'\'' {WORKDIR}' --zone=z",
        DESCRIBE,
        STATE,
        DESCRIBE,
        STATE.replace("state'", "log'"),
    ]


@pytest.mark.parametrize(
    ("command", "lines"),
    [
        ("setup", SETUP),
        ("logs", [STATE.replace("state'", "log 100'")]),
        ("delete", ["gcloud compute tpus queued-resources delete kdfas --force --quiet --zone=z"]),
    ],
)
def test_what_the_other_commands_would_run(command, lines):
    assert printed("tpu_vm.sh", "--zone=z", "--dry_run", command) == lines


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        ("tpu_vm.sh", ["create"], "--zone=ZONE is missing"),
        ("tpu_vm.sh", ["--zone=z", "--spots", "create"], "unknown option --spots"),
        ("tpu_vm.sh", ["--zone=z", "crate"], "unknown command 'crate'"),
        ("tpu_vm.sh", ["--zone=z", "run", "--workdir=runs/a"], "give --workdir=gs://BUCKET/RUN"),
        ("local_cluster.sh", ["--", "--config=a"], "expected the number of processes"),
        ("local_cluster.sh", ["2", "--config=a"], "flags of main.py go behind --"),
        ("local_cluster.sh", ["--devices=x", "2"], "--devices=x: expected a number"),
    ],
)
def test_wrong_use_is_one_sentence_and_the_usage(script, flags, message):
    done = launch(script, *flags)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[0]
    assert f"usage: launch/{script}" in done.stderr


CLOUD = """#!/usr/bin/env bash
# Plays gcloud from $CLOUD: `slice` and `run` hold one answer a line, the last one for ever; `calls` notes what came.
next() {
  head -n 1 "$CLOUD/$1"
  [ "$(wc -l < "$CLOUD/$1")" -eq 1 ] || sed -i 1d "$CLOUD/$1"
}
echo "$*" >> "$CLOUD/calls"
case "$*" in
  *describe*)
    answer=$(next slice)
    [ "$answer" != absent ] || { echo "ERROR: NOT_FOUND" >&2; exit 1; }
    [ "$answer" != offline ] || { echo "ERROR: no network" >&2; exit 1; }
    echo "$answer"
    ;;
  *"job.sh state"*) echo "a greeting of the host" && next run ;;
  *"job.sh log"*) echo "the end of the log" ;;
esac
"""


@pytest.fixture
def cloud(tmp_path):
    """run(slice states, run states) -> (the finished `tpu_vm.sh run`, what it did to the cloud, in words)."""

    def run(slices, runs):
        (tmp_path / "bin").mkdir()
        for name in ("gcloud", "git"):
            (tmp_path / "bin" / name).write_text(CLOUD)
            (tmp_path / "bin" / name).chmod(0o755)
        (tmp_path / "slice").write_text("".join(f"{state}\n" for state in slices.split()))
        (tmp_path / "run").write_text("".join(f"{state}\n" for state in runs.split()))
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        flags = ("--zone=z", "--spot", "run", "--config=c", WORKDIR)
        done = launch("tpu_vm.sh", *flags, PATH=path, CLOUD=str(tmp_path), POLL_SECONDS="0")
        names = {"queued-resources create": "create", "resources delete": "delete", "job.sh start": "start"}
        calls = (tmp_path / "calls").read_text().splitlines()
        return done, " ".join(short for call in calls for name, short in names.items() if name in call)

    return run


@pytest.mark.parametrize(
    ("slices", "runs", "did", "code"),
    [
        # From nothing: asked for, waited for, run to its end.
        ("absent CREATING WAITING_FOR_RESOURCES PROVISIONING ACTIVE", "none running running 0", "create start", 0),
        # Taken away: gone with the connection, given back, asked for again, gone on.
        (
            "absent ACTIVE ACTIVE SUSPENDING SUSPENDED absent PROVISIONING ACTIVE",
            "none running none running 0",
            f"create {AGAIN}",
            0,
        ),
        # The hosts are told first, and main.py saves; gcloud says so a little later.
        ("ACTIVE ACTIVE ACTIVE SUSPENDING SUSPENDED absent ACTIVE", "none running 143 none 0", AGAIN, 0),
        # Told to save by hand: the slice is still there.
        ("ACTIVE", "none running 143 running 0", "start start", 0),
        # A second call, after this one's machine was off: it only watches.
        ("ACTIVE offline ACTIVE", "running running 0", "", 0),
        # main.py's own error is no preemption.
        ("ACTIVE", "none running 1", "start", 1),
        # The error of a host whose neighbour was taken away is one.
        ("ACTIVE ACTIVE ACTIVE SUSPENDING SUSPENDED absent ACTIVE", "none running 134 none 0", AGAIN, 0),
        # Refused for good.
        ("absent ACCEPTED FAILED", "none", "create", 1),
    ],
)
def test_a_run_outlives_its_slice(cloud, slices, runs, did, code):
    done, calls = cloud(slices, runs)
    assert done.returncode == code, done.stderr
    assert calls == did
    assert ("the end of the log" in done.stdout) == (runs != "none")


PYTHON = """#!/usr/bin/env bash
# Plays python main.py: notes its flags, saves and leaves with 0 at SIGTERM, else ends with $CODE.
trap 'echo "SIGTERM: saved" >&2; exit 0' TERM
echo "ran $*"
for _ in $(seq "$TENTHS"); do sleep 0.1; done
exit "$CODE"
"""


@pytest.fixture
def job(tmp_path):
    """job(*arguments, CODE=, TENTHS=) -> what subprocess starts `launch/job.sh` of a project of its own with."""
    (tmp_path / "launch").mkdir()
    shutil.copy(LAUNCH / "job.sh", tmp_path / "launch")
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)

    def process(*arguments, CODE=0, TENTHS=0):
        environment = {**os.environ, "PYTHON": "./python", "CODE": str(CODE), "TENTHS": str(TENTHS)}
        command = [str(tmp_path / "launch" / "job.sh"), *arguments]
        return {
            "args": command,
            "env": environment,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "text": True,
        }

    return process


def test_a_job_tells_its_end_from_being_taken_away(job):
    finished = subprocess.run(**job("run", "--config=a b"), check=True)
    assert finished.stdout == "ran main.py --config=a b\n"
    failed = subprocess.run(**job("run", CODE=3), check=False)
    assert (failed.returncode, failed.stdout) == (3, "ran main.py\n")
    with subprocess.Popen(**job("run", TENTHS=300)) as taken:
        assert taken.stdout.readline() == "ran main.py\n"  # it listens now
        taken.terminate()
        assert taken.stdout.read() == "SIGTERM: saved\n"
    assert taken.returncode == 143


def test_a_job_in_the_background_is_asked_for_its_state(job):
    def say(*arguments, **how):
        return subprocess.run(**job(*arguments, **how), check=True, timeout=30).stdout.strip()

    assert say("state") == "none"
    say("start", "--mode=eval", CODE=5, TENTHS=10)
    assert say("state") == "running"
    for _ in range(200):
        if say("state") != "running":
            break
        time.sleep(0.1)
    assert say("state") == "5"
    assert say("log") == "ran main.py --mode=eval"


def test_the_jobset_is_one_slice_that_starts_again_as_a_whole():
    jobset = yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] > 0
    (slice_,) = jobset["spec"]["replicatedJobs"]
    hosts = slice_["template"]["spec"]
    pod = hosts["template"]["spec"]
    (container,) = pod["containers"]
    assert hosts["completionMode"] == "Indexed"
    assert hosts["backoffLimit"] == 0
    assert pod["restartPolicy"] == "Never"
    chips = math.prod(map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")))
    assert hosts["parallelism"] == hosts["completions"] == chips / container["resources"]["limits"]["google.com/tpu"]
    assert container["command"] == ["launch/job.sh", "run"]
    flags = dict(argument.split("=", 1) for argument in container["args"])
    assert (ROOT / flags["--config"]).exists()
    assert flags["--workdir"].startswith("gs://")
    assert flags["--config.data.data_dir"].startswith("gs://")
