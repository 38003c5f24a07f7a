"""The train state and one pure train step; every method is this step with other terms and teachers."""

from collections.abc import Callable, Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from kdfas_jax import sharding
from kdfas_jax.objective import Objective


@flax.struct.dataclass
class TrainState:
    """What a step changes: its number, the student's parameters and statistics (fp32), the optimiser's state.

    `batch_stats` are the running statistics of the student's batch norms, {} where it has none.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What the student needs to run."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def init(model, image_size: int, optimiser: optax.GradientTransformation, seed: int) -> TrainState:
    """The state before step 0, a pure function of the seed."""
    variables = init_variables(model, image_size, seed)
    return TrainState(jnp.zeros((), jnp.int32), **variables, opt_state=optimiser.init(variables["params"]))


def init_variables(model, image_size: int, seed: int) -> dict[str, Any]:
    """What a model that reads `image_size` px square images needs to run, fresh: {'params', 'batch_stats'}."""
    return {"batch_stats": {}, **model.init(jax.random.key(seed), jnp.zeros((1, image_size, image_size, 3)))}


def images_of(batch: Mapping[str, jax.Array]) -> jax.Array:
    """uint8 [b, h, w, 3] as it travels -> fp32 in [0, 1] as models read it."""
    return batch["image"].astype(jnp.float32) / 255


def reader(module, image_size: int) -> Callable:
    """-> read(variables, images) -> what `module` returns for images [b, s, s, 3] of any side, at its own."""

    def read(variables: Mapping[str, Any], images: jax.Array):
        shape = (len(images), image_size, image_size, 3)
        return module.apply(variables, images if images.shape == shape else jax.image.resize(images, shape, "linear"))

    return read


def make(
    model,
    objective: Objective,
    teachers: Mapping[str, Callable],
    optimiser: optax.GradientTransformation,
    seed: int,
    attack: Callable | None = None,
) -> Callable:
    """-> train_step(state, {teacher: variables}, batch) -> (state, metrics), to be jitted by `compiled`.

    `batch`: image uint8 [b, h, w, 3], label [b, k] soft targets, and domain int32 [b] where there is an `attack`
    (`perturb.make`), whose images student and teachers see in place of the batch's. `teachers` are the `reader`s of
    the models that the objective reads; their forward pass lies outside the differentiated function, and their batch
    norms use the running statistics. Metrics are fp32 scalars: loss, each term unweighted, grad_norm.
    """

    def train_step(state: TrainState, teacher_variables: Mapping[str, Any], batch: Mapping[str, jax.Array]):
        images = images_of(batch)
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        if attack:
            images = attack(teacher_variables, images, batch["domain"], jax.random.fold_in(key, 1))
        targets = {name: teachers[name](teacher_variables[name], images)[1] for name in objective.teachers}
        targets = jax.lax.stop_gradient(targets)
        rngs = {"dropout": key}

        def loss_of(params):
            variables = {**state.variables, "params": params}
            (_, out), updated = model.apply(variables, images, train=True, rngs=rngs, mutable=["batch_stats"])
            loss, terms = objective(out, targets, batch)
            return loss, (terms, updated["batch_stats"])

        (loss, (terms, batch_stats)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": loss, **terms, "grad_norm": optax.tree.norm(grads)}
        return TrainState(state.step + 1, params, batch_stats, opt_state), metrics

    return train_step


def compiled(train_step: Callable, mesh, state: TrainState):
    """`train_step` jitted for `mesh`: batch split over every device, state placed by the rules and donated.

    `state` may be abstract (shapes only).
    """
    state_shardings = sharding.tree(mesh, state)
    everywhere = sharding.replicated(mesh)
    return jax.jit(
        train_step,
        in_shardings=(state_shardings, None, sharding.batch(mesh)),
        out_shardings=(state_shardings, everywhere),
        donate_argnums=0,
    )


def live_probability(logits: jax.Array, out: Mapping[str, Any]) -> jax.Array:
    """A model's logits [b, 2] -> P(live) [b], fp32."""
    return jax.nn.softmax(logits.astype(jnp.float32))[:, 1]


def make_score(model, mesh, read: Callable = live_probability) -> Callable:
    """-> score(variables, batch) -> (read [b, ...], index [b], mask [b]), on every host for the global batch.

    `read` takes what is wanted of the model's (first output, named outputs).
    """

    def score(variables: Mapping[str, Any], batch: Mapping[str, jax.Array]):
        return read(*model.apply(variables, images_of(batch))), batch["index"], batch["mask"]

    return jax.jit(score, in_shardings=(None, sharding.batch(mesh)), out_shardings=sharding.replicated(mesh))
