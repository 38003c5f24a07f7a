"""MobileFaceNet: parity with insightface, published sizes, both heads, shifted sums, and the import's refusals."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util
from safetensors.numpy import save_file

from kdfas_jax import models
from kdfas_jax.models import counting, iresnet, mobilefacenet
from kdfas_jax.models.published import weights
from kdfas_jax.objective import weighted_sum as objective
from kdfas_jax.targets import label
from kdfas_jax.training.experiment import outputs
from tests import golden_files
from tests.test_resnet import drawn, filled, shapes, zeros

TINY = {"image_size": 32, "width": 8, "scale": 2, "blocks": (1, 1, 1, 1), "embedding": 16}
IMAGES = np.random.default_rng(0).random((4, 32, 32, 3), np.float32)


@pytest.fixture(scope="module")
def golden_path(tmp_path_factory):
    """The golden parameters as a file of the published names."""
    spec, _ = golden_files.load("insightface_mobilefacenet")
    path = tmp_path_factory.mktemp("golden") / "mbf.safetensors"
    save_file(golden_files.golden_parameters(spec), path)
    return path


# Against the published network


@pytest.mark.parametrize("native", [False, True])
def test_parity_with_insightface(golden_path, native):
    spec, theirs = golden_files.load("insightface_mobilefacenet")
    model = mobilefacenet.create(native=native)
    variables, facts = weights.load(golden_path, model, zeros(model, 112))
    embedding, out = jax.device_get(jax.jit(model.apply)(variables, golden_files.image(spec)))
    assert facts == {"format": "insightface", "head_replaced": False, "dropped": []}
    assert golden_files.distance(embedding, theirs["logits"]) <= 1e-5
    assert [stage.shape[1:] for stage in out["stages"]] == [(56, 56, 128), (28, 28, 128), (14, 14, 256), (7, 7, 256)]


def test_class_centres_and_live_head_stay_fresh_where_a_backbone_is_imported(golden_path):
    model = mobilefacenet.create(classes=8, live_head=True)
    fresh = jax.tree.map(lambda leaf: np.full(leaf.shape, 7.0, np.float32), shapes(model, 112))
    variables, facts = weights.load(golden_path, model, fresh)
    assert facts == {"format": "insightface", "head_replaced": True, "dropped": []}
    params = traverse_util.flatten_dict(variables["params"], sep="/")
    stayed = {name for name, value in params.items() if np.all(value == 7)}
    assert stayed == {"centres", "live/kernel", "live/bias"}


def test_parameter_counts_are_the_published_ones():
    spec = json.loads((golden_files.GOLDEN / "insightface_mobilefacenet.json").read_text())
    counted = (name for name in spec["parameters"] if "running" not in name and "num_batches" not in name)
    published = sum(int(np.prod(spec["parameters"][name])) for name in counted)
    count = functools.partial(models.count, image_size=112)
    assert count({"name": "mobilefacenet"}) == published == 2_059_520
    assert count({"name": "mobilefacenet", "live_head": True}) == published + 1026
    original = traverse_util.flatten_dict(shapes(mobilefacenet.create("original"), 112)["params"])
    sizes = [leaf.size for path, leaf in original.items() if path[-1] != "slope"]
    assert 0.990e6 <= sum(sizes) < 1e6  # published as 0.99 million: so without the PReLUs' slopes [I]


def test_the_large_variant_has_residual_bottlenecks_in_its_first_stage():
    tree = shapes(mobilefacenet.create("mbf_large"), 112)["params"]
    assert tree["layers_1"]["layers_1"]["layers_1"]["layers_0"]["kernel"].shape == (3, 3, 1, 128)
    assert tree["layers_1"]["layers_1"]["layers_2"]["layers_0"]["kernel"].shape == (1, 1, 128, 256)
    assert len(tree["layers_5"]) == 12


def test_flops_are_the_published_ones_less_the_products_with_padding():
    model = mobilefacenet.create()
    assert 0.96 < models.flops(model, 112) / (2 * 0.45e9) < 1
    images = jax.ShapeDtypeStruct((1, 112, 112, 3), jnp.float32)
    for native in (False, True):
        lowered = jax.jit(mobilefacenet.create(native=native).apply).lower(shapes(model, 112), images)
        assert 1 < lowered.cost_analysis()["flops"] / models.flops(model, 112) < 1.03  # norms and PReLUs come on top


# Convolutions in groups

GROUPED = {
    "depthwise": {"features": 8, "kernel_size": (3, 3), "strides": 1, "padding": 1, "feature_group_count": 8},
    "strided": {"features": 8, "kernel_size": (3, 3), "strides": 2, "padding": 1, "feature_group_count": 8},
    "pairs": {"features": 12, "kernel_size": (3, 3), "strides": 1, "padding": 1, "feature_group_count": 4},
    "global": {"features": 8, "kernel_size": (5, 5), "strides": 1, "padding": 0, "feature_group_count": 8},
}


@pytest.mark.parametrize("kind", GROUPED)
def test_shifted_sums_and_their_gradients_are_the_convolutions(kind):
    options = {**GROUPED[kind], "use_bias": False}
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 5, 5, 8), np.float32)
    variables = filled(jax.eval_shape(nn.Conv(**options).init, jax.random.key(0), x))

    def gradients(layer):
        def loss(variables, x):
            y = layer.apply(variables, x)
            return jnp.sum(jnp.sin(y) * jnp.arange(y.size).reshape(y.shape)), y

        return jax.device_get(jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(variables, x))

    ours, flax = gradients(mobilefacenet.Shifted(**options)), gradients(nn.Conv(**options))
    assert jax.tree.structure(ours) == jax.tree.structure(flax)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(flax), strict=True):
        assert golden_files.distance(one, other) < 1e-5


@pytest.mark.parametrize("kind", GROUPED)
def test_the_count_of_flops_knows_groups(kind):
    layer, x = nn.Conv(**GROUPED[kind], use_bias=False), jax.ShapeDtypeStruct((1, 5, 5, 8), jnp.float32)
    variables = jax.eval_shape(layer.init, jax.random.key(0), x)
    counted = counting.forward(layer, x)
    assert counted == jax.jit(layer.apply).lower(variables, x).cost_analysis()["flops"]
    assert counted == counting.forward(mobilefacenet.Shifted(**GROUPED[kind], use_bias=False), x)


# Outputs


def test_outputs_are_named_and_fp32_also_in_bfloat16():
    model = mobilefacenet.create(**TINY)
    variables = drawn(model)
    exact, out = jax.device_get(jax.jit(model.apply)(variables, IMAGES))
    assert set(out) == {"embedding", "stages"}
    assert exact.shape == (4, 16)
    np.testing.assert_array_equal(exact, out["embedding"])
    assert [stage.shape for stage in out["stages"]] == [(4, 16, 16, 16), (4, 8, 8, 16), (4, 4, 4, 32), (4, 2, 2, 32)]

    rounded, out = jax.device_get(jax.jit(mobilefacenet.create(**TINY, dtype="bfloat16").apply)(variables, IMAGES))
    assert {leaf.dtype for leaf in jax.tree.leaves((rounded, out))} == {jnp.dtype(jnp.float32)}
    assert 1e-6 < np.linalg.norm(rounded - exact) / np.linalg.norm(exact) < 0.05


def test_with_a_live_head_the_first_output_is_its_logits_of_the_last_map():
    model = mobilefacenet.create(**TINY, live_head=True)
    variables = drawn(model)
    apply = jax.jit(functools.partial(model.apply, capture_intermediates=lambda module, _: module.name == "conv_sep"))
    (first, out), seen = jax.device_get(apply(variables, IMAGES))
    (last,) = seen["intermediates"]["conv_sep"]["__call__"]
    assert set(out) == {"embedding", "stages", "logits", "pre_logits"}
    np.testing.assert_array_equal(first, out["logits"])
    np.testing.assert_allclose(out["pre_logits"], last.mean((1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(first, out["pre_logits"] @ variables["params"]["live"]["kernel"], rtol=1e-4, atol=1e-6)
    assert jax.eval_shape(label.live_probability, first, out).shape == (4,)


def test_class_centres_are_named_where_there_are_people():
    centres = outputs(mobilefacenet.create(**TINY, classes=5), 32)["centres"]
    assert (centres.shape, centres.dtype) == ((5, 16), jnp.float32)


def test_stages_pair_with_those_of_an_iresnet():
    terms = {"align": {"kind": "align", "weight": 1.0, "teacher": "face"}}
    mine, theirs = (outputs(model, 112) for model in (mobilefacenet.create(), iresnet.create("50")))
    assert [stage.shape[:3] for stage in mine["stages"]] == [stage.shape[:3] for stage in theirs["stages"]]
    made = objective.Objective(terms, {"face": None})
    projectors = jax.eval_shape(lambda: made.init(jax.random.key(0), mine, {"face": theirs}))["align"]
    assert projectors["stage4_4"]["kernel"].shape == (256, 512)


def test_training_normalises_by_the_batch_and_moves_every_statistic():
    model = mobilefacenet.create(**TINY)
    variables = drawn(model)
    apply = jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))
    (embedding, _), updated = jax.device_get(apply(variables, IMAGES))
    np.testing.assert_allclose(embedding.mean(0), 0, atol=1e-4)  # the last layer is a batch norm at scale 1, bias 0
    np.testing.assert_allclose(embedding.std(0), 1, atol=1e-2)
    before, after = (traverse_util.flatten_dict(tree["batch_stats"]) for tree in (variables, updated))
    assert all(np.abs(after[path] - before[path]).max() > 1e-3 for path in before if path[-1] == "var")


@pytest.mark.parametrize(("size", "side"), [(64, 4), (100, 7), (112, 7), (128, 8)])
def test_the_global_convolution_spans_the_last_map(size, side):
    tree = shapes(mobilefacenet.create(**{**TINY, "image_size": size}), size)["params"]
    assert tree["features"]["layers_0"]["layers_0"]["kernel"].shape == (side, side, 1, 64)


# Refusals


def test_images_of_another_size_are_refused():
    model = mobilefacenet.create(**TINY)
    with pytest.raises(ValueError, match=r"images are 64x64 px, the MobileFaceNet's image_size is 32; set config"):
        shapes(model, 64)


def test_import_refuses_another_size_of_image_or_network_and_other_files(golden_path, tmp_path):
    large = mobilefacenet.create(image_size=128)
    with pytest.raises(ValueError, match=r"for images of 128 px; set the model's variant and image_size") as error:
        weights.load(golden_path, large, zeros(large, 128))
    expected = "features/layers_0/layers_0/kernel: expected (8, 8, 1, 512), found (7, 7, 1, 512)"
    assert expected in str(error.value)
    original = mobilefacenet.create("original")
    with pytest.raises(ValueError, match=r"not a MobileFaceNet of \(1, 4, 6, 2\) blocks, scale 1, width 64"):
        weights.load(golden_path, original, zeros(original, 112))
    save_file({"prelu.weight": np.zeros(3)}, tmp_path / "iresnet.safetensors")
    with pytest.raises(ValueError, match=r"not a state dict of insightface: .* expected conv_sep\.layers\.0\.weight"):
        weights.load(tmp_path / "iresnet.safetensors", original, zeros(original, 112))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "small"}, "unknown MobileFaceNet variant 'small'; known: original, mbf, mbf_large"),
        ({"depth": 2}, "unknown MobileFaceNet fields depth; known: image_size, embedding, classes, live_head"),
        ({"dtype": "half"}, "MobileFaceNet dtype='half'; expected one of float32, bfloat16"),
    ],
)
def test_bad_options_list_what_is_known(options, message):
    with pytest.raises(ValueError, match=message):
        models.create({"name": "mobilefacenet", **options})
