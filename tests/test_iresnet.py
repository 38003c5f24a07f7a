"""IResNet: parity with insightface, published sizes, outputs, and the import's refusals."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import save_file

from kdfas_jax import models
from kdfas_jax.models import iresnet, resnet
from kdfas_jax.models.published import weights
from tests import golden_files
from tests.test_resnet import drawn, zeros

TINY = {"width": 8, "blocks": (1, 1, 1, 1), "embedding": 16}
IMAGES = np.random.default_rng(0).random((4, 32, 32, 3), np.float32)


def golden_file(name, folder):
    spec, theirs = golden_files.load(f"insightface_iresnet{name}")
    path = folder / f"iresnet{name}.safetensors"
    save_file(golden_files.golden_parameters(spec), path)
    return path, spec, theirs


@pytest.mark.parametrize("variant", ["18", pytest.param("50", marks=pytest.mark.slow)])
def test_parity_with_insightface(variant, tmp_path):
    path, spec, theirs = golden_file(variant, tmp_path)
    model = iresnet.create(variant)

    variables, facts = weights.load(path, model, zeros(model, 112))
    embedding, out = jax.jit(model.apply)(variables, golden_files.image(spec))

    assert facts == {"format": "insightface", "head_replaced": False, "dropped": []}
    assert golden_files.distance(embedding, theirs["logits"]) <= 1e-4
    for number, stage in enumerate(out["stages"], 1):
        assert golden_files.distance(stage.mean((1, 2)), theirs[f"layer{number}_mean"]) <= 1e-4


def test_class_centres_stay_fresh_where_a_backbone_is_imported(tmp_path):
    path, *_ = golden_file("18", tmp_path)
    fresh, backbone = zeros(iresnet.create("18", classes=8), 112), zeros(iresnet.create("18"), 112)
    fresh["params"]["centres"] += 0.5
    variables, facts = weights.load(path, iresnet.create("18", classes=8), fresh)
    assert facts["head_replaced"]
    params = dict(variables["params"])
    np.testing.assert_array_equal(params.pop("centres"), fresh["params"]["centres"])
    jax.tree.map(np.testing.assert_array_equal, params, weights.load(path, iresnet.create("18"), backbone)[0]["params"])


@pytest.mark.parametrize("variant", ["18", "50"])
def test_parameter_counts_are_those_of_the_published_state(variant):
    spec = json.loads((golden_files.GOLDEN / f"insightface_iresnet{variant}.json").read_text())
    counted = (name for name in spec["parameters"] if "running" not in name and "num_batches" not in name)
    expected = sum(int(np.prod(spec["parameters"][name])) for name in counted)
    assert models.count({"name": "iresnet", "variant": variant}, 112) == expected


@pytest.mark.parametrize(("variant", "gmacs"), [("18", 2.62), ("50", 6.33), ("100", 12.1)])
def test_flops_are_the_published_ones_less_the_products_with_padding(variant, gmacs):
    assert 0.92 < models.flops(iresnet.create(variant), 112) / (2e9 * gmacs) < 0.97


def test_outputs_are_named_and_fp32_also_in_bfloat16():
    variables = drawn(iresnet.create(**TINY))
    exact, out = jax.jit(iresnet.create(**TINY).apply)(variables, IMAGES)
    assert set(out) == {"embedding", "stages"}
    assert exact.shape == (4, 16)
    np.testing.assert_array_equal(exact, out["embedding"])
    assert [stage.shape for stage in out["stages"]] == [(4, 16, 16, 8), (4, 8, 8, 16), (4, 4, 4, 32), (4, 2, 2, 64)]

    rounded, out = jax.jit(iresnet.create(**TINY, dtype="bfloat16").apply)(variables, IMAGES)
    assert {leaf.dtype for leaf in jax.tree.leaves((rounded, out))} == {jnp.dtype(jnp.float32)}
    assert 1e-6 < np.linalg.norm(rounded - exact) / np.linalg.norm(exact) < 0.05


def test_training_normalises_by_the_batch_and_moves_every_statistic():
    model = iresnet.create(**TINY)
    variables = drawn(model)
    apply = jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))
    (embedding, _), updated = apply(variables, IMAGES)
    np.testing.assert_allclose(embedding.mean(0), 0, atol=1e-4)  # the last layer is a batch norm at scale 1, bias 0
    np.testing.assert_allclose(embedding.std(0), 1, atol=1e-2)
    before, after = (traverse_util.flatten_dict(tree["batch_stats"]) for tree in (variables, updated))
    assert all(np.abs(after[path] - before[path]).max() > 1e-3 for path in before if path[-1] == "var")


def test_prelu_has_a_slope_for_each_channel():
    x = jnp.array([[-2.0, -2.0, 3.0]])
    slopes = {"params": {"slope": jnp.array([0.5, -1.0, 9.0])}}
    np.testing.assert_array_equal(iresnet.PReLU().apply(slopes, x), [[-1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(iresnet.PReLU().init(jax.random.key(0), x)["params"]["slope"], [0.25] * 3)


def test_import_refuses_another_size_of_image_or_network_and_other_files(tmp_path):
    path, _, _ = golden_file("18", tmp_path)
    model = iresnet.create("18")
    with pytest.raises(ValueError, match=r"not an IResNet.*image_size to 112") as error:
        weights.load(path, model, zeros(model, 128))
    assert "fc/kernel: expected (32768, 512), found (25088, 512)" in str(error.value)
    deep = iresnet.create("50")
    with pytest.raises(ValueError, match=r"layer1_2/bn1/scale: expected \(64,\), missing"):
        weights.load(path, deep, zeros(deep, 112))
    plain = resnet.create("18")
    with pytest.raises(ValueError, match="is not a ResNet") as error:
        weights.load(path, plain, zeros(plain, 112))
    assert "conv1/kernel: expected (7, 7, 3, 64), found (3, 3, 3, 64)" in str(error.value)
    save_file({"conv1.weight": np.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"not a state dict of insightface: it has conv1.*; expected prelu\.weight"):
        weights.load(tmp_path / "other.safetensors", model, zeros(model, 112))


def test_a_model_without_published_weights_is_named():
    with pytest.raises(
        ValueError, match="no published weights for a Dense; expected one of ViT, ResNet, IResNet, Generator"
    ):
        weights.load("m.npz", resnet.nn.Dense(3), {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "34"}, "unknown IResNet variant '34'; known: 18, 50, 100"),
        ({"depth": 2}, "unknown IResNet fields depth; known: embedding, classes, blocks, width"),
        ({"dtype": "half"}, "IResNet dtype='half'; expected one of float32, bfloat16"),
    ],
)
def test_bad_options_list_what_is_known(options, message):
    with pytest.raises(ValueError, match=message):
        models.create({"name": "iresnet", **options})
