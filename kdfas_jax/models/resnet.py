"""Residual network (ResNet) as in torchvision: v1.5, where the 3x3 convolution of a bottleneck has the stride.

Sources: He et al., CVPR 2016 (arXiv 1512.03385) for the architecture; torchvision for the stride, the padding and the
initialisation; Pan et al., ECCV 2018 (arXiv 1807.09441) for instance norms (IBN-Net-a). Modules have torchvision's
names, with `_` before a number (`layer1_0/conv1`), so that weights are imported by one rule. [S] marks what a source
states, [C] our own choice. In shapes, `b` is the batch, `h w c` a feature map and `k` the classes.
"""

import dataclasses
import functools

import jax.numpy as jnp
from flax import linen as nn

VARIANTS = {
    "18": {"blocks": (2, 2, 2, 2), "bottleneck": False},
    "34": {"blocks": (3, 4, 6, 3), "bottleneck": False},
    "50": {"blocks": (3, 4, 6, 3), "bottleneck": True},
}

# [S, torchvision] Normal with variance 2 / (side * side * output channels).
KAIMING = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# [S, PyTorch's default for dense layers] Uniform within +-1 / sqrt(inputs). [C] Biases start at zero.
UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Block(nn.Module):
    """One residual block, relu(shortcut(x) + branch(x)).

    The branch has two 3x3 convolutions; that of a bottleneck has 1x1, 3x3 and 1x1, the last to four times the width.
    """

    width: int
    stride: int
    bottleneck: bool
    dtype: str
    instance: bool = False  # whether the first norm is half an instance norm

    @nn.compact
    def __call__(self, x, train):
        """[b, h, w, c] -> [b, h / stride, w / stride, width], or 4 width channels for a bottleneck."""
        plain = [(self.width, 3, self.stride), (self.width, 3, 1)]
        bottleneck = [(self.width, 1, 1), (self.width, 3, self.stride), (4 * self.width, 1, 1)]
        layers = bottleneck if self.bottleneck else plain
        convolve = functools.partial(conv, dtype=self.dtype, kernel_init=KAIMING)
        norm = functools.partial(batch_norm, train, self.dtype)

        y = x
        for number, (features, side, stride) in enumerate(layers, 1):
            y = nn.relu(y) if number > 1 else y
            instance = self.instance and number == 1
            normed = InstanceBatchNorm(self.dtype, train, name="bn1") if instance else norm(name=f"bn{number}")
            y = normed(convolve(features, side, stride, name=f"conv{number}")(y))
        if self.stride > 1 or x.shape[-1] != y.shape[-1]:
            x = norm(name="downsample_1")(convolve(y.shape[-1], 1, self.stride, name="downsample_0")(x))
        return nn.relu(x + y)


class InstanceBatchNorm(nn.Module):
    """Instance norm of the first half of the channels, which removes the tone of each image, batch norm of the rest."""

    dtype: str
    train: bool

    @nn.compact
    def __call__(self, x):
        """[b, h, w, c] -> the same shape."""
        half = x.shape[-1] // 2
        own = nn.InstanceNorm(epsilon=1e-5, dtype=self.dtype, name="IN")(x[..., :half])
        return jnp.concatenate([own, batch_norm(self.train, self.dtype, name="BN")(x[..., half:])], -1)


class ResNet(nn.Module):
    """ResNet with four stages and a linear head; the defaults are ResNet-18 (see `create`).

    Its batch norms keep running statistics in the collection 'batch_stats'.

    Fields:
      classes: number of logits.
      blocks: number of blocks of each of the four stages.
      bottleneck: blocks of three convolutions (ResNet-50) instead of two.
      width: channels of the stem and of the first stage; each later stage doubles them (a bottleneck's output has
        four times as many).
      instance: whether the first norm of each block of the first three stages is half an instance norm (IBN-Net-a).
      mean, std: normalisation of the image, one number or one per channel; the defaults are ImageNet's, as in
        torchvision.
      dtype: 'float32' or 'bfloat16', of the computation; parameters, statistics and outputs stay fp32.
    """

    classes: int = 2
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    bottleneck: bool = False
    width: int = 64
    instance: bool = False
    mean: float | tuple[float, ...] = (0.485, 0.456, 0.406)
    std: float | tuple[float, ...] = (0.229, 0.224, 0.225)
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images, *, train=False):
        """Maps images [b, h, w, 3] in [0, 1] to logits [b, k] and the named outputs.

        Returns `(logits, out)`, all fp32: out['logits'] the same logits; out['stages'] the outputs of the four
        stages, [b, h / 4, w / 4, c], each with half the side of the previous one; out['pre_logits'] [b, c] the input of
        the head.
        `train=True` normalises by the batch and needs `mutable=['batch_stats']`.
        """
        x = (images - jnp.asarray(self.mean, jnp.float32)) / jnp.asarray(self.std, jnp.float32)
        x = conv(self.width, 7, 2, dtype=self.dtype, kernel_init=KAIMING, name="conv1")(x)
        x = nn.relu(batch_norm(train, self.dtype, name="bn1")(x))
        x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))

        stages = []
        for stage, blocks in enumerate(self.blocks):
            for i in range(blocks):
                stride = 2 if stage > 0 and i == 0 else 1
                name = f"layer{stage + 1}_{i}"
                own = self.instance and stage < 3
                x = Block(self.width * 2**stage, stride, self.bottleneck, self.dtype, own, name=name)(x, train)
            stages.append(x.astype(jnp.float32))

        x = stages[-1].mean((1, 2))
        logits = nn.Dense(self.classes, kernel_init=UNIFORM, name="fc")(x)
        return logits, {"logits": logits, "stages": tuple(stages), "pre_logits": x}


def conv(features, side, stride=1, **fields):
    """A `side` x `side` convolution without bias, with PyTorch's padding of side // 2 on every edge.

    Flax's 'SAME' would pad only the right and lower edges of an even image at a stride of 2.
    """
    return nn.Conv(features, (side, side), stride, padding=side // 2, use_bias=False, **fields)


def batch_norm(train, dtype, **fields):
    """Batch norm with PyTorch's momentum and epsilon; it uses batch statistics in training, else running statistics.

    The statistics of a sharded batch are global. The running variance averages the biased variance of the batch [C],
    where PyTorch averages the unbiased one.
    """
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, **fields)


def create(variant="18", **overrides):
    """Builds a ResNet from a name of `VARIANTS` and fields of `ResNet` to override.

    Raises ValueError for an unknown variant, field or choice, and lists the known ones.
    """
    return build(ResNet, VARIANTS, variant, overrides)


def build(module, variants, variant, overrides):
    """Builds `module` with the fields of `variants[variant]` and `overrides`; raises ValueError as `create` does."""
    kind = module.__name__
    if variant not in variants:
        raise ValueError(f"unknown {kind} variant {variant!r}; known: {', '.join(variants)}")
    known = [f.name for f in dataclasses.fields(module) if f.name not in ("parent", "name")]
    if unknown := sorted(set(overrides) - set(known)):
        raise ValueError(f"unknown {kind} fields {', '.join(unknown)}; known: {', '.join(known)}")
    model = module(**{**variants[variant], **overrides})
    if model.dtype not in ("float32", "bfloat16"):
        raise ValueError(f"{kind} dtype={model.dtype!r}; expected one of float32, bfloat16")
    if len(model.blocks) != 4 or min(model.blocks) < 1:
        raise ValueError(f"{kind} blocks={model.blocks}; expected four numbers, each at least 1")
    return model
