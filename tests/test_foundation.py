"""The chain of foundation_ocim end to end: adapters of a published tower, two distillations, predict and export."""

import json
import pathlib

import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import save_file

from configs import foundation_ocim
from kdfas_jax.commands import train
from kdfas_jax.commands.export import export
from kdfas_jax.commands.predict import predict
from kdfas_jax.models.published import names, vit
from kdfas_jax.parallel import sharding
from kdfas_jax.training import teachers
from tests.golden_files import GOLDEN

PUBLISHED = "facebook/dinov2-with-registers-base"


def published(folder):
    """(file, its arrays): random numbers under the names of a published DINOv2-B/14 with registers."""
    listed, rng, state = (
        json.loads((GOLDEN / "published_towers.json").read_text())[PUBLISHED],
        np.random.default_rng(0),
        {},
    )
    for name, shape in listed["parameters"].items():
        for block in range(listed["depth"]) if ".0." in name else [0]:
            norm = "norm" in name and name.endswith("weight")
            drawn = rng.normal(0, 0.02, shape).astype(np.float16) + np.float16(norm)
            state[name.replace(".0.", f".{block}.", 1)] = drawn
    save_file(state, folder / "model.safetensors")
    return folder / "model.safetensors", state


def chain(records, path):
    """foundation_ocim at 112 px on the tests' records, two steps a model."""
    config = foundation_ocim.get_config(f"tower=dinov2-reg-B/14,weights={path},protocol=official,data=folder")
    config.data.options.update(records.options)
    for key in ("raw_dir", "data_dir", "record_size"):
        config.data[key] = records[key]
    config.data.image_size = 112
    student = config.teachers.spoof.config
    tower = student.teachers.spoof.config
    for of in (config, student, tower):
        of.model.dtype = "float32"
        of.train.update({"batch_size": 4, "epochs": 1 / 6, "eval_epochs": 1 / 6})
        of.eval.update({"batch_size": 24, "stability": 0})
        of.optim.warmup_epochs = 0.0
    for of in (student, tower):
        of.model.unroll = False
    return config


@pytest.mark.slow
def test_a_tower_is_tuned_distilled_twice_and_exported(tiny, without_pages, tmp_path):
    path, state = published(tmp_path)
    config, folder = chain(tiny.data, path), str(tmp_path / "light")
    results = train.train(config, folder)
    assert results["finished"]
    assert results["params"]["student"] == 702_354

    student = config.teachers.spoof
    home = teachers.home(student, folder)
    tower = teachers.home(student.config.teachers.spoof, home)
    assert (teachers.finished(home), teachers.finished(tower)) == (True, True)
    loaded = teachers.load(tower, sharding.make_mesh({"data": -1}))
    found = traverse_util.flatten_dict(loaded.variables["params"], sep="/")
    expected = vit.from_timm(names.to_timm(state, "huggingface"))
    np.testing.assert_array_equal(found["blocks/fc1/kernel"][1], np.float32(expected["blocks/1/fc1/kernel"]))
    assert np.abs(found["blocks/qkv_lora/b"]).max() > 0

    image = next(pathlib.Path(tiny.data.raw_dir).rglob("*.png"))
    table = predict.predict(folder, [str(image)], str(tmp_path / "scores.csv"), cropped=True).table
    assert 0 <= table.loc[0, "score"] <= 1
    bundle = export.export(tower, ["stablehlo"], str(tmp_path / "bundle"))
    assert bundle["model"]["lora"]["rank"] == 0
    assert bundle["model"]["training_only_parameters"] == 0
    assert bundle["files"]["model.stablehlo"]["parity"]["logits"] < 1e-4
