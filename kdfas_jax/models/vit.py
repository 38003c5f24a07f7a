"""Vision transformer (ViT, DeiT): pre-norm blocks, one class token, learned position embedding.

Sources: Dosovitskiy et al., ICLR 2021 (arXiv 2010.11929) for the architecture; Touvron et al., ICML 2021
(arXiv 2012.12877) for the DeiT sizes and initialisation; Huang et al., ECCV 2016 (arXiv 1603.09382) for
stochastic depth; Xiao et al., NeurIPS 2021 (arXiv 2106.14881) for the convolutional stem. [S] marks what a source
states, [C] our own choice. In shapes, `b` is the batch, `n` the tokens, `d` the width and `k` the classes.
"""

import dataclasses
import functools

import einops
import jax
import jax.numpy as jnp
from flax import linen as nn

from kdfas_jax.parallel import sharding

# Letter -> width, depth, heads, as timm and the DeiT and ViT papers list them.
VARIANTS = {
    "Ti": {"width": 192, "depth": 12, "heads": 3},
    "S": {"width": 384, "depth": 12, "heads": 6},
    "B": {"width": 768, "depth": 12, "heads": 12},
    "L": {"width": 1024, "depth": 24, "heads": 16},
    "H": {"width": 1280, "depth": 32, "heads": 16},
}

# [S, DeiT] Dense kernels, class token and position embedding from a truncated normal of 0.02; biases zero.
# [C] The truncation is at two standard deviations (timm truncates at +-2, which has no effect), and the patch embedding
# has the same initialiser (timm keeps PyTorch's uniform default, which has about the same spread).
INIT = nn.initializers.truncated_normal(0.02)

GELU = {"exact": lambda x: 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5)), "tanh": nn.gelu}

# Rematerialisation: the backward pass recomputes everything, or everything but the outputs of the dense layers.
REMAT = {"full": None, "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable}


class Block(nn.Module):
    """One encoder block, x + attention(norm(x)) and x + mlp(norm(x)), in the form that `nn.scan` takes.

    Fields as in `ViT`.
    """

    heads: int
    mlp_ratio: float
    gelu: str
    dropout: float
    stochastic: bool  # whether paths are dropped; static, so that an evaluation needs no rng
    deterministic: bool
    dtype: str

    @nn.compact
    def __call__(self, x, rate):
        """(tokens [b, n, d], drop-path rate, a scalar) -> (new tokens [b, n, d], their class token [b, d])."""
        x, width = sharding.by_example(x), x.shape[-1]
        dense = functools.partial(nn.Dense, dtype=self.dtype, kernel_init=INIT)
        norm = functools.partial(nn.LayerNorm, epsilon=1e-6, dtype=self.dtype)
        dropout = nn.Dropout(self.dropout, deterministic=self.deterministic)

        by_head = nn.DenseGeneral((3, self.heads, width // self.heads), dtype=self.dtype, kernel_init=INIT, name="qkv")
        q, k, v = jnp.moveaxis(by_head(norm(name="norm1")(x)), 2, 0)  # a separate axis, so that a mesh may split heads
        y = jax.nn.dot_product_attention(q, k, v)  # scores and softmax are fp32 for any dtype
        x = x + self.drop_path(dropout(dense(width, name="out")(y.reshape(x.shape))), rate)

        y = dense(int(self.mlp_ratio * width), name="fc1")(norm(name="norm2")(x))
        y = dense(width, name="fc2")(dropout(GELU[self.gelu](y)))
        x = x + self.drop_path(dropout(y), rate)
        return x, x[:, 0]

    def drop_path(self, x, rate):
        """Zeroes the whole branch [b, n, d] of an example with probability `rate`, and rescales the others."""
        if not self.stochastic:
            return x
        kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - rate, (len(x), 1, 1))
        return jnp.where(kept, x / jnp.asarray(1 - rate, x.dtype), 0)


class ViT(nn.Module):
    """Vision transformer with a class token; the defaults are ViT-S/16 (see `create`).

    The blocks are one `nn.scan` over parameters stacked as [depth, ...], so the parameter tree is the same
    whether the compiler sees a loop (short compilation) or the layers one by one (`unroll`: less memory traffic).

    Fields:
      classes: number of logits.
      patch: side of a patch in pixels; the image side is a multiple of it.
      stem: channels (multiples of 8) of n 3x3 convolutions of stride 2 before the image is cut into patches, which
        then have patch / 2^n positions a side. With few images and no pre-training, a stem learns pixel-scale features
        far sooner. Group norm [C] where the paper has batch norm; () as published by ViT and DeiT.
      width, depth, heads: token width, number of blocks, attention heads (a divisor of the width).
      mlp_ratio: hidden width of the MLP over the token width.
      gelu: 'exact' (timm, DeiT) or 'tanh' (Flax and augreg checkpoints).
      dropout: rate after the position embedding, the attention and both MLP layers, in [0, 1).
      drop_path: stochastic-depth rate of the last block, in [0, 1); the rates rise linearly from 0 over the blocks.
      mean, std: normalisation of the image, one number or one per channel. ViT and augreg use 0.5; DeiT checkpoints
        were trained with ImageNet's (0.485, 0.456, 0.406), (0.229, 0.224, 0.225).
      dtype: 'float32' or 'bfloat16', of the computation; parameters, logits and class tokens stay fp32.
      unroll: compile the blocks one by one instead of a loop.
      remat: what the backward pass recomputes instead of storing: 'none', 'full' or 'dots' (`REMAT`).
    """

    classes: int = 2
    patch: int = 16
    stem: tuple[int, ...] = ()
    width: int = 384
    depth: int = 12
    heads: int = 6
    mlp_ratio: float = 4.0
    gelu: str = "exact"
    dropout: float = 0.0
    drop_path: float = 0.0
    mean: float | tuple[float, ...] = 0.5
    std: float | tuple[float, ...] = 0.5
    dtype: str = "float32"
    unroll: bool = False
    remat: str = "none"

    @nn.compact
    def __call__(self, images, *, train=False):
        """Maps images [b, h, w, 3] in [0, 1] to logits [b, k] and the named outputs.

        Returns `(logits, out)`, all fp32: out['logits'] the same logits; out['class_tokens'] [depth, b, d] the
        class token after each block, before the final norm; out['pre_logits'] [b, d] the input of the head.
        `train=True` needs an rng named 'dropout' where `dropout` or `drop_path` is positive.
        Raises ValueError for an image that is not square or not a whole number of patches.
        """
        check_side(images, self.patch)
        x = (images - jnp.asarray(self.mean, jnp.float32)) / jnp.asarray(self.std, jnp.float32)
        for number, channels in enumerate(self.stem, 1):
            x = nn.Conv(channels, (3, 3), strides=2, use_bias=False, dtype=self.dtype, name=f"stem{number}")(x)
            x = nn.gelu(nn.GroupNorm(num_groups=8, dtype=self.dtype, name=f"stem_norm{number}")(x))
        x = nn.Dense(self.width, dtype=self.dtype, kernel_init=INIT, name="patch")(
            patches(x, self.patch // 2 ** len(self.stem))
        )
        cls = self.param("cls", INIT, (1, 1, self.width))
        pos = self.param("pos", INIT, (1, x.shape[1] + 1, self.width))
        x = jnp.concatenate([jnp.tile(cls.astype(x.dtype), (x.shape[0], 1, 1)), x], axis=1) + pos.astype(x.dtype)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)

        rates = jnp.linspace(0, self.drop_path, self.depth)
        x, class_tokens = self.blocks(train)(x, rates)

        x = nn.LayerNorm(epsilon=1e-6, name="norm")(x[:, 0].astype(jnp.float32))
        logits = nn.Dense(self.classes, kernel_init=INIT, name="head")(x)
        return logits, {"logits": logits, "class_tokens": class_tokens.astype(jnp.float32), "pre_logits": x}

    def blocks(self, train):
        """Returns the stack of blocks: (tokens, drop-path rates [depth]) -> (tokens, class tokens [depth, b, d])."""
        block = Block
        if self.remat != "none":
            # Without a loop, common-subexpression elimination would undo the recomputation.
            block = nn.remat(Block, policy=REMAT[self.remat], prevent_cse=self.unroll)
        stack = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=self.depth,
            unroll=self.depth if self.unroll else 1,
        )
        return stack(
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            gelu=self.gelu,
            dropout=self.dropout,
            stochastic=train and self.drop_path > 0,
            deterministic=not train,
            dtype=self.dtype,
            name="blocks",
        )


def patches(images, size):
    """Cuts images [b, h, w, c] into patches [b, n, size * size * c], row by row; pixels by row, column, channel.

    A dense layer on the patches equals the usual strided convolution.
    Raises ValueError where the image is not square or its side is not a multiple of `size`.
    """
    check_side(images, size)
    return einops.rearrange(images, "b (y p) (x q) c -> b (y x) (p q c)", p=size, q=size)


def check_side(images, size):
    """Raises ValueError where images [b, h, w, c] are not square or their side is not a multiple of `size`."""
    height, width = images.shape[1:3]
    if height != width or height % size:
        raise ValueError(f"images are {height}x{width} px; expected a square whose side is a multiple of {size}")


def create(variant="S/16", **overrides):
    """Builds a ViT from a name, `LETTER/PATCH` with a letter of `VARIANTS`, and fields of `ViT` to override.

    For a custom size, override width, depth, heads and patch of any variant.
    Raises ValueError for an unknown variant, field or choice, and lists the known ones.
    """
    letter, _, patch = variant.partition("/")
    if letter not in VARIANTS or not patch.isdigit() or int(patch) == 0:
        raise ValueError(f"unknown ViT variant {variant!r}; expected LETTER/PATCH, LETTER of {', '.join(VARIANTS)}")
    known = [f.name for f in dataclasses.fields(ViT) if f.name not in ("parent", "name")]
    if unknown := sorted(set(overrides) - set(known)):
        raise ValueError(f"unknown ViT fields {', '.join(unknown)}; known: {', '.join(known)}")
    model = ViT(**{**VARIANTS[letter], "patch": int(patch), **overrides})
    choices = {"gelu": list(GELU), "dtype": ["float32", "bfloat16"], "remat": ["none", *REMAT]}
    for name, allowed in choices.items():
        if getattr(model, name) not in allowed:
            raise ValueError(f"ViT {name}={getattr(model, name)!r}; expected one of {', '.join(allowed)}")
    if model.width % model.heads:
        raise ValueError(f"ViT width {model.width} is not a multiple of its {model.heads} heads")
    if model.patch % 2 ** len(model.stem) or any(channels % 8 for channels in model.stem):
        raise ValueError(
            f"ViT stem={model.stem} with patch={model.patch}: expected channels that are multiples of 8, and a patch "
            f"that is a multiple of {2 ** len(model.stem)} (each convolution halves the image)"
        )
    return model


def flops(model, image_size):
    """Returns the FLOPs of a forward pass on one image of `image_size` px, two per multiply-accumulate.

    Counts the matrix products of stem, patch embedding, attention, MLP and head. Norms, softmax and GELU are left out,
    as in the FLOPs that papers report [C].
    """
    grid = (image_size // model.patch) ** 2
    tokens, d = grid + 1, model.width
    dense = 4 * d * d + 2 * d * int(model.mlp_ratio * d)  # qkv and out; fc1 and fc2
    block = tokens * dense + 2 * tokens * tokens * d
    channels, stem, pixels = 3, 0, image_size**2
    for wider in model.stem:
        pixels //= 4
        stem, channels = stem + pixels * 9 * channels * wider, wider
    return 2.0 * (stem + pixels * channels * d + model.depth * block + d * model.classes)
