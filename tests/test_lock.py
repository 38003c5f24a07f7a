"""Two commands never write one run: the lock on its folder, overrides, and what a run's identity is."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import ml_collections
import pytest

from kdfas_jax.commands import train
from kdfas_jax.runs import identity, lock, overrides, workdir
from kdfas_jax.training import teachers

ROOT = Path(__file__).resolve().parents[1]
HOLD = """
import sys, time
from kdfas_jax.runs import lock
with lock.held(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path/run until its standard input ends."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_run_in_use_is_refused_with_who_holds_it_and_a_teacher_is_waited_for(tiny, tmp_path, holder, monkeypatch):
    folder = str(tmp_path / "run")
    with pytest.raises(lock.LockedError, match=rf"run is in use by process {holder.pid} on .* since 20..-"):
        train.train(tiny, folder)
    assert os.listdir(folder) == [lock.NAME]  # nothing was written beside the lock
    monkeypatch.setattr(lock, "POLL_SECONDS", 0.01)
    threading.Timer(0.3, holder.kill).start()  # the lock goes with its process, however that ends
    with lock.held(folder, wait=True):
        assert f"process {os.getpid()}" in (tmp_path / "run" / lock.NAME).read_text()
        Path(folder, "config.json").write_text("{}")
    with lock.held(folder):
        pass
    assert sorted(os.listdir(folder)) == [lock.NAME, "config.json"]


def test_a_command_that_fails_before_it_writes_leaves_no_folder(tmp_path):
    folder = tmp_path / "runs" / "none"
    with pytest.raises(ZeroDivisionError), lock.held(str(folder)):
        raise ZeroDivisionError
    assert not folder.exists()


def test_one_of_many_threads_holds_the_lock_at_a_time(tmp_path, monkeypatch):
    """The folder comes and goes with its only file meanwhile."""
    monkeypatch.setattr(lock, "POLL_SECONDS", 0.001)
    inside, most = [], []

    def work():
        for _ in range(20):
            with lock.held(str(tmp_path / "run"), wait=True):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 80
    assert set(most) == {1}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.raw_dir", "/new"),
        ("data.data_dir", "/new"),
        ("report.faces", True),
        ("eval.batch_size", 5),
        ("eval.threshold", "accept95"),
        ("eval.stability", 5),
        ("mesh.fsdp", 2),
    ],
)
def test_place_and_runtime_may_change_between_calls(tiny, tmp_path, key, value):
    """The teacher is found again, and the run resumes under a note that has today's values."""
    folder, before = str(tmp_path / "run"), teachers.home(tiny.teachers.spoof, str(tmp_path / "run"))
    workdir.claim(tiny, folder, "data")
    (tmp_path / "run" / "checkpoints" / "5").mkdir(parents=True)
    for config in (tiny, tiny.teachers.spoof.config):
        config.update_from_flattened_dict({key: value})
    assert teachers.home(tiny.teachers.spoof, folder) == before
    workdir.claim(tiny, folder, "data")
    assert workdir.read(folder)["config"] == identity.plain(tiny)
    tiny.optim.lr = 1.0
    with pytest.raises(ValueError, match=r"config\.optim\.lr: 0\.04 there, 1\.0 now"):
        workdir.claim(tiny, folder, "data")
    tiny.teachers.spoof.config.optim.lr = 1.0
    assert teachers.home(tiny.teachers.spoof, folder) != before


def test_overrides_that_a_mode_would_ignore_are_refused(tiny, tmp_path):
    folder = str(tmp_path)
    workdir.claim(tiny, folder, "data")
    overrides.check(folder, "eval", None, {"report.faces": True, "mesh.fsdp": 2, "optim.lr": tiny.optim.lr})
    overrides.check(folder, "predict", tiny, {"optim.lr": tiny.optim.lr})
    with pytest.raises(ValueError, match=r"--config\.data\.dataset=nuaa: --mode=eval .* is 'folder'.*data\.raw_dir"):
        overrides.check(folder, "eval", None, {"data.dataset": "nuaa"})
    with pytest.raises(ValueError, match=r"--config\.report\.faces=True: --mode=predict .*override: none"):
        overrides.check(folder, "predict", None, {"report.faces": True})
    with pytest.raises(ValueError, match=r"--config\.eval\.batch_size=5: --mode=verify .*override: none"):
        overrides.check(folder, "verify", None, {"eval.batch_size": 5})
    tiny.data.raw_dir = "/elsewhere"
    overrides.check(folder, "eval", tiny, {})
    tiny.data.protocol = "1"
    with pytest.raises(
        ValueError, match=r"another run .*config\.data\.protocol is 'official' there and '1' in --config"
    ):
        overrides.check(folder, "export", tiny, {})


def test_the_default_folder_tells_runs_apart():
    assert overrides.suffix({"optim.lr": 0.04, "report.faces": True, "data.raw_dir": "/x", "seed": 1}) == (
        "-optim.lr=0.04-seed=1"
    )
    assert (
        overrides.suffix({"teachers.spoof.config.data.raw_dir": "/x", "base.teachers.spoof.config.mesh.fsdp": 2}) == ""
    )
    assert "," not in overrides.suffix({"data.train_species": ("live", "print")})
    assert overrides.suffix({}) == ""


def test_evaluating_a_study_trains_nothing(tiny, tmp_path, monkeypatch, caplog):
    from kdfas_jax.commands import ablation, evaluate

    study = {"base": tiny, "names": ("a", "b"), "variants": {"a": {}, "b": {}}, "seeds": (0,)}
    study = ml_collections.ConfigDict(study)
    monkeypatch.setattr(train, "train", lambda *_: pytest.fail("it trains"))
    with pytest.raises(FileNotFoundError, match=r"no run of the study is finished, .*a-seed0"):
        ablation.ablate(study, str(tmp_path), missing=False)
    stops = {"exposure_-1": {"apcer_max": 0.1}, "exposure_+1": {"apcer_max": 0.6}}
    stable = {"any_box_or_exposure": 0.37, "as_is": {"apcer_max": 0.4}, "views": stops}
    figures = dict.fromkeys(ablation.FIGURES, 0.5) | {"stability": stable}
    found = {
        "config": identity.plain(ablation.variant(tiny, {}, 0)),
        "finished": True,
        "test": figures,
        "teachers": {},
        "protocol": "official",
    }
    monkeypatch.setattr(workdir, "results", lambda _, home: found if home.endswith("a-seed0") else None)
    evaluated = []
    monkeypatch.setattr(evaluate, "evaluate_run", lambda home: evaluated.append(home) or found)
    table = ablation.ablate(study, str(tmp_path), missing=False)
    assert evaluated == [str(tmp_path / "a-seed0")]
    assert "| a " in table
    assert "| b " not in table
    assert re.search(r"\| flips +\| apcer_stop \|\n.*\n\| a .* \| 37\.00 \| 150\.00 +\|", table)
    assert "1 runs are not finished and not in the table" in caplog.text
