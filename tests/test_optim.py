import jax
import ml_collections
import numpy as np
import pytest

from kdfas_jax.training import optim

CONFIG = ml_collections.ConfigDict(
    {
        "lr": 5e-4,
        "min_lr": 1e-5,
        "warmup_epochs": 5.0,
        "weight_decay": 0.05,
        "b1": 0.9,
        "b2": 0.999,
        "clip_norm": 0.0,
        "layer_decay": 1.0,
        "freeze_blocks": 0,
        "every": {},
    }
)


def test_schedule_is_the_deit_recipe():
    schedule = jax.jit(optim.schedule(CONFIG, steps=3000, steps_per_epoch=10, batch_size=128))
    peak = 5e-4 * 128 / 512
    assert schedule(0) == pytest.approx(1e-6, rel=1e-4)
    assert schedule(50) == pytest.approx(peak, rel=1e-4)
    assert schedule(25) == pytest.approx((1e-6 + peak) / 2, rel=1e-4)
    assert schedule(3000) == pytest.approx(1e-5, rel=1e-4)
    assert schedule((3000 + 50) // 2) == pytest.approx((peak + 1e-5) / 2, rel=1e-3)


def test_a_warm_up_longer_than_the_run_is_refused():
    with pytest.raises(ValueError, match=r"warmup_epochs=5\.0 is 50 steps of a run of 40"):
        optim.schedule(CONFIG, steps=40, steps_per_epoch=10, batch_size=128)


def test_weight_decay_shrinks_kernels_alone():
    params = {
        "block": {"kernel": np.ones((3, 2, 2)), "bias": np.ones((3, 2)), "scale": np.ones((3, 2))},
        "pos": np.ones(4),
    }
    params, optimiser = jax.tree.map(np.float32, params), optim.make(CONFIG, lambda _: 0.1)
    gradients = jax.tree.map(np.zeros_like, params)
    updates, _ = jax.jit(lambda params: optimiser.update(gradients, optimiser.init(params), params))(params)
    np.testing.assert_allclose(updates["block"]["kernel"], -0.1 * 0.05, rtol=1e-6)
    for still in (updates["block"]["bias"], updates["block"]["scale"], updates["pos"]):
        np.testing.assert_array_equal(still, 0)


def test_clipping_bounds_the_first_update_direction():
    params, huge = {"kernel": np.zeros(4, np.float32)}, {"kernel": np.full(4, 1e6, np.float32)}
    clipped = optim.make(ml_collections.ConfigDict({**CONFIG, "clip_norm": 1.0}), lambda _: 0.1)
    _, state = jax.jit(lambda params: clipped.update(huge, clipped.init(params), params))(params)
    moments = [leaf for leaf in jax.tree.leaves(state) if getattr(leaf, "shape", ()) == (4,)]
    assert np.linalg.norm(moments[0]) <= 0.1 + 1e-6  # (1 - b1) x a gradient of norm one


def run(config, gradients):
    """The updates of a rate that falls by a tenth from step to step, for one weight in each of two groups."""
    params = {"params": {name: {"kernel": np.ones(2, np.float32)} for name in ("generator", "discriminator")}}
    optimiser = optim.make(config, lambda step: 0.1 * 0.9**step)

    def update(state, gradient):
        found, state = optimiser.update(jax.tree.map(lambda leaf: leaf * gradient, params), state, params)
        return state, jax.tree.map(lambda leaf: leaf[0], found["params"])

    gradients = np.float32(gradients)
    _, updates = jax.jit(lambda gradients: jax.lax.scan(update, optimiser.init(params), gradients))(gradients)
    return {name: np.asarray(update["kernel"]) for name, update in updates.items()}


def test_a_group_is_updated_in_every_nth_step_alone():
    """As if it had seen only those steps' gradients, at those steps' learning rates."""
    gradients = np.random.default_rng(0).normal(size=7)
    every = run(ml_collections.ConfigDict({**CONFIG, "every": {"generator": 3}}), gradients)
    always = run(CONFIG, gradients)
    np.testing.assert_allclose(every["discriminator"], always["discriminator"], rtol=1e-6)
    np.testing.assert_array_equal(every["generator"][[0, 1, 3, 4, 6]], 0)
    seen = run(CONFIG, gradients[[2, 5]])["generator"] / 0.9 ** np.arange(2)  # at a rate of 0.1
    np.testing.assert_allclose(every["generator"][[2, 5]], seen * 0.9 ** np.array([2, 5]), rtol=1e-5)


def test_a_group_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"every names \['teacher'\], but no parameter's path"):
        run(ml_collections.ConfigDict({**CONFIG, "every": {"teacher": 3}}), [1.0])
