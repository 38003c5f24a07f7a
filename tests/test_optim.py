import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from kdfas_jax import optim

CONFIG = ml_collections.ConfigDict(
    {"lr": 5e-4, "min_lr": 1e-5, "warmup_epochs": 5.0, "weight_decay": 0.05, "b1": 0.9, "b2": 0.999, "clip_norm": 0.0}
)


def test_schedule_is_the_deit_recipe():
    schedule = optim.schedule(CONFIG, steps=3000, steps_per_epoch=10, batch_size=128)
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
        "block": {"kernel": jnp.ones((3, 2, 2)), "bias": jnp.ones((3, 2)), "scale": jnp.ones((3, 2))},
        "pos": jnp.ones(4),
    }
    optimiser = optim.make(CONFIG, lambda _: 0.1)
    updates, _ = optimiser.update(jax.tree.map(jnp.zeros_like, params), optimiser.init(params), params)
    np.testing.assert_allclose(updates["block"]["kernel"], -0.1 * 0.05, rtol=1e-6)
    for still in (updates["block"]["bias"], updates["block"]["scale"], updates["pos"]):
        np.testing.assert_array_equal(still, 0)


def test_clipping_bounds_the_first_update_direction():
    params, huge = {"kernel": jnp.zeros(4)}, {"kernel": jnp.full(4, 1e6)}
    clipped = optim.make(ml_collections.ConfigDict({**CONFIG, "clip_norm": 1.0}), lambda _: 0.1)
    _, state = clipped.update(huge, clipped.init(params), params)
    moments = [leaf for leaf in jax.tree.leaves(state) if getattr(leaf, "shape", ()) == (4,)]
    assert np.linalg.norm(moments[0]) <= 0.1 + 1e-6  # (1 - b1) x a gradient of norm one
