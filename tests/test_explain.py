"""Attention rollout and Grad-CAM against their definitions, on models small enough to compute by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from kdfas_jax import models
from kdfas_jax.models import vit
from kdfas_jax.report import explain

IMAGES = np.random.default_rng(1).random((2, 16, 16, 3), np.float32)
TOWARDS = np.array([1, 0])


def drawn(**config):
    """A model with weights that nothing has to be compiled for, large enough for attention to be far from uniform."""
    model, rng = models.create(config), np.random.default_rng(0)

    def leaf(path, shape):
        positive = "var" in jax.tree_util.keystr(path)
        return np.float32(np.ones(shape.shape) if positive else rng.normal(0, 0.6, shape.shape))

    return model, jax.tree.map_with_path(leaf, jax.eval_shape(model.init, jax.random.key(0), IMAGES))


@pytest.fixture(
    scope="module", params=[{}, {"unroll": True, "remat": "full", "stem": (8,), "attention": "fused"}], ids=str
)
def tiny_vit(request):
    return drawn(name="vit", patch=4, width=16, depth=2, heads=2, **request.param)


def test_attention_is_that_of_the_forward(tiny_vit):
    """Blocks computed with these weights, the plain way, end in the class tokens that the model names."""
    model, variables = tiny_vit
    weights = jax.device_get(jax.jit(lambda v: explain.attention_weights(model, v, IMAGES))(variables))
    assert [w.shape for w in weights] == [(2, 2, 17, 17)] * 2
    np.testing.assert_allclose([w.sum(-1) for w in weights], 1, rtol=1e-5)
    assert max(float(w.max()) for w in weights) > 0.2  # 1 / 17 were it uniform

    def enters_blocks(module, _):
        return isinstance(module, nn.Dropout) and isinstance(module.parent, vit.ViT)

    captured = functools.partial(model.apply, capture_intermediates=enters_blocks, mutable=["intermediates"])
    (_, out), kept = jax.jit(captured)(variables, IMAGES)
    class_tokens = out["class_tokens"]
    tokens, blocks = kept["intermediates"]["Dropout_0"]["__call__"][0], variables["params"]["blocks"]
    for layer, attention in enumerate(weights):
        tokens = block(tokens, attention, jax.tree.map(lambda leaf, layer=layer: leaf[layer], blocks))
        np.testing.assert_allclose(tokens[:, 0], class_tokens[layer], rtol=2e-3, atol=2e-3)


@jax.jit
def block(tokens, attention, p):
    normed = layer_norm(tokens, p["norm1"])
    value = jnp.einsum("bnd,dhe->bnhe", normed, p["qkv"]["kernel"][:, 2]) + p["qkv"]["bias"][2]
    mixed = jnp.einsum("bhqk,bkhd->bqhd", attention, value).reshape(2, 17, 16)
    tokens = tokens + mixed @ p["out"]["kernel"] + p["out"]["bias"]
    hidden = nn.gelu(layer_norm(tokens, p["norm2"]) @ p["fc1"]["kernel"] + p["fc1"]["bias"], approximate=False)
    return tokens + hidden @ p["fc2"]["kernel"] + p["fc2"]["bias"]


def layer_norm(x, p):
    x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * p["scale"] + p["bias"]


def test_rollout_by_hand(monkeypatch):
    """Two blocks, one head, a class token and four patches: A2 A1 with A = (weights + I) / 2."""
    first = np.full((5, 5), 0.2)
    second = np.zeros((5, 5))
    second[:, 3] = 1.0  # everybody looks at the third patch
    weights = [np.float32(w)[None, None] for w in (first, second)]
    monkeypatch.setattr(explain, "attention_weights", lambda *_: weights)
    model = models.create({"name": "vit", "patch": 8, "width": 8, "depth": 2, "heads": 1})
    found = jax.jit(lambda images: explain.rollout(model, None, images))(IMAGES[:1])
    # The class token: half itself (whose own mix is 0.6 | 0.1 x 4), half the third patch's (0.1 | 0.1, 0.1, 0.6, 0.1).
    np.testing.assert_allclose(found[0].ravel(), [0.1, 0.1, 0.35, 0.1], rtol=1e-6)


class Linear(nn.Module):
    """A convolution, the mean over places, a head: its Grad-CAM is known in closed form."""

    @nn.compact
    def __call__(self, images, *, train=False):
        """Images -> (logits, nothing)."""
        return nn.Dense(2, use_bias=False, name="head")(nn.Conv(3, (1, 1), name="conv")(images).mean((1, 2))), {}


def test_grad_cam_by_hand():
    """d logit_k / d map = head[:, k] / places, so the map is relu(sum over channels of that times the feature map)."""
    model = Linear()
    images = IMAGES - np.float32(0.5)  # of either sign, and so are the sums
    variables = jax.device_get(jax.jit(model.init)(jax.random.key(0), images))
    p = variables["params"]
    features = images @ p["conv"]["kernel"][0, 0] + p["conv"]["bias"]
    expected = [np.maximum(features[i] @ p["head"]["kernel"][:, k] / 256, 0) for i, k in enumerate(TOWARDS)]
    assert all(0.1 < np.mean(of_image > 0) < 0.9 for of_image in expected)
    found = jax.jit(lambda towards: explain.grad_cam(model, variables, images, towards))(TOWARDS)
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-7)


@pytest.fixture(scope="module")
def resnet():
    return drawn(name="resnet", blocks=(1, 1, 1, 1), width=8, bottleneck=False)


def test_the_map_of_a_resnet_follows_what_the_class_asks_for(resnet):
    """Its head reads the mean of the last stage: d logit_k / d stage = head[:, k] / places."""
    model, variables = resnet
    images = np.tile(IMAGES, (1, 4, 4, 1))

    @jax.jit
    def map_and_stage(variables, towards):
        stages = model.apply(variables, images)[1]["stages"]
        return explain.grad_cam(model, variables, images, towards), stages[-1]

    (live, stage), (attack, _) = (jax.device_get(map_and_stage(variables, np.array([k, k]))) for k in (1, 0))
    head = variables["params"]["fc"]["kernel"]
    np.testing.assert_allclose(live, np.maximum(stage @ head[:, 1], 0) / 4, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(attack, np.maximum(stage @ head[:, 0], 0) / 4, rtol=1e-4, atol=1e-6)


compiled_attention = jax.jit(explain.attention, static_argnums=0)


def test_maps_are_of_the_images_size_and_scaled_to_their_strongest_place(resnet, tiny_vit):
    images = np.tile(IMAGES, (1, 4, 4, 1))
    for (model, variables), seen in ((resnet, images), (tiny_vit, IMAGES)):
        heat = np.asarray(compiled_attention(model, variables, seen, TOWARDS))
        assert heat.shape == seen.shape[:3]
        assert heat.min() >= 0
        strongest = heat.max((1, 2))  # 0 where nothing speaks for the class
        np.testing.assert_allclose(strongest, strongest > 0, rtol=1e-6)
        assert strongest.max() > 0


def test_a_network_without_feature_maps_is_refused():
    model = nn.Sequential([lambda x: x.reshape(len(x), -1), nn.Dense(2), lambda x: (x, {})])
    variables = jax.jit(model.init)(jax.random.key(0), IMAGES)
    with pytest.raises(ValueError, match="Sequential has none"):
        explain.grad_cam(model, variables, IMAGES, TOWARDS)


@pytest.mark.parametrize(("variant", "prefix"), [("dinov3-S/4", 5), ("siglip-S/4", 0)])
def test_the_map_of_a_tower_is_of_its_patches_alone(variant, prefix):
    """Class token and registers are no part of the map; where attention pools, the patches share all of it."""
    model, variables = drawn(name="vit", variant=variant, width=16, depth=2, heads=2)
    weights = jax.eval_shape(lambda v: explain.attention_weights(model, v, IMAGES), variables)
    assert [w.shape[-1] for w in weights] == [16 + prefix] * 2
    coarse = np.asarray(jax.jit(lambda v: explain.rollout(model, v, IMAGES))(variables))
    assert coarse.shape == (2, 4, 4)
    share = coarse.sum((1, 2))
    assert (share < 0.99).all() if prefix else np.allclose(share, 1, rtol=1e-5)
