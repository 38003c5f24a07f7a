"""Converts published weights of convolutional networks by one rule, as our modules have the published names.

`layer1.0.bn1.running_var` of a state dict becomes `layer1_0/bn1/var`, `layer1.0.conv1.weight` `layer1_0/conv1/kernel`.
"""

import re

import numpy as np

from kdfas_jax.models.published import match as weights_match

# PyTorch's names of the arrays of a batch norm -> Flax's.
NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}


def convert_resnet(theirs, model, expected, path):
    """Converts the named arrays of a torchvision ResNet to variables of `resnet.ResNet`; see `weights.load`.

    The facts are {'format': 'torchvision', 'head_replaced', 'dropped'}. timm's ResNets have the same names.
    """
    _require_format(theirs, "torchvision", "layer1.0.conv1.weight", path)
    found, head = weights_match.replace_head(rename(theirs), expected, theirs, "fc")
    kind = "bottleneck blocks" if model.bottleneck else "blocks"
    weights_match.require_match(
        expected,
        found,
        f"{path} (torchvision) is not a ResNet of {model.blocks} {kind}, width {model.width}; set the model's variant "
        "to the checkpoint's",
    )
    return found, {"format": "torchvision", **head}


def convert_iresnet(theirs, model, expected, path):
    """Converts the named arrays of an insightface (arcface_torch) IResNet to variables of `iresnet.IResNet`.

    The facts are {'format': 'insightface', 'head_replaced', 'dropped': []}. The head of this model is its class
    centres: published files lack them, so the fresh ones stay. The embedding is not a head.
    """
    _require_format(theirs, "insightface", "prelu.weight", path)
    fresh = {name: np.asarray(value) for name, value in expected.items() if name == "centres"}
    found = fresh | rename(theirs)
    weights_match.require_match(
        expected,
        found,
        f"{path} (insightface) is not an IResNet of {model.blocks} blocks, width {model.width}, for images of this "
        "size; set the model's variant to the checkpoint's and config.data.image_size to 112",
    )
    return found, {"format": "insightface", "head_replaced": bool(fresh), "dropped": []}


def convert_mobilefacenet(theirs, model, expected, path):
    """Converts the named arrays of an insightface MobileFaceNet to variables of `mobilefacenet.MobileFaceNet`.

    The facts are as in `convert_iresnet`; class centres and live head stay fresh.
    """
    _require_format(theirs, "insightface", "conv_sep.layers.0.weight", path)
    heads = ("centres", "live/kernel", "live/bias")
    fresh = {name: np.asarray(expected[name]) for name in heads if name in expected}
    found = fresh | rename(theirs)
    weights_match.require_match(
        expected,
        found,
        f"{path} (insightface) is not a MobileFaceNet of {model.blocks} blocks, scale {model.scale}, width "
        f"{model.width}, for images of {model.image_size} px; set the model's variant and image_size to the "
        "checkpoint's",
    )
    return found, {"format": "insightface", "head_replaced": bool(fresh), "dropped": []}


def rename(theirs):
    """Renames and transposes a PyTorch {name: array} to our layout; `num_batches_tracked`, which is unused, is dropped.

    The kind of a `weight` follows from its neighbours and its shape: a batch norm has running statistics, a PReLU any
    other vector, a dense layer a matrix [out, in], a convolution [out, in, row, column].
    """
    ours = {}
    for key, value in theirs.items():
        module, _, leaf = key.rpartition(".")
        target = re.sub(r"\.(\d+)", r"_\1", module).replace(".", "/")
        if f"{module}.running_mean" in theirs and leaf in NORM:
            ours[f"{target}/{NORM[leaf]}"] = value
        elif leaf == "weight" and value.ndim == 1:
            ours[f"{target}/slope"] = value
        elif leaf == "weight":
            ours[f"{target}/kernel"] = np.moveaxis(value, (0, 1), (-1, -2))
        elif leaf != "num_batches_tracked":
            ours[f"{target}/{leaf}"] = value
    return ours


def _require_format(theirs, name, key, path):
    """Raises ValueError, naming the file, where `key` is not among the named arrays."""
    if key not in theirs:
        raise ValueError(
            f"{path} is not a state dict of {name}: it has {', '.join(sorted(theirs)[:4]) or 'nothing'}; expected {key}"
        )
