"""The gate: whether a run's teacher knows more on dev than the same student on labels alone."""

import json
import os

import ml_collections
import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from kdfas_jax.metrics import detection
from kdfas_jax.report import runs, summary


def evaluated(folder, logits, split="dev"):
    """A run's scores of 60 single-frame videos of six people, half of them live; `logits` [60]."""
    rows = pd.DataFrame({"split": split, "dataset": "d", "video": [f"v{i}" for i in range(60)]})
    rows["subject"], rows["label"] = [f"p{i % 6}" for i in range(60)], np.arange(60) // 30
    rows["species"] = np.where(rows["label"] == 1, "live", "print")
    rows["score"], rows["frames"] = expit(logits), 1
    os.makedirs(folder / "eval")
    rows.to_csv(folder / "eval" / "scores.csv", index=False)
    (folder / "eval" / "results.json").write_text(json.dumps({"folds": []}))
    return str(folder), rows


@pytest.fixture
def scored(tmp_path):
    rng = np.random.default_rng(0)
    truth = np.repeat([-1.0, 1.0], 30)
    return {name: evaluated(tmp_path / name, truth * by + rng.normal(size=60)) for name, by in
            {"first": 0.8, "second": 0.8, "weak": 0.3}.items()}  # fmt: skip


def test_an_ensemble_has_the_mean_logit_of_its_members(scored):
    homes, tables = zip(*(scored[name] for name in ("first", "second")), strict=True)
    expected = tables[0].assign(score=expit(np.mean([logit(table["score"]) for table in tables], axis=0)))
    found = runs.together(homes)["dev"]
    assert found["auc"] == pytest.approx(detection.figures(expected, 0.5)["auc"])
    assert found["auc"] > max(runs.together([home])["dev"]["auc"] for home in homes)
    assert found["ci95"]["auc"][0] < found["auc"] < found["ci95"]["auc"][1]


def test_runs_on_other_videos_are_no_ensemble(scored, tmp_path):
    other, _ = evaluated(tmp_path / "other", np.zeros(60), split="test")
    assert runs.together([scored["first"][0], other]) == {}
    assert runs.together([str(tmp_path / "nothing")]) == {}


def gate(scored, teacher, control):
    terms = {"kl": {"kind": "kl", "weight": 0.7, "teacher": teacher}, "ce": {"kind": "cross_entropy", "weight": 0.3}}
    config = ml_collections.ConfigDict({"terms": terms, "control": scored[control][0] if control else ""})
    return runs.gate(config, {name: {"run": home} for name, (home, _) in scored.items()})


def test_a_teacher_that_knows_less_than_the_control_is_named(scored):
    found = gate(scored, "weak", "first")
    assert found["better"] is False
    (sentence,) = summary.gate_note(found)
    assert "no better than the student on labels alone" in sentence
    assert f"{found['teacher']['auc']:.4f}" in sentence
    assert f"{found['control']['auc']:.4f}" in sentence


def test_a_better_teacher_and_one_without_a_control_need_no_sentence(scored):
    found = gate(scored, "first+second", "weak")
    assert found["better"] is True
    assert found["teacher"]["runs"] == [scored["first"][0], scored["second"][0]]
    alone = gate(scored, "first", "")
    assert alone["better"] is None
    assert summary.gate_note(found) == summary.gate_note(alone) == summary.gate_note({}) == []


def test_a_run_without_kl_has_no_gate(scored):
    config = ml_collections.ConfigDict(
        {"terms": {"kl": {"kind": "kl", "weight": 0.0, "teacher": "first"}}, "control": ""}
    )
    assert runs.gate(config, {"first": {"run": scored["first"][0]}}) == {}
