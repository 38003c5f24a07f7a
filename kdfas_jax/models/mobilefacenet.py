"""MobileFaceNet: a light network for face recognition, 112 px to an embedding, with an optional live/attack head.

Sources: Chen et al., CCBR 2018 (arXiv 1804.07573) for the architecture; insightface's arcface_torch for the wider
variants, their names and the initialisation. Modules have the published names, with `_` before a number
(`layers_2/layers_1/layers_0`): the layer of the trunk, the layer of a bottleneck, and 0 for a convolution, 1 for its
norm, 2 for its PReLU. [S] marks what a source states, [C] our own choice. In shapes, `b` is the batch, `h w c` a
feature map.
"""

import functools

import jax.numpy as jnp
from flax import linen as nn

from kdfas_jax.models import iresnet, resnet
from kdfas_jax.parallel import sharding

VARIANTS = {
    "original": {"scale": 1, "embedding": 128},
    "mbf": {"scale": 2},
    "mbf_large": {"scale": 4, "blocks": (2, 8, 12, 4)},
}


class Shifted(nn.Conv):
    """A grouped convolution, computed as the sum over kernel offsets of the shifted input times a weight.

    `Layer` chooses it on CPUs. It has the same sums and is several times as fast there: one image of 112 px takes 10 ms
    a forward of `mbf`, where XLA's convolutions in groups take 50, and XLA's gradient of the first stage's convolution,
    two channels a group, took 6 s an image. One stride and one padding for both axes; no bias.
    """

    @nn.compact
    def __call__(self, x):
        """[b, h, w, c] -> [b, h', w', features]; `kernel` [side, side, c / groups, features], as in `nn.Conv`."""
        groups, inputs = self.feature_group_count, x.shape[-1] // self.feature_group_count
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, inputs, self.features))
        p, s, side = self.padding, self.strides, self.kernel_size[0]
        x = jnp.pad(x.astype(self.dtype), ((0, 0), (p, p), (p, p), (0, 0)))
        height, width = (x.shape[axis] - side + 1 for axis in (1, 2))
        y = 0.0
        for n in range(inputs):  # the n-th channel of every group, beside each output of the group
            channel = jnp.repeat(x[..., n::inputs], self.features // groups, axis=-1)
            for i in range(side):
                for j in range(side):
                    y += channel[:, i : i + height : s, j : j + width : s] * kernel[i, j, n]  # bf16 is summed in fp32
        return y.astype(self.dtype)


class Layer(nn.Module):
    """A convolution without bias, a batch norm and, unless `linear`, a PReLU."""

    width: int
    side: int = 1
    stride: int = 1
    padding: int = 0
    groups: int = 1
    linear: bool = False
    native: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, train):
        """[b, h, w, c] -> [b, h / stride, w / stride, width], less what the padding does not cover."""
        slow = self.groups > 1 and sharding.platform() == "cpu" and not self.native
        conv = Shifted if slow else nn.Conv
        x = conv(
            self.width,
            (self.side, self.side),
            self.stride,
            padding=self.padding,
            feature_group_count=self.groups,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=resnet.KAIMING,
            name="layers_0",
        )(x)
        x = resnet.batch_norm(train, self.dtype, name="layers_1")(x)
        return x if self.linear else iresnet.PReLU(name="layers_2")(x)


class Bottleneck(nn.Module):
    """Expands to `expanded` channels, applies a depthwise convolution, and projects linearly to `width` channels."""

    width: int
    expanded: int
    stride: int = 1
    native: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, train):
        """[b, h, w, c] -> [b, h / stride, w / stride, width]."""
        layer = functools.partial(Layer, native=self.native, dtype=self.dtype)
        x = layer(self.expanded, name="layers_0")(x, train)
        x = layer(self.expanded, 3, self.stride, 1, groups=self.expanded, name="layers_1")(x, train)
        return layer(self.width, linear=True, name="layers_2")(x, train)


class Residual(nn.Module):
    """A sequence of bottlenecks with skip connections."""

    blocks: int
    expanded: int
    native: bool
    dtype: str

    @nn.compact
    def __call__(self, x, train):
        """[b, h, w, c] -> the same shape."""
        for i in range(self.blocks):
            branch = Bottleneck(x.shape[-1], self.expanded, native=self.native, dtype=self.dtype, name=f"layers_{i}")
            x += branch(x, train)
        return x


class Embedding(nn.Module):
    """Global depthwise convolution (GDC) over the whole map, a dense layer and a norm, all without activation."""

    length: int
    native: bool

    @nn.compact
    def __call__(self, x, train):
        """[b, h, h, c] -> [b, length]."""
        channels = x.shape[-1]
        x = Layer(channels, x.shape[1], groups=channels, linear=True, native=self.native, name="layers_0")(x, train)
        x = nn.Dense(self.length, use_bias=False, kernel_init=resnet.KAIMING, name="layers_2")(x[:, 0, 0])
        return resnet.batch_norm(train, "float32", name="layers_3")(x)


class MobileFaceNet(nn.Module):
    """MobileFaceNet with an embedding and an optional live/attack head; the defaults are insightface's `mbf`.

    Its batch norms keep running statistics in the collection 'batch_stats'. The live head (MTAKD's second task,
    docs/methods.md) reads the mean over positions of the last feature map, from which the embedding is computed, too
    [C]: both tasks share the whole trunk, the texture of an attack instrument counts at any position, and the head adds
    only 1,026 parameters.

    Fields:
      image_size: side of the images in pixels. The GDC's kernel spans a 16th of it, rounded up, so the parameters fit
        one size; the published ones fit 112.
      embedding: length of the embedding.
      classes: number of identities in training; 0 leaves the class centres out.
      live_head: whether there is a live/attack head.
      blocks: residual bottlenecks of each of the four stages; 1 in the first stage means a single convolution.
      width: channels of the paper's stem, 64; all others are multiples of it.
      scale: factor of the channels between bottlenecks; what one expands to does not follow it [S, insightface].
      native: use the compiler's convolutions in groups (`feature_group_count`) on a CPU too, as exporters need them,
        and not `Shifted`; the parameters are the same, and the outputs up to rounding.
      mean, std: normalisation of the image, one number or one per channel; insightface trains with 0.5.
      dtype: 'float32' or 'bfloat16', of the four stages; the rest [S, insightface], parameters, statistics and outputs
        stay fp32.
    """

    image_size: int = 112
    embedding: int = 512
    classes: int = 0
    live_head: bool = False
    blocks: tuple[int, ...] = (1, 4, 6, 2)
    width: int = 64
    scale: int = 2
    native: bool = False
    mean: float | tuple[float, ...] = 0.5
    std: float | tuple[float, ...] = 0.5
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images, *, train=False):
        """Maps images [b, s, s, 3] in [0, 1], s the field `image_size`, to the main output and the named outputs.

        Returns `(main, out)`, all fp32. With a live head, main is out['logits'] [b, 2], attack and live, and
        out['pre_logits'] [b, c] is the input of that head; otherwise main is out['embedding']. out['embedding']
        [b, embedding] is not normalised; out['stages'] are the outputs of the four stages, [b, s / 2, s / 2, c], each
        with half the side of the previous one; with `classes` > 0, out['centres'] [classes, embedding] are the class
        centres of a margin softmax.
        `train=True` normalises by the batch and needs `mutable=['batch_stats']`.
        Raises ValueError for images of another size.
        """
        if images.shape[1:3] != (self.image_size, self.image_size):
            height, width = images.shape[1:3]
            raise ValueError(
                f"images are {height}x{width} px, the MobileFaceNet's image_size is {self.image_size}; "
                "set config.model.image_size to config.data.image_size"
            )
        x = (images - jnp.asarray(self.mean, jnp.float32)) / jnp.asarray(self.std, jnp.float32)
        stages = [stage.astype(jnp.float32) for stage in self._stages(x, train)]
        x = Layer(8 * self.width, name="conv_sep")(stages[-1], train)
        embedding = Embedding(self.embedding, self.native, name="features")(x, train)

        out = {"embedding": embedding, "stages": tuple(stages)}
        if self.classes:  # initialised as arcface_torch does [S]
            out["centres"] = self.param("centres", nn.initializers.normal(0.01), (self.classes, self.embedding))
        if not self.live_head:
            return embedding, out
        out["pre_logits"] = x.mean((1, 2))
        out["logits"] = nn.Dense(2, kernel_init=resnet.UNIFORM, name="live")(out["pre_logits"])
        return out["logits"], out

    def _stages(self, x, train):
        """Yields the feature map after each stage, in `dtype`."""
        fields = {"native": self.native, "dtype": self.dtype}
        width, trunk = self.width, self.scale * self.width
        x = Layer(trunk, 3, 2, 1, dtype=self.dtype, name="layers_0")(x, train)
        if self.blocks[0] == 1:
            x = Layer(trunk, 3, 1, 1, groups=width, name="layers_1", **fields)(x, train)
        else:
            x = Residual(self.blocks[0], 2 * width, name="layers_1", **fields)(x, train)
        yield x
        # Channels of the stage, and expanded channels of its first and of its residual bottlenecks.
        channels = [(trunk, 2 * width, 2 * width), (2 * trunk, 4 * width, 4 * width), (2 * trunk, 8 * width, 4 * width)]
        for stage, (features, first, rest) in enumerate(channels, 1):
            x = Bottleneck(features, first, 2, name=f"layers_{2 * stage}", **fields)(x, train)
            x = Residual(self.blocks[stage], rest, name=f"layers_{2 * stage + 1}", **fields)(x, train)
            yield x


def create(variant="mbf", **overrides):
    """Builds a MobileFaceNet from a name of `VARIANTS` and fields of `MobileFaceNet` to override.

    Raises ValueError for an unknown variant, field or choice, and lists the known ones.
    """
    return resnet.build(MobileFaceNet, VARIANTS, variant, overrides)
