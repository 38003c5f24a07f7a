"""What travels between pipeline, models and terms by name: the batch, and a model's named outputs."""

from collections.abc import Mapping
from typing import Any, TypedDict

import jax
import jax.numpy as jnp

TRUTH_SIDE = 16  # of the truth maps that a batch may carry


class Batch(TypedDict, total=False):
    """A training batch on the devices; it has the columns that its target, its terms and its attack read.

    image: uint8 [b, h, w, 3]. label: float32 [b, k], soft where images are mixed. identity, domain: int32 [b], class
    numbers, -1 for none. mask: float32 [b], 0 for a row that only pads. truth: uint8 [b, m, m, 3], depth, instrument
    and outline of a rendered picture (`input_pipeline.schema.Frame`). taught: {teacher: stored outputs for the images},
    as `flat` gives them.
    """

    image: jax.Array
    label: jax.Array
    identity: jax.Array
    domain: jax.Array
    mask: jax.Array
    truth: jax.Array
    taught: Mapping[str, Mapping[str, jax.Array]]


class Outputs(TypedDict, total=False):
    """A model's named outputs, fp32; a model has those that its kind computes, and a teacher's are its targets.

    logits: [b, k]. pre_logits: [b, d], what the head reads. class_tokens: [stages, b, d], and patch_tokens: [b, h, w,
    d], of a ViT. stages: feature maps [b, h, w, c] by stage, of a convolutional network. embedding: [b, d], of a face
    recogniser. centres: [people, d], its class centres. source: [b, h, w], a critic's values. The others are
    `objective.adversarial.training_pass`'s.
    """

    logits: jax.Array
    pre_logits: jax.Array
    class_tokens: jax.Array
    patch_tokens: jax.Array
    stages: tuple[jax.Array, ...]
    embedding: jax.Array
    centres: jax.Array
    source: jax.Array
    edited: jax.Array
    penalty: jax.Array
    fooled: jax.Array
    edited_logits: jax.Array
    wanted: jax.Array
    images: jax.Array
    restored: jax.Array


def class_tokens(out: Outputs) -> jax.Array | tuple[jax.Array, ...]:
    """A ViT's class tokens [stages, b, d], or a convolutional network's mean feature of each stage, [b, c] each."""
    return out["class_tokens"] if "class_tokens" in out else tuple(stage.mean((1, 2)) for stage in out["stages"])


def flat(out: Outputs, names: tuple[str, ...]) -> dict[str, jax.Array]:
    """The outputs `names` with the examples first: {name: [b, ...]}, a convolutional network's tokens name by name."""
    found = {}
    for name in names:
        value = class_tokens(out) if name == "class_tokens" else out[name]
        if isinstance(value, tuple):
            found |= {f"{name}/{number}": of for number, of in enumerate(value)}
        else:
            found[name] = jnp.swapaxes(value, 0, 1) if name == "class_tokens" else value
    return found


def nested(stored: Mapping[str, jax.Array]) -> Outputs:
    """The outputs that `flat` flattened, as a model names them."""
    found: dict[str, Any] = {}
    for name, value in stored.items():
        whole, _, _ = name.partition("/")
        if whole != name:
            found[whole] = (*found.get(whole, ()), value)
        else:
            found[whole] = jnp.swapaxes(value, 0, 1) if name == "class_tokens" else value
    return found
