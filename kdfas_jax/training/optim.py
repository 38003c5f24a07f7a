"""Optimiser and learning-rate schedule: AdamW with linear warm-up and cosine decay, the DeiT recipe.

KDFAS in docs/methods.md gives the recipe's values. [S] marks what a source states, [C] our own choice.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from kdfas_jax.models import fine_tuning

WARMUP_START = 1e-6  # learning rate at step 0, as in DeiT


def total_steps(config, examples: int) -> int:
    """Returns the number of steps of a run of `config.epochs` epochs over `examples` training examples.

    `config` is config.train. An incomplete batch at the end of an epoch is dropped.
    """
    return round(config.epochs * (examples // config.batch_size))


def schedule(config, *, steps: int, steps_per_epoch: int, batch_size: int) -> optax.Schedule:
    """Returns the learning-rate schedule, step -> learning rate; `config` is config.optim.

    The peak is `config.lr`, which is per 512 examples, times batch_size / 512. The rate rises linearly over
    `config.warmup_epochs` and then falls as a cosine to `config.min_lr` at the last step.
    Raises ValueError where the warm-up does not end within the run.
    """
    peak = config.lr * batch_size / 512
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if warmup >= steps:
        raise ValueError(
            f"config.optim.warmup_epochs={config.warmup_epochs} is {warmup} steps of a run of {steps}; expected fewer "
            "steps than the run: lower it, or raise config.train.epochs"
        )
    start = min(WARMUP_START, peak)
    return optax.warmup_cosine_decay_schedule(start, peak, warmup, steps, min(config.min_lr, peak))


def make(config, learning_rate: optax.Schedule) -> optax.GradientTransformation:
    """Returns AdamW with weight decay on kernels only: not on biases, norms, class token or position embedding.

    `config` is config.optim. `config.every` = {group: n} is the update interval of a parameter group in steps: the
    parameters with `group` in their path are updated in every n-th step, from the gradient and with the learning rate
    of that step (StarGAN's generator, every fifth step [S]); their moments stay unchanged in between. The other steps
    compute the gradient and discard it (1.2 of the 2.1 TFLOP a step of the published StarGAN); a step with two
    branches, which avoids that, was slower on a CPU [C]. Raises ValueError where a group has no parameter.
    `config.layer_decay` and `config.freeze_blocks` scale the updates, and with them the weight decay, of each block of
    a ViT (`fine_tuning.rates`).
    """

    def adamw(rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.adamw(rate, b1=config.b1, b2=config.b2, weight_decay=config.weight_decay, mask=_decayed)

    update = adamw(learning_rate)
    if config.every:
        groups = {group: _every(n, adamw, learning_rate) for group, n in config.every.items()}
        update = optax.partition({"": update, **groups}, lambda trained: _groups(config.every, trained))
    clip = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    layers = [_by_layer(config)] if config.layer_decay != 1 or config.freeze_blocks else []
    return optax.chain(*clip, update, *layers)


def average(decay: float, averaged, values, step: jax.Array):
    """Updates an exponential moving average of the trees `values`: d averaged + (1 - d) values.

    d = min(`decay`, (1 + t) / (10 + t)) at the `step` t, int [], counted from 0, so that the average soon forgets the
    initial parameters (the warm-up of tf.train.ExponentialMovingAverage) [C]. `averaged` = {} means that the run keeps
    no average, and is returned.
    """
    if not averaged:
        return averaged
    d = jnp.minimum(decay, (1 + step) / (10 + step)).astype(jnp.float32)
    return optax.incremental_update(values, averaged, 1 - d)


def _by_layer(config) -> optax.GradientTransformation:
    """Scales the updates of a ViT's parameters by the place of their layer; the parameters of terms are not scaled."""

    def scaled(updates, _):
        depth = len(jax.tree.leaves(updates["params"]["blocks"])[0])

        def scale(path, leaf):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            return leaf * fine_tuning.rates(name, leaf.shape, depth, config.layer_decay, config.freeze_blocks)

        return {**updates, "params": jax.tree_util.tree_map_with_path(scale, updates["params"])}

    return optax.stateless(scaled)


def _every(n: int, make_update, learning_rate: optax.Schedule) -> optax.GradientTransformation:
    """Applies an update in every n-th step. The update counts updates, the schedule counts steps."""
    update = make_update(lambda count: learning_rate(n * count + n - 1))
    return optax.conditionally_mask(update, lambda step: (step + 1) % n == 0)


def _groups(every: Mapping[str, int], trained):
    """Labels each parameter with the group of `every` whose name is in its path, '' for none."""

    def group_of(path, _):
        return next((key.key for key in path if key.key in every), "")

    groups = jax.tree_util.tree_map_with_path(group_of, trained)
    if missing := set(every) - set(jax.tree.leaves(groups)):
        raise ValueError(f"config.optim.every names {sorted(missing)}, but no parameter's path has that name")
    return groups


def _decayed(params):
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)
