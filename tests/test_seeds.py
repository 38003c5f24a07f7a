"""What a seed decides: a key of its own for everything that is random."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from kdfas_jax import step
from kdfas_jax.objective import Objective

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

    def training_pass(self, variables, images, labels, key):
        note(key)
        return self.apply(variables, images)[1], {"batch_stats": {}}


class NotingObjective(Objective):
    """An objective that notes the key of its terms' parameters."""

    def init(self, key, student, teachers):
        note(key)
        return super().init(key, student, teachers)


def test_parameters_terms_and_every_step_have_keys_of_their_own():
    KEYS.clear()
    model, optimiser = Noting(), optax.sgd(1.0)
    objective = NotingObjective({"ce": {"kind": "cross_entropy", "weight": 1.0}}, {})
    state = step.init(model, 4, optimiser, 3, objective)
    train_step = step.make(model, objective, {}, optimiser, 3)
    batch = {"image": np.zeros((2, 4, 4, 3), np.uint8), "label": np.eye(2, dtype=np.float32)}
    for number in range(3):
        train_step(state.replace(step=jnp.int32(number)), {}, batch)
    assert len(KEYS) == len(set(KEYS)) == 5


def test_another_seed_draws_other_parameters():
    """Up to the largest one."""
    seeds = (7, 7, 8, 2**32 - 1)
    one, again, *others = (step.init_variables(Noting(), 4, seed)["params"]["Dense_0"]["kernel"] for seed in seeds)
    assert (one == again).all()
    assert all((one != other).all() for other in others)
