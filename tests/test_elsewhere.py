"""--mode=eval --on: a run on other labelled data, with the run's threshold; which data are tested; refusals. 20 s."""

import json
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from input_pipeline.prepare import faces, parts
from input_pipeline.stream import pipeline
from kdfas_jax import models, targets
from kdfas_jax.commands import elsewhere, evaluate, provenance
from kdfas_jax.commands.selftest import plan, score
from kdfas_jax.report import summary
from kdfas_jax.runs import released, workdir
from kdfas_jax.training import step
from kdfas_jax.training.checkpoint import Checkpoints
from tests import tiny as module
from tests.conftest import leaving_pages_out

FIGURES = ("test", "literature", "threshold", "dev")


@pytest.fixture(scope="module")
def run(tiny_config, tmp_path_factory):
    """(folder, config, results) of an evaluated run with random parameters, whose training data are noted."""
    args = module.common.parse(tiny_config.partition(":")[2], raw_dir="", data_dir="")
    config = module.alone(args, "tiny", 16)
    config.eval.stability = 16
    folder = str(tmp_path_factory.mktemp("elsewhere") / "run")
    model, rng = models.create(config.model), np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: step.init_variables(model, config.data.image_size, 0))
    variables = jax.tree.map(lambda leaf: jnp.asarray(0.1 * rng.standard_normal(leaf.shape, np.float32)), shapes)
    data = pipeline.open_data(config.data, targets.LABEL)
    workdir.claim(config, folder, data.fingerprint)
    provenance.record(folder, [provenance.examples(data)], {})
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(step.TrainState(jnp.int32(3), **variables, term_params={}, opt_state={}), None, {"step": 3})
    with leaving_pages_out():
        return folder, config, evaluate.evaluate_run(folder)


@pytest.fixture
def detector(monkeypatch):
    face = faces.Face((0.0, 0.0, 24.0, 24.0), parts.UNKNOWN_LANDMARKS, 1.0)
    monkeypatch.setattr(faces, "detect", lambda images: [face for _ in images])


def test_the_same_test_split_has_the_same_figures(run):
    folder, config, own = run
    results, output = elsewhere.evaluate_on(folder, f"folder:{config.data.raw_dir}")
    for part in FIGURES:
        assert results[part] == own[part]
    assert own["test"]["stability"]["counts"] == {"images": 16, "live": 8}
    on = results["on"]
    assert (on["split"], on["seen"], results["protocol"]) == ("test", "none", "test of folder")
    assert on["eer"]["hter"] == own["literature"]["hter_test_eer"]
    results_json, scores, page = (Path(output, name) for name in ("results.json", "scores.csv", "index.html"))
    assert json.loads(results_json.read_text())["on"] == on
    assert scores.read_text().count("\n") == 1 + own["test"]["counts"]["videos"]
    assert "test of folder" in page.read_text()
    assert "threshold of the set's own EER" in elsewhere.table(results)
    assert workdir.evaluated(folder) == json.loads(json.dumps(own))  # the run's own results stay


def test_what_is_written_about_the_released_model_does_not_lie_beside_it(run, tmp_path, monkeypatch):
    folder, config, own = run
    monkeypatch.setattr(released, "FOLDER", folder)
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir(folder))
    results, output = elsewhere.evaluate_on(folder, f"folder:{config.data.raw_dir}")
    assert output == f"runs/released-results/eval-on-folder-{Path(config.data.raw_dir).name}"
    assert results["test"] == own["test"]
    assert sorted(os.listdir(output)) == ["index.html", "results.json", "scores.csv"]
    assert sorted(os.listdir(folder)) == before


def test_a_set_without_splits_is_tested_whole_and_what_the_run_has_seen_is_said(run, tmp_path, detector):
    """Its videos have the names of the run's training data, and its people are those of that data."""
    folder, config, own = run
    table = tmp_path / "pictures.csv"
    lines = [
        f"{config.data.raw_dir}/{split}/{kind}/{split}{person}/0.png,{label},{split}{person}"
        for split in ("train", "test")
        for kind, label in (("live", "live"), ("spoof/print", "attack"))
        for person in range(4)
    ]
    table.write_text("path,label,subject\n" + "\n".join(lines) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "seen_by", lambda home: None)
        changes = {"data.data_dir": str(tmp_path / "data")}
        results, output = elsewhere.evaluate_on(folder, f"csv:{table}", changes=changes)
    assert output == f"{folder}/eval-on-csv-pictures"
    assert (results["on"]["split"], results["test"]["counts"]["videos"]) == ("all", 16)
    assert results["threshold"] == own["threshold"]
    assert "may have seen the data that it is tested on: nobody knows" in summary.selection_note(results)
    data = pipeline.open_data(config.data, targets.LABEL)
    trained = data.table.assign(role=data.table["role"].map({"train": "test"}).fillna(""))
    assert elsewhere.seen_before(folder, data._replace(table=trained)).startswith("it was trained on 48 videos")
    with pytest.raises(ValueError, match=r"holds the results on .*pictures\.csv, not on .*; give another folder"):
        elsewhere.evaluate_on(folder, f"csv:{tmp_path}/other/pictures.csv")


def test_what_cannot_be_measured_is_refused(run, tmp_path):
    folder, config, _ = run
    with pytest.raises(ValueError, match="unknown data set 'foldr'"):
        elsewhere.evaluate_on(folder, "foldr:x")
    with pytest.raises(FileNotFoundError, match="no such directory: /not/there"):
        elsewhere.evaluate_on(folder, "folder:/not/there")
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "eval" / "results.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no threshold of this version; make it by: .*--mode=eval"):
        elsewhere.evaluate_on(str(copy), f"folder:{config.data.raw_dir}")


def test_a_plan_is_captured_scored_and_compared_with_schemes(run, tmp_path, detector):
    """From the plan to the page: 12 of 24 planned presentations are captured."""
    folder, config, _ = run
    captures = tmp_path / "captures"
    planned = plan.table("ibeta1", 50, ["print"]).groupby("species").head(12)
    plan.write(str(captures), planned, "ibeta1")
    pictures = {
        name: Path(config.data.raw_dir, "test", of) for name, of in (("live", "live"), ("print", "spoof/print"))
    }
    for species, pictured in pictures.items():
        (captures / species).mkdir()
        files = sorted(pictured.rglob("*.png"))
        for name, file in zip(planned["file"][planned["species"] == species].head(6), files, strict=False):
            shutil.copy(file, captures / f"{name}.png")
    output = tmp_path / "selftest"
    changes = {"data.data_dir": str(tmp_path / "records")}
    content = score.selftest(folder, str(captures), str(output), changes)
    assert content["plan"] == {"planned": 24, "captured": 12, "not_captured": 12, "unplanned": 0}
    assert [of["rate"]["attempts"] for of in content["presentations"]] == [6, 6]
    assert content["threshold"]["value"] == run[2]["threshold"]["value"]
    assert content["test"]["stability"]["counts"] == {"images": 12, "live": 6}
    assert {"light", "session", "Distance"} <= set(content["test"]["breakdown"])
    assert [path.name[:9] for path in sorted(output.iterdir())] == ["captured-", "evaluatio", "index.htm", "results.j"]
    again = score.selftest(folder, str(captures), str(output), changes)  # from the same records
    assert again == content
