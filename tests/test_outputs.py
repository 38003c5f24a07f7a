"""Views that repeat, teachers' stored outputs, and images without labels."""

import jax
import numpy as np
import pytest
from PIL import Image

from input_pipeline.prepare import faces, parts
from input_pipeline.stream import pipeline
from kdfas_jax import models, targets
from kdfas_jax.commands import train
from kdfas_jax.models import records
from kdfas_jax.parallel import sharding
from kdfas_jax.training import checkpoint, outputs, teachers, validate

LABEL = targets.get("label")


def stream(config, *, seed=0, start=0, steps=9, data=None):
    data = data or pipeline.open_data(config.data, LABEL)
    options = {"batch_size": 16, "seed": seed, "start": start, "steps": steps}
    return list(pipeline.train_batches(data, config.data, LABEL, **options))


@pytest.fixture
def repeating(tiny):
    tiny.data.views = 2
    tiny.data.augment.update({"mixup": 0.0, "cutmix": 0.0})
    return tiny


def by_row(batches):
    rows = (zip(batch["index"], batch["image"], batch.get("mask", np.ones(16)), strict=True) for batch in batches)
    return {int(row): image for batch in rows for row, image, mask in batch if mask}


def test_views_repeat_and_are_those_of_every_seed(repeating):
    """48 examples make three batches an epoch."""
    batches = stream(repeating)
    first, second, third = (by_row(batches[i : i + 3]) for i in (0, 3, 6))
    assert all((first[row] == third[row]).all() for row in first)
    assert sum((first[row] != second[row]).any() for row in first) > 40
    other = by_row(stream(repeating, seed=5, steps=3))
    assert all((first[row] == other[row]).all() for row in first)
    orders = [[batch["index"].tolist() for batch in stream(repeating, seed=seed, steps=3)] for seed in (0, 5)]
    assert orders[0] != orders[1]


def test_a_view_batch_shows_what_training_shows(repeating):
    data = pipeline.open_data(repeating.data, LABEL)
    seen = by_row(stream(repeating, start=3, steps=6))
    rows = data.rows("train")
    view = pipeline.training_view(repeating.data, 1)
    alone = by_row(pipeline.test_batches(data, rows, repeating.data, batch_size=20, shard=(0, 1), seen=view))
    assert all((alone[row] == image).all() for row, image in seen.items())


@pytest.mark.slow
def test_stored_outputs_teach_what_the_teacher_does(repeating, without_pages, tmp_path, monkeypatch):
    """Logits and class tokens; a later run reads the files and does not run the teacher."""
    config, taught = repeating, repeating.teachers.spoof
    for of in (config, taught.config):
        of.train.update({"epochs": 2.0, "eval_epochs": 2.0})
        of.optim.warmup_epochs = 0.5
    train.train(config, str(tmp_path / "direct"))
    home = {"spoof": teachers.home(taught, str(tmp_path / "direct"))}
    taught.cache = ("logits", "class_tokens")
    train.fit(config, str(tmp_path / "stored"), home)
    direct, stored = (_trained(config, str(tmp_path / name)) for name in ("direct", "stored"))
    for one, other in zip(jax.tree.leaves(direct), jax.tree.leaves(stored), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)
    data, mesh = pipeline.open_data(config.data, LABEL), sharding.make_mesh(config.mesh)
    loaded = teachers.load(home["spoof"], mesh)
    shown = train.shown(data, config)._replace(batches=lambda view: pytest.fail("the teacher is run"))
    kept = outputs.Stored("spoof", loaded.frozen, teachers.rounded(loaded), shown, config, mesh)
    assert kept.of(data.rows("train")[:5], 1)["logits"].shape == (5, 2)


def _trained(config, home):
    module = models.create(config.model)
    shapes = teachers.abstract_variables(module, config.data.image_size, sharding.make_mesh(config.mesh))
    with checkpoint.open_finished(home) as checkpoints:
        return checkpoints.restore_variables(checkpoints.latest(), shapes)


def test_outputs_keep_their_names_and_axes_when_stored():
    vit = {"logits": np.ones((3, 2)), "class_tokens": np.arange(30.0).reshape(2, 3, 5)}
    flat = records.flat(vit, ("logits", "class_tokens"))
    assert {name: of.shape for name, of in flat.items()} == {"logits": (3, 2), "class_tokens": (3, 2, 5)}
    np.testing.assert_array_equal(records.nested(flat)["class_tokens"], vit["class_tokens"])
    convolutional = {"stages": (np.ones((3, 4, 4, 5)), 2 * np.ones((3, 2, 2, 7)))}
    tokens = records.nested(records.flat(convolutional, ("class_tokens",)))["class_tokens"]
    assert [token.shape for token in tokens] == [(3, 5), (3, 7)]
    np.testing.assert_array_equal(tokens[1], 2)


@pytest.fixture
def with_free_images(repeating, tmp_path, monkeypatch):
    """The config with a folder of six further images."""
    for number in range(6):
        folder = tmp_path / "raw" / "train" / ("live" if number else "spoof") / f"free{number}"
        folder.mkdir(parents=True)
        Image.fromarray(np.full((24, 24, 3), 10 * number, np.uint8)).save(folder / "0.png")
    face = faces.Face((0.0, 0.0, 24.0, 24.0), parts.UNKNOWN_LANDMARKS, 1.0)
    monkeypatch.setattr(faces, "detect", lambda images: [face for _ in images])
    repeating.data.data_dir = str(tmp_path / "records")  # the session's records have one set of this kind
    repeating.data.unlabelled.update({"dataset": "folder", "raw_dir": str(tmp_path / "raw"), "share": 0.25})
    repeating.data.unlabelled.options = {"subject_level": 1}
    return repeating


def test_images_without_labels_are_a_share_of_every_epoch(with_free_images):
    config = with_free_images
    data = pipeline.open_data(config.data, LABEL)
    more = pipeline.with_unlabelled(data, config.data)
    assert more.fingerprint == data.fingerprint
    assert more.count("train") == data.count("train") == 48
    batches = stream(config, data=more, steps=3)
    labels = np.concatenate([batch["label"] for batch in batches])
    assert (labels.sum(1) == 0).sum() == 12
    free = np.isin(np.concatenate([batch["index"] for batch in batches]), more.rows("unlabelled"))
    np.testing.assert_array_equal(free, labels.sum(1) == 0)


def test_people_who_are_judged_cannot_be_shown_without_labels(repeating):
    repeating.data.unlabelled.update({"dataset": "folder", "raw_dir": repeating.data.raw_dir})
    repeating.data.unlabelled.options = {"subject_level": 1}
    data = pipeline.open_data(repeating.data, LABEL)
    with pytest.raises(ValueError, match="shows 16 people of dev or test, such as folder/dev0"):
        pipeline.with_unlabelled(data, repeating.data)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data.views": 0}, r"teachers.spoof.cache stores outputs .* expected config.data.views > 0"),
        ({"data.augment.mixup": 0.2}, "mixup, cutmix, data.attack and daa off"),
        ({"teachers.spoof.cache": ("logits",)}, "covariance.* reads other outputs; expected 'class_tokens'"),
        ({"teachers.spoof.cache": ("stages",)}, "cache=.*stages.*: expected names of class_tokens, embedding, logits"),
        ({"data.unlabelled.dataset": "simulated"}, "set config.terms.ce.where='label'"),
        ({"data.unlabelled.share": 1.0}, r"unlabelled.share=1.0: expected a number in"),
    ],
)
def test_what_does_not_fit_stored_outputs_is_named(repeating, change, said):
    repeating.teachers.spoof.cache = ("logits", "class_tokens")
    repeating.terms.ce.where = ""
    validate.check(repeating)
    repeating.update_from_flattened_dict(change)
    with pytest.raises(ValueError, match=said):
        validate.check(repeating)
