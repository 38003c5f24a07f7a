"""Improved residual network (IResNet) for face recognition, as in ArcFace: 112 px images to 512-d embeddings.

Sources: insightface's arcface_torch for the architecture and its names; Deng et al., CVPR 2019 (arXiv 1801.07698) for
the residual unit (BN, conv, BN, PReLU, conv, BN). Modules have the published names, with `_` before a number
(`layer1_0/conv1`). [S] marks what a source states, [C] our own choice. In shapes, `b` is the batch, `h w c` a feature
map.
"""

import functools

import jax.numpy as jnp
from flax import linen as nn

from kdfas_jax.models import resnet

VARIANTS = {
    "18": {"blocks": (2, 2, 2, 2)},
    "50": {"blocks": (3, 4, 14, 3)},
    "100": {"blocks": (3, 13, 30, 3)},
}

NORMAL = nn.initializers.normal(0.1)  # [S, arcface_torch] initialiser of every convolution


class PReLU(nn.Module):
    """max(x, 0) + slope * min(x, 0), with a slope for each channel that starts at 0.25 (PyTorch's default)."""

    @nn.compact
    def __call__(self, x):
        """[..., c] -> the same shape and dtype."""
        slope = self.param("slope", nn.initializers.constant(0.25), x.shape[-1:])
        return jnp.where(x >= 0, x, slope.astype(x.dtype) * x)


class Block(nn.Module):
    """One residual unit, shortcut(x) + branch(x). The second convolution has the stride; no ReLU follows the sum."""

    width: int
    stride: int
    dtype: str

    @nn.compact
    def __call__(self, x, train):
        """[b, h, w, c] -> [b, h / stride, w / stride, width]."""
        conv = functools.partial(resnet.conv, self.width, dtype=self.dtype, kernel_init=NORMAL)
        norm = functools.partial(resnet.batch_norm, train, self.dtype)

        y = conv(3, name="conv1")(norm(name="bn1")(x))
        y = PReLU(name="prelu")(norm(name="bn2")(y))
        y = norm(name="bn3")(conv(3, self.stride, name="conv2")(y))
        if self.stride > 1 or x.shape[-1] != self.width:
            x = norm(name="downsample_1")(conv(1, self.stride, name="downsample_0")(x))
        return x + y


class IResNet(nn.Module):
    """IResNet with four stages and an embedding; the defaults are IResNet-18 (see `create`).

    Its batch norms keep running statistics in the collection 'batch_stats'. The dense layer before the embedding reads
    the whole last feature map, so the parameters fit one image size; the published ones fit 112 px.
    [C] Every parameter is trained; arcface_torch fixes the scale of the last batch norm at 1. There is no dropout, as
    in arcface_torch for these sizes.

    Fields:
      embedding: length of the embedding.
      classes: number of identities in training; 0 leaves the class centres out.
      blocks: number of blocks of each of the four stages.
      width: channels of the stem and of the first stage; each later stage doubles them.
      mean, std: normalisation of the image, one number or one per channel; insightface trains with 0.5.
      dtype: 'float32' or 'bfloat16', of the convolutions; parameters, statistics and outputs stay fp32.
    """

    embedding: int = 512
    classes: int = 0
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    width: int = 64
    mean: float | tuple[float, ...] = 0.5
    std: float | tuple[float, ...] = 0.5
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images, *, train=False):
        """Maps images [b, h, w, 3] in [0, 1] to embeddings [b, embedding] and the named outputs.

        Returns `(embedding, out)`, all fp32: out['embedding'] the same embedding, not normalised; out['stages'] the
        outputs of the four stages, [b, h / 2, w / 2, c], each with half the side of the previous one; with
        `classes` > 0 out['centres'] [classes, embedding], the class centres of a margin softmax.
        `train=True` normalises by the batch and needs `mutable=['batch_stats']`.
        """
        x = (images - jnp.asarray(self.mean, jnp.float32)) / jnp.asarray(self.std, jnp.float32)
        x = resnet.conv(self.width, 3, dtype=self.dtype, kernel_init=NORMAL, name="conv1")(x)
        x = PReLU(name="prelu")(resnet.batch_norm(train, self.dtype, name="bn1")(x))

        stages = []
        for stage, blocks in enumerate(self.blocks):
            for i in range(blocks):
                stride = 2 if i == 0 else 1
                x = Block(self.width * 2**stage, stride, self.dtype, name=f"layer{stage + 1}_{i}")(x, train)
            stages.append(x.astype(jnp.float32))

        x = resnet.batch_norm(train, "float32", name="bn2")(stages[-1])
        x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)  # channels first, as in the published weights
        x = nn.Dense(self.embedding, kernel_init=resnet.UNIFORM, name="fc")(x)
        x = resnet.batch_norm(train, "float32", name="features")(x)
        out = {"embedding": x, "stages": tuple(stages)}
        if self.classes:  # initialised as arcface_torch does [S]
            out["centres"] = self.param("centres", nn.initializers.normal(0.01), (self.classes, self.embedding))
        return x, out


def create(variant="18", **overrides):
    """Builds an IResNet from a name of `VARIANTS` and fields of `IResNet` to override.

    Raises ValueError for an unknown variant, field or choice, and lists the known ones.
    """
    return resnet.build(IResNet, VARIANTS, variant, overrides)
