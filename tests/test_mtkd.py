"""MTAKD end to end on tiny data: one student of two tasks, its two teachers, resumed, and the two as one system."""

import json
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pandas as pd
import pytest

from configs import common
from kdfas_jax import models
from kdfas_jax.commands import evaluate, join, train
from kdfas_jax.models import iresnet, together, vit
from kdfas_jax.report import comparison as report_compare
from kdfas_jax.runs import workdir
from kdfas_jax.training import checkpoint, step, teachers
from tests import tiny as tiny_configs
from tests.conftest import saved_items

IMAGES = np.random.default_rng(0).random((3, 16, 16, 3), np.float32)
RECOGNISER = {"name": "iresnet", "variant": "18", "width": 4, "blocks": (1, 1, 1, 1), "embedding": 8}
STUDENT = {"name": "mobilefacenet", "variant": "original", "width": 4, "blocks": (1, 1, 1, 1), "image_size": 16}


def two_tasks(arguments):
    """A student and teachers of both tasks, 6 steps each; the pictures are noise, attacks brighter."""

    def base(name):
        config = tiny_configs.alone(SimpleNamespace(**arguments), name, 16)
        config.data.augment.update({"mixup": 0.0, "cutmix": 0.0})
        config.train.update({"epochs": 2.0, "eval_epochs": 1.0})
        config.optim.update({"lr": 1e-2, "warmup_epochs": 0.0})
        return config

    config, recognition, spoof = base("tiny_mtkd"), base("recognition"), base("spoof")
    recognition.model = RECOGNISER | {"classes": 8, "dtype": "float32"}
    recognition.terms = {"arcface": {"kind": "arcface", "weight": 1.0, "s": 16.0, "m": 0.2}}
    recognition.data.target = "identity"
    recognition.train.batch_size = 8  # of 24 live faces
    config.model = STUDENT | {"classes": 8, "live_head": True, "embedding": 8, "dtype": "float32"}
    common.two_tasks(config, recognition, spoof, spoof_stages=((3, 1), (4, 2)))
    config.data.balance = ""
    return config


@pytest.fixture(scope="module")
def run(tiny_config, tmp_path_factory):
    """(config, folder, results) of a student trained after its teachers."""
    config = two_tasks(dict(part.split("=") for part in tiny_config.partition(":")[2].split(",")))
    folder = tmp_path_factory.mktemp("mtkd") / "run"
    return config, folder, train.train(config, str(folder))


def test_two_networks_side_by_side_give_what_each_gives():
    parts = [
        vit.create(patch=8, width=16, depth=1, heads=2),
        iresnet.create(**{k: v for k, v in RECOGNISER.items() if k != "name"}),
    ]
    model = together.Together(*parts, spoof_size=16, recognition_size=32)
    variables = jax.jit(lambda: step.init_variables(model, 16, 0))()
    logits, out = jax.jit(model.apply)(variables, IMAGES)
    of = [{name: tree.get(part, {}) for name, tree in variables.items()} for part in ("spoof", "recognition")]
    np.testing.assert_allclose(logits, jax.jit(parts[0].apply)(of[0], IMAGES)[0], rtol=1e-6)
    larger = jax.image.resize(IMAGES, (3, 32, 32, 3), "linear")
    np.testing.assert_allclose(out["embedding"], jax.jit(parts[1].apply)(of[1], larger)[0], rtol=1e-4, atol=1e-5)
    assert models.flops(model, 16) == models.flops(parts[0], 16) + models.flops(parts[1], 32)


@pytest.mark.slow
def test_one_student_learns_both_tasks_and_is_judged_by_both(run):
    config, folder, results = run
    assert json.loads((folder / "eval" / "results.json").read_text()) == results
    assert evaluate.evaluate_run(str(folder)) == results
    journal = (folder / "metrics.csv").read_text()
    assert all(name in journal for name in (*config.terms, "dev_match_auc", "dev_auc"))
    scores = pd.read_csv(folder / "eval" / "scores.csv").query("split == 'test'")
    counts = results["test"]["system"]["counts"]
    assert scores["kind"].value_counts().to_dict() == counts | {"presentation": 48, "pair": 2 * 24}
    assert counts == {"attack": 24, "mated": 16, "nonmated": 16 * 7}
    assert "The whole system" in (folder / "report" / "index.html").read_text()


@pytest.mark.slow
def test_a_run_of_both_tasks_goes_on_to_the_same_bits(run, without_pages, tmp_path):
    """Half of it, then the rest from its checkpoint: parameters, adapters and optimiser as of one go."""
    config, folder, _ = run
    half = tmp_path / "run"
    shutil.copytree(folder.parent / "teachers", tmp_path / "teachers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.preemption, "watch", stopped_at(3))
        with pytest.raises(SystemExit):
            train.train(config, str(half))
    train.train(config, str(half))
    one, other = state_of(folder), state_of(half)
    assert {"params", "batch_stats", "term_params", "opt_state"} == set(one)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def stopped_at(number):
    from contextlib import contextmanager

    @contextmanager
    def watch():
        yield lambda step_number: step_number == number

    return watch


def state_of(folder):
    """Every array of the last checkpoint, as it lies there."""
    with checkpoint.open_finished(str(folder)) as checkpoints:
        return saved_items(folder, checkpoints.latest())


@pytest.mark.slow
def test_the_teachers_together_are_a_run_that_is_judged_alike(run, tmp_path):
    config, folder, results = run
    output = tmp_path / "teachers"
    joined = join.join(str(folder), str(output))
    assert evaluate.evaluate_run(str(output)) == joined
    assert joined["test"]["system"]["counts"] == results["test"]["system"]["counts"]
    assert joined["finished"]
    assert joined["teachers"] == results["teachers"]
    assert {name: facts["overlap"] for name, facts in joined["teachers"].items()} == dict.fromkeys(
        join.NETWORKS, "none"
    )
    homes = {name: teachers.home(config.teachers[name], str(folder)) for name in ("spoof", "recognition")}
    alone = {name: workdir.results(config.teachers[name].config, home)["test"] for name, home in homes.items()}
    assert joined["test"]["auc"] == pytest.approx(alone["spoof"]["auc"])
    assert joined["test"]["verification"]["auc"] == pytest.approx(alone["recognition"]["auc"])
    compared = report_compare.compare([str(folder), str(output)], str(tmp_path / "comparison"))
    assert all(name in compared for name in ("match_accuracy", "riapar_max", f"{joined['params']['student']:,}"))
    with pytest.raises(ValueError, match="has no teacher 'spoof'; expected a run of MTAKD"):
        join.join(str(output), str(tmp_path / "again"))
