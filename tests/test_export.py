"""Export: every format against the Flax model, the bundle, and what is refused."""

import hashlib
import json
import os
import subprocess
import sys

import jax
import ml_collections
import numpy as np
import pytest
from PIL import Image
from scipy.special import erf

from input_pipeline.prepare import faces
from input_pipeline.stream import pipeline
from kdfas_jax import models, targets
from kdfas_jax.commands import evaluate
from kdfas_jax.commands.export import export
from kdfas_jax.commands.export import formats as export_formats
from kdfas_jax.runs import workdir
from kdfas_jax.targets import label
from kdfas_jax.training import checkpoint, step
from tests import tiny as tiny_module
from tests.conftest import ROOT, leaving_pages_out

VIT = {"name": "vit", "patch": 8, "width": 16, "depth": 2, "heads": 2, "stem": (8,)}
RESNET = {"name": "resnet", "width": 8, "blocks": (1, 1, 1, 1)}
MOBILE = {"name": "mobilefacenet", "variant": "original", "image_size": 32, "live_head": True}
CROPS = {"name": "crops", "network": RESNET, "size": 24, "zooms": (1.0, 0.75), "mirrored": False}
SIZES = {"vit": 16, "resnet": 32, "mobilefacenet": 32, "crops": 32}


def fresh(config, size):
    """Drawn variables of the model that `config` names, NumPy arrays: scales and variances about 1."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        around = 1 if path[-1].key in ("scale", "var") else 0
        return np.float32(around + rng.uniform(-0.15, 0.15, leaf.shape))

    shapes = jax.eval_shape(lambda: step.init_variables(models.create(config), size, 0))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def evaluated(config, folder, variables):
    """`folder`, made an evaluated run that has these variables, not trained."""
    state = step.TrainState(np.int32(1), **variables, term_params={}, opt_state={})
    workdir.claim(config, folder, pipeline.open_data(config.data, targets.get(config.data.target)).fingerprint)
    with checkpoint.Checkpoints(folder) as checkpoints:
        checkpoints.save(state, 1.0, {})
    with leaving_pages_out():
        evaluate.evaluate(config, folder)
    return folder


def tiny_alone(tiny_config):
    """The tiny config without a teacher."""
    args = tiny_module.common.parse(tiny_config.partition(":")[2], raw_dir="", data_dir="")
    return tiny_module.alone(args, "tiny", 16)


@pytest.fixture(autouse=True)
def nothing_found(monkeypatch):
    """The tiny crops show no faces, for which the detector would search at two sizes."""
    monkeypatch.setattr(faces, "detect", lambda images: [None] * len(images))


@pytest.fixture(scope="session")
def run(tiny_config, tmp_path_factory):
    """The folder of an evaluated run in bf16."""
    config = tiny_alone(tiny_config)
    config.model.dtype = "bfloat16"
    return evaluated(config, str(tmp_path_factory.mktemp("runs") / "tiny"), fresh(config.model, 16))


def written(config, name, path):
    """(run of the file at `path` that a fresh model was written to as format `name`, reference logits, images)."""
    size = SIZES[config["name"]]
    variables = fresh(config, size)
    images = np.random.default_rng(1).random((5, size, size, 3), np.float32)
    reference = jax.device_get(jax.jit(models.create(config).apply)(variables, images)[0])
    exported = models.create({**config, **export.EXPORTED.get(config["name"], {})})
    network = export_formats.trace(exported, variables, size)
    export_formats.FORMATS[name].write(network, path, images)
    return export_formats.FORMATS[name].load(path), reference, images


def agree(found, reference, atol=1e-5):
    score, logits = found
    np.testing.assert_allclose(logits, reference, atol=atol)
    np.testing.assert_allclose(score, jax.nn.softmax(reference)[:, 1], atol=atol)


@pytest.mark.parametrize("config", [VIT, RESNET], ids=lambda config: config["name"])
def test_stablehlo_takes_any_batch(config, tmp_path):
    load, reference, images = written(config, "stablehlo", str(tmp_path / "model"))
    assert np.ptp(reference) > 1e-3
    for batch in (1, 5):
        agree(load(images[:batch]), reference[:batch])
    assert jax.export.deserialize(bytearray((tmp_path / "model").read_bytes())).platforms == export_formats.PLATFORMS


@pytest.mark.parametrize("remat", ["none", "full"])
def test_no_loop_is_left_and_each_layer_has_its_own_weights(remat):
    config = {**VIT, "unroll": False, "remat": remat}
    network = export_formats.trace(models.create(config), fresh(config, 16), 16)
    names = [equation.primitive.name for equation in network.jaxpr.eqns]
    assert {"scan", "while", "jit", "remat2", "dynamic_slice", "gather"}.isdisjoint(names)
    assert [const.shape for const in network.jaxpr.consts].count((16, 3, 2, 8)) == 2  # qkv of two blocks


def test_what_stands_in_for_primitives_that_converters_lack():
    x = np.linspace(-6, 6, 10_001, dtype=np.float32)
    np.testing.assert_allclose(export_formats.rational_erf(x), erf(x), atol=5e-7)
    network = export_formats.trace(models.create(RESNET), fresh(RESNET, 32), 32)
    images = np.random.default_rng(1).random((1, 32, 32, 3), np.float32)
    replaced = jax.jit(lambda images: network.one(images, {"reduce_window_max": export_formats.max_pool}))
    np.testing.assert_allclose(replaced(images)[1], jax.jit(network.one)(images)[1], rtol=1e-5)
    assert "reduce_window" not in replaced.lower(images).as_text()


@pytest.mark.parametrize(
    ("equation", "multiplies"),
    [("abc,cd->abd", True), ("ab,bc->ac", True), ("abc,dc->abd", False), ("abc,acd->abd", False), ("ab,bc->ca", False)],
)
def test_einsums_that_are_products_of_matrices(equation, multiplies):
    assert export_formats.is_matrix_product(equation) == multiplies


def test_a_recogniser_is_refused_with_the_targets_that_are_exported(tiny, tmp_path):
    tiny.data.target = "identity"
    workdir.claim(tiny, str(tmp_path / "run"), "none")
    with pytest.raises(ValueError, match=r"target='identity'; expected a run of 'label' or 'label\+identity'"):
        export.export(str(tmp_path / "run"), ["stablehlo"], str(tmp_path / "bundle"))


def test_the_bundle_says_all_that_its_user_needs(run, tmp_path):
    """And the run, which computed in bf16, is exported in fp32."""
    output = tmp_path / "bundle"
    bundle = export.export(run, ["stablehlo"], str(output))
    assert json.loads((output / "bundle.json").read_text()) == bundle
    with open(os.path.join(run, "eval", "results.json"), encoding="utf-8") as file:
        assert bundle["threshold"] == json.load(file)["threshold"]
    crop = {"scale": 1.3, "align": False, "record_size": 24, "image_size": 16}
    assert {key: bundle["crop"][key] for key in crop} == crop
    assert bundle["crop"]["version"] == 1
    assert bundle["trained_on"] == {"datasets": ["folder"], "simulated": False, "caution": ""}
    assert bundle["input"]["shape"] == ["batch", 16, 16, 3]
    assert bundle["labels"] == {"attack": 0, "live": 1}
    entry, content = bundle["files"]["model.stablehlo"], (output / "model.stablehlo").read_bytes()
    assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert entry["parity"]["crops"] == 48
    assert entry["parity"]["logits"] <= entry["parity"]["tolerance"] == 1e-4
    assert entry["parity"]["decisions"] == 1
    assert entry["parity"]["pictures"] == 20
    assert entry["parity"]["picture"] <= 1e-4
    assert entry["shape"] == ["any", 16, 16, 3]
    assert list(bundle["outputs"]) == ["score", "logits"]
    assert "embedding" not in entry["parity"]
    assert entry["latency_ms"] > 0
    assert b"bf16" not in content
    assert f"| stablehlo | model.stablehlo | {len(content) / 1e6:.2f} |" in export.table(bundle)
    assert os.listdir(tmp_path) == ["bundle"]


def test_a_parity_beyond_tolerance_leaves_what_was_there(run, tmp_path, monkeypatch):
    output = tmp_path / "bundle"
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(
        ValueError, match=r"format=stablehlo: its logits and the model's are .* apart on 48 crops; expected at most -1"
    ):
        export.export(run, ["stablehlo"], str(output))
    assert os.listdir(tmp_path) == []
    monkeypatch.undo()
    export.export(run, ["stablehlo"], str(output))
    before = (output / "bundle.json").read_bytes()
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(ValueError, match="apart on 48 crops"):
        export.export(run, ["stablehlo"], str(output))
    assert (output / "bundle.json").read_bytes() == before
    assert os.listdir(tmp_path) == ["bundle"]


@pytest.mark.parametrize("wrong", [{"logits": float("nan")}, {"logits": 2e-4}, {"score": 2e-4}, {"embedding": 2e-4}])
def test_parity_is_within_its_tolerance_or_an_error(wrong):
    parity = {"crops": 9, "logits": 9e-5, "score": 9e-5, "embedding": 9e-5, "cosine": 0.9, "tolerance": 1e-4}
    export.check_parity("onnx", parity)
    with pytest.raises(
        ValueError, match=rf"its {next(iter(wrong))} and the model's are .* apart on 9 crops; expected at most 0\.0001"
    ):
        export.check_parity("onnx", {**parity, **wrong})
    int8 = {**parity, **wrong, "auc": 0.996, "auc_fp32": 0.999, "tolerance": 0.005}
    export.check_parity("onnx_int8", int8)
    with pytest.raises(
        ValueError, match=r"its AUC and the model's are 0\.006 apart on 9 crops; expected at most 0\.005"
    ):
        export.check_parity("onnx_int8", {**int8, "auc": 0.993})


def test_a_folder_of_other_things_is_refused_and_a_bundle_is_replaced(run, tmp_path):
    output = tmp_path / "mine"
    output.mkdir()
    (output / "thesis.txt").write_text("x")
    with pytest.raises(ValueError, match=r"holds thesis\.txt, which is no part of a bundle; give another --output"):
        export.export(run, ["stablehlo"], str(output))
    assert (output / "thesis.txt").read_text() == "x"
    (output / "thesis.txt").unlink()
    (output / "bundle.json").write_text(json.dumps({"files": {"model.onnx": {}}}))
    (output / "model.onnx").touch()
    export.export(run, ["stablehlo"], str(output))
    assert sorted(os.listdir(output)) == ["bundle.json", "model.stablehlo"]
    with pytest.raises(ValueError, match="is no part of a bundle"):
        export.export(run, ["stablehlo"], str(output / "bundle.json"))


def test_unknown_formats_and_missing_packages_are_refused_before_any_work(monkeypatch):
    with pytest.raises(ValueError, match=r"--format=pdf: expected some of stablehlo, tflite, onnx, onnx_int8"):
        export_formats.check(["pdf"])
    with pytest.raises(ValueError, match="expected some of"):
        export_formats.check([])
    monkeypatch.setattr(export_formats.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ModuleNotFoundError, match=r"needs jax2onnx, onnxruntime: pip install -r requirements-onnx\.txt"
    ):
        export_formats.check(["stablehlo", "onnx"])


def test_a_run_that_was_not_evaluated_names_the_command(tiny, tmp_path):
    folder = str(tmp_path / "run")
    workdir.claim(tiny, folder, "none")
    with pytest.raises(FileNotFoundError, match=rf"results\.json does not exist.*--mode=eval --workdir={folder}"):
        export.export(folder, ["stablehlo"], str(tmp_path / "bundle"))
    assert not (tmp_path / "bundle").exists()


def test_parity_is_of_logits_scores_and_decisions():
    """A file whose third image scores 0.4 in place of 0.6."""
    logits = np.array([[0, 3], [0, -3], [0, np.log(1.5)]], np.float32)
    crops = export.Crops(np.arange(3), np.array([1, 0, 1]), logits)
    scores = np.array([0.952574, 0.047426, 0.4])

    def run(image):
        return scores[image], logits[image] + 0.25

    parity = export.measured_parity(run, crops, 0.5, int8=False)
    expected = {"logits": pytest.approx(0.25), "score": pytest.approx(0.2, abs=1e-6), "decisions": pytest.approx(2 / 3)}
    assert parity == {"crops": 3, **expected, "tolerance": 1e-4}
    scores[2] = 0.04
    parity = export.measured_parity(run, crops, 0.5, int8=True)
    assert (parity["auc"], parity["auc_fp32"], parity["tolerance"]) == (0.5, 1.0, 0.005)


def test_parity_is_of_embeddings_too():
    """Those of a file that turns the second image's by 60 degrees."""
    logits, embedding = np.zeros((2, 2), np.float32), np.array([[1, 0], [0, 1]], np.float32)
    found = np.array([[1, 0], [np.sqrt(0.75), 0.5]], np.float32)
    crops = export.Crops(np.arange(2), np.array([1, 0]), logits, embedding)

    def run(image):
        return np.full(1, 0.5), logits[image], found[image]

    for int8 in (False, True):
        parity = export.measured_parity(run, crops, 0.5, int8=int8)
        assert parity["embedding"] == pytest.approx(np.sqrt(0.75))
        assert parity["cosine"] == pytest.approx(0.5)
    assert {"auc", "auc_fp32"} <= set(parity)


def test_crops_are_spread_over_the_role_and_keep_their_labels(run):
    config = ml_collections.ConfigDict(workdir.read(run)["config"])
    data = export.pipeline.open_data(config.data, targets.get(config.data.target))
    images, labels = export.crops_of(data, "dev", config.data, 12)
    assert images.shape == (12, 16, 16, 3)
    assert set(labels) == {0, 1}
    shades = images.mean((1, 2, 3))
    assert shades[labels == 1].max() < shades[labels == 0].min()  # attacks are brighter
    assert images.max() <= 1
    table = data.table.assign(label=data.table["label"].where(data.table["label"] == 0, -1))  # as people's pictures
    assert export.crops_of(data._replace(table=table), "dev", config.data, 48)[1].tolist() == [0] * 24


@pytest.mark.slow
@pytest.mark.parametrize("config", [VIT, RESNET, MOBILE, CROPS], ids=lambda config: config["name"])
@pytest.mark.parametrize(("name", "atol"), [("tflite", 1e-5), ("onnx", 1e-5), ("onnx_int8", 0.03)])
def test_files_of_other_runtimes(config, name, atol, tmp_path):
    for package in export_formats.FORMATS[name].packages:
        pytest.importorskip(package)
    load, reference, images = written(config, name, str(tmp_path / "model"))
    for image, expected in zip(images, reference, strict=True):
        agree(load(image[None]), expected[None], atol)


@pytest.mark.slow
def test_an_onnx_file_holds_no_constant_twice(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("jax2onnx")
    written(CROPS, "onnx", str(tmp_path / "model.onnx"))
    held = onnx.load(tmp_path / "model.onnx").graph.initializer
    contents = [(tensor.data_type, tuple(tensor.dims), tensor.raw_data) for tensor in held if tensor.raw_data]
    assert len(contents) == len(set(contents)) > 10


@pytest.mark.slow
def test_the_example_scores_crops_and_boxes_as_the_model_does(run, run_main, tmp_path):
    pytest.importorskip("jax2onnx")
    pytest.importorskip("onnxruntime")
    bundle = str(tmp_path / "bundle")
    done = run_main("--mode=export", f"--workdir={run}", "--format=onnx,onnx_int8", f"--output={bundle}")
    assert "| onnx | model.onnx |" in done.stdout
    assert "| onnx_int8 | model_int8.onnx |" in done.stdout
    picture = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    picture = Image.fromarray(picture).resize((160, 120), Image.Resampling.BICUBIC)
    picture.save(tmp_path / "picture.png")
    box = (20.0, 30.0, 40.0, 50.0)
    config = ml_collections.ConfigDict(workdir.read(run)["config"])
    config.model.dtype = "float32"
    variables = export.variables_of(run, config)
    found = []
    for argument, crop in (
        ((), faces.resize(np.asarray(picture), 24)),
        ((",".join(map(str, box)),), faces.crop(np.asarray(picture), box, 1.3, 24)),
    ):
        command = [
            sys.executable,
            str(ROOT / "docs" / "score_onnx.py"),
            bundle,
            str(tmp_path / "picture.png"),
            *argument,
        ]
        score, decision = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        pixels = faces.decode(faces.encode(crop), 16)[None].astype(np.float32) / 255
        expected = float(label.live_probability(*models.create(config.model).apply(variables, pixels))[0])
        assert float(score) == pytest.approx(expected, abs=1e-4)
        found.append(expected)
        with open(os.path.join(bundle, "bundle.json"), encoding="utf-8") as file:
            threshold = json.load(file)["threshold"]["value"]
        assert decision == ("live" if float(score) >= threshold else "attack")
    assert abs(found[0] - found[1]) > 1e-2
