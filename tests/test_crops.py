"""A network that judges several crops of an image."""

import functools

import jax
import numpy as np
import pytest

from kdfas_jax import models
from kdfas_jax.report import explain
from kdfas_jax.training import step

NETWORK = {"name": "resnet", "variant": "18", "width": 4, "blocks": (1, 1, 1, 1), "classes": 2}
IMAGES = np.random.default_rng(0).random((3, 40, 40, 3), np.float32)


@pytest.fixture(scope="module")
def model():
    return models.create({"name": "crops", "network": NETWORK, "size": 32, "zooms": (1.0, 0.5)})


@pytest.fixture(scope="module")
def variables(model):
    """Drawn by numpy: their own initialisation takes longer to compile."""
    rng = np.random.default_rng(1)

    def draw(leaf):
        return 0.2 * rng.standard_normal(leaf.shape, np.float32) if leaf.ndim > 1 else np.ones(leaf.shape, np.float32)

    return jax.tree.map(draw, jax.eval_shape(lambda: step.init_variables(model, 40, 0)))


@jax.jit
def resized(images):
    return jax.image.resize(images, (3, 32, 32, 3), "linear")


@jax.jit
def alone(variables, images):
    """What the network itself answers."""
    return models.create(NETWORK).apply({name: of["network"] for name, of in variables.items()}, images)


def test_the_answer_is_the_mean_over_the_crops_and_their_mirror_images(model, variables):
    logits, out = jax.device_get(jax.jit(model.apply)(variables, IMAGES))
    views = [resized(view) for view in (IMAGES, IMAGES[:, 10:30, 10:30])]
    each = [jax.device_get(alone(variables, view)) for of in views for view in (of, of[:, :, ::-1])]
    np.testing.assert_allclose(logits, np.mean([first for first, _ in each], axis=0), atol=1e-5)
    np.testing.assert_array_equal(logits, out["logits"])
    np.testing.assert_allclose(out["stages"][3], each[0][1]["stages"][3], atol=1e-5)


def test_training_sees_the_whole_image_once(model, variables):
    trained = functools.partial(model.apply, train=True, mutable=["batch_stats"])
    out, _ = jax.jit(trained)(variables, IMAGES)
    assert out[1]["stages"][0].shape == (3, 8, 8, 4)
    assert models.flops(model, 40) == pytest.approx(4 * models.flops(model, 40, train=True))
    assert models.flops(model, 40, train=True) == models.flops(models.create(NETWORK), 32)
    assert (model.classes, model.dtype) == (2, "float32")


def test_as_a_teacher_it_sees_the_whole_image_once(model, variables):
    taught = jax.jit(models.teaching(model).apply)(variables, IMAGES)[0]
    np.testing.assert_allclose(taught, alone(variables, resized(IMAGES))[0], atol=1e-5)
    assert models.teaching(models.create(NETWORK)) == models.create(NETWORK)


def test_attention_is_of_the_whole_image(model, variables):
    heat = jax.jit(functools.partial(explain.attention, model))(variables, IMAGES, np.ones(3, int))
    assert heat.shape == (3, 40, 40)
    assert np.isfinite(heat).all()


@pytest.mark.parametrize("change", [{"zooms": ()}, {"zooms": (1.2,)}, {"size": 0}])
def test_crops_that_are_none_are_refused(change):
    with pytest.raises(ValueError, match=r"expected shares in \(0, 1\]"):
        models.create({"name": "crops", "network": NETWORK, "size": 32, **change})
