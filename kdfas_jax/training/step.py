"""The train state and one pure train step; every method is this step with other terms and teachers."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from kdfas_jax.objective.passes import training_pass
from kdfas_jax.objective.weighted_sum import Objective
from kdfas_jax.parallel import sharding
from kdfas_jax.training import optim

# What a seed is used for. Every use has a key of its own, so that no two draw the same random numbers.
MODEL, TERMS, STEPS = range(3)


@flax.struct.dataclass
class TrainState:
    """What a step changes: its number, the student's parameters and statistics (fp32), the optimiser's state.

    `batch_stats` are the running statistics of the student's batch norms, and `term_params` the parameters of the
    objective's own (`Objective.init`), trained beside the student's and of no use after it; {} where there are none.
    `ema` is the exponential moving average of `variables`, {} where `config.optim.ema` is 0.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    term_params: Any
    opt_state: Any
    ema: Any = flax.struct.field(default_factory=dict)

    @property
    def variables(self) -> dict[str, Any]:
        """The variables that the student trains with."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def deployed(self) -> dict[str, Any]:
        """The variables that are evaluated, exported and used as a teacher's: their average where one is kept."""
        return self.ema or self.variables

    def averaged_from_here(self, ema: float) -> "TrainState":
        """This state with an average that begins at its variables; without one if the decay `ema` is 0."""
        return self.replace(ema=jax.tree.map(jnp.copy, self.variables) if ema else {})

    @property
    def trained(self) -> dict[str, Any]:
        """What the optimiser updates."""
        return {"params": self.params, "term_params": self.term_params}


def init(
    model,
    image_size: int,
    optimiser: optax.GradientTransformation,
    seed: int,
    objective: Objective | None = None,
    teachers: Mapping[str, Any] | None = None,
    ema: float = 0.0,
) -> TrainState:
    """The state before step 0, a pure function of the seed; with an average of the variables if `ema` > 0.

    An `objective` whose terms have parameters needs the `outputs` of the `teachers` that it reads.
    """
    variables = init_variables(model, image_size, seed)
    term_params = {}
    if objective:
        term_params = objective.init(_key(seed, TERMS), outputs(model, image_size), teachers or {})
    state = TrainState(jnp.zeros((), jnp.int32), **variables, term_params=term_params, opt_state=None)
    return state.replace(opt_state=optimiser.init(state.trained)).averaged_from_here(ema)


def outputs(model, image_size: int) -> dict[str, Any]:
    """Shapes of a model's named outputs for one image of `image_size` px."""
    images = jnp.zeros((1, image_size, image_size, 3))
    return jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), images)[0][1])


def init_variables(model, image_size: int, seed: int) -> dict[str, Any]:
    """What a model that reads `image_size` px square images needs to run, fresh: {'params', 'batch_stats'}."""
    return {"batch_stats": {}, **model.init(_key(seed, MODEL), jnp.zeros((1, image_size, image_size, 3)))}


def seed_of(config) -> int:
    """The seed of a run's own random numbers, 32 bits: a pure function of `config.seed` and of the run's role [C].

    The role is the config's name, its target and the names of its teachers. A student, its teachers and the domain
    classifier of one `config.seed` therefore begin with different parameters even where their architectures agree; the
    variants of an ablation, which change only what is computed, begin with the same ones.
    """
    role = (config.seed, config.name, config.data.target, *sorted(config.teachers))
    return zlib.crc32("\n".join(map(str, role)).encode())


def step_key(seed: int, number: jax.Array | int) -> jax.Array:
    """The key of training step `number`, counted from 0."""
    return jax.random.fold_in(_key(seed, STEPS), number)


def _key(seed: int, use: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed), use)


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
    steps: int = 1,
    accumulate: int = 1,
    ema: float = 0.0,
) -> Callable:
    """-> train_step(state, {teacher: variables}, batch) -> (state, metrics), to be jitted by `compiled`.

    `batch`: image uint8 [b, h, w, 3]; label [b, k] soft targets, identity int32 [b], as far as terms and model read
    them; domain int32 [b] where there is an `attack` (`perturb.make`), whose images student and teachers see in place
    of the batch's. `teachers` are the `reader`s of the models that the objective reads; their forward pass lies outside
    the differentiated function, and their batch norms use the running statistics. `steps` is the length of the run, for
    terms whose strength follows its progress.
    `accumulate` cuts the batch into so many parts, one after another, whose gradients are averaged: the memory is that
    of a part; terms and batch norms that see the whole batch see a part, and each part's means weigh alike [C].
    `ema` is the decay of the state's averaged variables (`optim.average`).
    Metrics are fp32 scalars: loss, each term unweighted, grad_norm.
    """

    def gradients(state: TrainState, teacher_variables, batch, key):
        """-> ((loss, terms), batch statistics after it, gradients of what is trained)."""
        images = images_of(batch)
        if attack:
            images = attack(teacher_variables, images, batch["domain"], jax.random.fold_in(key, 1))
        targets = {name: teachers[name](teacher_variables[name], images)[1] for name in objective.teachers}
        targets = jax.lax.stop_gradient(targets)

        def loss_of(trained):
            variables = {**state.variables, "params": trained["params"]}
            out, updated = training_pass(model, variables, images, batch.get("label"), key)
            loss, terms = objective(out, targets, batch, trained["term_params"], state.step / steps)
            return loss, (terms, updated["batch_stats"])

        (loss, (terms, batch_stats)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.trained)
        return (loss, terms), batch_stats, grads

    def accumulated(state: TrainState, teacher_variables, batch, key):
        """As `gradients`, in parts."""

        def add(carry, part):
            (batch_stats, total), (number, rows) = carry, part
            own, own_key = state.replace(batch_stats=batch_stats), jax.random.fold_in(key, 2 + number)
            found, batch_stats, grads = gradients(own, teacher_variables, rows, own_key)
            return (batch_stats, jax.tree.map(lambda t, value: t + value / accumulate, total, (found, grads))), None

        parts = jax.tree.map(lambda rows: _parts(rows, accumulate), batch)
        first = jax.tree.map(lambda rows: rows[0], parts)
        found, _, grads = jax.eval_shape(gradients, state, teacher_variables, first, key)
        start = state.batch_stats, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (found, grads))
        (batch_stats, (found, grads)), _ = jax.lax.scan(add, start, (jnp.arange(accumulate), parts))
        return found, batch_stats, grads

    def train_step(state: TrainState, teacher_variables: Mapping[str, Any], batch: Mapping[str, jax.Array]):
        key = step_key(seed, state.step)
        whole = gradients if accumulate == 1 else accumulated
        (loss, terms), batch_stats, grads = whole(state, teacher_variables, batch, key)
        updates, opt_state = optimiser.update(grads, state.opt_state, state.trained)
        trained = optax.apply_updates(state.trained, updates)
        metrics = {"loss": loss, **terms, "grad_norm": optax.tree.norm(grads)}
        after = TrainState(state.step + 1, batch_stats=batch_stats, opt_state=opt_state, **trained)
        return after.replace(ema=optim.average(ema, state.ema, after.variables, state.step)), metrics

    return train_step


def _parts(rows: jax.Array, number: int) -> jax.Array:
    """[b, ...] -> [number, b / number, ...]: every part takes its rows from all devices, so that none moves."""
    return jnp.swapaxes(rows.reshape(len(rows) // number, number, *rows.shape[1:]), 0, 1)


def compiled(train_step: Callable, mesh, state: TrainState):
    """`train_step` jitted for `mesh`: batch split over every device, state placed by the rules and donated.

    `state` may be abstract (shapes only). ValueError for a `tensor` axis that the model has no use for.
    """
    state_shardings = sharding.tree(mesh, state)
    sharding.check_tensor(mesh, state_shardings.params)
    everywhere = sharding.replicated(mesh)
    return jax.jit(
        sharding.on(mesh, train_step),
        in_shardings=(state_shardings, None, sharding.batch(mesh)),
        out_shardings=(state_shardings, everywhere),
        donate_argnums=0,
    )


def make_score(model, mesh, read: Callable) -> Callable:
    """-> score(variables, batch) -> (read [b, ...], index [b], mask [b]), on every host for the global batch.

    `read` takes what is wanted of the model's (first output, named outputs).
    """

    def score(variables: Mapping[str, Any], batch: Mapping[str, jax.Array]):
        return read(*model.apply(variables, images_of(batch))), batch["index"], batch["mask"]

    return jax.jit(
        sharding.on(mesh, score), in_shardings=(None, sharding.batch(mesh)), out_shardings=sharding.replicated(mesh)
    )
