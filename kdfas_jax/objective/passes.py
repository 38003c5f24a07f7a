"""Training passes: how a model computes its named outputs from a training batch.

Most models are applied to the images. A model that needs more registers a function in `PASSES`, one line each.
"""

from collections.abc import Callable

import jax

from kdfas_jax.models import stargan
from kdfas_jax.objective import adversarial

# class of the model -> pass(model, variables, images, labels, key) -> (named outputs, {'batch_stats'} after it)
PASSES: dict[type, Callable] = {stargan.StarGAN: adversarial.training_pass}


def training_pass(model, variables, images: jax.Array, labels: jax.Array | None, key: jax.Array):
    """Runs `model` on training images [b, h, w, 3] in [0, 1] with labels [b, k].

    Returns (named outputs, {'batch_stats'} after it). A model whose class is not in `PASSES` is applied to the images.
    """
    own = PASSES.get(type(model), _apply)
    return own(model, variables, images, labels, key)


def _apply(model, variables, images, labels, key):
    (_, out), updated = model.apply(variables, images, train=True, rngs={"dropout": key}, mutable=["batch_stats"])
    return out, updated
