"""Published weights of convolutional networks as variables of ours, by one rule: ours have the published names.

A state dict's `layer1.0.bn1.running_var` is `layer1_0/bn1/var`, `layer1.0.conv1.weight` is `layer1_0/conv1/kernel`.
"""

import re

import numpy as np

from kdfas_jax.models.published import match as weights_match

# PyTorch's names of what a batch norm holds -> Flax's.
NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}


def convert_resnet(theirs, model, expected, path):
    """The named arrays of a torchvision ResNet as variables of `resnet.ResNet`; see `weights.load`.

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
    """The named arrays of an insightface (arcface_torch) IResNet as variables of `iresnet.IResNet`.

    The facts are {'format': 'insightface', 'head_replaced', 'dropped': []}. The embedding is no head; class centres
    are: a file of a backbone has none, and fresh ones stay.
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
    """The named arrays of an insightface (arcface_torch) MobileFaceNet as variables of `mobilefacenet.MobileFaceNet`.

    The facts are those of `convert_iresnet`; a fresh live head stays with fresh class centres.
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
    """Our names and layouts for a PyTorch {name: array}; `num_batches_tracked`, which we have no use for, is left out.

    What a `weight` is follows from its neighbours and its shape: a batch norm's has running statistics beside it, a
    PReLU's is another vector, a dense one's is a matrix [out, in], a convolution's [out, in, row, column].
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
            f"{path} is no {name} state dict: expected {key} in it, found {', '.join(sorted(theirs)[:4]) or 'nothing'}"
        )
