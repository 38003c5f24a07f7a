"""config.init: which leaves a finished run provides as the start of another one, and what is refused. 10 s."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdfas_jax import models
from kdfas_jax.parallel import sharding
from kdfas_jax.runs import workdir
from kdfas_jax.training import initial, step
from kdfas_jax.training.checkpoint import Checkpoints

MESH = {"data": -1, "fsdp": 1}


@pytest.fixture
def start(tiny, tmp_path):
    """(config, variables): the tiny config whose `init` is a run of it with these averaged variables."""
    variables = fresh(tiny, seed=1)
    other = jax.tree.map(jnp.zeros_like, variables)
    state = step.TrainState(jnp.int32(3), **other, term_params={}, opt_state={}, ema=variables)
    workdir.claim(tiny, str(tmp_path), "none")
    with Checkpoints(str(tmp_path)) as checkpoints:
        checkpoints.save(state, None, {"step": 3})
    tiny.init = str(tmp_path)
    return tiny, variables


def fresh(config, seed=0):
    """Random variables, drawn without compiling the model's initialisation."""
    model, rng = models.create(config.model), np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: step.init_variables(model, config.data.image_size, seed))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape, np.float32)), shapes)


def load(config):
    return initial.load(config, models.create(config.model), fresh(config), sharding.make_mesh(MESH))


def test_a_run_provides_its_averaged_variables(start):
    config, variables = start
    found, described = load(config)
    jax.tree.map(np.testing.assert_array_equal, found, jax.device_get(variables))
    assert described.startswith("step 3, 20 of 20 leaves taken; not in it or of another shape, therefore fresh: none;")


def test_a_head_of_another_size_stays_fresh_and_is_named(start):
    config, variables = start
    config.model.classes = 3
    found, described = load(config)
    np.testing.assert_array_equal(found["params"]["head"]["kernel"], fresh(config)["params"]["head"]["kernel"])
    np.testing.assert_array_equal(found["params"]["pos"], variables["params"]["pos"])
    assert "18 of 20 leaves taken" in described
    assert "fresh: params/head/bias (3,), params/head/kernel (16, 3)" in described
    assert "no use here: params/head/bias (2,), params/head/kernel (16, 2)" in described


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("width", 32, r"config\.init=.* is a run of another architecture than config\.model: it provides 0% of"),
        ("gelu", "tanh", r"config\.model\.gelu='tanh', but config\.init=.* was trained with 'exact'; set --config"),
    ],
)
def test_a_run_that_computes_something_else_is_refused(start, option, value, message):
    config, _ = start
    config.model[option] = value
    with pytest.raises(ValueError, match=message):
        load(config)


def test_a_path_is_published_weights_by_its_suffix_and_otherwise_a_run(start, tmp_path):
    config, _ = start
    for path, message in (("absent.npz", "no checkpoint at"), ("absent", "absent/config.json does not exist; expect")):
        config.init = str(tmp_path / path)
        with pytest.raises(FileNotFoundError, match=message):
            load(config)
