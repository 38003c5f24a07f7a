"""The stand-alone script for a bundle reads pictures as predict does. Without onnxruntime; 2 s."""

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from input_pipeline.sources import media
from tests.test_predict import HOSTILE

PATH = Path(__file__).resolve().parents[1] / "docs" / "score_onnx.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("score_onnx", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pictures_are_decoded_as_predict_decodes_them(script, tmp_path):
    """16 bits scaled, turned upright, transparency left out; what predict refuses is refused."""
    assert script.FORMATS == media.FORMATS
    refused = []
    for name, (write, *_) in HOSTILE.items():
        if name == "pipe.jpg":  # opening it waits for a writer
            continue
        write(tmp_path / name)
        try:
            expected = media.load_image(tmp_path / name)
        except (ValueError, OSError):
            with pytest.raises((ValueError, OSError)):
                script.decode(str(tmp_path / name))
            refused.append(name)
            continue
        np.testing.assert_array_equal(np.asarray(script.decode(str(tmp_path / name))), expected, err_msg=name)
    assert {"bomb.png", "float.tif", "text.jpg", "truncated.jpg"} <= set(refused)
    assert len(refused) < len(HOSTILE) / 2


def test_a_format_that_runs_programs_is_not_opened(script, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "eps.jpg", format="EPS")
    with pytest.raises(ValueError, match="cannot identify"):
        script.decode(str(tmp_path / "eps.jpg"))


def test_a_file_that_is_not_the_bundles_is_refused(script, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"model")
    bundle = {"files": {"model.tflite": {}, "model.onnx": {"sha256": hashlib.sha256(b"model").hexdigest()}}}
    (tmp_path / "bundle.json").write_text(json.dumps(bundle))
    assert script.read(str(tmp_path)) == (bundle, b"model")
    (tmp_path / "model.onnx").write_bytes(b"Model")
    with pytest.raises(ValueError, match=r"model\.onnx: .*SHA-256.*; export the run again"):
        script.read(str(tmp_path))
    (tmp_path / "bundle.json").write_text(json.dumps({"files": {"model.tflite": {}}}))
    with pytest.raises(ValueError, match="no ONNX file"):
        script.read(str(tmp_path))


@pytest.mark.parametrize("arguments", [(), ("bundle",), ("bundle", "1,2,3,4"), ("bundle", "--help")])
def test_wrong_arguments_show_the_usage(script, arguments):
    with pytest.raises(SystemExit, match=r"python score_onnx\.py BUNDLE IMAGE"):
        script.main(*arguments)
