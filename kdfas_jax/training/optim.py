"""Optimiser and schedule: AdamW with linear warm-up and cosine decay, the DeiT recipe (METHODS section 1)."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

WARMUP_START = 1e-6  # learning rate at step 0, as in DeiT


def total_steps(config, examples: int) -> int:
    """The number of steps of a whole run of `config.epochs` over so many training examples; `config`: config.train.

    The remainder of an epoch that fills no batch is dropped.
    """
    return round(config.epochs * (examples // config.batch_size))


def schedule(config, *, steps: int, steps_per_epoch: int, batch_size: int) -> optax.Schedule:
    """step -> learning rate. `config.lr` is per 512 examples and scales linearly with the batch.

    Rises over `config.warmup_epochs`, then falls as a cosine to `config.min_lr` at the last step. ValueError where
    the warm-up does not end within the run.
    """
    peak = config.lr * batch_size / 512
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if warmup >= steps:
        raise ValueError(f"config.optim.warmup_epochs={config.warmup_epochs} is {warmup} steps of a run of {steps}")
    start = min(WARMUP_START, peak)
    return optax.warmup_cosine_decay_schedule(start, peak, warmup, steps, min(config.min_lr, peak))


def make(config, learning_rate: optax.Schedule) -> optax.GradientTransformation:
    """AdamW; weight decay on kernels alone, not on biases, norms, class token and position embedding.

    `config.every` = {group: n}: the parameters with `group` in their path are updated in every n-th step alone, from
    that step's gradient (StarGAN's generator, one step in five [S]). Their moments rest in between; their learning
    rate is the step's own. Steps in between compute their gradient in vain (1.2 of the published StarGAN's 2.1 TFLOP a
    step): to leave it out by a step of two branches took a CPU longer [C]. ValueError where a group has no parameter.
    """

    def adamw(rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.adamw(rate, b1=config.b1, b2=config.b2, weight_decay=config.weight_decay, mask=_decayed)

    update = adamw(learning_rate)
    if config.every:
        groups = {group: _every(n, adamw, learning_rate) for group, n in config.every.items()}
        update = optax.partition({"": update, **groups}, lambda trained: _groups(config.every, trained))
    return optax.chain(*([optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []), update)


def average(decay: float, averaged, values, step: jax.Array):
    """The exponential moving average of the trees `values` after a step: d averaged + (1 - d) values.

    d = min(`decay`, (1 + t) / (10 + t)) at the `step` t, int [], counted from 0, so that the average soon forgets the
    initial parameters (the warm-up of tf.train.ExponentialMovingAverage) [C]. `averaged` {} stays {}: no average is
    kept.
    """
    if not averaged:
        return averaged
    d = jnp.minimum(decay, (1 + step) / (10 + step)).astype(jnp.float32)
    return optax.incremental_update(values, averaged, 1 - d)


def _every(n: int, make_update, learning_rate: optax.Schedule) -> optax.GradientTransformation:
    """An update in every n-th step; it counts its own updates, the schedule counts steps."""
    update = make_update(lambda count: learning_rate(n * count + n - 1))
    return optax.conditionally_mask(update, lambda step: (step + 1) % n == 0)


def _groups(every: Mapping[str, int], trained):
    """The group of `every` that each parameter belongs to by a name in its path, '' for none."""

    def group_of(path, _):
        return next((key.key for key in path if key.key in every), "")

    groups = jax.tree_util.tree_map_with_path(group_of, trained)
    if missing := set(every) - set(jax.tree.leaves(groups)):
        raise ValueError(f"config.optim.every names {sorted(missing)}, but no parameter's path has that name")
    return groups


def _decayed(params):
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)
