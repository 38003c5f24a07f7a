"""ResNet: parity with torchvision, published sizes, outputs, batch statistics in training, and every refusal."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util
from safetensors.numpy import save_file

from kdfas_jax import models
from kdfas_jax.models import resnet
from kdfas_jax.models.published import weights
from kdfas_jax.objective import perturb
from kdfas_jax.objective.weighted_sum import Objective
from kdfas_jax.parallel import sharding
from kdfas_jax.targets import label
from kdfas_jax.training import step, teachers
from kdfas_jax.training.checkpoint import Checkpoints
from kdfas_jax.training.experiment import Experiment, Frozen
from tests import golden_files

TINY = {"width": 8, "blocks": (1, 1, 1, 1)}
MESH = sharding.make_mesh({"data": -1, "fsdp": 1})
IMAGES = np.random.default_rng(0).random((4, 32, 32, 3), np.float32)


@functools.cache
def shapes(model, size=32):
    return jax.eval_shape(lambda: step.init_variables(model, size, 0))


def zeros(model, size=32):
    """Variables to import over."""
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes(model, size))


def drawn(model, size=32):
    """Variables as training starts from, drawn by numpy: compiling the model's own initialisation takes longer."""
    return filled(shapes(model, size))


def filled(tree):
    rng = np.random.default_rng(1)
    constants = {"scale": 1.0, "var": 1.0, "slope": 0.25, "bias": 0.0, "mean": 0.0}

    def draw(path, leaf):
        if path[-1].key == "kernel":
            return rng.standard_normal(leaf.shape, np.float32) * np.float32(2 / np.prod(leaf.shape[:-1])) ** 0.5
        return np.full(leaf.shape, constants[path[-1].key], np.float32)

    return jax.tree_util.tree_map_with_path(draw, tree)


def as_torchvision(variables):
    """A torchvision state dict of the variables of a model without bottleneck, written apart from the importer."""
    state = {}
    norm = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    for tree in variables.values():
        for path, value in traverse_util.flatten_dict(tree).items():
            *modules, leaf = path
            name = ".".join(part.replace("_", ".") for part in modules)
            value = np.asarray(value)
            if leaf == "kernel":
                value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
            state[f"{name}.{'weight' if leaf == 'kernel' else norm[leaf]}"] = np.ascontiguousarray(value)
    return state


def saved(state, path):
    save_file(state, path)
    return path


def test_parity_with_torchvision(tmp_path):
    spec, theirs = golden_files.load("torchvision_resnet18")
    path = saved(golden_files.golden_parameters(spec), tmp_path / "resnet18.safetensors")
    model = resnet.create("18", classes=1000, mean=0.5, std=0.5)

    variables, facts = weights.load(path, model, zeros(model, 224))
    logits, out = jax.device_get(jax.jit(model.apply)(variables, golden_files.image(spec)))

    assert facts == {"format": "torchvision", "head_replaced": False, "dropped": []}
    assert golden_files.distance(logits, theirs["logits"]) <= 1e-4
    for number, stage in enumerate(out["stages"], 1):
        assert golden_files.distance(stage.mean((1, 2)), theirs[f"layer{number}_mean"]) <= 1e-4


@pytest.mark.parametrize(("variant", "count"), [("18", 11_689_512), ("34", 21_797_672), ("50", 25_557_032)])
def test_parameter_counts_are_the_published_ones_without_statistics(variant, count):
    assert models.count({"name": "resnet", "variant": variant, "classes": 1000}, 224) == count


@pytest.mark.parametrize(("variant", "gmacs"), [("18", 1.82), ("34", 3.68), ("50", 4.12)])
def test_flops_are_the_published_ones_less_the_products_with_padding(variant, gmacs):
    model = resnet.create(variant, classes=1000)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    counted = jax.jit(model.apply).lower(shapes(model, 224), images).cost_analysis()["flops"]
    assert 1 <= counted / models.flops(model, 224) < 1.01  # norms and ReLUs come on top
    assert 0.90 < models.flops(model, 224) / (2e9 * gmacs) < 0.97


def test_initialisation_is_torchvisions():
    key = jax.random.key(0)
    kernel, dense = jax.device_get(
        jax.jit(lambda: (resnet.KAIMING(key, (3, 3, 64, 128)), resnet.UNIFORM(key, (400, 100))))()
    )
    assert kernel.std() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)
    assert 0.049 < abs(dense).max() <= 0.05
    assert dense.std() == pytest.approx(0.05 / 3**0.5, rel=0.02)


@functools.cache
def tiny():
    """(variables, outputs for IMAGES) of the tiny model."""
    variables = drawn(resnet.create(**TINY))
    return variables, jax.device_get(jax.jit(resnet.create(**TINY).apply)(variables, IMAGES))


def test_outputs_are_named_fp32_and_consistent():
    variables, (logits, out) = tiny()
    assert set(out) == {"logits", "stages", "pre_logits"}
    assert [stage.shape for stage in out["stages"]] == [(4, 8, 8, 8), (4, 4, 4, 16), (4, 2, 2, 32), (4, 1, 1, 64)]
    np.testing.assert_array_equal(logits, out["logits"])
    np.testing.assert_allclose(out["pre_logits"], out["stages"][-1].mean((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(logits, out["pre_logits"] @ variables["params"]["fc"]["kernel"], atol=1e-5)


def test_bottlenecks_have_four_times_the_channels_and_the_stride_in_the_middle():
    tree = shapes(resnet.create("50", **TINY))["params"]
    assert tree["layer2_0"]["conv1"]["kernel"].shape == (1, 1, 32, 16)
    assert tree["layer2_0"]["conv3"]["kernel"].shape == (1, 1, 16, 64)
    block = resnet.Block(width=8, stride=2, bottleneck=True, dtype="float32")
    seen = {}

    def note(call, args, kwargs, context):
        seen[context.module.name] = call(*args, **kwargs)
        return seen[context.module.name]

    with resnet.nn.intercept_methods(note):
        jax.eval_shape(lambda x: block.init(jax.random.key(0), x, False), jnp.zeros((1, 8, 8, 8)))
    assert [seen[name].shape[1] for name in ("conv1", "conv2", "conv3")] == [8, 4, 4]


def test_bfloat16_computes_near_fp32_and_returns_fp32():
    variables, (exact, _) = tiny()
    model = resnet.create(**TINY, dtype="bfloat16")
    logits, out = jax.device_get(jax.jit(model.apply)(variables, IMAGES))
    assert {leaf.dtype for leaf in jax.tree.leaves((logits, out))} == {jnp.dtype(jnp.float32)}
    assert 1e-6 < np.linalg.norm(logits - exact) / np.linalg.norm(exact) < 0.05  # rounded, but to the same thing
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes(model))} == {jnp.dtype(jnp.float32)}


@functools.cache
def student():
    """A tiny student taught by another ResNet, with projectors, a domain head, and under attack: all of DTDA's parts.

    Gives its first state, advance(state, steps) -> (state, losses), a batch.
    """
    model, teacher, judge = resnet.create(**TINY), resnet.create("50", **TINY), resnet.create(**TINY, classes=3)
    terms = {
        "ce": {"kind": "cross_entropy", "weight": 1.0},
        "kl": {"kind": "kl", "weight": 0.1, "teacher": "face", "temperature": 2.0},
        "align": {"kind": "align", "weight": 0.1, "teacher": "face"},
        "adversary": {"kind": "domain_adversary", "weight": 0.1, "domains": 3, "hidden": 8},
    }
    objective, optimiser = Objective(terms, {"face": None}), optax.sgd(0.1, momentum=0.9)
    rng = np.random.default_rng(0)
    labels = np.arange(16) % 2
    pixels = (rng.integers(0, 128, (16, 32, 32, 3)) + 100 * labels[:, None, None, None]).astype(np.uint8)
    batch = {"image": pixels, "label": np.eye(2, dtype=np.float32)[labels], "domain": np.arange(16, dtype=np.int32) % 3}
    frozen = {"face": drawn(teacher), "domains": drawn(judge)}
    attack = perturb.Attack("domains", {"steps": 1})
    networks = {"face": Frozen(teacher, 32), "domains": Frozen(judge, 32)}
    made = Experiment(model, 32, objective, optimiser, 0, networks, attack, steps=5)
    heads = filled(jax.eval_shape(lambda: objective.init(jax.random.key(0), made.outputs(), made.taught())))
    start = step.TrainState(np.int32(0), **drawn(model), term_params=heads, opt_state=None)
    start = start.replace(opt_state=jax.jit(optimiser.init)(start.trained))
    compiled = step.compiled(made, MESH, start)

    def advance(state, steps):
        losses, state = [], jax.device_put(state, sharding.tree(MESH, state))
        for _ in range(steps):
            state, metrics = compiled(state, frozen, sharding.place_batch(MESH, batch), np.uint32(0))
            losses.append(float(metrics["ce"]))
        return state, losses

    return jax.device_get(start), advance, batch


def test_a_student_learns_and_its_statistics_move():
    start, advance, _ = student()
    state, losses = jax.device_get(advance(start, 5))
    assert losses[-1] < 0.8 * losses[0]
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), start.batch_stats, state.batch_stats)
    assert min(jax.tree.leaves(moved)) > 1e-3
    assert jax.tree.structure(start) == jax.tree.structure(state)


def test_a_student_goes_on_from_a_checkpoint_bit_identically(tmp_path):
    start, advance, _ = student()
    straight, _ = advance(start, 3)
    halfway, _ = advance(start, 2)
    placed = sharding.tree(MESH, halfway)
    abstract = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), halfway, placed)
    with Checkpoints(str(tmp_path)) as checkpoints:
        checkpoints.save(halfway, None, {})
        checkpoints.wait()
        variables = checkpoints.restore_variables(2, abstract.variables)
        jax.tree.map(np.testing.assert_array_equal, variables, halfway.variables)
        resumed, _ = advance(checkpoints.restore(2, abstract), 1)
        jax.tree.map(np.testing.assert_array_equal, resumed, straight)

        other = teachers.abstract_variables(resnet.create(**{**TINY, "width": 16}), 32, MESH)
        with pytest.raises(ValueError, match="another architecture") as error:
            checkpoints.restore_variables(2, other)
        assert "batch_stats/bn1/mean: expected (16,), found (8,)" in str(error.value)


def test_statistics_are_a_moving_average_of_the_batchs_own():
    model = resnet.create(**TINY)
    start, _, batch = student()
    trained = functools.partial(model.apply, train=True, mutable=["batch_stats"])
    images = np.float32(batch["image"]) / 255
    _, updated = jax.jit(trained)(start.variables, images)
    x = (images - np.float32(model.mean)) / np.float32(model.std)
    dimensions = ("NHWC", "HWIO", "NHWC")
    options = {"window_strides": (2, 2), "padding": ((3, 3), (3, 3)), "dimension_numbers": dimensions}
    convolve = jax.jit(functools.partial(jax.lax.conv_general_dilated, **options))
    y = np.asarray(convolve(x, start.params["conv1"]["kernel"]))
    found = updated["batch_stats"]["bn1"]
    np.testing.assert_allclose(found["mean"], 0.1 * y.mean((0, 1, 2)), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found["var"], 0.9 + 0.1 * y.var((0, 1, 2)), rtol=1e-3)


def test_scores_use_the_running_statistics_whatever_else_is_in_the_batch():
    start, _, batch = student()
    moved = jax.tree.map(lambda leaf: leaf + np.float32(0.1), start.batch_stats)
    variables = {**start.variables, "batch_stats": moved}
    score = step.make_score(resnet.create(**TINY), MESH, label.live_probability)
    rest = {"index": np.arange(16), "mask": np.ones(16, np.float32)}
    first, *_ = score(variables, {**batch, **rest})
    again, *_ = score(variables, {**batch, **rest})
    np.testing.assert_array_equal(first, again)
    other = {**batch, "image": np.concatenate([batch["image"][:8], np.zeros_like(batch["image"][8:])]), **rest}
    np.testing.assert_allclose(score(variables, other)[0][:8], first[:8], rtol=1e-5)


def test_import_of_another_class_count_keeps_the_fresh_head(tmp_path):
    source = drawn(resnet.create(**TINY))
    model = resnet.create(**TINY, classes=3)
    fresh = jax.tree.map(lambda leaf: np.full(leaf.shape, 7.0, np.float32), shapes(model))
    found, facts = weights.load(saved(as_torchvision(source), tmp_path / "m.safetensors"), model, fresh)
    assert facts == {"format": "torchvision", "head_replaced": True, "dropped": ["fc.bias", "fc.weight"]}
    params = {**source["params"], "fc": fresh["params"]["fc"]}
    jax.tree.map(np.testing.assert_array_equal, found, {**source, "params": params})


def test_import_refuses_another_architecture_with_names_and_shapes(tmp_path):
    state = as_torchvision(drawn(resnet.create(**TINY)))
    path = saved(state, tmp_path / "m.safetensors")
    wide = resnet.create(**{**TINY, "width": 16})
    with pytest.raises(ValueError, match=r"m\.safetensors \(torchvision\) is not a ResNet of .* width 16") as error:
        weights.load(path, wide, zeros(wide))
    assert "conv1/kernel: expected (7, 7, 3, 16), found (7, 7, 3, 8)" in str(error.value)

    del state["layer3.0.bn2.running_var"]
    model = resnet.create(**TINY)
    with pytest.raises(ValueError, match=r"layer3_0/bn2/var: expected \(32,\), missing"):
        weights.load(saved(state, tmp_path / "ragged.safetensors"), model, zeros(model))

    alien = saved({"patch_embed.proj.weight": np.zeros(3)}, tmp_path / "vit.safetensors")
    with pytest.raises(
        ValueError, match=r"not a state dict of torchvision: it has .*patch.* expected layer1\.0\.conv1\.weight"
    ):
        weights.load(alien, model, zeros(model))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "101"}, "unknown ResNet variant '101'; known: 18, 34, 50"),
        ({"depth": 3}, "unknown ResNet fields depth; known: classes, blocks, bottleneck, width"),
        ({"dtype": "float16"}, "ResNet dtype='float16'; expected one of float32, bfloat16"),
        ({"blocks": [1, 1]}, r"ResNet blocks=\(1, 1\); expected four numbers"),
    ],
)
def test_bad_options_list_what_is_known(options, message):
    with pytest.raises(ValueError, match=message):
        models.create({"name": "resnet", **options})


# Instance norms


def test_instance_norms_remove_the_tone_of_an_image_from_half_of_the_channels():
    norm = resnet.InstanceBatchNorm("float32", False)
    x = np.random.default_rng(0).standard_normal((2, 6, 6, 8), np.float32)
    variables = filled(jax.eval_shape(norm.init, jax.random.key(1), x))
    toned = x * np.float32([0.3, 2.0])[:, None, None, None] + np.float32(1.5)
    apply = jax.jit(norm.apply)
    plain, changed = jax.device_get([apply(variables, images) for images in (x, toned)])
    np.testing.assert_allclose(plain[..., :4], changed[..., :4], atol=1e-3)
    assert np.abs(plain[..., 4:] - changed[..., 4:]).min() > 1e-3
    np.testing.assert_allclose(plain[..., :4].mean((1, 2)), 0, atol=1e-5)


def test_instance_norms_are_in_three_stages_and_cost_no_parameters():
    plain, mixed = (resnet.create("18", classes=2, width=8, instance=instance) for instance in (False, True))
    counts = [
        models.parameters({"name": "resnet", "variant": "18", "width": 8, "instance": i}, 32) for i in (False, True)
    ]
    assert counts[0] == counts[1]
    stages = {path[0][:6] for path in traverse_util.flatten_dict(shapes(mixed)["params"]) if "IN" in path}
    assert stages == {"layer1", "layer2", "layer3"}
    assert not any("IN" in path for path in traverse_util.flatten_dict(shapes(plain)["params"]))
