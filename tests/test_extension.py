"""Adding a loss, a model, a target and a data set takes one file and one line each: the four below train together."""

import dataclasses
import sys

import pytest

from configs import common
from input_pipeline import datasets
from kdfas_jax import models, targets
from kdfas_jax.objective import weighted_sum

LOSS = '''
import jax

from kdfas_jax.objective import losses


def brier(student, batch, *, power: float = 2.0):
    """Mean difference of probabilities and labels to `power`."""
    error = abs(jax.nn.softmax(student["logits"]) - batch["label"]) ** power
    return losses.masked_mean(error.sum(-1), batch.get("mask"))
'''

MODEL = '''
from flax import linen as nn


class Shade(nn.Module):
    """Reads the mean colour of an image."""

    classes: int = 2
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images, *, train=False):
        logits = nn.Dense(self.classes)(4 * images.mean((1, 2)) - 2)
        return logits, {"logits": logits}


def create(**options):
    return Shade(**options)
'''

TARGET = """
import jax.numpy as jnp
import numpy as np
import pandas as pd

from input_pipeline.select.examples import one_hot
from kdfas_jax.targets.target import Target, plain_results

MEDIA = ["matt", "glossy"]


def labels(data):
    own = pd.Index(MEDIA).get_indexer(data.table["medium"])
    return lambda rows: one_hot(own[rows], len(MEDIA))


def scored(predicted, data):
    rows = data.table.loc[predicted.index, ["dataset", "video", "medium"]]
    return rows.assign(predicted=np.array(MEDIA, object)[predicted[0].astype(int)])


def figures(rows):
    return {"accuracy": float((rows["predicted"] == rows["medium"]).mean())}


PAPER = Target(
    name="paper",
    classes=lambda data: MEDIA,
    labels=labels,
    read=lambda logits, out: jnp.argmax(logits, axis=-1),
    scored=scored,
    selection=lambda rows: figures(rows) | {"selection": figures(rows)["accuracy"]},
    results=plain_results(figures),
)
"""

DATA = '''
import functools

import numpy as np

from input_pipeline.schema import Frame, Presentation

VERSION = "1"


def read(*, count: int = 8):
    """`count` pictures of each paper in each split: the glossy ones are brighter."""
    for split in ("train", "dev", "test"):
        for medium, shade in (("matt", 80), ("glossy", 170)):
            for number in range(count):
                name = f"{split}-{medium}-{number}"
                yield Presentation(
                    path=name,
                    dataset="papers",
                    subject=name,
                    video=name,
                    species="print",
                    load=functools.partial(load, shade, number),
                    split=split,
                    medium=medium,
                    cropped=True,
                )


def load(shade, number):
    yield Frame(0, np.random.default_rng(number).normal(shade, 20, (16, 16, 3)).clip(0, 255).astype(np.uint8))
'''


@pytest.fixture
def extension(tmp_path, monkeypatch):
    """A package with one file for each of the four, registered by one line each."""
    package = tmp_path / "extension"
    package.mkdir()
    files = {"__init__": "", "loss": LOSS, "model": MODEL, "target": TARGET, "papers": DATA}
    for name, text in files.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    from extension import loss, model, target

    monkeypatch.setitem(weighted_sum.KINDS, "brier", loss.brier)
    monkeypatch.setitem(models.REGISTRY, "shade", model.create)
    monkeypatch.setitem(targets.TARGETS, "paper", target.PAPER)
    monkeypatch.setitem(datasets.READERS, "papers", "extension.papers")
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "extension"]:
        del sys.modules[name]


def test_one_file_and_one_line_each(extension, tmp_path):
    from kdfas_jax.commands import train

    config = common.base("extended")
    config.model = {"name": "shade", "classes": 2}
    config.terms = {"brier": {"kind": "brier", "weight": 1.0, "power": 2.0}}
    config.data.update({"dataset": "papers", "target": "paper", "protocol": "official"})
    config.data.update({"data_dir": str(tmp_path / "data"), "record_size": 16, "image_size": 16})
    config.data.augment.update({"mixup": 0.0, "cutmix": 0.0, "erasing": 0.0})
    config.data.augment.randaugment.ops = 0
    config.train = {"batch_size": 8, "epochs": 20.0, "eval_epochs": 10.0}
    config.optim.update({"lr": 6.4, "warmup_epochs": 1.0})
    config.eval.batch_size = 8
    results = train.train(config, str(tmp_path / "run"))
    assert results["test"]["accuracy"] == 1.0
    assert results["test"]["counts"] == {"scores": 16}
    assert results["params"]["student"] == 8


def test_a_targets_flags_have_defaults():
    """What a new target must say is what it predicts; the rest it may leave out."""
    required = {field.name for field in dataclasses.fields(targets.Target) if field.default is dataclasses.MISSING}
    assert required == {"name", "classes", "labels", "read", "scored", "selection", "results"}
