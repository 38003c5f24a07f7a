"""StarGAN's training: its pass over a batch, and its terms (Choi et al., CVPR 2018, equations 3 to 9).

The terms are kinds as in `terms`; as `student` they read the named outputs of `training_pass`.
"""

import jax
import jax.numpy as jnp

from kdfas_jax.models.records import Batch, Outputs
from kdfas_jax.objective import losses


def training_pass(model, variables, images, labels, key):
    """Runs the StarGAN `model` on training images [b, s, s, 3] in [0, 1] with attributes `labels` [b, k] in [0, 1].

    Returns `(out, updated)`; a pure function of its arguments.
    updated: {'batch_stats'} after both of the generator's edits. out, all fp32:
      logits [b, k], source [b, h, w], stages: the discriminator on the images;
      edited [b, h, w]: the critic's values on edited images, to train the critic;
      penalty [b]: `losses.gradient_penalty` between the two;
      fooled [b, h, w], edited_logits [b, k]: the discriminator on edited images, to train the generator;
      wanted [b, k]: the target attributes, which are the batch's labels in a random order [S, the implementation];
      images, restored [b, s, s, 3]: the images, and the edited images edited back.
    The outputs that train one network send no gradient to the other's parameters, so one backward pass through the sum
    of both networks' terms gives both gradients [C: our own choice]. The implementation [S] updates the critic first,
    and takes the generator's gradient from the updated critic.
    """

    def judge(params, images):
        return model.apply({"params": params}, images)[1]

    def edit(variables, images, attributes):
        return model.apply(variables, images, attributes, train=True, method="edit", mutable=["batch_stats"])

    params = variables["params"]
    order_key, penalty_key = jax.random.split(key)
    wanted = jax.random.permutation(order_key, labels)
    edited, updated = edit(variables, images, wanted)
    restored, updated = edit({**variables, **updated}, edited, labels)
    shown = jax.lax.stop_gradient(edited)
    fooled = judge(jax.lax.stop_gradient(params), edited)
    out = {
        **judge(params, images),
        "edited": judge(params, shown)["source"],
        "penalty": losses.gradient_penalty(
            lambda mixed: judge(params, mixed)["source"], images, shown, penalty_key, std=jnp.asarray(model.std)
        ),
        "fooled": fooled["source"],
        "edited_logits": fooled["logits"],
        "wanted": wanted,
        "images": images,
        "restored": restored,
    }
    return out, updated


def critic(student: Outputs, batch: Batch) -> jax.Array:
    """Mean critic value on edited images minus that on real images: the discriminator minimises it."""
    return losses.masked_mean(losses.wgan_critic(student["source"], student["edited"]), batch.get("mask"))


def penalty(student: Outputs, batch: Batch) -> jax.Array:
    """The gradient penalty, which keeps the critic's slope near one (`losses.gradient_penalty`)."""
    return losses.masked_mean(student["penalty"], batch.get("mask"))


def attributes(student: Outputs, batch: Batch) -> jax.Array:
    """Binary cross-entropy of the logits of real images to their attributes, the labels [b, k], summed over k."""
    values = losses.attribute_cross_entropy(student["logits"], batch["label"])
    return losses.masked_mean(values, batch.get("mask"))


def generator(student: Outputs, batch: Batch) -> jax.Array:
    """The negative mean critic value on edited images: the generator minimises it."""
    return losses.masked_mean(losses.wgan_generator(student["fooled"]), batch.get("mask"))


def edited_attributes(student: Outputs, batch: Batch) -> jax.Array:
    """Binary cross-entropy of the logits of edited images to their target attributes, summed over the attributes."""
    values = losses.attribute_cross_entropy(student["edited_logits"], student["wanted"])
    return losses.masked_mean(values, batch.get("mask"))


def reconstruction(student: Outputs, batch: Batch) -> jax.Array:
    """Mean absolute difference between images in [0, 1] and the same images edited and edited back."""
    return losses.masked_mean(losses.reconstruction(student["images"], student["restored"]), batch.get("mask"))
