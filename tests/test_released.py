"""The model that the package ships: how it is made from a run, where it serves, and its card. 15 s.

The slow one, `launch/release.sh`, takes two minutes, and one and a half where its pictures are not rendered yet.
"""

import functools
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import jax
import ml_collections
import numpy as np
import pytest

from configs import released as recipe
from input_pipeline.prepare import faces
from input_pipeline.stream import pipeline
from kdfas_jax import Scorer, models, targets
from kdfas_jax.commands import evaluate, provenance
from kdfas_jax.commands.cli import calls, flags, verbs
from kdfas_jax.commands.export import card, release
from kdfas_jax.commands.predict import predict
from kdfas_jax.parallel import sharding
from kdfas_jax.runs import files, released, workdir
from kdfas_jax.training import checkpoint, experiment, initial, step, teachers, validate
from tests import tiny as tiny_module
from tests.conftest import ROOT, leaving_pages_out
from tests.test_predict import detector  # noqa: F401

pytestmark = pytest.mark.filterwarnings("ignore:the load_module")  # ml_collections loads configs by it
GOLDEN = ROOT / "tests" / "golden" / "released.npz"


@pytest.fixture(scope="module")
def run(tiny_config, tmp_path_factory):
    """The folder of a finished run of one step, with random parameters."""
    folder = str(tmp_path_factory.mktemp("runs") / "tiny")
    config = tiny_module.alone(
        tiny_module.common.parse(tiny_config.partition(":")[2], raw_dir="", data_dir=""), "tiny", 16
    )
    config.train.epochs, config.optim.warmup_epochs = 1 / 3, 0.0
    made = experiment.of_config(config, 48)
    state = jax.jit(lambda: step.init(made))()
    rng = np.random.default_rng(0)
    state = state.replace(params=jax.tree.map(lambda leaf: leaf + rng.normal(0, 0.1, leaf.shape), state.params))
    data = pipeline.open_data(config.data, targets.LABEL)
    workdir.claim(config, folder, data.fingerprint)
    provenance.record(folder, [provenance.examples(data)], {})
    with checkpoint.Checkpoints(folder) as checkpoints:
        checkpoints.save(state.replace(step=jax.numpy.asarray(1)), 1.0, {})
    with leaving_pages_out():
        evaluate.evaluate(config, folder)
    return folder


@pytest.fixture(scope="module")
def made(run, tmp_path_factory):
    """A released model, without ONNX."""
    folder = str(tmp_path_factory.mktemp("package") / "weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faces, "detect", lambda images: [None] * len(images))
        release.write(run, folder, ["stablehlo"])
    return folder


@pytest.fixture
def shipped(made, monkeypatch):
    """The same, where the package has its own."""
    monkeypatch.setattr(released, "FOLDER", made)
    return made


def test_its_folder_has_digest_threshold_and_card_and_no_path_of_the_machine(run, made):
    names = {"bundle.json", "card.md", "config.json", "eval", "model.safetensors", "model.stablehlo", "provenance.json"}
    assert set(os.listdir(made)) == names
    bundle = json.loads(files.read_text(f"{made}/bundle.json"))
    assert bundle["records"] == workdir.read(run)["data_fingerprint"]
    assert bundle["threshold"] == workdir.evaluated(run)["threshold"]
    assert bundle["files"]["model.safetensors"]["bytes"] == os.path.getsize(f"{made}/model.safetensors")
    assert teachers.finished(made)
    for name in ("bundle.json", "config.json", "provenance.json", "eval/results.json"):
        assert os.path.dirname(run) not in files.read_text(f"{made}/{name}")
    theirs, ours = (provenance.seen_by(folder) for folder in (run, made))
    jax.tree.map(np.testing.assert_array_equal, theirs, ours)


def test_it_scores_as_the_run_and_says_what_it_is(run, shipped, detector, faces_dir, tmp_path):  # noqa: F811
    both = [predict.predict(of, [str(faces_dir / "test")], str(tmp_path / "scores.csv")) for of in (run, shipped)]
    np.testing.assert_array_equal(both[0].table["score"], both[1].table["score"])
    (line,) = [line for line in both[1].summary().splitlines() if line.startswith("caution")]
    assert "the released model (vit, 0.01 M parameters) was trained on 8 people of folder" in line
    assert "is not certified" in line
    assert both[0].caution == ""


def test_where_neither_run_nor_config_is_named_it_is_taken(shipped, parsed, monkeypatch):
    parsed("--mode=predict")
    call = verbs.Call(None, "runs/kdfas_demo", {})
    assert calls.or_released(call).workdir == shipped
    for arguments in (["--workdir=runs/x"], ["--config=configs/kdfas_demo.py"]):
        parsed("--mode=predict", *arguments)
        assert calls.or_released(call) == call


def test_a_scorer_without_a_bundle_opens_it(shipped, tmp_path, monkeypatch):
    bundle = json.loads(files.read_text(f"{shipped}/bundle.json"))
    entry = bundle["files"].pop("model.stablehlo")
    bundle["files"] = {"model.onnx": entry} | bundle["files"]
    (tmp_path / "bundle.json").write_text(json.dumps(bundle))
    (tmp_path / "model.onnx").write_bytes((ROOT / shipped / "model.stablehlo").read_bytes())
    monkeypatch.setattr(released, "FOLDER", str(tmp_path))
    session = SimpleNamespace(run=lambda names, images: [np.array([0.9])])
    runtime = SimpleNamespace(InferenceSession=lambda content, providers: session)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    with pytest.warns(UserWarning, match="the released model"):
        opened = Scorer(cropped=True)
    assert opened(np.zeros((24, 24, 3), np.uint8))[0].score == 0.9
    assert opened.card["threshold"] == bundle["threshold"]


def test_a_run_may_start_from_it(run, shipped, tiny):
    tiny.init = "released"
    model, mesh = models.create(tiny.model), sharding.make_mesh(tiny.mesh)
    fresh = jax.jit(lambda: step.init_variables(model, 16, 3))()
    found, described = initial.load(tiny, model, fresh, mesh)
    jax.tree.map(np.testing.assert_array_equal, found, jax.device_get(teachers.load(run, mesh).variables))
    assert described.startswith("step 1, 20 of 20 leaves taken")
    assert provenance.start(tiny, "nowhere")["run"] == "released"


def test_an_installation_without_it_names_the_script(tmp_path, parsed, tiny, monkeypatch):
    monkeypatch.setattr(released, "FOLDER", str(tmp_path))
    parsed("--mode=predict", f"--input={ROOT}/docs/faces.jpg", "--on=folder:RAW")
    call = verbs.Call(None, "runs/kdfas_demo", {})
    tiny.init = "released"
    modes = (verbs.predict, verbs.serve, verbs.evaluate, verbs.selftest, verbs.counterfactual)
    for ask in (Scorer, lambda: provenance.start(tiny, "x"), *(functools.partial(mode, call) for mode in modes)):
        with pytest.raises(FileNotFoundError, match=r"no released model: .*bundle.json does not exist; .*release\.sh"):
            ask()
    assert not flags.WORKDIR.value


def test_damaged_weights_are_refused(shipped, tmp_path):
    for name in ("bundle.json", "config.json", "eval/results.json"):
        files.write_atomically(str(tmp_path / name), files.read_text(f"{shipped}/{name}"))
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        teachers.load(str(tmp_path), sharding.make_mesh({"data": -1, "fsdp": 1}))


def test_made_again_its_records_and_figures_must_agree(run, made, tiny, tmp_path, monkeypatch):
    config = ml_collections.ConfigDict(workdir.read(run)["config"])
    assert release.check_records(config, made) == workdir.read(run)["data_fingerprint"]
    note, other = workdir.read(made), tmp_path / "weights"
    files.write_atomically(str(other / "config.json"), json.dumps(note | {"data_fingerprint": "0" * 64}))
    with pytest.raises(ValueError, match=r"the records have the digest .* had 000000000000: expected the same"):
        release.check_records(config, str(other))
    results = workdir.evaluated(made)
    results["test"]["auc"] += 0.02
    files.write_atomically(str(other / "eval" / "results.json"), json.dumps(results))
    with pytest.raises(ValueError, match=r"auc on test is .*expected at most 0\.01 apart"):
        release.write(run, str(other), ["stablehlo"])
    assert set(os.listdir(tmp_path)) == {"weights"}
    with pytest.raises(ValueError, match="expected simulated faces"):
        release.golden(run)


def test_the_card_has_a_row_for_each_figure_group_and_other_set(run, made):
    results = workdir.evaluated(made)
    bundle = json.loads(files.read_text(f"{made}/bundle.json"))
    groups = {"0": {"counts": {"videos": 30}, "bpcer": 0.1, "apcer_max": 0.2}, "1": {"counts": {"videos": 9}}}
    cameras = {f"camera{i}": {"counts": {"videos": 5}, "bpcer": i / 100} for i in range(20)}
    results["test"] |= {"bpcer": 0.05, "apcer_max": 0.1, "ci95": {"auc": [0.9, 0.95], "apcer": {"print": [0.0, 0.3]}}}
    results["test"]["breakdown"] = {"Male": groups, "sensor": cameras, "domain": {"folder": groups["0"]}}
    results["test"]["stability"] = {"views": {"box x1.25": {"flips": 0.25, "auc": 0.75}}}
    results["teachers"] = {"spoof": {"parameters": 2_800_000, "run": "zero_real-12345678", "step": 7}}
    splits = {"train": {"presentations": 48, "people": 8, "species": {"live": 24}, "medium": {"a": 1}, "sensor": {}}}
    text = card.text(results, bundle, splits, {"nuaa": {"test": {"auc": 0.81, "apcer": {"print": 0.4}}}})
    for line in (
        "| train | 48 | 8 | 0 | 1 | live 24 |",
        "| Male | 0 | 30 | 10.0 (x 2.00) | 20.0 (x 2.00) |",
        "| Male | 1 | 9 |  |  |",
        "| sensor | camera19, the highest BPCER of 20 | 5 | 19.0 (x 3.80) |  |",
        "| box x1.25 | 25.0 | 0.750 |",
        "Teacher spoof: 2.80 M parameters, zero_real-12345678, step 7.",
        "|  | test | nuaa |",
    ):
        assert line in text.splitlines()
    assert f"| AUC | {results['test']['auc']:.3f} [0.900, 0.950] | 0.810 |" in text
    assert f"| APCER, print | {100 * results['test']['apcer']['print']:.1f} [0.0, 30.0] | 40.0 |" in text
    assert "| domain |" not in text
    assert f"at most 1 % | {results['threshold']['operating_points']['apcer1']:.6g} |" in text


def test_the_recipe_is_light_and_taught_by_three_zero_real():
    config = recipe.get_config("people=80,steps=2").copy_and_resolve_references()
    validate.check(config)
    assert 4 * models.parameters(config.model, 128).deployed < 2e6  # bytes as ONNX
    assert config.terms.kl.teacher == "spoof+spoof2+spoof3"
    taught = [of.config for of in config.teachers.values()]
    assert [(of.name, of.model.network.width, of.data.views) for of in taught] == [("zero_real", 16, 0)] * 3
    assert len({of.seed for of in taught}) == 3
    assert config.data.truth
    assert config.terms.truth.weight == 1.0


@pytest.mark.skipif(not os.path.exists(os.path.join(released.FOLDER, released.BUNDLE)), reason="not released yet")
def test_the_shipped_model_scores_golden_renders():
    stored = np.load(GOLDEN)
    score = predict.model(released.folder(), len(stored["images"]), cropped=True).score
    np.testing.assert_allclose([read[0] for read in score(list(stored["images"]))], stored["scores"], atol=1e-5)
    assert os.path.getsize(os.path.join(released.FOLDER, "model.onnx")) < 2e6
    assert models.parameters(workdir.read(released.FOLDER)["config"]["model"], 128).deployed < 1e6
    assert files.read_text(f"{released.FOLDER}/card.md") == files.read_text(str(ROOT / "docs" / "released.md"))


@pytest.mark.slow
def test_the_script_regrows_it(tmp_path, rendered_dir):
    """`launch/release.sh` with 80 people and two steps a model; `records` and `write` again find digest and figures."""
    arguments, weights = "people=80,size=48,steps=2", tmp_path / "weights"
    rendered_dir.mkdir(exist_ok=True)
    (tmp_path / "data").symlink_to(rendered_dir)
    environment = {**os.environ, "PYTHON": sys.executable, "FORMATS": "stablehlo", "JAX_PLATFORMS": "cpu"}
    command = [str(ROOT / "launch" / "release.sh"), arguments, str(tmp_path), "--config.eval.stability=0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    config = recipe.get_config(arguments)
    config.data.data_dir = str(tmp_path / "data")
    digest = release.check_records(config, str(weights))
    assert f"digest of the records: {digest}" in done.stdout
    assert json.loads((weights / "bundle.json").read_text())["records"] == digest
    card_text = (tmp_path / "released.md").read_text()
    assert card_text == (weights / "card.md").read_text()
    assert "simulated people and no real face" in card_text
    assert np.load(tmp_path / "golden.npz")["images"].shape == (8, 128, 128, 3)
    release.write(str(tmp_path / "released"), str(weights), ["stablehlo"])  # in place of the same, as figures agree
