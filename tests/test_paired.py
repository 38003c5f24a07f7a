"""Paired statistics of a study, its budgets and its controls."""

import json
import os
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

from configs import ablation as study
from kdfas_jax.commands import ablation
from kdfas_jax.metrics import paired
from kdfas_jax.runs import files, released


def test_the_interval_is_that_of_the_paired_t_test():
    own, control = np.array([0.93, 0.95, 0.94, 0.97, 0.92]), np.array([0.91, 0.92, 0.945, 0.95, 0.90])
    cells = paired.compared(own - control)
    expected = stats.ttest_rel(own, control).confidence_interval(0.95)
    assert cells["better"] == "4 of 5"
    assert cells["difference"] == f"{(own - control).mean():+.4f} ± {(own - control).std(ddof=1):.4f}"
    assert cells["95 %"] == f"{expected.low:+.4f} to {expected.high:+.4f}"


def test_one_pair_has_no_interval():
    assert paired.compared(np.array([0.1])) == {
        "better": "1 of 1",
        "difference": "+0.1000",
        "95 %": "-",
    }


def results(dev, test):
    return {"dev": {"auc": dev} if dev else {}, "test": {"auc": test}}


def test_only_seeds_that_both_have_are_compared():
    runs = {
        "none": {0: results(0.8, 0.9), 1: results(0.8, 0.9), 2: None},
        "kl": {0: results(0.9, 0.95), 1: None, 2: results(0.9, 0.99)},
        "kl-x3": {0: results(0.9, 0.95)},
    }
    rows = paired.rows(runs, {"none": "none", "kl": "none", "kl-x3": "none-x3"})
    assert list(rows) == ["kl"]
    assert rows["kl"]["control"] == "none"
    assert [rows["kl"][f"{role} difference"] for role in ("dev", "test")] == ["+0.1000", "+0.0500"]
    assert [rows["kl"][f"{role} better"] for role in ("dev", "test")] == ["1 of 1", "1 of 1"]


def test_a_row_without_dev_keeps_the_columns():
    runs = {"none": {0: results(0.8, 0.9)}, "a": {0: results(0.9, 0.9)}, "b": {0: results(None, 0.8)}}
    rows = paired.rows(runs, {"none": "none", "a": "none", "b": "none"})
    assert rows["b"]["dev difference"] == "-"
    assert rows["b"]["test better"] == "0 of 1"
    assert list(rows["a"]) == list(rows["b"])


def test_differences_are_of_the_seeds_that_both_have():
    own = {0: results(0.8, 0.95), 1: None, 2: results(0.8, 0.9), 3: {"dev": {"auc": 0.5}}}
    found = paired.differences(own, {0: results(0.8, 0.9), 1: results(0.8, 0.9), 3: results(0.8, 0.9)}, "test")
    np.testing.assert_allclose(found, [0.05])


def test_a_study_of_several_budgets_draws_the_gain_over_each(tmp_path, monkeypatch):
    """A variant has as many dots as seeds at each budget; of one budget nothing is drawn."""
    known = json.loads(files.read_text(f"{released.folder()}/eval/results.json")) | {"teachers": {}, "gate": {}}

    def found(run, home):
        name, seed = os.path.basename(home).split("-seed")
        gain = 0.01 * (1 + int(seed)) if name.startswith("kl") else 0.0
        return known | {"test": known["test"] | {"auc": 0.9 + gain}}

    monkeypatch.setattr(ablation.workdir, "results", found)
    for budgets, drawn in (("1+3", True), ("1", False)):
        folder = tmp_path / budgets
        arguments = f"base=kdfas_demo,variants=none+kl,seeds=3,budgets={budgets}"
        table = ablation.ablate(study.get_config(arguments), str(folder))
        assert "+0.0200 ± 0.0100" in table
        assert (folder / "budgets.svg").exists() == drawn
    root = ElementTree.parse(tmp_path / "1+3" / "budgets.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    dots = [line for line in root.iter("{http://www.w3.org/2000/svg}g") if line.get("id", "").startswith("line2d")]
    assert sum(len(list(line.iter("{http://www.w3.org/2000/svg}use"))) == 3 for line in dots) == 2
    assert "var(" not in ElementTree.tostring(root, encoding="unicode")


def test_budgets_lengthen_the_students_but_not_their_teachers():
    config = study.get_config("base=kdfas_demo,variants=none+kl,budgets=1+3")
    assert list(config.names) == ["none-x1", "kl-x1", "none-x3", "kl-x3"]
    assert dict(config.budgets) == {"none-x1": 1, "kl-x1": 1, "none-x3": 3, "kl-x3": 3}
    assert dict(config.controls) == {"none-x1": "none-x1", "kl-x1": "none-x1", "none-x3": "none-x3", "kl-x3": "none-x3"}
    short, long = (ablation.variant(config.base, config.variants[name], 0) for name in ("kl-x1", "kl-x3"))
    assert long.train.epochs == 3 * short.train.epochs
    assert long.optim.warmup_epochs == 3 * short.optim.warmup_epochs
    assert long.teachers == short.teachers


@pytest.mark.parametrize("argument", ["budgets=0", "budgets=a+b", "control=kle"])
def test_wrong_arguments_are_named(argument):
    with pytest.raises(ValueError, match=argument.partition("=")[0]):
        study.get_config(f"base=kdfas_demo,{argument}")


def test_variants_with_other_teachers_have_a_row_of_their_teachers(monkeypatch):
    """kl and kdfas share theirs, kdfas_box has another, none_box has none."""
    evaluated = {"a0": 1, "a1": 2, "b0": 3, "b1": 4}

    def teachers_of(results):
        return {name: SimpleNamespace(results=evaluated[of["run"]]) for name, of in results["teachers"].items()}

    monkeypatch.setattr(ablation.report_runs, "teachers_of", teachers_of)
    monkeypatch.setattr(ablation.report_runs, "together", lambda members: members)
    taught = ablation.Taught({})
    for seed in (0, 1):
        for variant, run in (("kl", "a"), ("kdfas", "a"), ("kdfas_box", "b")):
            results = {"teachers": {"spoof": {"run": f"{run}{seed}"}, "domains": {"run": "a0"}}}
            taught.add(results, variant, seed, ["spoof"])
    taught.add({"teachers": {}}, "none_box", 0, ["spoof"])
    assert taught.figures() == {"teacher spoof": {0: 1, 1: 2}, "teacher spoof of kdfas_box": {0: 3, 1: 4}}
    gate = {"teacher": {"runs": ["a0", "a1"]}}
    taught.add({"teachers": {}, "gate": gate}, "kdfas", 0, ["spoof"])
    assert taught.figures()[ablation.ENSEMBLE] == {0: ["a0", "a1"]}
