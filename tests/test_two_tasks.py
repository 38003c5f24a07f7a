"""What a person does with a model of two tasks: exports both heads, compares faces with a reference."""

import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pandas as pd
import pytest
from flax import linen as nn
from PIL import Image

from input_pipeline.prepare import faces
from input_pipeline.sources import media
from kdfas_jax import models
from kdfas_jax.commands import elsewhere
from kdfas_jax.commands.export import export
from kdfas_jax.commands.export import formats as export_formats
from kdfas_jax.commands.predict import annotated, predict
from kdfas_jax.commands.selftest import score
from kdfas_jax.metrics import schemes
from kdfas_jax.runs import workdir
from tests.conftest import ROOT
from tests.test_export import MOBILE, agree, evaluated, fresh, tiny_alone
from tests.test_predict import face_of

BOTH = {**MOBILE, "width": 8, "embedding": 16, "blocks": (1, 1, 1, 1), "native": True}


def fresh_both():
    """Drawn variables of `BOTH`, kernels wide enough for embeddings of images to differ in direction."""
    rng = np.random.default_rng(0)

    def widen(leaf):
        return np.float32(rng.normal(0, 1.2 / np.prod(leaf.shape[:-1]) ** 0.5, leaf.shape)) if leaf.ndim > 1 else leaf

    return jax.tree.map(widen, fresh(BOTH, 32))


@pytest.fixture(scope="module")
def run(tiny_config, tmp_path_factory):
    """The folder of an evaluated run of `BOTH`."""
    config = tiny_alone(tiny_config)
    config.data.update({"target": "label+identity", "image_size": 32})
    config.model = BOTH
    return evaluated(config, str(tmp_path_factory.mktemp("runs") / "both"), fresh_both())


@pytest.fixture
def detector(monkeypatch):
    """Finds no face in a black image, three in one 100 pixels high, and one, as large as the image, in all others."""

    def detect_all(images):
        return [[face_of(image)] * (0 if not image.any() else 3 if len(image) == 100 else 1) for image in images]

    monkeypatch.setattr(faces, "detect_all", detect_all)


def directions(crops):
    """Embeddings [n, 16] of uint8 crops [s, s, 3], each divided by its length."""
    images = np.stack([faces.decode(faces.encode(crop), 32) for crop in crops]).astype(np.float32) / 255
    embedding = np.asarray(jax.jit(models.create(BOTH).apply)(fresh_both(), images)[1]["embedding"])
    return embedding / np.linalg.norm(embedding, axis=1, keepdims=True)


def picture(path, seed=0, size=(160, 100)):
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path)
    return np.asarray(Image.open(path))


def test_any_model_with_logits_and_an_embedding_is_traced(tmp_path):
    """Whatever its class; an embedding of zeros stays one."""

    class Both(nn.Module):
        @nn.compact
        def __call__(self, images):
            logits = nn.Dense(2)(images.mean((1, 2)))
            return logits, {"logits": logits, "embedding": images[:, 0, :2].reshape(-1, 6)}

    variables = Both().init(jax.random.key(0), np.zeros((1, 4, 4, 3), np.float32))
    image = np.random.default_rng(0).random((1, 4, 4, 3), np.float32)
    alone = export_formats.trace(Both(), variables, 4)
    network = export_formats.trace(Both(), variables, 4, recognises=True)
    assert (alone.outputs, network.outputs) == (("score", "logits"), ("score", "logits", "embedding"))
    expected = image[:, 0, :2].reshape(1, 6)
    np.testing.assert_allclose(network.one(image)[2], expected / np.linalg.norm(expected), rtol=1e-5)
    assert (np.asarray(network.one(np.zeros_like(image))[2]) == 0).all()
    assert len(alone.one(image)) == 2


def test_the_bundle_of_two_tasks_says_how_to_use_both(run, tmp_path, monkeypatch):
    monkeypatch.setattr(faces, "detect", lambda images: [None] * len(images))
    bundle = export.export(run, ["stablehlo"], str(tmp_path / "bundle"))
    with open(os.path.join(run, "eval", "results.json"), encoding="utf-8") as file:
        threshold = json.load(file)["threshold"]
    assert bundle["threshold"] == threshold
    assert 0 < bundle["threshold"]["match"]["value"] < 1
    assert list(bundle["outputs"]) == list(export_formats.OUTPUTS)
    assert bundle["outputs"]["embedding"]["shape"] == ["batch", 16]
    for words in ("dot product with the reference's embedding >= threshold.match.value", "score >= threshold.value"):
        assert words in bundle["outputs"]["embedding"]["meaning"]
    parity = bundle["files"]["model.stablehlo"]["parity"]
    assert parity["crops"] == 48
    assert parity["embedding"] <= parity["tolerance"] == 1e-4
    assert parity["cosine"] == pytest.approx(1, abs=1e-5)
    assert "% |  | 1.0000 |" in export.table(bundle)
    images = np.random.default_rng(1).random((5, 32, 32, 3), np.float32)
    logits, out = jax.device_get(jax.jit(models.create(BOTH).apply)(fresh_both(), images))
    *found, directions = export_formats.FORMATS["stablehlo"].load(str(tmp_path / "bundle" / "model.stablehlo"))(images)
    agree(found, logits)
    lengths = np.linalg.norm(out["embedding"], axis=1, keepdims=True)
    assert (np.abs(lengths - 1) > 0.1).all()
    np.testing.assert_allclose(directions, out["embedding"] / lengths, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "atol"), [("tflite", 1e-5), ("onnx", 1e-5), ("onnx_int8", 0.2)])
def test_files_of_other_runtimes_give_embeddings(name, atol, tmp_path):
    for package in export_formats.FORMATS[name].packages:
        pytest.importorskip(package)
    path, images = str(tmp_path / "model"), np.random.default_rng(1).random((5, 32, 32, 3), np.float32)
    network = export_formats.trace(models.create(BOTH), fresh_both(), 32, recognises=True)
    export_formats.FORMATS[name].write(network, path, images)
    load = export_formats.FORMATS[name].load(path)
    for image in images:
        for found, expected in zip(load(image[None]), jax.jit(network.one)(image[None]), strict=True):
            np.testing.assert_allclose(found, expected, atol=atol)


@pytest.mark.slow
def test_the_example_compares_with_a_reference_as_the_model_does(run, tmp_path):
    pytest.importorskip("jax2onnx")
    pytest.importorskip("onnxruntime")
    bundle = export.export(run, ["onnx"], str(tmp_path / "bundle"))
    bundle["crop"]["record_size"], threshold = 64, bundle["threshold"]  # a crop larger than the model's, as usual
    (tmp_path / "bundle" / "bundle.json").write_text(json.dumps(bundle))
    # Shrunk by whole numbers, where Pillow's average over an area is OpenCV's; their JPEG files differ by some levels.
    face, me = (picture(tmp_path / f"{name}.png", seed, (128, 128)) for seed, name in enumerate(("face", "me")))
    box, whole = (20.0, 30.0, 40.0, 49.2), [faces.resize(image, 64) for image in (face, me)]
    cut = [faces.crop(image, box, 1.3, 64) for image in (face, me)]
    written = ",".join(map(str, box))
    for arguments, (one, other) in (
        (["face.png", "me.png"], directions(whole)),
        (["face.png", written, "me.png", written], directions(cut)),
        (["face.png", written, "me.png"], directions([cut[0], whole[1]])),
        (["face.png", "face.png"], directions([whole[0], whole[0]])),
    ):
        command = [sys.executable, str(ROOT / "docs" / "score_onnx.py"), "bundle", *arguments]
        said = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True).stdout
        (score, decision), (similarity, words) = (line.split(maxsplit=1) for line in said.splitlines())
        assert float(similarity) == pytest.approx(one @ other, abs=0.03)  # a network of drawn weights magnifies
        match = float(similarity) >= threshold["match"]["value"]
        accepted = match and float(score) >= threshold["value"]
        assert decision == ("live" if float(score) >= threshold["value"] else "attack")
        assert words == f"{'match' if match else 'no match'}: {'accepted' if accepted else 'rejected'}"


def with_thresholds(folder, home, value, match):
    """The run in `folder` as one in `home` that decides at these thresholds."""
    shutil.copytree(folder, home)
    path = home / "eval" / "results.json"
    results = json.loads(path.read_text())
    results["threshold"]["value"], results["threshold"]["match"]["value"] = value, match
    path.write_text(json.dumps(results))
    return str(home)


def test_faces_are_compared_with_a_reference(run, detector, faces_dir, tmp_path):
    """Scores stay; the cosine is that of the embeddings; accepted is what is live and matches."""
    images = sorted((faces_dir / "test").rglob("*.png"))[::4]
    alone = predict.predict(run, list(map(str, images)), str(tmp_path / "alone.csv"))
    assert alone.table.columns.tolist() == [*predict.COLUMNS, "flags"]
    assert alone.reference is None
    assert "match the reference" not in alone.summary()
    cut = [faces.crop(media.load_image(image), (0.0, 0.0, 24.0, 24.0), 1.3, 24) for image in images]
    cosines = directions(cut) @ directions(cut[:1])[0]
    score, match = alone.table["score"].median(), float(np.median(cosines))
    folder = with_thresholds(run, tmp_path / "run", score, match)
    found = predict.predict(folder, list(map(str, images)), str(tmp_path / "scores.csv"), reference=str(images[0]))
    table = pd.read_csv(tmp_path / "scores.csv", keep_default_na=False)
    assert table.columns.tolist() == [*predict.COLUMNS, "similarity", "match", "accepted", "flags"]
    np.testing.assert_allclose(table["score"], alone.table["score"], atol=1e-6)
    np.testing.assert_allclose(table["similarity"], cosines, atol=1e-5)
    assert table["similarity"][0] == pytest.approx(1)
    assert ((table["match"] == "yes") == (table["similarity"] >= match)).all()
    both_said = (table["match"] == "yes") & (table["decision"] == "live")
    assert ((table["accepted"] == "yes") == both_said).all()
    assert set(table["match"]) == set(table["accepted"]) == {"yes", "no"}
    matched = (table["match"] == "yes").sum()
    assert both_said.sum() < matched
    said = found.summary().splitlines()
    assert said[2].startswith(f"{matched} match the reference at the cosine {match:.4f} (FMR 0.01 of attempts of dev")
    assert said[2].endswith(f"; accepted (live and matching): {both_said.sum()}")
    assert f"P(live) {alone.table['score'][0]:.4f}" in said[3]


@pytest.mark.parametrize(("threshold", "warned"), [(0.0, False), (1.1, True)])
def test_a_reference_that_looks_like_an_attack_is_a_warning(run, detector, tmp_path, threshold, warned):
    """Of three faces in it the largest, which comes first, is taken; a face that is not in a picture has no match."""
    picture(tmp_path / "me.png")
    Image.new("RGB", (64, 48)).save(tmp_path / "black.png")
    folder = with_thresholds(run, tmp_path / "run", threshold, -1.0)
    wanted = [str(tmp_path / name) for name in ("me.png", "black.png")]
    found = predict.predict(
        folder, wanted, str(tmp_path / "scores.csv"), reference=wanted[0], annotate=str(tmp_path / "copies")
    )
    assert (found.reference.faces, found.reference.path) == (3, wanted[0])
    assert "me.png, the largest of 3 faces: P(live)" in found.summary()
    assert ("warning: it looks like an attack" in found.summary()) == warned
    assert set(found.table["accepted"][:3]) == {"no" if warned else "yes"}
    assert found.table.loc[3, ["match", "accepted", "error"]].tolist() == ["", "", predict.NO_FACE]
    assert np.isnan(found.table.loc[3, "similarity"])
    copy = np.asarray(Image.open(tmp_path / "copies" / "000000-me.png.jpg")).astype(int)
    assert np.abs(copy[80, 0] - annotated.COLOURS["attack" if warned else "live"]).max() < 40


def test_annotated_copies_are_green_only_where_a_face_is_accepted(monkeypatch, tmp_path):
    """A live face of somebody else is red, and its text says why."""
    written = []
    monkeypatch.setattr(annotated.ImageDraw.ImageDraw, "text", lambda self, place, text, *_: written.append(text))
    row = dict(zip("xywh", (0, 0, 64, 48), strict=True), error="", score=0.9, decision="live", similarity=0.25)
    for match in ("yes", "no"):
        rows = [{**row, "match": match, "accepted": match}]
        annotated.write(str(tmp_path), 7, f"there/{match}", np.full((48, 64, 3), 90, np.uint8), rows)
    assert written == ["live 0.900\nmatch 0.250", "live 0.900\nno match 0.250"]
    for match, colour in (("yes", "live"), ("no", "attack")):
        copy = np.asarray(Image.open(tmp_path / f"000007-{match}.jpg"))
        assert np.abs(copy[40, 0] - np.array(annotated.COLOURS[colour])).max() < 40


def test_a_reference_is_a_crop_where_the_inputs_are(run, monkeypatch, faces_dir, tmp_path):
    monkeypatch.setattr(faces, "detect_all", None)
    image = str(next(iter(sorted((faces_dir / "test").rglob("*.png")))))
    found = predict.predict(run, [image], str(tmp_path / "scores.csv"), cropped=True, reference=image)
    assert found.table["similarity"].tolist() == [pytest.approx(1)]


def test_a_reference_that_cannot_be_one_is_refused(run, tiny, detector, tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "black.png")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    output = str(tmp_path / "scores.csv")
    for name, reason in (
        ("black.png", "no face found"),
        ("broken.jpg", "not a readable image"),
        ("none.jpg", "no such file"),
        ("", "a folder of 2 files"),
    ):
        with pytest.raises(ValueError, match=rf"--reference={tmp_path}/{name}: {reason}.*; expected a picture of one"):
            predict.predict(run, ["x.jpg"], output, reference=f"{tmp_path}/{name}")
    other = str(tmp_path / "other")
    workdir.claim(tiny, other, "none")
    (tmp_path / "other" / "eval").mkdir()
    (tmp_path / "other" / "eval" / "results.json").write_text(
        '{"config": {}, "threshold": {"value": 0.5, "source": "dev"}}'
    )
    with pytest.raises(ValueError, match=r"target='label' and recognises nobody; expected a run of 'label\+identity'"):
        predict.predict(other, ["x.jpg"], output, reference=str(tmp_path / "black.png"))
    assert not [name for name in os.listdir(tmp_path) if name.startswith("scores")]


@pytest.mark.slow
def test_the_command_takes_a_reference(run, run_main, tmp_path):
    picture(tmp_path / "me.png")
    flags = "--mode=predict", f"--workdir={run}", "--cropped", f"--output={tmp_path}/scores.csv"
    done = run_main(*flags, f"--input={tmp_path}/me.png", f"--reference={tmp_path}/me.png")
    assert f"reference {tmp_path}/me.png: P(live)" in done.stdout
    assert pd.read_csv(tmp_path / "scores.csv").loc[0, "match"] == "yes"


def test_on_other_data_a_run_of_two_tasks_is_judged_as_a_whole_system(run, faces_dir, monkeypatch, tmp_path):
    """On the data of its own test, its figures are those of its own evaluation; a self-test compares IAPAR and FMR."""
    monkeypatch.setattr(faces, "detect", lambda images: [face_of(image) for image in images])
    changes = {"data.data_dir": str(tmp_path / "records")}
    options = {"subject_level": 1}
    results, _ = elsewhere.evaluate_on(run, f"folder:{faces_dir}", options, changes, str(tmp_path / "on"))
    own = workdir.evaluated(run)
    assert results["test"]["system"]["counts"] == own["test"]["system"]["counts"]
    assert results["test"]["system"]["iapar"] == pytest.approx(own["test"]["system"]["iapar"])
    assert "The whole system" in (tmp_path / "on" / "index.html").read_text()
    of_system = score.system_rates(results["test"])
    rows = schemes.compared({**results["test"]["exact"], **of_system})
    measured = {row["rate"]: row for row in rows if row["scheme"].startswith("NIST")}
    assert (measured["iapar"]["basis"], measured["iapar"]["attempts"]) == ("iapar", 24)
    assert measured["fmr"]["errors"] == of_system["fmr"]["errors"]
    assert schemes.UNMEASURED not in {row["verdict"] for row in rows}
