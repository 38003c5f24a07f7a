"""The rehearsal covers every config, and makes nothing smaller but the data, the batch and the number of steps."""

import importlib
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from configs import kdfas_light
from input_pipeline import datasets
from kdfas_jax.commands import rehearse
from kdfas_jax.runs import identity

ROOT = Path(__file__).resolve().parents[1]


def test_no_config_is_left_out():
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "configs"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    left_out = {"configs/__init__.py", "configs/common.py", "configs/ablation.py", "configs/teachers/__init__.py"}
    assert rehearse.names() == sorted(path[len("configs/") : -len(".py")] for path in {*tracked} - left_out)


@pytest.mark.parametrize("name", rehearse.names())
def test_models_crops_terms_and_attack_stay_as_they_are(name, tmp_path):
    config = importlib.import_module(f"configs.{name.replace('/', '.')}").get_config()
    smaller = rehearse.reduced(config, str(tmp_path))
    pairs = [(config, smaller), *((t.config, smaller.teachers[n].config) for n, t in config.teachers.items())]
    for there, here in pairs:
        changed = {key for key, *_ in identity.differences(identity.plain(there), identity.plain(here))}
        may = ("data.dataset", "data.options", "data.raw_dir", "data.data_dir", "data.protocol", "data.subjects")
        may += ("data.unlabelled", "train.batch_size", "eval.batch_size", "optim.warmup_epochs", "mesh", "teachers")
        assert {key for key in changed if not key.removeprefix("config.").startswith(may)} == set()


@pytest.mark.parametrize("name", rehearse.names())
def test_the_options_are_of_the_readers_that_are_left(name, tmp_path):
    config = rehearse.reduced(importlib.import_module(f"configs.{name.replace('/', '.')}").get_config(), str(tmp_path))
    for data in (config.data, *(teacher.config.data for teacher in config.teachers.values())):
        known = [key for reader in data.dataset.split("+") for key in datasets.options(datasets.get(reader))]
        assert set(data.options) <= set(known)


def test_unlabelled_people_are_few_and_none_of_the_others(tmp_path):
    data = rehearse.reduced(kdfas_light.get_config(), str(tmp_path)).data
    assert len(data.unlabelled.options.users) == 1
    assert not set(data.unlabelled.options.users) & set(data.options.users)
    assert data.unlabelled.share == kdfas_light.get_config().data.unlabelled.share


@pytest.mark.parametrize(("name", "scores"), [("kdfas_demo", True), ("teachers/recognition_demo", False)])
def test_what_detects_attacks_is_predicted_with_and_exported(name, scores, tmp_path, monkeypatch):
    called = []
    scored = SimpleNamespace(scored=1)
    monkeypatch.setattr(rehearse, "fit_to_data", lambda config: None)
    monkeypatch.setattr(rehearse, "sample_picture", lambda data: np.zeros((8, 8, 3), np.uint8))
    monkeypatch.setattr(rehearse.train, "train", lambda config, run: Path(run).mkdir())
    monkeypatch.setattr(rehearse.predict, "predict", lambda *_, **__: called.append("predict") or scored)
    monkeypatch.setattr(rehearse.export, "export", lambda run, formats, output: called.extend(formats))
    rehearse.rehearse(name, str(tmp_path))
    assert called == (["predict", *rehearse.formats()] if scores else [])
    assert "stablehlo" in rehearse.formats()
    assert "onnx_int8" not in rehearse.formats()


def test_the_script_prints_a_line_a_config_and_fails_with_the_reason(tmp_path):
    """`launch/rehearse.sh` with a stand-in for the environment: one name that works and one that does not."""
    (tmp_path / "launch").mkdir()
    shutil.copy(ROOT / "launch" / "rehearse.sh", tmp_path / "launch")
    (tmp_path / "launch" / "setup.sh").write_text('export PATH="$(dirname "${BASH_SOURCE[0]}"):$PATH"\n')
    stand_in = tmp_path / "launch" / "python"
    stand_in.write_text('#!/bin/sh\n[ "$3" = good ] || { echo "error: why"; exit 1; }\n')
    stand_in.chmod(0o755)
    done = subprocess.run([tmp_path / "launch" / "rehearse.sh", "good", "bad/one"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0].startswith("ok good ")
    assert done.stdout.splitlines()[1] == "FAIL bad/one error: why"
