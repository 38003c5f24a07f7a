"""Optimiser and schedule: AdamW with linear warm-up and cosine decay, the DeiT recipe (METHODS section 1)."""

import jax
import optax

WARMUP_START = 1e-6  # learning rate at step 0, as in DeiT


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
    """AdamW; weight decay on kernels alone, not on biases, norms, class token and position embedding."""
    parts = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    parts.append(
        optax.adamw(learning_rate, b1=config.b1, b2=config.b2, weight_decay=config.weight_decay, mask=_decayed)
    )
    return optax.chain(*parts)


def _decayed(params):
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)
