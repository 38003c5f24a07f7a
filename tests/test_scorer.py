"""The one crop, its flags, and the scorer for programs, on numbered pixels and a stub for the model. 3 s."""

import dataclasses
import hashlib
import json
import subprocess
import sys

import cv2
import ml_collections
import numpy as np
import pytest
from PIL import Image

from input_pipeline.prepare import crops, faces, mtcnn, yunet
from kdfas_jax import Scorer
from kdfas_jax.commands.predict import scorer
from kdfas_jax.runs import origin
from tests.conftest import ROOT
from tests.test_faces import draw_face
from tests.test_score_onnx import script  # noqa: F401

RECIPE = crops.Recipe(1.3, False, 48, 32)
HEAVY = "jax", "flax", "tensorflow", "keras", "pandas", "scipy", "sklearn", "tqdm", "etils", "onnxruntime", "mtcnn"


def portrait(height=240, width=320, left=80, top=40, side=160):
    image = np.full((height, width, 3), (120, 130, 140), np.uint8)
    draw_face(image, left, top, side)
    return image


def face(*box):
    return faces.Face(box, np.zeros((5, 2), np.float32), 0.99)


def test_the_library_imports_nothing_heavy():
    """Nor does a first answer: neither the crop nor the detector needs TensorFlow or JAX."""
    lines = (
        "import sys, numpy",
        "from kdfas_jax import Scorer",
        f"assert not set(sys.modules) & set({HEAVY}), set(sys.modules) & set({HEAVY})",
        "from input_pipeline.prepare import faces",
        "assert faces.detect([numpy.full((64, 64, 3), 128, numpy.uint8)]) == [None]",
        f"assert not set(sys.modules) & set({HEAVY}), set(sys.modules) & set({HEAVY})",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, cwd=ROOT)


@pytest.mark.slow
def test_the_detector_finds_what_the_package_finds():
    """Rows of the package's own networks on TensorFlow, to the rounding of 32-bit numbers."""
    package = pytest.importorskip("mtcnn").MTCNN()
    two = portrait(480, 320, 100, 200, 200)
    draw_face(two, 10, 10, 120)
    for image in (portrait(), two):
        expected = package.detect_faces([image], output_type="numpy")[:, 1:]
        assert len(expected)
        np.testing.assert_allclose(mtcnn.detect(image), expected, atol=0.02)


def test_the_detector_computes_on_one_thread_and_gives_the_others_back(monkeypatch):
    """BLAS's threads took four times as long as one, where another program was busy, too."""
    import threadpoolctl

    def threads():
        return [of["num_threads"] for of in threadpoolctl.threadpool_info() if of["user_api"] == "blas"]

    before, seen, network = threads(), [], mtcnn.Network.__call__
    monkeypatch.setattr(mtcnn.Network, "__call__", lambda own, x: seen.extend(threads()) or network(own, x))
    assert len(mtcnn.detect(portrait()))
    assert set(seen) == {1}
    assert threads() == before


def test_the_recipe_is_the_crop_the_jpeg_file_and_the_resize():
    image, found = portrait(), face(100.0, 50.0, 90.0, 120.0)
    stored = faces.encode(faces.crop(image, found.box, 1.3, 48))
    np.testing.assert_array_equal(RECIPE(image, found), faces.decode(stored, 32))


def test_what_bundle_json_says_of_the_crop_makes_the_same_recipe():
    for recipe in (RECIPE, dataclasses.replace(RECIPE, align=True)):
        described = json.loads(json.dumps(recipe.describe()))
        assert crops.Recipe.described(described) == recipe
        assert described["detector"]["least_confidence"] == faces.CONFIDENCE
    earlier = {"scale": 1.3, "align": False, "record_size": 48, "image_size": 32}
    assert crops.Recipe.described(earlier) == RECIPE
    with pytest.raises(ValueError, match="version 2 of the crop; expected 1"):
        crops.Recipe.described({**earlier, "version": 2})


@pytest.mark.parametrize("box", [(100.0, 50.0, 90.0, 120.0), (-10.0, 5.0, 60.0, 80.0), (20.0, 10.0, 290.0, 229.0)])
def test_the_script_makes_the_pixels_of_the_recipe(script, tmp_path, box):  # noqa: F811
    """Bit for bit, also where the square leaves the frame, or is larger than it."""
    Image.fromarray(portrait()).save(tmp_path / "picture.png")
    found = script.pixels(str(tmp_path / "picture.png"), ",".join(map(str, box)), RECIPE.describe())
    np.testing.assert_array_equal(found[0], RECIPE(portrait(), face(*box)).astype(np.float32) / 255)
    with pytest.raises(ValueError, match="mostly outside"):
        script.pixels(str(tmp_path / "picture.png"), "-90,0,100,100", RECIPE.describe())


def flags(image, box=(100.0, 50.0, 90.0, 120.0), recipe=RECIPE):
    found = face(*box)
    return recipe.flags(image, found, recipe(image, found))


def test_a_face_like_those_of_training_has_no_flag():
    assert flags(portrait()) == ()


@pytest.mark.parametrize(
    ("image", "box", "expected"),
    [
        (portrait(), (150.0, 100.0, 10.0, 12.0), "small"),
        (portrait(), (2.0, 50.0, 90.0, 120.0), "edge"),
        (cv2.GaussianBlur(portrait(), (0, 0), 25), (100.0, 50.0, 90.0, 120.0), "blurred"),
        (portrait() // 8, (100.0, 50.0, 90.0, 120.0), "dark"),
        (255 - portrait() // 12, (100.0, 50.0, 90.0, 120.0), "bright"),
    ],
)
def test_a_face_unlike_those_of_training_is_flagged(image, box, expected):
    assert expected in flags(image, box)


def test_an_aligned_face_is_flagged_by_what_the_transform_shows():
    recipe, image = dataclasses.replace(RECIPE, align=True), portrait(400, 400, 0, 0, 400)
    inside = faces.Face((0, 0, 1, 1), ((faces.TEMPLATE - 56) * 1.5 + 200).astype(np.float32), 1.0)
    outside = dataclasses.replace(inside, landmarks=inside.landmarks - 120)
    small = dataclasses.replace(inside, landmarks=(inside.landmarks - 200) / 8 + 200)
    seen, moved, shrunk = (recipe.flags(image, of, recipe(image, of)) for of in (inside, outside, small))
    assert not {"edge", "small"} & set(seen)
    assert "edge" in moved
    assert "small" in shrunk


def brightness(images):
    for image in images:
        yield np.array([image.mean() / 255])


def model(caution="", **changes):
    card = {"threshold": {"value": 0.5, "source": "a test"}, "trained_on": {"datasets": ["x"], "caution": caution}}
    return scorer.Model(brightness, dataclasses.replace(RECIPE, cropped=True, **changes), card)


def test_pictures_come_as_arrays_images_and_paths_alone_or_in_lists(tmp_path):
    bright, dark = np.full((40, 60, 3), 200, np.uint8), np.full((40, 60, 3), 20, np.uint8)
    path = tmp_path / "dark.png"
    Image.fromarray(dark).save(path)
    score = Scorer(model())
    (alone,) = score(bright)
    assert (alone.decision, alone.box, alone.embedding) == ("live", (0, 0, 60, 40), None)
    assert alone.score == pytest.approx(200 / 255, abs=0.01)
    many = score([bright, Image.fromarray(dark), path, str(path)] * 5)  # more than one batch
    assert [found.decision for (found,) in many] == ["live", "attack", "attack", "attack"] * 5
    assert "dark" in many[1][0].flags
    assert score([]) == []
    rgba = Image.fromarray(np.dstack([bright, bright[..., 0]]))
    assert score(rgba)[0].score == score(Image.fromarray(bright[..., 0]))[0].score == alone.score
    for wrong in (bright.astype(np.float32), bright[..., 0], bright[:0], bright[None], 7):
        with pytest.raises(ValueError, match="expected an RGB uint8 array"):
            score(wrong)


def test_a_picture_on_its_side_is_turned_as_its_file_is(tmp_path):
    """By the orientation in EXIF, which a Pillow image has and an array has not."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40), (200, 200, 200)).save(tmp_path / "turned.jpg", exif=exif)
    with Image.open(tmp_path / "turned.jpg") as opened:
        boxes = [own[0].box for own in Scorer(model())([tmp_path / "turned.jpg", opened])]
    assert boxes == [(0, 0, 40, 60)] * 2


def test_a_model_trained_on_simulated_faces_warns():
    config = ml_collections.ConfigDict({"dataset": "simulated"})
    assert origin.trained_on(config)["simulated"]
    with pytest.warns(UserWarning, match="trained on simulated faces only"):
        Scorer(model(origin.trained_on(config)["caution"]))
    config.dataset = "simulated+nuaa"
    assert origin.trained_on(config) == {"datasets": ["simulated", "nuaa"], "simulated": False, "caution": ""}


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"bundle\.json does not exist; make it by: .*--mode=export"):
        Scorer(tmp_path)
    bundle = {"files": {"model.onnx": {"sha256": hashlib.sha256(b"model").hexdigest()}}, "crop": RECIPE.describe()}
    (tmp_path / "bundle.json").write_text(json.dumps(bundle))
    (tmp_path / "model.onnx").write_bytes(b"Model")
    with pytest.raises(ValueError, match=r"model\.onnx: its SHA-256 differs"):
        Scorer(tmp_path)
    with pytest.raises(FileNotFoundError, match="expected the model file of YuNet"):
        Scorer(model(), detector=tmp_path / "yunet.onnx")


def test_faces_of_yunet_are_inside_the_frame_and_the_largest_first(monkeypatch, tmp_path):
    class Network:
        def setInputSize(self, size):  # noqa: N802
            assert size == (60, 40)

        def detect(self, image):
            assert image[0, 0].tolist() == [3, 2, 1]
            landmarks = list(range(10))
            return 1, np.array([[1, 2, 5, 6, *landmarks, 0.95], [-2, 3, 12, 9, *landmarks, 0.91]], np.float32)

    (tmp_path / "yunet.onnx").touch()
    monkeypatch.setattr(cv2.FaceDetectorYN, "create", lambda *arguments: Network())
    (found,) = yunet.YuNet(str(tmp_path / "yunet.onnx"))([np.full((40, 60, 3), (1, 2, 3), np.uint8)])
    assert [one.box for one in found] == [(0, 3, 10, 9), (1, 2, 5, 6)]
    assert found[0].landmarks.tolist() == np.arange(10).reshape(5, 2).tolist()
