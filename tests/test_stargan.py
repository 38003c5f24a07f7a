"""StarGAN: parity of both networks with the published ones, their import, and the losses that train them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util

from kdfas_jax import models
from kdfas_jax.models import counting, stargan
from kdfas_jax.models.published import stargan as weights_stargan
from kdfas_jax.models.published import weights
from kdfas_jax.objective import losses
from tests import golden_files

arcface_logits = jax.jit(losses.arcface_logits, static_argnames=("s", "m"))  # eager dispatch is slow

SMALL = {"classes": 3, "image_size": 16, "width": 4, "repeats": 2}


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def images(seed=0, b=2, size=16):
    return np.random.default_rng(seed).random((b, size, size, 3), np.float32)


def expected(model, *inputs):
    """{our name: shape} of a model's variables, all collections in one name space."""
    variables = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    return {key: leaf for tree in variables.values() for key, leaf in traverse_util.flatten_dict(tree, sep="/").items()}


def variables(found):
    """The variables for `apply` from {our name: array}."""
    statistics = {key: found[key] for key in found if key.endswith(("/mean", "/var"))}
    params = {key: found[key] for key in found if key not in statistics}
    trees = {"params": params, "batch_stats": statistics}
    return {name: traverse_util.unflatten_dict(tree, sep="/") for name, tree in trees.items()}


def drawn(model, *inputs):
    """Variables drawn at random, without compiling the model's own initialisation; unit variances, means of zero."""
    rng = np.random.default_rng(0)
    constants = {"mean": np.zeros, "var": np.ones, "bias": np.zeros, "scale": np.ones}
    return variables(
        {
            key: constants.get(key.rpartition("/")[2], rng.standard_normal)(leaf.shape).astype(np.float32) * fan(leaf)
            for key, leaf in expected(model, *inputs).items()
        }
    )


def fan(leaf):
    return 1 if len(leaf.shape) == 1 else np.float32(np.prod(leaf.shape[:-1]) ** -0.5)


# The networks


def test_the_discriminator_agrees_with_the_published_one():
    spec, theirs = golden_files.load("stargan_discriminator")
    model, image = stargan.create_discriminator(), golden_files.image(spec)
    found, facts = weights_stargan.convert_discriminator(
        golden_files.golden_parameters(spec), model, expected(model, image), "D.pth"
    )
    logits, out = jax.jit(model.apply)(variables(found), image)
    assert facts == {"format": "stargan", "head_replaced": False, "dropped": []}
    assert golden_files.distance(logits, theirs["attributes"]) <= 1e-4
    assert golden_files.distance(out["source"], theirs["source"][:, 0]) <= 1e-4
    np.testing.assert_array_equal(logits, out["logits"])
    assert [stage.shape[1:] for stage in out["stages"]] == [(64 >> i, 64 >> i, 64 << i) for i in range(6)]


def test_the_generator_agrees_with_the_published_one_in_evaluation():
    spec, theirs = golden_files.load("stargan_generator")
    model, image, attributes = stargan.Generator(), golden_files.image(spec), theirs["attributes"]
    found, _ = weights_stargan.convert_generator(
        golden_files.golden_parameters(spec), model, expected(model, image, attributes), "G.pth"
    )
    edited = np.asarray(jax.jit(model.apply)(variables(found), image, attributes))
    assert 0 <= edited.min() < edited.max() <= 1
    assert golden_files.distance(2 * edited.transpose(0, 3, 1, 2)[:, :, ::8, ::8] - 1, theirs["image_every8"]) <= 1e-4


def test_training_edits_each_image_alone_and_evaluation_by_the_running_statistics():
    model, x, asked = stargan.Generator(width=4, repeats=1), images(b=3), np.eye(3, dtype=np.float32)
    state = drawn(model, x, asked)
    train = jax.jit(lambda x, asked: model.apply(state, x, asked, train=True, mutable=["batch_stats"]))
    evaluate = jax.jit(model.apply)
    trained, updates = jax.device_get(train(x, asked))
    usual = np.asarray(evaluate(state, x, asked))
    np.testing.assert_allclose(trained[1:2], train(x[1:2], asked[1:2])[0], atol=1e-5)
    assert np.abs(usual - trained).max() > 1e-3
    assert jax.tree.structure(updates["batch_stats"]) == jax.tree.structure(state["batch_stats"])
    assert np.abs(evaluate(state | updates, x, asked) - usual).max() > 1e-3
    assert np.abs(evaluate(state, x, 0 * asked) - usual).max() > 1e-3


def test_instance_norm_by_hand():
    x, norm = 3 + 2 * random(0, 2, 4, 4, 3), stargan.InstanceNorm(train=True, dtype="float32")
    state = jax.jit(norm.init)(jax.random.key(0), x)
    np.testing.assert_array_equal(state["batch_stats"]["mean"], np.zeros(3))  # initialising is no training
    y, updates = jax.jit(lambda x: norm.apply(state, x, mutable=["batch_stats"]))(x)
    mean, var = x.mean((1, 2)), x.var((1, 2))
    np.testing.assert_allclose(y, (x - mean[:, None, None]) / np.sqrt(var + 1e-5)[:, None, None], atol=1e-5)
    np.testing.assert_allclose(updates["batch_stats"]["mean"], 0.1 * mean.mean(0), rtol=1e-5)
    np.testing.assert_allclose(updates["batch_stats"]["var"], 0.9 + 0.1 * (var * 16 / 15).mean(0), rtol=1e-5)


def test_the_small_discriminator_has_fp32_parameters_and_outputs_in_both_dtypes():
    outputs = {}
    for dtype in ("float32", "bfloat16"):
        model = models.create({"name": "stargan_discriminator", "dtype": dtype, **SMALL})
        assert {leaf.dtype for leaf in expected(model, images()).values()} == {np.dtype("float32")}
        logits, outputs[dtype] = jax.jit(model.apply)(drawn(model, images()), images())
        assert logits.shape == (2, 3)
        assert outputs[dtype]["source"].shape == (2, 4, 4)
        assert {leaf.dtype for leaf in jax.tree.leaves(outputs[dtype])} == {np.dtype("float32")}
    for one, other in zip(*map(jax.tree.leaves, outputs.values()), strict=True):
        assert 0 < golden_files.distance(other, one) < 0.02


def test_flops_are_those_the_compiler_counts():
    def compiled(model, *inputs):
        state = jax.eval_shape(model.init, jax.random.key(0), *inputs)
        return jax.jit(model.apply).lower(state, *inputs).cost_analysis()["flops"]

    image, asked = jax.ShapeDtypeStruct((1, 128, 128, 3), jnp.float32), jax.ShapeDtypeStruct((1, 5), jnp.float32)
    judge, editor = stargan.create_discriminator(), stargan.Generator()
    assert counting.of_image(judge, 128) == pytest.approx(compiled(judge, image), rel=0.005)
    # The compiler takes the zeros that `Up` pads with for numbers.
    assert counting.forward(editor, image, asked) == pytest.approx(compiled(editor, image, asked), rel=0.01)


def test_up_is_flax_transposed_convolution():
    options = {"kernel_size": (4, 4), "strides": (2, 2), "padding": ((2, 2), (2, 2)), "use_bias": False}
    x, kernel, weight = random(0, 2, 5, 3, 4), random(1, 4, 4, 6, 4), random(2, 2, 10, 6, 6)

    def gradients(layer):
        def loss(kernel, x):
            return (layer.apply({"params": {"kernel": kernel}}, x) * weight).sum()

        return jax.value_and_grad(loss, argnums=(0, 1))

    layers = stargan.Up(6, **options), nn.ConvTranspose(6, transpose_kernel=True, **options)
    ours, flax = jax.jit(lambda *of: [gradients(layer)(*of) for layer in layers])(kernel, x)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(flax), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


# Refusals


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"depth": 3}, "unknown StarGAN discriminator fields depth; known: classes, image_size, width"),
        ({"dtype": "float16"}, "expected one of float32, bfloat16"),
        ({"image_size": 100}, "image_size=100 is not a multiple of 2**repeats = 64"),
    ],
)
def test_a_wrong_option_is_refused(overrides, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        stargan.create_discriminator(**overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"width": 3}, "unknown StarGAN fields width; known: classes, image_size, generator_width"),
        ({"dtype": "float16"}, "StarGAN dtype='float16'; expected one of float32, bfloat16"),
        ({"image_size": 80}, "StarGAN image_size=80 is not a multiple of 2**discriminator_repeats = 64"),
        ({"image_size": 6, "discriminator_repeats": 1}, "StarGAN image_size=6 is not a multiple of 4"),
    ],
)
def test_a_wrong_option_of_the_whole_is_refused(overrides, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        models.create({"name": "stargan", **overrides})


def test_images_of_a_wrong_size_are_refused():
    with pytest.raises(ValueError, match="images are 32x32 px; the discriminator's image_size is 16"):
        stargan.create_discriminator(**SMALL).init(jax.random.key(0), images(size=32))
    with pytest.raises(ValueError, match="images are 18x18 px; expected sides that are multiples of 4"):
        stargan.Generator(width=4, repeats=1).init(jax.random.key(0), images(size=18), np.zeros((2, 3)))


def test_a_file_of_another_discriminator_is_refused():
    model = stargan.create_discriminator(**SMALL)
    theirs = {"main.0.weight": random(0, 8, 3, 4, 4), "extra.bias": random(0, 8)}
    with pytest.raises(ValueError, match=r"D\.pth is not a StarGAN discriminator of image_size 16") as error:
        weights_stargan.convert_discriminator(theirs, model, expected(model, images()), "D.pth")
    assert "conv1/kernel: expected (4, 4, 3, 4), found (4, 4, 3, 8)" in str(error.value)
    assert "extra.bias: unexpected" in str(error.value)


def test_a_file_of_another_generator_is_refused():
    model = stargan.Generator(width=4, repeats=1)
    names = expected(model, images(), np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"G\.pth is not a StarGAN generator of width 4, repeats 1"):
        weights_stargan.convert_generator({"main.0.weight": random(0, 4, 6, 7, 7)}, model, names, "G.pth")


# Losses of StarGAN


def test_the_critic_and_its_generator_by_hand():
    real, fake = np.float32([[[1.0, 3.0]], [[0.0, 0.0]]]), np.float32([[[4.0, 0.0]], [[-1.0, 0.0]]])
    np.testing.assert_allclose(jax.jit(losses.wgan_critic)(real, fake), [0.0, -0.5])
    np.testing.assert_allclose(jax.jit(losses.wgan_generator)(fake), [-2.0, 0.5])


def test_the_penalty_of_a_linear_critic_is_that_of_its_weights():
    w, key = random(1, 4, 4, 3), jax.random.key(0)
    norm = np.linalg.norm(w)

    def penalty(w, **options):
        return losses.gradient_penalty(lambda x: (x * w).sum(-1), images(0, 2, 4), images(1, 2, 4), key, **options)

    @jax.jit
    def both_and_gradient(w):
        return penalty(w), penalty(w, std=0.5), jax.grad(lambda w: penalty(w).mean())(w)

    plain, halved, gradient = both_and_gradient(w)
    np.testing.assert_allclose(plain, [(norm - 1) ** 2] * 2, rtol=1e-5)
    np.testing.assert_allclose(halved, [(norm / 2 - 1) ** 2] * 2, rtol=1e-5)
    np.testing.assert_allclose(gradient, 2 * (norm - 1) * w / norm, rtol=1e-4, atol=1e-6)


def test_the_penalty_is_taken_between_real_and_fake_at_a_place_of_each_example():
    real, fake = (np.full((64, 2, 2, 3), level, np.float32) for level in (10, 20))
    penalty = jax.jit(lambda *of: losses.gradient_penalty(lambda x: 0.5 * x**2, *of))  # its slope is x itself
    values = np.asarray(penalty(real, fake, jax.random.key(0)))
    pixel = (1 + np.sqrt(values)) / np.sqrt(12)
    assert 10 <= pixel.min() < 11
    assert 19 < pixel.max() <= 20.001
    assert len(np.unique(pixel)) == 64


def test_the_penalty_of_a_flat_critic_has_a_finite_gradient():
    def penalty(w):
        return losses.gradient_penalty(lambda x: w * x.sum(-1), images(0), images(1), jax.random.key(0)).mean()

    value, gradient = jax.jit(jax.value_and_grad(penalty))(0.0)
    assert value == pytest.approx(1, rel=1e-5)
    assert np.isfinite(gradient)


def test_attribute_cross_entropy_by_hand():
    logits = np.log(np.float32([[1.0, 3.0], [1.0, 1.0]]))  # probabilities 1/2, 3/4
    value = jax.jit(losses.attribute_cross_entropy)(logits, np.float32([[1.0, 0.0], [0.0, 0.5]]))
    np.testing.assert_allclose(value, [np.log(2) + np.log(4), 2 * np.log(2)], rtol=1e-6)


def test_reconstruction_is_the_mean_absolute_difference_of_each_example():
    x, y = images(0), images(1)
    np.testing.assert_allclose(jax.jit(losses.reconstruction)(x, y), np.abs(x - y).mean((1, 2, 3)), rtol=1e-5)


# The margin of recognition, and the alignment of features


def margin_by_angles(embedding, weights, labels, s, m):
    """ArcFace by its angles, fp64."""
    embedding, weights = embedding.astype(np.float64), weights.astype(np.float64)
    cos = embedding @ weights.T / np.linalg.norm(embedding, axis=1)[:, None] / np.linalg.norm(weights, axis=1)
    logits = s * cos
    for i, label in enumerate(labels):
        theta = np.arccos(np.clip(cos[i, label], -1, 1))
        logits[i, label] = s * (np.cos(theta + m) if theta + m < np.pi else np.cos(theta) - m * np.sin(m))
    return logits


def circle(theta):
    return np.stack([np.cos(theta), np.sin(theta)], axis=-1).astype(np.float32)


def test_arcface_adds_its_margin_to_the_angle_of_the_own_class():
    embedding, centres, labels = random(0, 6, 4), 3 * random(1, 5, 4), np.array([0, 1, 2, 3, 4, 0])
    embedding[0] = -centres[0] + 0.1  # beyond pi - m
    ours = arcface_logits(embedding, centres, labels, s=30.0, m=0.5)
    np.testing.assert_allclose(ours, margin_by_angles(embedding, centres, labels, 30.0, 0.5), rtol=1e-4, atol=1e-4)
    none = arcface_logits(embedding, centres, np.full(6, -1), s=30.0, m=0.5)
    np.testing.assert_allclose(none, arcface_logits(embedding, centres, labels, s=30.0, m=0.0), atol=1e-4)


def test_the_own_logit_of_arcface_falls_with_the_angle_up_to_pi():
    theta = np.linspace(0.01, np.pi - 0.01, 200)
    logits = np.asarray(arcface_logits(circle(theta), np.float32([[1.0, 0.0]]), np.zeros(200, int), s=1.0, m=0.5))
    assert (np.diff(logits[:, 0]) < 0).all()


def test_arcface_is_finite_where_embedding_and_centre_are_parallel():
    centres = np.float32([[0.6, 0.8], [1.0, 0.0]])

    def loss(embedding, centres):
        logits = losses.arcface_logits(embedding, centres, np.zeros(1, int))
        return losses.cross_entropy(logits, np.float32([[1.0, 0.0]])).sum()

    both = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    for embedding in (centres[:1], -centres[:1], 5 * centres[:1], np.zeros((1, 2), np.float32)):
        value, gradients = both(embedding, centres)
        assert all(np.isfinite(leaf).all() for leaf in (value, *gradients))


def test_align_by_hand_and_on_another_grid():
    student, teacher = random(0, 2, 4, 4, 5), random(1, 2, 4, 4, 5)

    def units(x):
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    def by_hand(s, t):
        return ((units(s) - units(t)) ** 2).sum(-1).mean((1, 2))

    align = jax.jit(losses.align)
    np.testing.assert_allclose(align(student, teacher), by_hand(student, teacher), rtol=1e-5)
    np.testing.assert_allclose(align(3 * teacher, teacher), 0, atol=1e-6)
    np.testing.assert_allclose(align(-teacher, teacher), 4, rtol=1e-6)
    flat = np.broadcast_to(teacher[:, :1, :1], (2, 7, 7, 5))  # resizing leaves a constant map as it is
    # A finer map is averaged over the cells of the coarser grid, whosever it is: to one position by the plain mean.
    mean, point = student.mean((1, 2), keepdims=True), teacher[:, :1, :1]
    halves = student.reshape(2, 2, 2, 2, 2, 5).mean((2, 4))
    # Four positions on three cells: each cell is 4/3 wide, one whole position and a third, or two thirds twice.
    thirds = np.array([[3, 1, 0, 0], [0, 2, 2, 0], [0, 0, 1, 3]]) / 4
    uneven = np.einsum("ih,jw,bhwc->bijc", thirds, thirds, student)
    two, three = teacher[:, :2, :2], teacher[:, :3, :3]
    pairs = [(student, flat), (student, point), (point, student), (student, two), (student, three)]
    means = [(student, point), (mean, point), (mean, point), (halves, two), (uneven, three)]
    found = jax.jit(lambda pairs: [losses.align(*pair) for pair in pairs])(pairs)
    for distance, pair in zip(found, means, strict=True):
        np.testing.assert_allclose(distance, by_hand(*pair), rtol=1e-5)


@jax.jit
@jax.value_and_grad
def own_logit(embedding, centre):
    return losses.arcface_logits(embedding, centre, np.zeros(1, int), s=1.0)[0, 0]


@pytest.mark.parametrize(("theta", "off", "slope_off"), [(1e-5, 1e-3, None), (1e-2, 2e-5, 5e-3), (0.1, 2e-6, 5e-5)])
def test_arcface_near_its_centre_is_as_precise_as_its_docstring_says(theta, off, slope_off):
    """Against the angle in float64: the own logit by its scale, and the gradient of the embedding."""
    centre, other = random(0, 1, 512).astype(float), random(1, 1, 512).astype(float)
    unit = centre / np.linalg.norm(centre)
    across = other - (other @ unit.T) * unit
    across /= np.linalg.norm(across)
    embedding = (np.cos(theta) * unit + np.sin(theta) * across).astype(np.float32)
    unit = (w := centre.astype(np.float32)).astype(float) / np.linalg.norm(w.astype(float))
    across = (e := embedding.astype(float) / np.linalg.norm(embedding.astype(float))) - unit
    angle = 2 * np.arcsin(np.linalg.norm(across) / 2)
    value, slope = own_logit(embedding, w)
    assert value == pytest.approx(np.cos(angle + 0.5), abs=off)
    if slope_off:
        towards = (unit - np.cos(angle) * e) / np.sin(angle)  # away from it the angle grows by one a radian
        exact = np.sin(angle + 0.5) * towards / np.linalg.norm(embedding.astype(float))
        np.testing.assert_allclose(np.linalg.norm(slope - exact), 0, atol=slope_off * np.linalg.norm(exact))


def test_align_refuses_features_of_other_channels():
    with pytest.raises(ValueError, match="the student's feature map has 1 channels, the teacher's 5"):
        losses.align(random(0, 2, 4, 4, 1), random(1, 2, 4, 4, 5))


def test_the_published_files_suffix_is_known(tmp_path):
    """200000-D.ckpt is a PyTorch file: what stops a damaged one is its content, or that PyTorch is missing."""
    path = tmp_path / "200000-D.ckpt"
    path.write_bytes(b"no weights")
    with pytest.raises((ImportError, ValueError), match=r"PyTorch is not installed|cannot be read"):
        weights.read(path)
