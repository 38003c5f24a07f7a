"""The vision transformer: published sizes, outputs, layouts that must agree, regularisation and refusals."""

import functools
import subprocess
import sys

import flax
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from flax import traverse_util

from kdfas_jax import models
from kdfas_jax.models import vit

TINY = {"width": 32, "depth": 2, "heads": 2, "patch": 8}
IMAGES = np.random.default_rng(0).random((4, 32, 32, 3), np.float32)


def shapes(model, size):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))["params"]


def filled(model):
    """Random parameters of a model for 32 px, biases and norms included, so that every leaf matters."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32) * 0.2, shapes(model, 32))


@functools.cache
def tiny_params():
    return filled(vit.create(**TINY))


@functools.cache
def compiled(model, train):
    return jax.jit(functools.partial(model.apply, train=train))


@functools.cache
def initialised():
    """The tiny model's own initial parameters."""
    return jax.device_get(jax.jit(vit.create(**TINY).init)(jax.random.key(0), IMAGES)["params"])


def run(model, params, images=IMAGES, train=False, seed=None):
    """The model's outputs, compiled; `seed` is that of the dropout."""
    rngs = None if seed is None else {"dropout": jax.random.key(seed)}
    return jax.device_get(compiled(model, train)({"params": params}, images, rngs=rngs))


@functools.cache
def plain_outputs():
    """What the tiny model returns for IMAGES."""
    return run(vit.create(**TINY), tiny_params())


def loss(params, images, model):
    """A scalar that depends on every output."""
    logits, out = model.apply({"params": params}, images, train=True)
    return jnp.sum(logits**2) + jnp.sum(jnp.sin(out["class_tokens"]))


@functools.cache
def value_and_gradient(model):
    return jax.device_get(jax.jit(jax.value_and_grad(functools.partial(loss, model=model)))(filled(model), IMAGES))


@pytest.mark.parametrize(("variant", "count"), [("B/16", 85_800_194), ("S/16", 21_666_434)])
def test_parameter_counts_are_the_published_ones(variant, count):
    tree = shapes(vit.create(variant, classes=2), 224)
    assert sum(leaf.size for leaf in jax.tree.leaves(tree)) == count
    assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {jnp.dtype(jnp.float32)}


def test_outputs_are_named_fp32_and_consistent():
    params = initialised()
    logits, out = run(vit.create(**TINY), params)
    assert {key: value.shape for key, value in out.items()} == {
        "logits": (4, 2),
        "class_tokens": (2, 4, 32),
        "patch_tokens": (4, 4, 4, 32),
        "pre_logits": (4, 32),
    }
    np.testing.assert_array_equal(logits, out["logits"])
    last = out["class_tokens"][-1]
    normed = (last - last.mean(-1, keepdims=True)) / np.sqrt(last.var(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(out["pre_logits"], normed, atol=1e-4)  # the final norm's scale is 1, its bias 0
    np.testing.assert_allclose(logits, out["pre_logits"] @ params["head"]["kernel"], atol=1e-5)


def test_patch_tokens_are_in_their_places():
    """Without attention between tokens only the token of a changed patch changes, behind class token and registers."""
    model = vit.create(**{**TINY, "depth": 1}, registers=2)
    params = jax.tree.map(lambda x: np.full(x.shape, 0.1, np.float32), shapes(model, 32))
    params["blocks"]["out"]["kernel"] *= 0
    images = np.stack([IMAGES[0], IMAGES[0]])
    images[1, 8:16, 16:24] = np.random.default_rng(1).random((8, 8, 3))  # row 1, column 2
    params["patch"]["kernel"] = np.random.default_rng(2).standard_normal(params["patch"]["kernel"].shape, np.float32)
    _, out = run(model, params, images)
    changed = np.any(out["patch_tokens"][0] != out["patch_tokens"][1], axis=-1)
    assert np.argwhere(changed).tolist() == [[1, 2]]


def test_initialisation_is_deits():
    flat = traverse_util.flatten_dict(initialised(), sep="/")
    for name, value in flat.items():
        if name.endswith("bias"):
            assert not value.any(), name
        elif name.endswith("scale"):
            assert (value == 1).all(), name
        else:
            assert 0.012 < value.std() < 0.022, name
            assert abs(value).max() <= 0.0401, name
    assert not np.allclose(flat["blocks/fc1/kernel"][0], flat["blocks/fc1/kernel"][1])  # each block draws its own


def test_patches_and_dense_are_the_strided_convolution():
    kernel = np.random.default_rng(2).standard_normal((8, 8, 3, 16)).astype(np.float32)

    @jax.jit
    def both(images):
        convolved = jax.lax.conv_general_dilated(
            images, kernel, (8, 8), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
        )
        return vit.patches(images, 8) @ kernel.reshape(-1, 16), convolved.reshape(4, 16, 16)

    np.testing.assert_allclose(*both(IMAGES), rtol=1e-4, atol=1e-4)


def test_normalisation_is_part_of_the_model():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    imagenet = run(vit.create(**TINY, mean=mean, std=std), tiny_params())[0]
    by_hand = (IMAGES - np.float32(mean)) / np.float32(std)
    plain = run(vit.create(**TINY, mean=0.0, std=1.0), tiny_params(), by_hand)[0]
    np.testing.assert_allclose(imagenet, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("change", [{"unroll": True}, {"remat": "full"}, {"remat": "dots", "unroll": True}])
def test_unrolling_and_remat_change_neither_values_nor_gradients(change):
    value, gradient = value_and_gradient(vit.create(**TINY, attention="plain"))
    other_value, other_gradient = value_and_gradient(vit.create(**TINY, **change))
    np.testing.assert_allclose(other_value, value, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), other_gradient, gradient)


@pytest.mark.parametrize("more", [{}, {"registers": 1}, {"position": "rotary"}], ids=str)
def test_fused_attention_changes_neither_values_nor_gradients(more):
    """Of 17 tokens, which are padded to 18, and of 18, which are not."""
    plain, fused = (vit.create(**TINY, **more, attention=attention) for attention in ("plain", "fused"))
    (value, gradient), (other, other_gradient) = value_and_gradient(plain), value_and_gradient(fused)
    np.testing.assert_allclose(other, value, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), other_gradient, gradient)


@pytest.mark.parametrize(
    ("dtype", "platform", "fused"), [("bfloat16", "gpu", True), ("float32", "gpu", False), ("bfloat16", "cpu", False)]
)
def test_attention_is_fused_where_a_gpu_has_the_kernel(monkeypatch, dtype, platform, fused):
    monkeypatch.setattr(vit.sharding, "platform", lambda: platform)
    assert vit.create(**TINY, dtype=dtype).fused is fused


@pytest.mark.parametrize("unroll", [False, True])
def test_unrolled_blocks_leave_no_loop_forward_or_backward(unroll):
    gradient = jax.jit(jax.grad(functools.partial(loss, model=vit.create(**TINY, unroll=unroll))))
    assert ("stablehlo.while" in gradient.lower(tiny_params(), IMAGES).as_text()) is not unroll


@pytest.mark.parametrize("remat", ["full", "dots"])
def test_remat_recomputes_products_in_the_backward_pass(remat):
    def products(**fields):
        gradient = jax.jit(jax.grad(functools.partial(loss, model=vit.create(**TINY, unroll=True, **fields))))
        return gradient.lower(tiny_params(), IMAGES).as_text().count("dot_general")

    assert products(remat=remat) > products()


def test_bfloat16_computes_near_fp32_and_returns_fp32():
    exact, _ = plain_outputs()
    model = vit.create(**TINY, dtype="bfloat16")
    logits, out = run(model, tiny_params())
    assert logits.dtype == out["class_tokens"].dtype == out["pre_logits"].dtype == jnp.float32
    error = np.linalg.norm(logits - exact) / np.linalg.norm(exact)
    assert 1e-6 < error < 0.05  # rounded, but to the same thing
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes(model, 32))} == {jnp.dtype(jnp.float32)}
    regularised = vit.create(**TINY, dtype="bfloat16", dropout=0.1, drop_path=0.1)
    assert np.isfinite(run(regularised, tiny_params(), train=True, seed=0)[0]).all()


def test_gelu_exact_and_tanh():
    def both(x):
        return [(vit.GELU[name](x), jax.nn.gelu(x, approximate=name == "tanh")) for name in ("exact", "tanh")]

    for ours, plain in jax.jit(both)(np.linspace(-6, 6, 101, dtype=np.float32)):
        np.testing.assert_allclose(ours, plain, atol=1e-6)


@pytest.mark.parametrize("fields", [{"dropout": 0.5}, {"drop_path": 0.5}])
def test_dropout_and_drop_path_need_an_rng_in_training_alone(fields):
    model = vit.create(**TINY, **fields)
    plain, _ = plain_outputs()
    np.testing.assert_allclose(run(model, tiny_params())[0], plain, rtol=1e-5)
    with pytest.raises(flax.errors.InvalidRngError, match="dropout"):
        run(model, tiny_params(), train=True)
    first, again, second = (run(model, tiny_params(), train=True, seed=seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, second)


def test_drop_path_drops_whole_examples_and_keeps_the_mean():
    block = vit.Block(2, 4.0, "exact", 0.0, stochastic=True, deterministic=False, dtype="float32")
    drop = jax.jit(lambda x, key: block.apply({}, x, 0.25, method="drop_path", rngs={"dropout": key}))
    dropped = np.asarray(drop(np.ones((4000, 2, 3), np.float32), jax.random.key(0)))
    assert (dropped == dropped[:, :1, :1]).all()
    np.testing.assert_allclose(np.unique(dropped), [0, 1 / 0.75], rtol=1e-6)
    assert abs(dropped.mean() - 1) < 0.04  # five standard errors


def test_drop_path_rises_linearly_from_none_in_the_first_block():
    tokens = run(vit.create(**TINY, drop_path=0.9), tiny_params(), train=True, seed=0)[1]["class_tokens"]
    plain = plain_outputs()[1]["class_tokens"]
    np.testing.assert_allclose(tokens[0], plain[0], atol=1e-5)
    assert not np.allclose(tokens[1:], plain[1:], atol=1e-2)


def test_a_stem_sees_pixels_before_patches_are_cut():
    """Two convolutions, then patches of 2 x 2 of their pixels; the rest of the tree is that of a plain ViT."""
    model = vit.create(**TINY, stem=(8, 16))
    expected = shapes(model, 32)
    assert expected["stem2"]["kernel"].shape == (3, 3, 8, 16)
    assert expected["patch"]["kernel"].shape == (2 * 2 * 16, 32)
    assert jax.tree.structure(expected["blocks"]) == jax.tree.structure(shapes(vit.create(**TINY), 32)["blocks"])
    rng = np.random.default_rng(2)
    params = jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32) * 0.2, expected)
    logits, _ = run(model, params)
    alone, _ = run(model, params, IMAGES[:1])
    np.testing.assert_allclose(logits[:1], alone, atol=1e-4)  # group norm knows one picture at a time


@pytest.mark.parametrize("wrong", [{"stem": (12,)}, {"stem": (8, 8, 8, 8)}])
def test_a_stem_that_does_not_fit_is_refused(wrong):
    with pytest.raises(ValueError, match="stem"):
        vit.create(**TINY, **wrong)


def test_an_odd_image_is_refused_with_a_stem():
    with pytest.raises(ValueError, match="31x31 px"):
        jax.eval_shape(vit.create(**TINY, stem=(8,)).init, jax.random.key(0), jnp.zeros((1, 31, 31, 3)))


@pytest.mark.parametrize("stem", [(), (32, 64, 128)])
def test_flops_are_those_that_the_compiler_counts(stem):
    model = vit.create("S/16", depth=2, unroll=True, stem=stem)
    params = shapes(model, 224)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    counted = jax.jit(model.apply).lower({"params": params}, images).cost_analysis()["flops"]
    assert 1 <= counted / vit.flops(model, 224) < 1.05  # norms, softmax and GELU come on top
    assert vit.flops(vit.create("B/16", classes=1000), 224) == pytest.approx(2 * 17.58e9, rel=0.01)  # timm: 17.58 GMACs


def test_registry_builds_from_dicts_and_config_dicts():
    model = models.create({"name": "vit", "variant": "B/32", "classes": 7})
    assert (model.width, model.depth, model.heads, model.patch, model.classes) == (768, 12, 12, 32, 7)
    config = ml_collections.ConfigDict({"name": "vit", "variant": "S/16", "depth": 2, "mean": [0.4, 0.5, 0.6]})
    model = models.create(config)
    assert model.mean == (0.4, 0.5, 0.6)
    assert model.depth == 2
    assert hash(model) == hash(models.create({**config, "mean": (0.4, 0.5, 0.6)}))
    assert vit.create("H/14").patch == 14


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "vgg"}, "unknown model name 'vgg'.*known: .*vit"),
        ({"variant": "S/16"}, "unknown model name None"),
        (
            {"name": "vit", "variant": "XL/16"},
            "unknown ViT variant 'XL/16'; expected LETTER/PATCH or .*LETTER of Ti, S, B",
        ),
        ({"name": "vit", "variant": "S"}, "unknown ViT variant 'S'"),
        ({"name": "vit", "widht": 3}, "unknown ViT fields widht; known: classes, patch, stem, width"),
        ({"name": "vit", "gelu": "fast"}, "gelu='fast'; expected one of exact, tanh"),
        ({"name": "vit", "dtype": "float16"}, "dtype='float16'; expected one of float32, bfloat16"),
        ({"name": "vit", "remat": "some"}, "remat='some'; expected one of none, full, dots"),
        ({"name": "vit", "attention": "flash"}, "attention='flash'; expected one of auto, fused, plain"),
        ({"name": "vit", "heads": 5}, "width 384 is not a multiple of its 5 heads"),
    ],
)
def test_bad_configs_list_what_is_known(config, message):
    with pytest.raises(ValueError, match=message):
        models.create(config)


@pytest.mark.parametrize("shape", [(1, 32, 24, 3), (1, 36, 36, 3)])
def test_images_that_are_no_square_of_patches_are_refused(shape):
    with pytest.raises(ValueError, match=rf"{shape[1]}x{shape[2]} px; expected a square.*multiple of 8"):
        vit.create(**TINY).apply({"params": tiny_params()}, jnp.zeros(shape))


def test_models_import_without_tensorflow_clu_or_ml_collections():
    code = "import sys; from kdfas_jax.models.published import weights; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"tensorflow", "clu", "ml_collections", "torch"}.isdisjoint(loaded)
    assert "kdfas_jax.models.vit" in loaded
