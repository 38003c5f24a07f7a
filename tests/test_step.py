"""The train step in parts: the gradients of a batch, with the memory of a part of it."""

import jax
import numpy as np
import optax
from flax import linen as nn

from kdfas_jax.models import vit
from kdfas_jax.objective.weighted_sum import Objective
from kdfas_jax.parallel import sharding
from kdfas_jax.training import checkpoint, step
from kdfas_jax.training.experiment import Experiment, Frozen
from tests.conftest import drawn

TERMS = {
    "ce": {"kind": "cross_entropy", "weight": 1.0},
    "kl": {"kind": "kl", "weight": 1.0, "teacher": "spoof"},
}
STUDENT, TEACHER = vit.create(patch=8, width=16, depth=1, heads=2), vit.create(patch=8, width=24, depth=1, heads=2)
SIZE = 16


class Normed(nn.Module):
    """A batch norm of the pixels, and a dense layer."""

    @nn.compact
    def __call__(self, images, *, train=False):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(images)
        logits = nn.Dense(2)(x.reshape(len(x), -1))
        return logits, {"logits": logits}


def batch(b=12):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (b, SIZE, SIZE, 3), dtype=np.uint8)
    return {"image": images, "label": np.eye(2, dtype=np.float32)[rng.integers(0, 2, b)]}


def experiment(terms, model=STUDENT, rate=1.0, **options):
    """Of plain gradient descent, with the teacher that TERMS name."""
    objective = Objective(terms, {"spoof": None})
    return Experiment(model, SIZE, objective, optax.sgd(rate), 0, {"spoof": Frozen(TEACHER, SIZE)}, **options)


def teacher():
    return {"spoof": drawn(0.2, lambda: step.init_variables(TEACHER, SIZE, 1))}


def gradients(model, accumulate, terms=TERMS):
    """(gradients, metrics, batch statistics) of a step of plain gradient descent at rate one."""
    made = experiment(terms, model, accumulate=accumulate)
    state = drawn(0.2, lambda: step.init(made))
    after, metrics = jax.device_get(jax.jit(step.make(made))(state, teacher(), batch()))
    return jax.tree.map(np.subtract, state.params, after.params), metrics, after.batch_stats


def initial(made, mesh):
    """The first state, placed as a step returns it, so that one program suits both."""
    return jax.jit(
        lambda: step.init(made), out_shardings=sharding.tree(mesh, jax.eval_shape(lambda: step.init(made)))
    )()


def test_the_average_of_the_parameters_is_kept_saved_and_deployed(tmp_path):
    """Against float64; what evaluation, export and teachers restore is the average, and a resumed run goes on alike."""
    mesh, made = sharding.make_mesh({"data": -1}), experiment({"ce": TERMS["ce"]}, Normed(), 0.5, ema=0.3)
    state = initial(made, mesh)
    train_step = step.compiled(made, mesh, state)
    rows = sharding.place_batch(mesh, batch(16))
    expected = jax.tree.map(lambda leaf: np.asarray(leaf, float), state.variables)
    with checkpoint.Checkpoints(str(tmp_path)) as checkpoints:
        for number in range(3):
            if number == 2:
                checkpoints.save(state, None, {"step": number})
                checkpoints.wait()
                abstract = jax.tree.map(shape_of, state)
                found = checkpoints.restore_variables(2, abstract.variables)
                jax.tree.map(np.testing.assert_array_equal, found, jax.device_get(state.deployed))
                resumed = checkpoints.restore(2, abstract)
            state, _ = train_step(state, {}, rows, np.uint32(0))
            decay = min(0.3, (1 + number) / (10 + number))
            expected = jax.tree.map(lambda e, p, d=decay: d * e + (1 - d) * np.asarray(p), expected, state.variables)
        resumed, _ = train_step(resumed, {}, rows, np.uint32(0))
    jax.tree.map(lambda found, e: np.testing.assert_allclose(found, e, rtol=1e-5, atol=1e-6), state.deployed, expected)
    jax.tree.map(np.testing.assert_array_equal, resumed, state)
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), *jax.device_get((state.deployed, state.variables)))
    assert max(jax.tree.leaves(moved)) > 1e-4


def test_no_average_is_kept_unless_asked_for():
    state = jax.eval_shape(lambda: step.init(experiment(TERMS)))
    assert state.ema == {}
    assert state.deployed == state.variables


def shape_of(leaf):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def test_a_batch_in_parts_gives_the_gradients_of_the_whole():
    whole, metrics, _ = gradients(STUDENT, 1)
    parts, in_parts, _ = gradients(STUDENT, 3)
    assert max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(whole)) > 1e-3
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), whole, parts)
    for name, value in metrics.items():
        np.testing.assert_allclose(in_parts[name], value, rtol=1e-4)


def test_batch_statistics_move_with_every_part():
    terms = {"ce": TERMS["ce"]}
    once, twice = (gradients(Normed(), accumulate, terms)[2]["norm"]["var"] for accumulate in (1, 2))
    fresh = np.ones_like(once)
    assert np.abs(np.asarray(twice) - fresh).min() > 1.5 * np.abs(np.asarray(once) - fresh).min()


def test_the_memory_is_that_of_a_part():
    """What the backward pass keeps, as the compiler plans it."""

    def temporary(accumulate):
        made = experiment({"ce": TERMS["ce"]}, accumulate=accumulate)
        state = jax.eval_shape(lambda: step.init(made))
        return jax.jit(step.make(made)).lower(state, {}, batch(1024)).compile().memory_analysis().temp_size_in_bytes

    assert temporary(8) < temporary(1) / 3


class Staged(nn.Module):
    """Mean colours of halves of an image as a stage map, and a dense layer."""

    @nn.compact
    def __call__(self, images, *, train=False):
        stage = nn.Dense(4, name="stage")(images.reshape(len(images), 2, -1, 3).mean(2, keepdims=True))
        logits = nn.Dense(2, name="head")(stage.mean((1, 2)))
        return logits, {"logits": logits, "stages": (stage,)}


def test_what_a_term_trains_and_keeps_is_saved_and_resumed_but_not_deployed(tmp_path):
    """A lifted covariance term with a running mean, in two parts a batch: a resumed run continues to the same bits."""
    mesh = sharding.make_mesh({"data": 1}, jax.devices()[:1])
    running = {"kind": "covariance", "weight": 1.0, "teacher": "spoof", "form": "regression"}
    terms = {"ce": TERMS["ce"], "running": {**running, "lift": 6, "momentum": 0.9}}
    made = experiment(terms, Staged(), rate=0.1, accumulate=2)
    state = initial(made, mesh)
    frozen = teacher()
    train_step, rows = step.compiled(made, mesh, state), sharding.place_batch(mesh, batch(16))
    fresh = jax.device_get(state.term_params)
    with checkpoint.Checkpoints(str(tmp_path)) as checkpoints:
        state, _ = train_step(state, frozen, rows, np.uint32(0))
        checkpoints.save(state, None, {})
        checkpoints.wait()
        resumed = checkpoints.restore(1, jax.tree.map(shape_of, state))
        deployed = checkpoints.restore_variables(1, jax.tree.map(shape_of, state.variables))
    assert set(deployed["params"]) == {"stage", "head"}
    state, _ = train_step(state, frozen, rows, np.uint32(0))
    resumed, _ = train_step(resumed, frozen, rows, np.uint32(0))
    jax.tree.map(np.testing.assert_array_equal, resumed, state)
    assert {leaf.shape for leaf in jax.tree.leaves(state.term_statistics)} == {(), (1, 6, 24)}
    assert [int(leaf) for leaf in jax.tree.leaves(state.term_statistics) if leaf.ndim == 0] == [4]
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), fresh, jax.device_get(state.term_params))
    assert min(jax.tree.leaves(moved)) > 1e-6
