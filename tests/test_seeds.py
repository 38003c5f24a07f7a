"""What a seed decides: initial parameters by a run's role, and a key of its own for everything that is random."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from kdfas_jax.commands import ablation, train
from kdfas_jax.models import vit
from kdfas_jax.objective import passes
from kdfas_jax.objective.weighted_sum import Objective
from kdfas_jax.parallel import sharding
from kdfas_jax.training import step
from kdfas_jax.training.experiment import Experiment


@pytest.fixture
def initial_seed(monkeypatch, tmp_path):
    """initial_seed(config) -> what a run of `config` seeds its initial state with; the run ends there."""

    def stop(experiment, seed=None):
        raise RuntimeError(f"seed {experiment.seed}")

    def start(config):
        with pytest.raises(RuntimeError, match="seed ") as stopped:
            train.fit(config, str(tmp_path), {})
        return int(str(stopped.value).removeprefix("seed "))

    monkeypatch.setattr(step, "init", stop)
    return start


def test_runs_of_one_seed_begin_alike_only_in_the_same_role(initial_seed, tiny):
    """A teacher, even one with its student's name, starts elsewhere; the variants of an ablation start together."""
    student = initial_seed(tiny)
    changes = {"terms": {"kl": {"weight": 0.0}, "covariance": {"form": "gram"}}, "daa": {"steps": 0}}
    assert initial_seed(ablation.variant(tiny, changes, 0)) == student
    assert initial_seed(ablation.variant(tiny, changes, 1)) != student
    teacher = tiny.teachers.spoof.config
    assert teacher.seed == tiny.seed
    assert initial_seed(teacher) != student
    teacher.name = tiny.name
    assert initial_seed(teacher) != student


KEYS = []


def note(key):
    KEYS.append(tuple(np.asarray(jax.random.key_data(key)).tolist()))


class Noting(nn.Module):
    """A model that notes the keys that it is given."""

    @nn.compact
    def __call__(self, images):
        logits = nn.Dense(2)(images.mean((1, 2)))
        return logits, {"logits": logits}

    def init(self, key, images):
        note(key)
        return super().init(key, images)


def noting_pass(model, variables, images, labels, key):
    note(key)
    return model.apply(variables, images)[1], {"batch_stats": {}}


class NotingObjective(Objective):
    """An objective that notes the key of its terms' parameters."""

    def init(self, key, student, teachers):
        note(key)
        return super().init(key, student, teachers)


def test_parameters_terms_and_every_step_have_keys_of_their_own(monkeypatch):
    monkeypatch.setitem(passes.PASSES, Noting, noting_pass)
    KEYS.clear()
    objective = NotingObjective({"ce": {"kind": "cross_entropy", "weight": 1.0}}, {})
    made = Experiment(Noting(), 4, objective, optax.sgd(1.0), 3)
    state = step.init(made)
    train_step = step.make(made)
    batch = {"image": np.zeros((2, 4, 4, 3), np.uint8), "label": np.eye(2, dtype=np.float32)}
    for number in range(3):
        train_step(state.replace(step=jnp.int32(number)), {}, batch)
    assert len(KEYS) == len(set(KEYS)) == 5


def test_another_seed_draws_other_parameters():
    """Up to the largest one that `seed_of` may give."""
    seeds = (7, 7, 8, 2**32 - 1)
    one, again, *others = (step.init_variables(Noting(), 4, seed)["params"]["Dense_0"]["kernel"] for seed in seeds)
    assert (one == again).all()
    assert all((one != other).all() for other in others)


def test_the_runs_of_all_seeds_share_one_program():
    """Else each seed of a study compiles its step again; and a traced seed draws what a known one does."""
    programs = []
    for seed in (3, 2**32 - 1):
        objective = Objective({"ce": {"kind": "cross_entropy", "weight": 1.0}}, {})
        made = Experiment(vit.create(patch=8, width=8, depth=1, heads=2), 8, objective, optax.sgd(1.0), seed)
        state = jax.eval_shape(lambda made=made: step.init(made))
        mesh = sharding.make_mesh({"data": 1}, jax.devices()[:1])
        shapes = state, {}, made.batch(mesh), jax.ShapeDtypeStruct((), jnp.uint32)
        programs.append(step.compiled(made, mesh, state).lower(*shapes).as_text())
        fresh = jax.jit(lambda made=made: step.init(made))()
        again = jax.jit(lambda seed, made=made: step.init(made, seed))(np.uint32(seed))
        jax.tree.map(np.testing.assert_array_equal, fresh.params, again.params)
    assert programs[0] == programs[1]
