"""Runs of older versions: what they lack, how they are read, and that they are resumed and found again as teachers.

tests/golden/old_run.tar.gz is such a run (its make.py says how it was made): of schema 0, before optim.ema,
allow_overlap, digests of checkpoints and provenance.json existed.
"""

import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs import common
from kdfas_jax.runs import identity, schema, workdir
from kdfas_jax.training import teachers

ARCHIVE = Path(__file__).parent / "golden" / "old_run.tar.gz"
TEACHER = "runs/teachers/old_teacher-6b7aa810"


def alone(name):
    """The config that make.py in the archive has, made by today's version."""
    config = common.base(name)
    config.model = {"name": "vit", "patch": 8, "width": 8, "depth": 1, "heads": 2, "classes": 2, "dtype": "float32"}
    config.data.dataset, config.data.options = "folder", {"subject_level": 1}
    config.data.record_size, config.data.image_size, config.data.protocol = 16, 16, "official"
    config.train = {"batch_size": 4, "epochs": 4.0, "eval_epochs": 2.0}
    config.optim.update({"lr": 1e-2, "warmup_epochs": 0.0})
    config.eval.batch_size = 4
    return config


@pytest.fixture
def old(tmp_path, monkeypatch):
    """The old student's config as today's version makes it; its run and records lie in the working directory."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return common.distilled(alone("old"), alone("old_teacher"))


def test_an_old_run_has_the_identity_that_its_config_has_today(old):
    """A new key of all configs fails here, until it has its row in `schema.CHANGES`."""
    raw = json.loads(Path("runs/old/config.json").read_text())
    assert "schema" not in raw
    assert "ema" not in raw["config"]["optim"]
    note = workdir.read("runs/old")
    assert identity.differences(identity.identity(note["config"]), identity.identity(identity.plain(old))) == []
    assert note["config"]["optim"]["ema"] == 0.0
    assert note["config"]["teachers"]["spoof"]["allow_overlap"] is False
    assert note["config"]["teachers"]["spoof"]["config"]["optim"]["ema"] == 0.0


def test_an_old_run_may_be_resumed_but_not_as_another_one(old):
    note = workdir.read("runs/old")
    old.optim.ema = 0.99
    with pytest.raises(ValueError, match=r"another run.*\n  config\.optim\.ema: 0\.0 there, 0\.99 now$"):
        workdir.claim(old, "runs/old", note["data_fingerprint"])
    old.optim.ema = 0.0
    old.data.raw_dir = "/elsewhere"
    workdir.claim(old, "runs/old", note["data_fingerprint"])
    claimed = json.loads(Path("runs/old/config.json").read_text())
    assert claimed == {**note, "schema": schema.SCHEMA, "config": identity.plain(old)}


def test_an_old_teacher_is_found_again(old):
    """Its folder's name is the digest of a config without the new keys; a finished one is preferred."""
    assert teachers.home(old.teachers.spoof, "runs/old") == os.path.abspath(TEACHER)
    other = Path("runs/teachers/old_teacher-00000000")
    other.mkdir()
    (other / "config.json").write_text(Path(TEACHER, "config.json").read_text())
    results = json.loads(Path(TEACHER, "eval/results.json").read_text())
    Path(TEACHER, "eval/results.json").write_text(json.dumps({**results, "finished": True}))
    assert teachers.home(old.teachers.spoof, "runs/old") == os.path.abspath(TEACHER)
    old.teachers.spoof.config.optim.lr = 1.0
    assert teachers.home(old.teachers.spoof, "runs/old").endswith(f"-{identity.digest(old.teachers.spoof.config)}")


def test_a_newer_schema_is_refused(tmp_path):
    workdir.claim(alone("new"), str(tmp_path), "none")
    note = json.loads((tmp_path / "config.json").read_text())
    assert note["schema"] == schema.SCHEMA
    (tmp_path / "config.json").write_text(json.dumps({**note, "schema": schema.SCHEMA + 1}))
    with pytest.raises(ValueError, match=rf"config\.json has schema {schema.SCHEMA + 1}; .* up to {schema.SCHEMA}"):
        workdir.read(str(tmp_path))


def test_keys_that_were_added_and_removed(monkeypatch):
    """One row adds a key below every name, one drops a key at its only value, one whatever it was."""
    changes = (
        schema.Change(1, "terms.*.where", ""),
        schema.Change(2, "optim.old", 3, removed=True),
        schema.Change(2, "optim.way", schema.ANY, removed=True),
        schema.Change(2, "absent.key", 1),
    )
    monkeypatch.setattr(schema, "CHANGES", changes)
    config = {"terms": {"a": {}, "b": {"where": "label"}}, "optim": {"old": 3, "way": 5}}
    config["teachers"] = {"t": {"config": {"terms": {"c": {}}, "optim": {"old": 4}}}}
    upgraded = schema.upgrade(config)
    assert upgraded["terms"] == {"a": {"where": ""}, "b": {"where": "label"}}
    assert upgraded["optim"] == {}
    assert "absent" not in upgraded
    taught = upgraded["teachers"]["t"]["config"]
    assert taught == {"terms": {"c": {"where": ""}}, "optim": {"old": 4}}  # which no run of today can continue
    assert config["optim"] == {"old": 3, "way": 5}


def test_a_config_of_today_is_upgraded_to_itself():
    config = identity.plain(common.base("today"))
    removed = {change.key for change in schema.CHANGES if change.removed}
    changed = {key for key, *_ in identity.differences(config, schema.upgrade(config), key="")}
    assert changed <= {f".{key}" for key in removed}


@pytest.mark.slow
def test_old_runs_are_evaluated_predict_export_teach_and_are_resumed(old, without_pages):
    from kdfas_jax.commands import evaluate, train
    from kdfas_jax.commands.export import export
    from kdfas_jax.commands.predict import predict

    results = evaluate.evaluate_run(TEACHER)
    assert (results["finished"], results["config"]["optim"]["ema"]) == (True, 0.0)
    Image.fromarray(np.full((16, 16, 3), 150, np.uint8)).save("picture.png")
    assert predict.predict(TEACHER, ["picture.png"], "scores.csv", cropped=True).scored == 1
    export.export(TEACHER, ["stablehlo"], "export")
    assert Path("export", "bundle.json").exists()

    weights = Path(TEACHER, "checkpoints", "8", "params", "d")
    before = {path.name: path.read_bytes() for path in weights.iterdir()}
    results = train.train(old, "runs/old")
    assert (results["finished"], results["steps"]) == (True, {"trained": 8, "total": 8})
    assert os.listdir("runs/teachers") == [Path(TEACHER).name]
    assert results["teachers"]["spoof"]["run"] == os.path.abspath(TEACHER)
    assert {path.name: path.read_bytes() for path in weights.iterdir()} == before
    assert [path.name for path in Path(TEACHER, "checkpoints").iterdir() if path.name.isdigit()] == ["8"]
    assert workdir.read("runs/old")["schema"] == schema.SCHEMA
