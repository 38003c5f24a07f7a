"""The parts that vision transformers are stacked from: encoder block, attention pooling, low-rank adapters.

Sources: Touvron et al., ICCV 2021 (arXiv 2103.17239) for LayerScale; Shazeer 2020 (arXiv 2002.05202) for SwiGLU; Heo et
al., ECCV 2024 (arXiv 2403.13298) and DINOv3 (arXiv 2508.10104) for rotary positions of patches; Zhai et al., CVPR 2022
(arXiv 2106.04560) for attention pooling; Hu et al., ICLR 2022 (arXiv 2106.09685) for LoRA. [S] marks what a source
states, [C] our own choice. In shapes, `b` is the batch, `n` the tokens, `d` the width, `r` the rank.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from kdfas_jax.parallel import sharding

# [S, DeiT] Dense kernels, class token and position embedding from a truncated normal of 0.02; biases zero.
# [C] The truncation is at two standard deviations (timm truncates at +-2, which has no effect), and the patch embedding
# has the same initialiser (timm keeps PyTorch's uniform default, which has about the same spread).
INIT = nn.initializers.truncated_normal(0.02)

GELU = {
    "exact": lambda x: 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5)),
    "tanh": nn.gelu,
    "quick": lambda x: x * jax.nn.sigmoid(1.702 * x),
}
MLPS = ("gelu", "swiglu")
ADAPTED = ("qkv", "out", "fc1", "fc2")  # the dense layers of a block, which may have adapters
ADAPTER = "_lora"  # ends the name of an adapter, which begins with that of its layer
PERIOD = 100.0  # longest period of the rotary positions, DINOv3


class Lora(NamedTuple):
    """Low-rank adapters: `targets` (names of `ADAPTED`) compute x W + b + alpha / rank (x A) B; rank 0 is none.

    [S] A is drawn from a normal distribution, [C] of a variance of 1 / d, and B is zero, so that a new adapter changes
    nothing. `base_dtype`, 'float32' or 'bfloat16', is that of the blocks' frozen W and b in memory; a model that
    computes in bf16 rounds them anyway and gives the same output with either.
    """

    rank: int = 0
    alpha: float = 16.0
    targets: tuple[str, ...] = ("qkv", "out")
    base_dtype: str = "float32"

    @property
    def scale(self) -> float:
        """The factor of the product A B."""
        return self.alpha / self.rank


class Adapter(nn.Module):
    """The low-rank product scale (x A) B, A [d, r] and B [r, ...features]; the kernel scale A B can be merged."""

    features: tuple[int, ...]
    rank: int
    scale: float
    dtype: str

    @nn.compact
    def __call__(self, x):
        """Tokens [b, n, d] -> [b, n, ...features]."""
        a = self.param("a", nn.initializers.normal(x.shape[-1] ** -0.5), (x.shape[-1], self.rank))
        b = self.param("b", nn.initializers.zeros, (self.rank, *self.features))
        x, a, b = nn.dtypes.promote_dtype(x, a, b, dtype=self.dtype)
        return self.scale * jnp.tensordot(x @ a, b, 1)


class Block(nn.Module):
    """One encoder block, x + attention(norm(x)) and x + mlp(norm(x)), in the form that `nn.scan` takes.

    Fields as in `vit.ViT`; `prefix` is the number of tokens before the patches, and `grid` the number of patches a side
    of the image that rotary positions are for, 0 without rotary positions. `fused` is 0, or the number of tokens to
    attend to by one kernel (`attend`); the rest are padding.
    """

    heads: int
    mlp_ratio: float
    gelu: str
    dropout: float
    stochastic: bool  # whether paths are dropped; static, so that an evaluation needs no rng
    deterministic: bool
    dtype: str
    mlp: str = "gelu"
    norm_eps: float = 1e-6
    layer_scale: float = 0.0
    lora: Lora = Lora()
    prefix: int = 1
    grid: int = 0
    fused: int = 0

    @nn.compact
    def __call__(self, x, rate):
        """(tokens [b, n, d], drop-path rate, a scalar) -> (new tokens [b, n, d], their first token [b, d])."""
        x, width = sharding.by_example(x), x.shape[-1]
        norm = functools.partial(nn.LayerNorm, epsilon=self.norm_eps, dtype=self.dtype)
        dropout = nn.Dropout(self.dropout, deterministic=self.deterministic)

        by_head = (3, self.heads, width // self.heads)  # a separate axis, so that a mesh may split heads
        q, k, v = jnp.moveaxis(self.dense("qkv", by_head, norm(name="norm1")(x)), 2, 0)
        if self.grid:
            q, k = (rotate(of, self.grid, self.prefix) for of in (q, k))
        self.sow("intermediates", "queries_keys", (q, k))  # for the attention maps of `report.explain`
        y = attend(q, k, v, self.fused)
        y = self.scaled("ls1", dropout(self.dense("out", (width,), y.reshape(x.shape))))
        x = x + self.drop_path(y, rate)

        hidden = int(self.mlp_ratio * width)
        y = self.dense("fc1", (2 * hidden if self.mlp == "swiglu" else hidden,), norm(name="norm2")(x))
        y = dropout(self.activation(y))
        x = x + self.drop_path(self.scaled("ls2", dropout(self.dense("fc2", (width,), y))), rate)
        return x, x[:, 0]

    def dense(self, name, features, x):
        """The dense layer `name`, [b, n, d] -> [b, n, ...features], and its adapter where it has one."""
        kept = self.lora.base_dtype if self.lora.rank else "float32"
        y = nn.DenseGeneral(features, dtype=self.dtype, param_dtype=kept, kernel_init=INIT, name=name)(x)
        if not self.lora.rank or name not in self.lora.targets:
            return y
        return y + Adapter(features, self.lora.rank, self.lora.scale, self.dtype, name=name + ADAPTER)(x)

    def activation(self, y):
        """GELU of [b, n, h], or SwiGLU of [b, n, 2 h], whose first half is the gate."""
        if self.mlp == "gelu":
            return GELU[self.gelu](y)
        gate, value = jnp.split(y, 2, axis=-1)
        return nn.silu(gate) * value

    def scaled(self, name, y):
        """A branch [b, n, d] times its LayerScale, a vector [d], where the model has one."""
        if not self.layer_scale:
            return y
        start = nn.initializers.constant(self.layer_scale)
        return y * self.param(name, start, (y.shape[-1],)).astype(y.dtype)

    def drop_path(self, x, rate):
        """Zeroes the whole branch [b, n, d] of an example with probability `rate`, and rescales the others."""
        if not self.stochastic:
            return x
        kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - rate, (len(x), 1, 1))
        return jnp.where(kept, x / jnp.asarray(1 - rate, x.dtype), 0)


def attend(q, k, v, fused=0):
    """Attention of q, k, v [b, n, h, e], with scores and softmax in fp32 for any dtype.

    `fused` asks for one kernel that keeps no scores: cuDNN's, on an NVIDIA GPU in bfloat16. It is the number of tokens
    that count, the first of an even n; the others are attended by none.
    """
    if not fused:
        return jax.nn.dot_product_attention(q, k, v)
    lengths = jnp.full(len(q), fused, jnp.int32)
    kernel = "cudnn" if sharding.platform() == "gpu" and q.dtype == jnp.bfloat16 else "xla"
    return jax.nn.dot_product_attention(
        q, k, v, query_seq_lengths=lengths, key_value_seq_lengths=lengths, implementation=kernel
    )


def rotate(x, grid, prefix):
    """Turns queries or keys [b, n, h, e] by the rotary position of their patch; tokens before and after are not turned.

    As in DINOv3: the centre of a patch is (row, column) in [-1, 1], and every pair of channels, one of each half of the
    head, turns by 2 pi coordinate / period; a quarter of the channels each has a period from 1 to `PERIOD`.
    """
    centres = 2 * (np.arange(grid, dtype=np.float32) + 0.5) / grid - 1
    place = np.stack(np.meshgrid(centres, centres, indexing="ij"), -1).reshape(-1, 2, 1)
    quarter = x.shape[-1] // 4
    period = np.float32(PERIOD) ** (np.arange(quarter, dtype=np.float32) / quarter)
    angle = (2 * np.pi * place / period).reshape(grid * grid, 1, 2 * quarter)
    angle = np.concatenate([angle, angle], axis=-1).astype(np.float32)
    last = prefix + grid * grid
    patches = x[:, prefix:last].astype(jnp.float32)
    first, second = jnp.split(patches, 2, axis=-1)
    turned = patches * np.cos(angle) + jnp.concatenate([-second, first], axis=-1) * np.sin(angle)
    return jnp.concatenate([x[:, :prefix], turned.astype(x.dtype), x[:, last:]], axis=1)


class AttentionPool(nn.Module):
    """Pools tokens by the attention of one learned query, followed by an MLP with a skip connection (SigLIP)."""

    heads: int
    mlp_ratio: float
    gelu: str
    norm_eps: float
    dtype: str

    @nn.compact
    def __call__(self, x):
        """Tokens [b, n, d] -> the pooled token [b, d]."""
        b, n, width = x.shape
        dense = functools.partial(nn.Dense, dtype=self.dtype, kernel_init=INIT)
        probe = self.param("probe", INIT, (1, 1, width)).astype(x.dtype)
        q = dense(width, name="q")(probe).reshape(1, 1, self.heads, -1)
        k, v = jnp.moveaxis(dense(2 * width, name="kv")(x).reshape(b, n, 2, self.heads, -1), 2, 0)
        pooled = jax.nn.dot_product_attention(jnp.tile(q, (b, 1, 1, 1)), k, v).reshape(b, width)
        pooled = dense(width, name="out")(pooled)
        y = nn.LayerNorm(epsilon=self.norm_eps, dtype=self.dtype, name="norm")(pooled)
        y = dense(int(self.mlp_ratio * width), name="fc1")(y)
        return pooled + dense(width, name="fc2")(GELU[self.gelu](y))
