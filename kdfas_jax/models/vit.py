"""Vision transformers as one family: ViT, DeiT, MAE, DINOv2, DINOv3, CLIP and SigLIP are options of `ViT`.

Sources: Dosovitskiy et al., ICLR 2021 (arXiv 2010.11929) for the architecture; Touvron et al., ICML 2021
(arXiv 2012.12877) for the DeiT sizes and initialisation; Huang et al., ECCV 2016 (arXiv 1603.09382) for
stochastic depth; Xiao et al., NeurIPS 2021 (arXiv 2106.14881) for the convolutional stem; He et al. (arXiv 2111.06377)
for MAE; Oquab et al. (arXiv 2304.07193) for DINOv2, Darcet et al. (arXiv 2309.16588) for its registers, Simeoni et al.
(arXiv 2508.10104) for DINOv3; Radford et al. (arXiv 2103.00020) for CLIP; Zhai et al. (arXiv 2303.15343) and Tschannen
et al. (arXiv 2502.14786) for SigLIP and SigLIP 2. [S] marks what a source states, [C] our own choice. In shapes, `b` is
the batch, `n` the tokens, `d` the width and `k` the classes.
"""

import dataclasses

import einops
import jax
import jax.numpy as jnp
from flax import linen as nn

from kdfas_jax.models.vit_block import ADAPTED, GELU, INIT, MLPS, AttentionPool, Block, Lora
from kdfas_jax.parallel import sharding

# Letter -> width, depth, heads, as timm and the papers list them.
VARIANTS = {
    "Ti": {"width": 192, "depth": 12, "heads": 3},
    "S": {"width": 384, "depth": 12, "heads": 6},
    "B": {"width": 768, "depth": 12, "heads": 12},
    "L": {"width": 1024, "depth": 24, "heads": 16},
    "H": {"width": 1280, "depth": 32, "heads": 16},
    "So400m": {"width": 1152, "depth": 27, "heads": 16, "mlp_ratio": 3.7362},  # SigLIP
    "g": {"width": 1536, "depth": 40, "heads": 24, "mlp_ratio": 2.66667, "mlp": "swiglu"},  # DINOv2
}

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
OPENAI = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
# Family -> fields of its published models, [S] their papers and timm's configs; `FAMILY-LETTER/PATCH` names a model.
_DINOV2 = {"layer_scale": 1e-5, **IMAGENET}
_CLIP = {"pre_norm": True, "norm_eps": 1e-5, **OPENAI}
FAMILIES = {
    "mae": IMAGENET,
    "dinov2": _DINOV2,
    "dinov2-reg": {**_DINOV2, "registers": 4},
    "dinov3": {**_DINOV2, "registers": 4, "position": "rotary", "norm_eps": 1e-5},
    "clip": {**_CLIP, "gelu": "quick"},
    "openclip": _CLIP,
    "siglip": {"pool": "attention", "gelu": "tanh"},
}
POSITIONS, POOLS = ("learned", "rotary"), ("class", "attention")
ATTENTION = ("auto", "fused", "plain")
DTYPES = ("float32", "bfloat16")

# Rematerialisation: the backward pass recomputes everything, or everything but the outputs of the dense layers.
REMAT = {"full": None, "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable}


class ViT(nn.Module):
    """Vision transformer; the defaults are ViT-S/16 (see `create`), and `FAMILIES` has those of other towers.

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
      mlp: 'gelu', or 'swiglu' (DINOv2-g), whose first layer has twice the hidden width: gate and value.
      gelu: 'exact' (timm, DeiT), 'tanh' (Flax and augreg checkpoints, SigLIP) or 'quick' (OpenAI's CLIP).
      norm_eps: epsilon of the layer norms.
      pre_norm: a layer norm before the blocks (CLIP).
      layer_scale: initial value of a trained factor per channel of each branch (DINO); 0 for none.
      registers: tokens between class token and patches, without a position (DINOv2 with registers, DINOv3).
      position: 'learned', one embedding per patch and class token, or 'rotary', which turns queries and keys by the
        place of their patch and has no parameters (DINOv3).
      pool: 'class', a class token, or 'attention': no class token, and a learned query pools the patches (SigLIP).
      projection: width of a bias-free layer before the head, into CLIP's joint space with text; 0 for none.
      dropout: rate after the position embedding, the attention and both MLP layers, in [0, 1).
      drop_path: stochastic-depth rate of the last block, in [0, 1); the rates rise linearly from 0 over the blocks.
      mean, std: normalisation of the image, one number or one per channel. ViT and augreg use 0.5; DeiT checkpoints
        were trained with ImageNet's (0.485, 0.456, 0.406), (0.229, 0.224, 0.225).
      lora: {rank, alpha, targets, base_dtype}: adapters of dense layers of the blocks, with which only adapters, norms
        and head are trained (`vit_block.Lora`, `fine_tuning`).
      dtype: 'float32' or 'bfloat16', of the computation; parameters, logits and class tokens stay fp32.
      attention: 'fused', one kernel that keeps no scores (`vit_block.attend`), where an odd number of tokens is padded
        by one; 'plain', products and softmax; 'auto', fused on a GPU in bfloat16.
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
    mlp: str = "gelu"
    gelu: str = "exact"
    norm_eps: float = 1e-6
    pre_norm: bool = False
    layer_scale: float = 0.0
    registers: int = 0
    position: str = "learned"
    pool: str = "class"
    projection: int = 0
    dropout: float = 0.0
    drop_path: float = 0.0
    mean: float | tuple[float, ...] = 0.5
    std: float | tuple[float, ...] = 0.5
    lora: Lora = Lora()
    dtype: str = "float32"
    attention: str = "auto"
    unroll: bool = False
    remat: str = "none"

    @nn.compact
    def __call__(self, images, *, train=False):
        """Maps images [b, h, w, 3] in [0, 1] to logits [b, k] and the named outputs.

        Returns `(logits, out)`, all fp32: out['logits'] the same logits; out['class_tokens'] [depth, b, d] the
        class token after each block, before the final norm; out['patch_tokens'] [b, h / patch, w / patch, d] the
        other tokens after the last block, in their places; out['pre_logits'] [b, d] the input of the head.
        Where attention pools, the pooled token stands for the class token: out['class_tokens'] is [1, b, d].
        `train=True` needs an rng named 'dropout' where `dropout` or `drop_path` is positive.
        Raises ValueError for an image that is not square or not a whole number of patches.
        """
        check_side(images, self.patch)
        x = self.embed(images)
        if self.pre_norm:
            x = nn.LayerNorm(epsilon=self.norm_eps, dtype=self.dtype, name="norm_pre")(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)

        rates = jnp.linspace(0, self.drop_path, self.depth)
        grid, count = images.shape[1] // self.patch, x.shape[1]
        fused = count if self.fused else 0
        if fused:  # cuDNN takes an even number
            x = jnp.pad(x, ((0, 0), (0, count % 2), (0, 0)))
        x, class_tokens = self.blocks(train, grid, fused)(x, rates)
        x = x[:, :count]
        out = {"patch_tokens": x[:, self.prefix :].reshape(-1, grid, grid, self.width).astype(jnp.float32)}

        norm = nn.LayerNorm(epsilon=self.norm_eps, name="norm")
        if self.pool == "attention":
            pool = AttentionPool(self.heads, self.mlp_ratio, self.gelu, self.norm_eps, self.dtype, name="pool")
            x = pool(norm(x).astype(self.dtype)).astype(jnp.float32)
            class_tokens = x[None]
        else:
            x = norm(x[:, 0].astype(jnp.float32))
        if self.projection:
            x = nn.Dense(self.projection, use_bias=False, kernel_init=INIT, name="projection")(x)
        logits = nn.Dense(self.classes, kernel_init=INIT, name="head")(x)
        return logits, {**out, "logits": logits, "class_tokens": class_tokens.astype(jnp.float32), "pre_logits": x}

    def embed(self, images):
        """Tokens [b, n, d] of images [b, h, w, 3] in [0, 1]: class token, registers and patches, with positions."""
        x = (images - jnp.asarray(self.mean, jnp.float32)) / jnp.asarray(self.std, jnp.float32)
        for number, channels in enumerate(self.stem, 1):
            x = nn.Conv(channels, (3, 3), strides=2, use_bias=False, dtype=self.dtype, name=f"stem{number}")(x)
            x = nn.gelu(nn.GroupNorm(num_groups=8, dtype=self.dtype, name=f"stem_norm{number}")(x))
        x = nn.Dense(self.width, dtype=self.dtype, kernel_init=INIT, name="patch")(
            patches(x, self.patch // 2 ** len(self.stem))
        )
        if self.pool == "class":
            x = self.before("cls", 1, x)
        if self.position == "learned":
            x = x + self.param("pos", INIT, (1, *x.shape[1:])).astype(x.dtype)
        if self.registers:  # behind the class token
            cls, x = x[:, :1], x[:, 1:]
            x = jnp.concatenate([cls, self.before("registers", self.registers, x)], axis=1)
        return x

    def before(self, name, count, x):
        """Puts `count` learned tokens, the parameter `name`, before the tokens x [b, n, d]."""
        tokens = self.param(name, INIT, (1, count, self.width)).astype(x.dtype)
        return jnp.concatenate([jnp.tile(tokens, (x.shape[0], 1, 1)), x], axis=1)

    def blocks(self, train, grid, fused):
        """Returns the stack of blocks: (tokens, drop-path rates [depth]) -> (tokens, class tokens [depth, b, d]).

        `grid` is the number of patches a side; `fused` as in `Block`.
        """
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
        stochastic = train and self.drop_path > 0
        return stack(**self.block_options(grid), fused=fused, stochastic=stochastic, deterministic=not train)

    def block_options(self, grid):
        """The fields of a `Block` of this model for an image of `grid` patches a side, without those of training."""
        shared = ("heads", "mlp_ratio", "gelu", "dropout", "dtype", "mlp", "norm_eps", "layer_scale", "lora")
        options = {name: getattr(self, name) for name in shared}
        grid = grid if self.position == "rotary" else 0
        return {**options, "prefix": self.prefix, "grid": grid, "name": "blocks"}

    @property
    def fused(self):
        """Whether attention is one kernel."""
        auto = self.dtype == "bfloat16" and sharding.platform() == "gpu"
        return self.attention == "fused" or (self.attention == "auto" and auto)

    @property
    def prefix(self):
        """The number of tokens before the patches."""
        return self.registers + (self.pool == "class")


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
    """Builds a ViT from a name, `[FAMILY-]LETTER/PATCH`, and fields of `ViT` to override.

    LETTER is one of `VARIANTS` and FAMILY one of `FAMILIES`, e.g. 'S/16', 'dinov2-reg-B/14'.
    For a custom size, override width, depth, heads and patch of any variant.
    Raises ValueError for an unknown variant, field or choice, and lists the known ones.
    """
    size, _, patch = variant.partition("/")
    family, _, letter = size.rpartition("-")
    if letter not in VARIANTS or family not in ("", *FAMILIES) or not patch.isdigit() or int(patch) == 0:
        raise ValueError(
            f"unknown ViT variant {variant!r}; expected LETTER/PATCH or FAMILY-LETTER/PATCH, LETTER of "
            f"{', '.join(VARIANTS)}, FAMILY of {', '.join(FAMILIES)}"
        )
    known = [f.name for f in dataclasses.fields(ViT) if f.name not in ("parent", "name")]
    if unknown := sorted(set(overrides) - set(known)):
        raise ValueError(f"unknown ViT fields {', '.join(unknown)}; known: {', '.join(known)}")
    if "lora" in overrides:
        overrides["lora"] = lora_of(overrides["lora"])
    model = ViT(**{**VARIANTS[letter], **FAMILIES.get(family, {}), "patch": int(patch), **overrides})
    _check(model)
    return model


def lora_of(options):
    """`Lora` of a mapping {rank, alpha, targets, base_dtype}, or of None; ValueError for an unknown option or value."""
    options = dict(options.items()) if hasattr(options, "items") else Lora(*(options or ()))._asdict()
    if unknown := sorted(set(options) - set(Lora._fields)):
        raise ValueError(f"unknown options {', '.join(unknown)} of lora; known: {', '.join(Lora._fields)}")
    lora = Lora(**{**options, "targets": tuple(options.get("targets", Lora().targets))})
    if not lora.targets or set(lora.targets) - set(ADAPTED):
        raise ValueError(f"ViT lora.targets={lora.targets}: expected one or more of {', '.join(ADAPTED)}")
    if lora.base_dtype not in DTYPES:
        raise ValueError(f"ViT lora.base_dtype={lora.base_dtype!r}: expected one of {', '.join(DTYPES)}")
    return lora


def _check(model):
    """ValueError for a choice that is none, or fields that do not fit each other."""
    choices = {"gelu": list(GELU), "mlp": MLPS, "position": POSITIONS, "pool": POOLS}
    choices |= {"dtype": DTYPES, "attention": ATTENTION, "remat": ["none", *REMAT]}
    for name, allowed in choices.items():
        if getattr(model, name) not in allowed:
            raise ValueError(f"ViT {name}={getattr(model, name)!r}; expected one of {', '.join(allowed)}")
    if model.width % model.heads:
        raise ValueError(f"ViT width {model.width} is not a multiple of its {model.heads} heads")
    if model.position == "rotary" and model.width // model.heads % 4:
        raise ValueError(f"ViT head width {model.width // model.heads}: rotary positions need a multiple of 4")
    if model.pool == "attention" and model.registers:
        raise ValueError("ViT pool='attention' has no class token; expected registers=0")
    if model.patch % 2 ** len(model.stem) or any(channels % 8 for channels in model.stem):
        raise ValueError(
            f"ViT stem={model.stem} with patch={model.patch}: expected channels that are multiples of 8, and a patch "
            f"that is a multiple of {2 ** len(model.stem)} (each convolution halves the image)"
        )


def flops(model, image_size):
    """Returns the FLOPs of a forward pass on one image of `image_size` px, two per multiply-accumulate.

    Norms, softmax and GELU are left out, as in the FLOPs that papers report [C].
    """
    return 2.0 * sum(products(model, image_size).values())


def products(model, image_size):
    """The multiply-accumulates of a forward pass on one image of `image_size` px, by part of the model.

    {stem, patch, dense: the blocks' dense layers, adapters, attention, pool, projection, head}.
    """
    patch_count, d = (image_size // model.patch) ** 2, model.width
    tokens, hidden = patch_count + model.prefix, int(model.mlp_ratio * d)
    wide = hidden * (2 if model.mlp == "swiglu" else 1)
    shapes = {"qkv": (d, 3 * d), "out": (d, d), "fc1": (d, wide), "fc2": (hidden, d)}
    channels, stem, pixels = 3, 0, image_size**2
    for wider in model.stem:
        pixels //= 4
        stem, channels = stem + pixels * 9 * channels * wider, wider
    pool = (
        tokens * 2 * d * d + 2 * tokens * d + 2 * d * d + 2 * d * hidden
    )  # keys and values, scores, query and out, MLP
    return {
        "stem": stem,
        "patch": pixels * channels * d,
        "dense": model.depth * tokens * sum(inputs * outputs for inputs, outputs in shapes.values()),
        "adapters": model.depth * tokens * model.lora.rank * sum(sum(shapes[name]) for name in model.lora.targets),
        "attention": model.depth * 2 * tokens * tokens * d,
        "pool": pool if model.pool == "attention" else 0,
        "projection": d * model.projection,
        "head": (model.projection or d) * model.classes,
    }
