"""A protocol of several folds: the figures over folds, by hand; and two folds of a rehearsal, trained in seconds."""

import copy
import json
from types import SimpleNamespace

import ml_collections
import numpy as np
import pytest

from configs import common
from input_pipeline.select import protocols
from kdfas_jax.commands import evaluate, folds, train
from kdfas_jax.report import summary
from kdfas_jax.runs import identity, schema, workdir
from kdfas_jax.training import teachers
from tests import tiny

ZEROS = dict.fromkeys(
    ("eer", "apcer_max", "bpcer", "acer", "hter", "bpcer10", "bpcer20", "bpcer100", "tpr_at_fpr1"), 0.0
)


def config(protocol="siw:3"):
    data = {"dataset": "siw", "target": "label", "protocol": protocol, "image_size": 32}
    alone = {"data": data, "model": {"name": "vit", "variant": "Ti/16", "depth": 1}, "eval": {"threshold": "eer"}}
    teacher = {"name": "teacher", "teachers": {}, **alone}
    return ml_collections.ConfigDict(
        {"name": "run", "teachers": {"spoof": {"config": teacher, "checkpoint": ""}}, **alone}
    )


def fold(protocol, auc, hter, apcer, counts, dev=None):
    """What results.json of one fold holds, in outline."""
    return {
        "config": {},
        "step": 7,
        "finished": True,
        "protocol": protocol,
        "threshold": {"value": 0.25, "source": "EER of dev of siw"},
        "dev": dev or {},
        "test": {
            **ZEROS,
            "auc": auc,
            "hter": hter,
            "apcer": apcer,
            "ci95": {"auc": [0.1, 0.9]},
            "operating_points": {"apcer10": {"apcer_max": 0.0, "bpcer": hter, "acer": 0.0}},
            "breakdown": {"sensor": {protocol[-1]: {"counts": {"videos": 2}, "bpcer": hter}}},
            "calibration": {"nll": hter, "ece": 0.0, "nll_calibrated": 0.0, "ece_calibrated": 0.0},
            "counts": {"subjects": 1, **counts},
            "non_response": 2,
            "missing": {"absent": 1, "corrupt": 0},
        },
        "literature": {"apcer_pooled": hter},
        "sources": {"train": ["siw"], "dev": [], "test": [protocol], "extra": []},
        "params": {"student": 5, "teachers": {"spoof": 9}},
        "teachers": {},
        "folds": [],
    }


@pytest.fixture
def results():
    return [
        fold("siw:3.1", 0.9, 0.10, {"replay": 0.2}, {"videos": 3, "live": 1, "replay": 2}, dev={"eer": 0.5}),
        fold("siw:3.2", 0.7, 0.20, {"print": 0.1, "replay": 0.4}, {"videos": 5, "live": 1, "print": 4}, {"eer": 0.1}),
    ]


def test_figures_are_means_with_population_deviations(results):
    """0.9 and 0.7: mean 0.8, deviation 0.1 (0.141 were it n - 1)."""
    results[0]["test"] |= {"exact": {"bpcer": {"low": 0.0}}, "groups": {"sensor": {"bpcer": {"worst": "1"}}}}
    combined = folds.combine(config(), results)
    test = combined["test"]
    assert test["auc"] == pytest.approx(0.8)
    assert test["deviation"]["auc"] == pytest.approx(0.1)
    assert test["hter"] == pytest.approx(0.15)
    assert test["deviation"]["hter"] == pytest.approx(0.05)
    assert combined["dev"] == {"eer": pytest.approx(0.3), "deviation": {"eer": pytest.approx(0.2)}}
    literature = {"apcer_pooled": pytest.approx(0.15), "deviation": {"apcer_pooled": pytest.approx(0.05)}}
    assert combined["literature"] == literature
    assert not {"ci95", "exact", "groups"} & set(test)


def test_a_species_is_averaged_over_the_folds_that_have_it(results):
    test = folds.combine(config(), results)["test"]
    assert test["apcer"] == {"replay": pytest.approx(0.3), "print": pytest.approx(0.1)}
    assert test["deviation"]["apcer"] == {"replay": pytest.approx(0.1), "print": 0.0}


def test_counts_and_non_responses_are_summed(results):
    test = folds.combine(config(), results)["test"]
    assert test["counts"] == {"subjects": 2, "videos": 8, "live": 2, "replay": 2, "print": 4}
    assert test["non_response"] == 4
    assert test["missing"] == {"absent": 2, "corrupt": 0}
    assert not {"counts", "missing", "non_response"} & set(test["deviation"])


def test_what_lies_deeper_is_averaged_too_and_a_part_over_the_folds_that_have_it(results):
    test = folds.combine(config(), results)["test"]
    assert test["operating_points"]["apcer10"]["bpcer"] == pytest.approx(0.15)
    assert test["deviation"]["operating_points"]["apcer10"]["bpcer"] == pytest.approx(0.05)
    assert test["calibration"]["nll"] == pytest.approx(0.15)
    results[1]["test"]["breakdown"]["sensor"]["1"] = {"counts": {"videos": 5}, "bpcer": 0.3, "exact": {"bpcer": {}}}
    assert folds.combine(config(), results)["test"]["breakdown"]["sensor"] == {
        "1": {"counts": {"videos": 7}, "bpcer": pytest.approx(0.2)},
        "2": {"counts": {"videos": 2}, "bpcer": pytest.approx(0.2)},
    }


def test_the_whole_keeps_each_fold_and_has_no_threshold_of_its_own(results):
    combined = folds.combine(config(), results)
    assert combined["config"] == identity.plain(config())
    assert (combined["protocol"], combined["step"]) == ("siw:3", None)
    assert combined["threshold"] == {"value": None, "source": "EER of dev, each fold its own"}
    assert combined["sources"] == {"train": ["siw"], "dev": [], "test": ["siw:3.1", "siw:3.2"], "extra": []}
    assert combined["params"] == results[0]["params"]
    kept = ("protocol", "step", "finished", "threshold", "teachers", "dev", "test", "literature")
    assert combined["folds"] == [{name: result[name] for name in kept} for result in results]
    json.dumps(combined)


def test_the_source_of_the_threshold_is_train_where_folds_have_no_dev(results):
    combined = folds.combine(config(), [result | {"dev": {}} for result in results])
    assert combined["threshold"]["source"] == "EER of train, each fold its own"
    assert combined["dev"] == {}


def test_the_report_shows_mean_and_deviation_and_every_fold(results, tmp_path):
    combined = folds.write(config(), str(tmp_path), results)
    assert json.loads((tmp_path / "eval" / "results.json").read_text()) == combined
    assert summary.row(combined)["auc"] == "0.8000 ± 0.1000"
    assert summary.row(combined)["hter"] == "15.00 ± 5.00"
    assert summary.selection_note(combined).endswith(
        "deviation over 2 folds. Threshold: EER of dev, each fold its own."
    )
    page = (tmp_path / "report" / "index.html").read_text()
    page = page.replace(' class="short"', "")
    assert "On the mean of 2 folds, " in page
    assert "of each fold&#39;s worst species" in page
    assert page.count("No error in any fold") == 2  # of APCER's maximum and BPCER, which are 0 here
    assert "Clopper" not in page  # counts are sums over folds, in which a video may count several times
    assert '<data value="0.8">0.8000</data></td><td>± 0.1000</td>' in page
    assert summary.selection_note(combined) in page
    assert "Videos without a face, which get no score: 4." in page
    assert '<td>siw:3.2</td><td>7</td><td>0.25</td><td><data value="0.7">0.7000</data></td>' in page
    assert "scaled, one temperature per fold" in page
    assert "± 10.00</td><td>2</td>" in page  # the APCER of replay, 0.2 and 0.4
    assert page.count("<svg") == 3  # the icons and the two grids, and no plot


def test_the_whole_of_a_teacher_stands_beside_the_whole_of_its_student(results, tmp_path):
    whole, folder = config(), str(tmp_path / "student")
    home = teachers.home(whole.teachers.spoof, folder)
    folds.write(
        whole.teachers.spoof.config, home, [fold("siw:3.1", 0.61, 0.1, {"replay": 0.2}, {"videos": 3, "replay": 2})]
    )
    for result in results:
        facts = {"run": f"{home}/{result['protocol'].replace(':', '-')}", "protocol": result["protocol"], "step": 7}
        facts |= {"config": "12345678", "parameters": 9, "overlap": "none"}
        result["teachers"] = {"spoof": facts}
    folds.write(whole, folder, results)
    page = (tmp_path / "student" / "report" / "index.html").read_text()
    assert "teacher spoof" in page
    assert '<data value="0.61">' in page
    assert home in page


@pytest.mark.parametrize("shared", [True, False], ids=["by reference", "back from JSON"])
def test_a_folds_teachers_are_of_the_same_fold(shared):
    whole = config()
    if shared:
        whole.teachers.spoof.config.data = whole.data
    else:
        whole = ml_collections.ConfigDict(identity.plain(whole))
    run = folds.config_of(whole, "siw:3.2")
    assert run.data.protocol == run.teachers.spoof.config.data.protocol == "siw:3.2"
    assert whole.data.protocol == whole.teachers.spoof.config.data.protocol == "siw:3"


def test_a_teacher_under_a_protocol_of_its_own_keeps_it():
    whole = config()
    whole.teachers.spoof.config.data = copy.deepcopy(whole.data)
    whole.teachers.spoof.config.data.protocol = "official"
    assert folds.config_of(whole, "siw:3.2").teachers.spoof.config.data.protocol == "official"


def test_a_folds_folder_has_no_colon():
    assert folds.home("runs/x", "siw:2.1") == "runs/x/siw-2.1"
    assert folds.home("runs/x", "4.2") == "runs/x/4.2"


def test_a_finished_run_of_another_config_is_refused(tmp_path, results):
    assert workdir.results(config(), str(tmp_path)) is None
    combined = folds.write(config(), str(tmp_path), results)
    found = workdir.results(config(), str(tmp_path))
    assert found == {**combined, "config": schema.upgrade(combined["config"])}
    with pytest.raises(ValueError, match=r"holds another run \(config\.data\.protocol differs\)"):
        workdir.results(config("siw:2"), str(tmp_path))


def test_folds_of_which_one_was_interrupted_are_not_finished(tmp_path, results):
    """They are evaluated as they are, which the page says, and a second call resumes them."""
    results[1]["finished"] = False
    combined = folds.write(config(), str(tmp_path), results)
    assert not combined["finished"]
    assert [fold["finished"] for fold in combined["folds"]] == [True, False]
    assert workdir.results(config(), str(tmp_path)) is None
    assert not teachers.finished(str(tmp_path))
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Training has stopped in one of its folds: this run is not finished." in page


def test_a_folder_whose_folds_have_checkpoints_is_not_taken_over(tmp_path):
    workdir.claim(config("siw:2"), str(tmp_path), "data")
    workdir.claim(config(), str(tmp_path), "data")  # nothing there to protect
    (tmp_path / "siw-3.1" / "checkpoints" / "5").mkdir(parents=True)
    workdir.claim(config(), str(tmp_path), "data")
    with pytest.raises(ValueError, match=r"belongs to another run[\s\S]*config\.data\.protocol: 'siw:3' there"):
        workdir.claim(config("siw:2"), str(tmp_path), "data")
    assert workdir.read(str(tmp_path))["config"]["data"]["protocol"] == "siw:3"


def rehearsal(data_dir):
    """Protocol 3 on rendered faces: 120 pictures, 50 of them to train on in each fold, an epoch each."""
    args = SimpleNamespace(raw_dir="", data_dir=str(data_dir))
    student, teacher = tiny.alone(args, "student", 16), tiny.alone(args, "teacher", 16)
    student.data.update({"dataset": "simulated", "protocol": "3", "record_size": 32})
    student.data.options = {"size": 32, "users": (1, 2, 21, 36), "sessions": (1,)}
    for run in (student, teacher):
        run.model.depth = 1
        run.train.update({"batch_size": 25, "epochs": 1.0, "eval_epochs": 1.0})
        run.optim.warmup_epochs = 0.0
    return common.distilled(student, teacher)


@pytest.mark.slow
def test_a_protocol_runs_its_folds_once(tmp_path, monkeypatch, without_pages):
    """With the folds of the teacher; called again only what is not finished; a missing fold cannot be evaluated.

    Two of the six folds of protocol 3 show what all of them would.
    """
    whole, folder = rehearsal(tmp_path / "data"), tmp_path / "run"
    names = ["3.1", "3.2"]
    monkeypatch.setitem(protocols.FOLDS, "3", tuple(names))
    fits, real = [], train.fit

    def fit(run, home, homes, taught):
        fits.append((run.name, run.data.protocol, homes))
        real(run, home, homes, taught)

    monkeypatch.setattr(train, "fit", fit)
    results = train.train(whole, str(folder))
    taught = teachers.home(whole.teachers.spoof, str(folder))
    assert fits == [("teacher", name, {}) for name in names] + [
        ("student", name, {"spoof": f"{taught}/{name}"}) for name in names
    ]
    assert [fold["protocol"] for fold in results["folds"]] == names
    each = [json.loads((folder / name / "eval" / "results.json").read_text()) for name in names]
    assert results["test"]["hter"] == pytest.approx(np.mean([fold["test"]["hter"] for fold in each]))
    assert results["test"]["deviation"]["hter"] == pytest.approx(np.std([fold["test"]["hter"] for fold in each]))
    assert results["test"]["counts"]["videos"] == 2 * 5
    assert {fold["config"]["teachers"]["spoof"]["config"]["data"]["protocol"] for fold in each} == set(names)
    assert [fold["teachers"]["spoof"]["run"] for fold in results["folds"]] == [f"{taught}/{name}" for name in names]
    assert (results["teachers"]["spoof"]["run"], results["teachers"]["spoof"]["overlap"]) == (taught, "none")
    assert json.loads((folder / "eval" / "results.json").read_text()) == results
    assert (folder / "report" / "index.html").exists()

    fits.clear()
    (folder / "3.1" / "eval" / "results.json").unlink()
    assert train.train(rehearsal(tmp_path / "data"), str(folder)) == results
    assert [(name, protocol) for name, protocol, _ in fits] == [("student", "3.1")]

    note = folder / "3.2" / "config.json"
    own = note.read_text()
    note.write_text(json.dumps(json.loads(own) | {"data_fingerprint": "of other data"}))
    with pytest.raises(ValueError, match=r"data_fingerprint of other dat in .*3.2/config.json"):
        train.train(rehearsal(tmp_path / "data"), str(folder))
    note.write_text(own)

    assert evaluate.evaluate_run(str(folder)) == results
    (folder / "3.2").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"run/3\.2 does not exist; train all folds first"):
        evaluate.evaluate_run(str(folder))
