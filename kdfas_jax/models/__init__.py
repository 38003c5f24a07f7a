"""Networks as Flax modules, one file each, and the import of published weights; imports only `parallel`.

`create({'name': 'vit', 'variant': 'S/16', 'classes': 2})` builds a model by its name in `REGISTRY`.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kdfas_jax.models import counting, crops, iresnet, mobilefacenet, resnet, stargan, together, vit
from kdfas_jax.models.vit_block import ADAPTER


def _together(spoof, recognition, *, dtype="", **sizes):
    """Builds `together.Together` from the configs of its two models; a `dtype` overrides the dtype of both."""
    common = {"dtype": dtype} if dtype else {}
    return together.Together(*(create({**network, **common}) for network in (spoof, recognition)), **sizes)


def _crops(network, size, zooms=crops.Crops.zooms, mirrored=True, *, dtype=""):
    """Builds `crops.Crops` from the config of its network, whose dtype a `dtype` overrides."""
    crops.check(zooms, size)
    return crops.Crops(create({**network, **({"dtype": dtype} if dtype else {})}), size, tuple(zooms), mirrored)


# name -> function that builds the model from the config's other keys and checks them (ValueError lists the known ones).
REGISTRY = {
    "stargan": stargan.create,
    "stargan_discriminator": stargan.create_discriminator,
    "vit": vit.create,
    "resnet": resnet.create,
    "iresnet": iresnet.create,
    "mobilefacenet": mobilefacenet.create,
    "together": _together,
    "crops": _crops,
}

# Parameters that only training uses: the class centres of a recogniser; the generator of a StarGAN, as a deployed
# StarGAN is its discriminator.
TRAINING_ONLY = ("centres", "generator")


def create(config):
    """Builds the Flax module described by `config`.

    `config` is a mapping (a dict or an ml_collections ConfigDict) with 'name', a key of `REGISTRY`, and options of
    that model. Lists become tuples, so that the module can be hashed.
    Raises ValueError for an unknown name or option, and lists the known ones.
    """
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
    name = options.pop("name", None)
    if name not in REGISTRY:
        raise ValueError(f"unknown model name {name!r} in the config; known: {', '.join(REGISTRY)}")
    return REGISTRY[name](**options)


def options(config):
    """Returns the options of the model that `config` names, {name: type}, as `create` takes them beside 'name'."""
    fields = dataclasses.fields(create(config))
    return {field.name: field.type for field in fields if field.name not in ("parent", "name")}


class Parameters(NamedTuple):
    """Numbers of parameters: `deployed` with a model, and `training_only`."""

    deployed: int
    training_only: int


def parameters(config, image_size):
    """Counts the parameters of the model of `config` at `image_size` px, without allocating them.

    Parameters below a name in `TRAINING_ONLY`, at any depth, count as `training_only`, and so do adapters, which an
    export merges.
    """
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    shapes = jax.eval_shape(create(config).init, jax.random.key(0), images)
    sizes = {True: 0, False: 0}
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes["params"]):
        sizes[any(key.key in TRAINING_ONLY or key.key.endswith(ADAPTER) for key in path)] += leaf.size
    return Parameters(deployed=sizes[False], training_only=sizes[True])


def count(config, image_size):
    """Returns the number of deployed parameters of the model of `config` (`parameters`)."""
    return parameters(config, image_size).deployed


def teaching(model):
    """Returns the network by which `model` teaches, with the same variables.

    That of several crops judges the whole image alone, in a sixth of the time: teacher and student see the same view
    (Beyer et al., CVPR 2022).
    """
    return dataclasses.replace(model, zooms=(1.0,), mirrored=False) if isinstance(model, crops.Crops) else model


def flops(model, image_size, train=False):
    """Returns the FLOPs of a forward pass on one image of `image_size` px: two per multiply-accumulate of its matrices.

    train: of the pass of a training step. For a StarGAN these are the FLOPs of the discriminator.
    """
    if isinstance(model, crops.Crops):
        views = 1 if train else len(model.zooms) * (1 + model.mirrored)
        return views * flops(model.network, model.size, train)
    if isinstance(model, stargan.StarGAN):  # layers are counted while initialising, which also runs the generator
        model = model.make_discriminator()
    if isinstance(model, together.Together):
        return flops(model.spoof, model.spoof_size) + flops(model.recognition, model.recognition_size)
    return vit.flops(model, image_size) if isinstance(model, vit.ViT) else counting.of_image(model, image_size)
