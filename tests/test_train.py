"""The whole job on the tiny data: resume after kill -9 and SIGTERM, two runs of one seed, NaN, what a run leaves."""

import csv
import json
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from kdfas_jax import models
from kdfas_jax.commands import ablation, train
from kdfas_jax.parallel import sharding
from kdfas_jax.runs.results import Results
from kdfas_jax.training import step, teachers
from kdfas_jax.training.checkpoint import Checkpoints
from kdfas_jax.training.journal import NonFiniteLossError
from tests.test_weights import as_timm, initialise, save

ROOT = Path(__file__).resolve().parents[1]
KILLED = ((signal.SIGKILL, signal.SIGTERM), (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))


def final_variables(folder, config):
    module = models.create(config.model)
    mesh = sharding.make_mesh({"data": -1, "fsdp": 1})
    with Checkpoints(str(folder), writing=False) as checkpoints:
        step = checkpoints.latest()
        abstract = teachers.abstract_variables(module, config.data.image_size, mesh)
        return step, checkpoints.restore_variables(step, abstract)


def assert_identical(one, other, config):
    (step_one, one), (step_other, other) = final_variables(one, config), final_variables(other, config)
    assert step_one == step_other
    jax.tree.map(np.testing.assert_array_equal, one, other)


def metric_rows(folder):
    with open(Path(folder) / "metrics.csv", encoding="utf-8") as file:
        return [tuple(row) for row in csv.reader(file)]


@pytest.fixture(scope="module")
def reference(tmp_path_factory, run_main, tiny_config):
    """An uninterrupted run: teacher, student, evaluation."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    done = run_main(f"--config={tiny_config}", f"--workdir={folder}")
    return folder, done


def test_what_a_run_leaves(reference, tiny):
    folder, done = reference
    assert "| tiny " in done.stdout
    results = json.loads((folder / "eval" / "results.json").read_text())
    absent = ("init", "on", "statement", "adapted")
    assert list(results) == [name for name in Results.__annotations__ if name not in absent]
    assert (results["finished"], results["steps"]) == (True, {"trained": 120, "total": 120})
    assert {"apcer", "apcer_max", "bpcer", "acer", "hter", "eer", "auc", "bpcer10", "bpcer20", "bpcer100"} < set(
        results["test"]
    )
    assert {"tpr_at_fpr1", "ci95", "counts", "non_response", "exact", "groups"} < set(results["test"])
    assert results["test"]["missing"] == {"absent": 0, "corrupt": 0}
    assert set(results["literature"]) == {"apcer_pooled", "acer_pooled", "hter_test_eer"}
    assert "dev" in results["threshold"]["source"]
    assert results["test"]["auc"] > 0.9  # attacks are brighter: a few hundred steps see that
    scores = pd.read_csv(folder / "eval" / "scores.csv")
    assert list(scores.columns) == ["split", "dataset", "video", "subject", "species", "label", "score", "frames"]
    assert scores.groupby("split").size().to_dict() == {"dev": 48, "test": 48}
    dev = scores[scores["split"] == "dev"]
    accepted = dev["score"] >= results["threshold"]["value"]
    assert results["dev"]["bpcer"] == pytest.approx((~accepted[dev["label"] == 1]).mean())
    note = json.loads((folder / "config.json").read_text())
    assert {"config", "command", "packages", "commit", "devices", "data_fingerprint"} < set(note)
    assert "<table>" in (folder / "report" / "index.html").read_text()
    assert list(folder.glob("events.out.tfevents.*"))
    taught = teachers.home(tiny.teachers.spoof, str(folder))
    assert teachers.finished(taught)
    facts, of_teacher = results["teachers"]["spoof"], json.loads(Path(taught, "eval", "results.json").read_text())
    assert (facts["run"], facts["overlap"]) == (taught, "none")
    assert {key: facts[key] for key in ("step", "protocol", "sources")} == {
        key: of_teacher[key] for key in ("step", "protocol", "sources")
    }
    assert results["params"]["teachers"]["spoof"] == of_teacher["params"]["student"]
    steps = sorted(int(path.name) for path in (folder / "checkpoints").iterdir())
    assert steps[-1] == 120
    assert results["step"] in steps


@pytest.mark.slow
def test_two_runs_of_one_seed_are_bit_identical(reference, tmp_path, tiny, without_pages):
    """One of `main.py`, and one of this process."""
    folder, _ = reference
    train.train(tiny, str(tmp_path / "run"))
    assert_identical(folder, tmp_path / "run", tiny)
    assert metric_rows(folder) == metric_rows(tmp_path / "run")


@pytest.mark.parametrize("signals", [KILLED[0], pytest.param(KILLED[1], marks=pytest.mark.slow)], ids=["two", "three"])
def test_killed_and_terminated_runs_go_on_to_the_same_parameters(
    reference, tmp_path, tiny_config, tiny, signals, without_pages
):
    """kill -9 and SIGTERM at moments that differ from machine to machine, each followed by the same command."""
    folder, _ = reference
    run = tmp_path / "run"
    shutil.copytree(folder.parent / "teachers", tmp_path / "teachers")
    command = [sys.executable, "main.py", f"--config={tiny_config}", f"--workdir={run}"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
    rng = random.Random(len(signals))
    targets = sorted(rng.sample(range(1, 7), len(signals)))  # how many of the 8 checkpoints are there at the signal
    for target, number in zip(targets, signals, strict=True):
        before = written(run)
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 200
        while evaluations(run) < target or written(run) == before:  # in the loop again, and that far
            assert process.poll() is None, process.communicate()[1][-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.15))
        process.send_signal(number)
        errors = process.communicate(timeout=100)[1]
        if number == signal.SIGTERM:
            assert process.returncode == 0, errors[-2000:]
            assert "SIGTERM: " in errors
            assert "the same command " in errors
    train.train(tiny, str(run))
    assert_identical(folder, run, tiny)
    assert metric_rows(run) == metric_rows(folder)
    ours, theirs = (json.loads((path / "eval" / "results.json").read_text()) for path in (run, folder))
    assert ours["test"] == theirs["test"]


def test_training_starts_from_published_weights(tmp_path, tiny, monkeypatch):
    """config.init: the state before step 0 holds the file's numbers, also where the head is replaced."""
    started = []
    monkeypatch.setattr(train.loop, "run", lambda made, mesh, state, *_: started.append(state))
    module, params = initialise(size=16, patch=8, width=16, depth=2, heads=2, classes=1000)
    tiny.init = str(save(as_timm(params), tmp_path / "published.safetensors"))
    tiny.terms.kl.weight = tiny.terms.covariance.weight = 0.0  # no teacher
    train.fit(tiny, str(tmp_path / "run"), {})
    (state,) = started
    np.testing.assert_allclose(state.params["blocks"]["fc1"]["kernel"], params["blocks"]["fc1"]["kernel"], rtol=1e-6)
    assert state.params["head"]["kernel"].shape == (16, 2)
    assert module.classes == 1000


def test_a_checkpoint_that_is_not_finite_is_refused_by_name(tmp_path):
    params = {"head": {"bias": np.zeros(2, np.float32), "kernel": np.array([1, np.inf], np.float32)}}
    state = step.TrainState(jax.numpy.int32(3), params, batch_stats={}, term_params={}, opt_state={})
    with Checkpoints(str(tmp_path)) as checkpoints:
        checkpoints.save(state, None, {})
        checkpoints.wait()
        with pytest.raises(ValueError, match=r"checkpoints/3: .* not finite, first in params/head/kernel;"):
            checkpoints.restore_variables(3, state.variables)


def test_a_file_of_published_weights_is_a_teacher(tmp_path, tiny):
    """In place of a run: nothing is trained, and the model is the one that the teacher's config names."""
    module, params = initialise(size=16, patch=8, width=32, depth=2, heads=2, classes=2)
    path = str(save(as_timm(params), tmp_path / "published.safetensors"))
    teacher = tiny.teachers.spoof
    teacher.checkpoint = path
    mesh = sharding.make_mesh({"data": -1, "fsdp": 1})
    loaded = teachers.load(teachers.home(teacher, str(tmp_path / "run")), mesh, teacher.config)
    images = np.random.default_rng(0).random((3, 16, 16, 3), np.float32)
    logits, _ = loaded.frozen.read(loaded.variables, images)
    np.testing.assert_allclose(logits, jax.jit(module.apply)({"params": params}, images)[0], rtol=1e-5, atol=1e-6)


def written(folder):
    path = folder / "metrics.csv"
    return path.stat().st_mtime_ns if path.exists() else 0


def evaluations(folder):
    path = folder / "metrics.csv"
    return path.read_text().count("dev_auc") if path.exists() else 0


def test_a_workdir_of_another_config_is_refused(reference, tiny):
    folder, _ = reference
    tiny.optim.weight_decay = 0.3
    message = r"belongs to another run[\s\S]*config\.optim\.weight_decay: 0\.05 there, 0\.3 now"
    with pytest.raises(ValueError, match=message):
        train.train(tiny, str(folder))


@pytest.mark.slow
def test_eval_mode_gives_the_same_figures_from_the_run_alone(reference, run_main):
    folder, _ = reference
    before = json.loads((folder / "eval" / "results.json").read_text())
    run_main("--mode=eval", f"--workdir={folder}")
    assert json.loads((folder / "eval" / "results.json").read_text()) == before


def test_a_checkpoint_of_another_architecture_is_named(reference, tiny):
    folder, _ = reference
    other = models.create({**tiny.model, "width": 32})
    mesh = sharding.make_mesh({"data": -1, "fsdp": 1})
    abstract = teachers.abstract_variables(other, 16, mesh)
    with (
        Checkpoints(str(folder), writing=False) as checkpoints,
        pytest.raises(ValueError, match="another architecture") as error,
    ):
        checkpoints.restore_variables(checkpoints.latest(), abstract)
    assert "blocks/fc1/kernel" in str(error.value)
    assert "(2, 32, 128)" in str(error.value)
    assert "(2, 16, 64)" in str(error.value)


@pytest.mark.slow
def test_a_non_finite_loss_stops_the_run_and_names_its_batch(reference, tmp_path, tiny):
    folder, _ = reference
    shutil.copytree(folder.parent / "teachers", tmp_path / "teachers")
    tiny.terms.kl.temperature = 1e-40
    with pytest.raises(NonFiniteLossError, match="Training has stopped"):
        train.train(tiny, str(tmp_path / "run"))
    note = json.loads(next((tmp_path / "run").glob("nonfinite-step*.json")).read_text())
    assert len(note["examples"]) == 16
    assert not list((tmp_path / "run" / "checkpoints").glob("[0-9]*"))


@pytest.mark.slow
def test_the_ablation_runner_skips_what_is_finished(tmp_path, tiny_config, monkeypatch):
    """Two variants over two seeds, one diverging; the figures are those of the runs; a second call trains nothing."""
    script = tmp_path / "study.py"
    script.write_text(
        "import ml_collections\nfrom tests import tiny\n"
        "def get_config(argument=''):\n"
        "    base = tiny.get_config(argument)\n"
        "    base.train.epochs = base.teachers.spoof.config.train.epochs = 6.0\n"
        "    return ml_collections.ConfigDict({'name': 'study', 'base': base, 'seeds': (0, 1),\n"
        "        'names': ('kdfas', 'hot'),\n"
        "        'variants': {'kdfas': {}, 'hot': {'terms': {'kl': {'temperature': 1e-40}}}}})\n"
    )
    argument = tiny_config.partition(":")[2]
    command = [sys.executable, "main.py", f"--config={script}:{argument}", f"--workdir={tmp_path / 'study'}"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    first = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr[-2000:]
    runs = pd.read_csv(tmp_path / "study" / "runs.csv")
    assert runs.groupby("variant").size().to_dict() == {"teacher spoof": 2, "kdfas": 2, "hot": 2}
    assert runs.loc[runs["variant"] == "hot", "auc"].isna().all()
    table = (tmp_path / "study" / "table.md").read_text()
    aucs = runs.loc[runs["variant"] == "kdfas", "auc"]
    assert f"{aucs.mean():.4f} ± {aucs.std():.4f}" in table
    cells = {
        row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[2:]]
        for row in table.splitlines()
        if "|" in row
    }
    assert [cells[name][:3] for name in ("kdfas", "hot")] == [["2", "0", cells["kdfas"][2]], ["2", "2", "-"]]
    assert r"$\pm$" in (tmp_path / "study" / "table.tex").read_text()
    monkeypatch.setattr(train, "train", lambda *_: pytest.fail("it trains"))
    monkeypatch.setattr(sys, "argv", command[1:])  # which the table names
    again = ablation.ablate(runpy.run_path(str(script))["get_config"](argument), str(tmp_path / "study"))
    assert table.endswith(f"{again}\n")
    assert (tmp_path / "study" / "table.md").read_text() == table
