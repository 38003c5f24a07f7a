"""StarGAN: a generator that edits attributes of a face, and a discriminator with a critic and an attribute classifier.

Sources: Choi et al., CVPR 2018 (arXiv 1711.09020), tables 4 and 5, and its published implementation
(yunjey/stargan), whose CelebA checkpoints `published.stargan` imports. [S] marks what a source states, [I] what is
inferred, [C] our own choice. In shapes, `b` is the batch, `s` the side of the image, `d` the width of the first
convolution and `k` the number of attributes.
"""

import dataclasses
import functools

import einops
import jax
import jax.numpy as jnp
from flax import linen as nn

from kdfas_jax.parallel import sharding

# [S, the implementation] PyTorch's default for convolutions, uniform within +-1 / sqrt(fan in). [C] Biases are zero.
INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class InstanceNorm(nn.Module):
    """Instance normalisation with a learned scale and bias, and running statistics as PyTorch keeps them.

    [S, the implementation] Training normalises each channel of each image by the mean and variance of its pixels.
    Evaluation uses the running averages (momentum 0.1, unbiased variance), the variables 'mean' and 'var' of the
    collection 'batch_stats', which training updates where that collection is mutable.
    """

    train: bool
    dtype: str

    @nn.compact
    def __call__(self, x):
        """[b, h, w, c] -> the same shape in `dtype`; the statistics are fp32."""
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)

        x = x.astype(jnp.float32)
        mean, var = running_mean.value, running_var.value
        if self.train:
            mean, var = x.mean(axis=(1, 2), keepdims=True), x.var(axis=(1, 2), keepdims=True)
            if self.is_mutable_collection("batch_stats") and not self.is_initializing():
                pixels = x.shape[1] * x.shape[2]
                unbiased = var * (pixels / max(pixels - 1, 1))
                running_mean.value += 0.1 * (mean.mean(axis=(0, 1, 2)) - running_mean.value)
                running_var.value += 0.1 * (unbiased.mean(axis=(0, 1, 2)) - running_var.value)
        return ((x - mean) / jnp.sqrt(var + 1e-5) * scale + bias).astype(self.dtype)


class Up(nn.ConvTranspose):
    """A 4x4 transposed convolution with stride 2 and padding 1, as PyTorch defines it, which doubles the side.

    On a CPU it is computed as a 2x2 convolution that gives the four pixels of each place beside each other, which are
    the same sums: XLA takes the kernel's gradient there fifteen times as fast (32 px, 24 to 12 channels).
    """

    @nn.compact
    def __call__(self, x):
        """[b, h, w, c] -> [b, 2 h, 2 w, features]; `kernel` [4, 4, features, c], as in `nn.ConvTranspose`."""
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, self.features, x.shape[-1]))
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if sharding.platform() != "cpu":
            return jax.lax.conv_transpose(x, kernel, self.strides, self.padding, transpose_kernel=True)
        kernel = einops.rearrange(kernel, "(h r) (w s) o c -> h w c (r s o)", r=2, s=2)[::-1, ::-1]
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))  # as padding of the convolution it would be slow again
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return einops.rearrange(y, "b h w (r s o) -> b (h r) (w s) o", r=2, s=2)[:, 1:-1, 1:-1]


class Generator(nn.Module):
    """Edits images towards target attributes; the defaults are the published CelebA generator.

    Two strided convolutions, `repeats` residual blocks and two transposed convolutions. The attributes enter as
    constant planes, as further channels of the image.

    Fields:
      width: channels of the first convolution; four times as many in the residual blocks.
      repeats: number of residual blocks.
      mean, std: normalisation of the image, one number or one per channel; undone on the output.
      dtype: 'float32' or 'bfloat16', of the computation; parameters, statistics and the edited image stay fp32.
    """

    width: int = 64
    repeats: int = 6
    mean: float | tuple[float, ...] = 0.5
    std: float | tuple[float, ...] = 0.5
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images, attributes, *, train=False):
        """Edits images [b, s, s, 3] in [0, 1] towards attributes [b, k] in [0, 1]; returns images alike, fp32.

        `train=True` normalises each image by its statistics, and updates 'batch_stats' if they are mutable;
        `train=False` normalises by 'batch_stats'. Raises ValueError for images whose sides are not multiples of 4.
        """
        if images.shape[1] % 4 or images.shape[2] % 4:
            raise ValueError(
                f"images are {images.shape[1]}x{images.shape[2]} px; expected sides that are multiples of 4"
            )
        conv = functools.partial(nn.Conv, use_bias=False, dtype=self.dtype, kernel_init=INIT)
        down = functools.partial(conv, kernel_size=(4, 4), strides=2, padding=1)
        up = functools.partial(
            Up,
            kernel_size=(4, 4),
            strides=(2, 2),
            padding=((2, 2), (2, 2)),  # Flax pads the dilated input: kernel - 1 - PyTorch's padding of 1
            use_bias=False,
            dtype=self.dtype,
            kernel_init=INIT,
        )
        norm = functools.partial(InstanceNorm, train=train, dtype=self.dtype)
        mean, std = jnp.asarray(self.mean, jnp.float32), jnp.asarray(self.std, jnp.float32)

        planes = jnp.broadcast_to(attributes[:, None, None, :], (*images.shape[:3], attributes.shape[-1]))
        x = jnp.concatenate([(images - mean) / std, planes], axis=-1)
        x = nn.relu(norm(name="stem_norm")(conv(self.width, (7, 7), padding=3, name="stem")(x)))
        for i in (1, 2):
            x = nn.relu(norm(name=f"down{i}_norm")(down(self.width * 2**i, name=f"down{i}")(x)))
        for i in range(1, self.repeats + 1):
            y = conv(self.width * 4, (3, 3), padding=1, name=f"block{i}_conv1")(x)
            y = nn.relu(norm(name=f"block{i}_norm1")(y))
            y = conv(self.width * 4, (3, 3), padding=1, name=f"block{i}_conv2")(y)
            x = x + norm(name=f"block{i}_norm2")(y)
        for i in (1, 2):
            x = nn.relu(norm(name=f"up{i}_norm")(up(self.width * 4 // 2**i, name=f"up{i}")(x)))
        x = conv(3, (7, 7), padding=3, name="out")(x)
        return jnp.tanh(x.astype(jnp.float32)) * std + mean


class Discriminator(nn.Module):
    """Critic of image patches and classifier of attributes; the defaults are the published discriminator.

    `repeats` strided convolutions with leaky ReLU and without normalisation, then two heads. (The gradient penalty is
    per example, which a norm over the batch would break: Gulrajani et al., NeurIPS 2017.)

    Fields:
      classes: number of attributes.
      image_size: side of the images in pixels, a multiple of 2 ** repeats; the attribute head spans the last map.
      width: channels of the first convolution; each further convolution doubles them.
      repeats: number of strided convolutions.
      mean, std: normalisation of the image, one number or one per channel.
      dtype: 'float32' or 'bfloat16', of the computation; parameters and outputs stay fp32.
    """

    classes: int = 5
    image_size: int = 128
    width: int = 64
    repeats: int = 6
    mean: float | tuple[float, ...] = 0.5
    std: float | tuple[float, ...] = 0.5
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images, *, train=False):
        """Maps images [b, s, s, 3] in [0, 1], s the field `image_size`, to attribute logits [b, k] and named outputs.

        Returns `(logits, out)`, all fp32: out['logits'] the same logits; out['source'] [b, h, w] the critic's value
        of each patch, high for real, h = w = s / 2 ** repeats; out['stages'] a tuple of the features
        [b, s / 2 ** i, s / 2 ** i, d * 2 ** (i - 1)] after the i-th convolution's activation, i from 1, which a
        student of a generative teacher matches [I, FRT-PAD]. `train` has no effect.
        Raises ValueError for images of another size.
        """
        if images.shape[1:3] != (self.image_size, self.image_size):
            height, width = images.shape[1:3]
            raise ValueError(f"images are {height}x{width} px; the discriminator's image_size is {self.image_size}")
        conv = functools.partial(nn.Conv, dtype=self.dtype, kernel_init=INIT)

        x = (images - jnp.asarray(self.mean, jnp.float32)) / jnp.asarray(self.std, jnp.float32)
        stages = []
        for i in range(self.repeats):
            x = conv(self.width * 2**i, (4, 4), strides=2, padding=1, name=f"conv{i + 1}")(x)
            x = nn.leaky_relu(x, 0.01)
            stages.append(x.astype(jnp.float32))

        x = stages[-1]  # the heads compute in fp32
        head = functools.partial(nn.Conv, use_bias=False, kernel_init=INIT)
        source = head(1, (3, 3), padding=1, name="source")(x)[..., 0]
        logits = head(self.classes, x.shape[1:3], padding="VALID", name="head")(x)[:, 0, 0]
        return logits, {"logits": logits, "source": source, "stages": tuple(stages)}


class StarGAN(nn.Module):
    """Generator and discriminator as one model. As a teacher, only the discriminator is used.

    The defaults are the published networks. Variables: params {'generator', 'discriminator'}, batch_stats
    {'generator'}. `objective.adversarial` trains the two.

    Fields:
      classes: number of attributes.
      image_size: side of the images in pixels, a multiple of 4 and of 2 ** discriminator_repeats.
      generator_width, generator_repeats: as in `Generator`.
      discriminator_width, discriminator_repeats: as in `Discriminator`.
      mean, std, dtype: as in both.
    """

    classes: int = 5
    image_size: int = 128
    generator_width: int = 64
    generator_repeats: int = 6
    discriminator_width: int = 64
    discriminator_repeats: int = 6
    mean: float | tuple[float, ...] = 0.5
    std: float | tuple[float, ...] = 0.5
    dtype: str = "float32"

    def setup(self):
        """Creates the two networks."""
        self.generator = Generator(self.generator_width, self.generator_repeats, self.mean, self.std, self.dtype)
        self.discriminator = self.make_discriminator()

    @nn.nowrap
    def make_discriminator(self):
        """The discriminator alone, which is what runs of this as a teacher."""
        common = {"mean": self.mean, "std": self.std, "dtype": self.dtype}
        width, repeats = self.discriminator_width, self.discriminator_repeats
        return Discriminator(self.classes, self.image_size, width, repeats, **common)

    def __call__(self, images, *, train=False):
        """Returns the discriminator's `(logits, out)` for images [b, s, s, 3] in [0, 1]; `train` has no effect."""
        if self.is_initializing():
            self.generator(images, jnp.zeros((len(images), self.classes)))
        return self.discriminator(images)

    def edit(self, images, attributes, *, train=False):
        """Edits images [b, s, s, 3] in [0, 1] towards `attributes` [b, k] (`Generator`)."""
        return self.generator(images, attributes, train=train)


def create(**overrides):
    """Builds a `StarGAN` with fields to override; raises ValueError as `create_discriminator` does."""
    model = _create(StarGAN, "StarGAN", overrides)
    _check_size("StarGAN", model.image_size, "discriminator_repeats", model.discriminator_repeats)
    if model.image_size % 4:
        raise ValueError(f"StarGAN image_size={model.image_size} is not a multiple of 4; change it")
    return model


def create_discriminator(**overrides):
    """Builds a `Discriminator` with fields to override.

    Raises ValueError for an unknown field or choice, listing the known ones, and for an image size that is not a
    multiple of 2 ** repeats.
    """
    model = _create(Discriminator, "StarGAN discriminator", overrides)
    _check_size("StarGAN discriminator", model.image_size, "repeats", model.repeats)
    return model


def _create(module, name, overrides):
    known = [f.name for f in dataclasses.fields(module) if f.name not in ("parent", "name")]
    if unknown := sorted(set(overrides) - set(known)):
        raise ValueError(f"unknown {name} fields {', '.join(unknown)}; known: {', '.join(known)}")
    model = module(**overrides)
    if model.dtype not in ("float32", "bfloat16"):
        raise ValueError(f"{name} dtype={model.dtype!r}; expected one of float32, bfloat16")
    return model


def _check_size(name, image_size, field, repeats):
    if image_size < 1 or image_size % 2**repeats:
        raise ValueError(
            f"{name} image_size={image_size} is not a multiple of 2**{field} = {2**repeats}; "
            f"change image_size or {field}"
        )
