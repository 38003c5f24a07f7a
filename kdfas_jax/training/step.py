"""The training state and one pure training step; every method is this step with other terms and teachers."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

from kdfas_jax.models import fine_tuning
from kdfas_jax.models.records import Batch, nested
from kdfas_jax.objective import perturb
from kdfas_jax.objective.passes import training_pass
from kdfas_jax.parallel import sharding
from kdfas_jax.training import optim
from kdfas_jax.training.experiment import Experiment

# The uses of a seed. Each use has a separate key, so that no two draw the same random numbers.
MODEL, TERMS, STEPS = range(3)
STATISTICS = ("batch_stats", "term_statistics")  # fields of `TrainState` that a forward pass updates


@flax.struct.dataclass
class TrainState:
    """Training state: the step's number, the student's parameters and statistics (fp32), the optimiser's state.

    `batch_stats` are the running statistics of the student's batch norms, and `term_params` the parameters of the
    objective's terms (`Objective.init`), trained beside the student's and of no use after it; {} where there are none.
    `term_statistics` are what terms keep from batch to batch (`Objective.init_statistics`), {} where they keep nothing.
    `ema` is the exponential moving average of `variables`, {} where `config.optim.ema` is 0. `frozen` names the
    parameters that are not trained, such as 'blocks/qkv/kernel': they have no gradient and no optimiser state.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    term_params: Any
    opt_state: Any
    ema: Any = flax.struct.field(default_factory=dict)
    term_statistics: Any = flax.struct.field(default_factory=dict)
    frozen: tuple[str, ...] = flax.struct.field(pytree_node=False, default=())

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
        return {"params": without(self.params, self.frozen), "term_params": self.term_params}

    def with_trained(self, trained: dict[str, Any]) -> "TrainState":
        """This state with other trained parameters, in the form of `trained`."""
        params = replaced(self.params, trained["params"]) if self.frozen else trained["params"]
        return self.replace(params=params, term_params=trained["term_params"])


def without(params: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The nested `params` without the leaves of these `names`."""
    if not names:
        return params
    flat = traverse_util.flatten_dict(params, sep="/")
    return traverse_util.unflatten_dict({name: leaf for name, leaf in flat.items() if name not in names}, sep="/")


def replaced(params: dict[str, Any], trained: dict[str, Any]) -> dict[str, Any]:
    """The nested `params` with the leaves of `trained` in their places."""
    flat, own = (traverse_util.flatten_dict(tree, sep="/") for tree in (params, trained))
    return traverse_util.unflatten_dict({name: own.get(name, leaf) for name, leaf in flat.items()}, sep="/")


def init(experiment: Experiment, seed: jax.Array | None = None) -> TrainState:
    """Returns the state before step 0, a pure function of the seed, by default the experiment's.

    A traced seed, uint32 [], gives all seeds of an experiment one program to compile; so it does in `make`.
    """
    seed = experiment.seed if seed is None else seed
    variables = init_variables(experiment.model, experiment.image_size, seed)
    shapes = experiment.outputs(), experiment.taught()
    terms = {
        "term_params": experiment.objective.init(_key(seed, TERMS), *shapes),
        "term_statistics": experiment.objective.init_statistics(*shapes),
    }
    frozen = experiment.frozen(variables["params"])
    state = TrainState(jnp.zeros((), jnp.int32), **variables, **terms, opt_state=None, frozen=frozen)
    return state.replace(opt_state=experiment.optimiser.init(state.trained)).averaged_from_here(experiment.ema)


def init_variables(model, image_size: int, seed: int | jax.Array) -> dict[str, Any]:
    """Fresh variables of a model that reads images of `image_size` px: {'params', 'batch_stats'}."""
    return {"batch_stats": {}, **model.init(_key(seed, MODEL), jnp.zeros((1, image_size, image_size, 3)))}


def step_key(seed: int | jax.Array, number: jax.Array | int) -> jax.Array:
    """The key of training step `number`, counted from 0."""
    return jax.random.fold_in(_key(seed, STEPS), number)


def _key(seed: int | jax.Array, use: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed), use)


def images_of(batch: Batch) -> jax.Array:
    """The images of a batch, uint8 [b, h, w, 3] as they travel, as models read them: fp32 in [0, 1]."""
    return batch["image"].astype(jnp.float32) / 255


def make(experiment: Experiment) -> Callable:
    """Returns train_step(state, {teacher: variables}, batch, seed) -> (state, metrics), which `compiled` jits.

    Student and teachers see the attacked images where the experiment has an attack. The teachers' forward lies outside
    the differentiated function, and their batch norms use the running statistics. Gradient accumulation cuts the batch
    into parts, one after another: the memory is that of a part; terms and batch norms that see the whole batch see a
    part, and the parts' means weigh alike [C]. Metrics are fp32 scalars: loss, each term unweighted, grad_norm.
    """
    gradients = _gradients(experiment)
    if experiment.accumulate > 1:
        gradients = _accumulated(gradients, experiment.accumulate)

    def train_step(state: TrainState, teacher_variables, batch: Batch, seed: int | jax.Array = experiment.seed):
        key = step_key(seed, state.step)
        (loss, terms), statistics, grads = gradients(state, teacher_variables, batch, key)
        updates, opt_state = experiment.optimiser.update(grads, state.opt_state, state.trained)
        trained = optax.apply_updates(state.trained, updates)
        metrics = {"loss": loss, **terms, "grad_norm": optax.tree.norm(grads)}
        after = state.with_trained(trained).replace(step=state.step + 1, opt_state=opt_state, **statistics)
        ema = optim.average(experiment.ema, state.ema, after.variables, state.step)
        if ema and state.frozen:  # not rounded by an average with itself
            ema = {**ema, "params": replaced(after.params, without(ema["params"], state.frozen))}
        return after.replace(ema=ema), metrics

    return train_step


def _gradients(experiment: Experiment) -> Callable:
    """Returns gradients(state, teacher_variables, batch, key) -> ((loss, terms), statistics, gradients).

    The statistics are the fields STATISTICS of the state, after the batch.
    """
    teachers, attack, objective = experiment.teachers, experiment.attack, experiment.objective

    def attacked(images: jax.Array, state: TrainState, teacher_variables, batch: Batch) -> jax.Array:
        if not attack:
            return images
        if attack.classifier == perturb.STUDENT:
            classes = jnp.where(batch["label"].any(-1), batch["label"].argmax(-1), -1)  # -1: not known
            return attack(lambda x: experiment.model.apply(state.variables, x)[0], images, classes)
        classifier, variables = teachers[attack.classifier], teacher_variables[attack.classifier]
        return attack(lambda x: classifier.read(variables, x)[0], images, batch["domain"])

    def gradients(state: TrainState, teacher_variables, batch: Batch, key: jax.Array):
        images = attacked(images_of(batch), state, teacher_variables, batch)
        stored = batch.get("taught", {})
        targets = {
            name: nested(stored[name]) if name in stored else teachers[name].read(teacher_variables[name], images)[1]
            for name in objective.teachers
        }
        targets = jax.lax.stop_gradient(targets)

        def loss_of(trained):
            variables = state.with_trained(trained).variables
            variables["params"] = fine_tuning.stop_blocks(variables["params"], experiment.freeze_blocks)
            out, updated = training_pass(experiment.model, variables, images, batch.get("label"), key)
            progress = state.step / experiment.steps
            of_terms = {"params": trained["term_params"], "statistics": state.term_statistics}
            loss, terms, kept = objective.update(out, targets, batch, of_terms, progress)
            return loss, (terms, dict(zip(STATISTICS, (updated["batch_stats"], kept), strict=True)))

        (loss, (terms, statistics)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.trained)
        return (loss, terms), statistics, grads

    return gradients


def _accumulated(gradients: Callable, number: int) -> Callable:
    """`gradients` of a batch in `number` parts, averaged."""

    def accumulated(state: TrainState, teacher_variables, batch: Batch, key: jax.Array):
        def add(carry, part):
            (statistics, total), (place, rows) = carry, part
            own, own_key = state.replace(**statistics), jax.random.fold_in(key, 2 + place)
            found, statistics, grads = gradients(own, teacher_variables, rows, own_key)
            return (statistics, jax.tree.map(lambda t, value: t + value / number, total, (found, grads))), None

        parts = jax.tree.map(lambda rows: _parts(rows, number), batch)
        first = jax.tree.map(lambda rows: rows[0], parts)
        found, _, grads = jax.eval_shape(gradients, state, teacher_variables, first, key)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (found, grads))
        start = {name: getattr(state, name) for name in STATISTICS}, zeros
        (statistics, (found, grads)), _ = jax.lax.scan(add, start, (jnp.arange(number), parts))
        return found, statistics, grads

    return accumulated


def _parts(rows: jax.Array, number: int) -> jax.Array:
    """Reshapes [b, ...] to [number, b / number, ...]; a part takes rows from every device, so that none moves."""
    return jnp.swapaxes(rows.reshape(len(rows) // number, number, *rows.shape[1:]), 0, 1)


def compiled(experiment: Experiment, mesh, state: TrainState):
    """The step of `make` jitted for `mesh`: batch split over every device, state placed by the rules and donated.

    `state` may be abstract (shapes only).
    """
    state_shardings = sharding.tree(mesh, state)
    everywhere = sharding.replicated(mesh)
    return jax.jit(
        sharding.on(mesh, make(experiment)),
        in_shardings=(state_shardings, None, sharding.batch(mesh), everywhere),
        out_shardings=(state_shardings, everywhere),
        donate_argnums=0,
    )


def make_score(model, mesh, read: Callable) -> Callable:
    """Returns score(variables, batch) -> (read [b, ...], index [b], mask [b]), on every host for the global batch.

    `read` takes the model's (first output, named outputs).
    """

    def score(variables: Mapping[str, Any], batch: Mapping[str, jax.Array]):
        return read(*model.apply(variables, images_of(batch))), batch["index"], batch["mask"]

    return jax.jit(
        sharding.on(mesh, score), in_shardings=(None, sharding.batch(mesh)), out_shardings=sharding.replicated(mesh)
    )
