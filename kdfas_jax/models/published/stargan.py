"""Converts published StarGAN weights (the CelebA checkpoints of yunjey/stargan) to variables of `stargan`'s models.

The implementation names each layer by its position in one list `main`; the lists below have our names in that order.
"""

import re

import numpy as np

from kdfas_jax.models.published import match as weights_match

# The layers of the generator before and after its residual blocks; None is an activation.
HEAD = ["stem", "stem_norm", None, "down1", "down1_norm", None, "down2", "down2_norm", None]
TAIL = ["up1", "up1_norm", None, "up2", "up2_norm", None, "out"]
BLOCK = {"main.0": "conv1", "main.1": "norm1", "main.3": "conv2", "main.4": "norm2"}
LEAVES = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
FACTS = {"format": "stargan", "head_replaced": False, "dropped": []}


def convert_generator(theirs, model, expected, path):
    """Converts the named arrays of a published generator to variables of `stargan.Generator`; see `weights.load`."""
    found = rename_generator(theirs)
    reason = f"{path} is not a StarGAN generator of width {model.width}, repeats {model.repeats}"
    weights_match.require_match(expected, found, f"{reason}; set the model's fields to the checkpoint's")
    return found, FACTS


def convert_discriminator(theirs, model, expected, path):
    """Converts a published discriminator's named arrays to variables of `stargan.Discriminator`; see `weights.load`."""
    found = rename_discriminator(theirs)
    weights_match.require_match(
        expected,
        found,
        f"{path} is not a StarGAN discriminator of image_size {model.image_size}, width {model.width}, repeats "
        f"{model.repeats}, {model.classes} classes; set the model's fields to the checkpoint's",
    )
    return found, FACTS


def rename_generator(theirs):
    """Renames and transposes a generator's state dict {name: array}, with any number of residual blocks."""
    repeats = sum(bool(re.fullmatch(r"main\.\d+\.main\.0\.weight", name)) for name in theirs)
    places = [*HEAD, *[None] * repeats, *TAIL]
    modules = {f"main.{place}": name for place, name in enumerate(places) if name}
    for i in range(repeats):
        modules |= {f"main.{len(HEAD) + i}.{part}": f"block{i + 1}_{name}" for part, name in BLOCK.items()}
    return _rename(theirs, modules)


def rename_discriminator(theirs):
    """Renames and transposes a discriminator's state dict {name: array}, with any number of convolutions."""
    repeats = sum(bool(re.fullmatch(r"main\.\d+\.weight", name)) for name in theirs)
    modules = {f"main.{2 * i}": f"conv{i + 1}" for i in range(repeats)}
    return _rename(theirs, modules | {"conv1": "source", "conv2": "head"})


def _rename(theirs, modules):
    """Returns {our name: array}; unknown arrays keep their names, and `num_batches_tracked` is dropped.

    One transposition serves all kernels: [out, in, row, column] of a convolution and [in, out, row, column] of a
    transposed one become [row, column, in, out] and [row, column, out, in], the layouts of Flax.
    """
    ours = {}
    for name, value in theirs.items():
        module, _, leaf = name.rpartition(".")
        if module not in modules or leaf not in (*LEAVES, "num_batches_tracked"):
            ours[name] = value
        elif value.ndim == 4:
            ours[f"{modules[module]}/kernel"] = np.transpose(value, (2, 3, 1, 0))
        elif leaf in LEAVES:
            ours[f"{modules[module]}/{LEAVES[leaf]}"] = value
    return ours
