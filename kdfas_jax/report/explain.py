"""Where a model looked: attention rollout of a ViT, Grad-CAM of a convolutional network.

Pure functions of (model, variables, images), jittable; the models' own forward is run, watched through Flax's
`capture_intermediates` and `intercept_methods`. In shapes, `b` is the batch, `n` the tokens.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdfas_jax.models import vit


def attention(model, variables, images: jax.Array, towards: jax.Array) -> jax.Array:
    """Heat maps [b, h, w] of images [b, h, w, 3] in [0, 1]: each image's weakest place has 0, its strongest 1.

    All 0 where no place differs from another. Of a ViT the rollout, which knows no class; of other models
    Grad-CAM of the class `towards` (int [b]).
    """
    if isinstance(model, vit.ViT):
        coarse = rollout(model, variables, images)
    else:
        coarse = grad_cam(model, variables, images, towards)
    heat = jax.image.resize(coarse, images.shape[:3], "linear")
    heat -= heat.min((1, 2), keepdims=True)
    return heat / jnp.maximum(heat.max((1, 2), keepdims=True), jnp.finfo(heat.dtype).tiny)


def rollout(model: vit.ViT, variables, images: jax.Array) -> jax.Array:
    """How much of each patch reaches the class token, [b, rows, columns]; with its share of itself a token sums to 1.

    Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020 (arXiv 2005.00928) [S]: the product over
    blocks of (A + I) / 2, where A is the mean of the heads' attention and I stands for the skip connection.
    """
    total = None
    for weights in attention_weights(model, variables, images):
        mixed = (weights.mean(1) + jnp.eye(weights.shape[-1])) / 2
        total = mixed if total is None else mixed @ total
    rows = images.shape[1] // model.patch
    return total[:, 0, 1:].reshape(len(images), rows, -1)


def attention_weights(model: vit.ViT, variables, images: jax.Array) -> list[jax.Array]:
    """The attention [b, heads, n, n] of each block of a ViT: rows (queries) sum to one, the class token is first."""
    _, kept = model.apply(variables, images, capture_intermediates=_enters, mutable=["intermediates"])
    tokens = kept["intermediates"]["Dropout_0"]["__call__"][0]
    options = {name: getattr(model, name) for name in ("heads", "mlp_ratio", "gelu", "dtype")}
    block = vit.Block(**options, dropout=0.0, stochastic=False, deterministic=True)
    found = []
    for layer in range(model.depth):  # the scanned stack keeps no intermediates; its blocks alone do
        params = jax.tree.map(lambda leaf, layer=layer: leaf[layer], variables["params"]["blocks"])
        (tokens, _), kept = block.apply(
            {"params": params}, tokens, 0.0, capture_intermediates=_is_qkv, mutable=["intermediates"]
        )
        found.append(_softmax(kept["intermediates"]["qkv"]["__call__"][0]))
    return found


def _enters(module: nn.Module, _) -> bool:
    """Whether `module` gives the tokens that a ViT hands to its stack of blocks: its own dropout."""
    return isinstance(module, nn.Dropout) and isinstance(module.parent, vit.ViT)


def _is_qkv(module: nn.Module, _) -> bool:
    return module.name == "qkv"


def _softmax(qkv: jax.Array) -> jax.Array:
    """The output [b, n, 3, heads, d / heads] of a block's layer `qkv` -> attention [b, heads, n, n], fp32."""
    q, k, _ = jnp.moveaxis(qkv.astype(jnp.float32), 2, 0)
    return jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / jnp.sqrt(q.shape[-1]), axis=-1)


def grad_cam(model, variables, images: jax.Array, towards: jax.Array) -> jax.Array:
    """The places of the last feature map that speak for the class `towards` (int [b]) -> [b, rows, columns], >= 0.

    Selvaraju et al., Grad-CAM, ICCV 2017 (arXiv 1610.02391) [S]: relu of the channels' sum, each weighted by the mean
    gradient of the class's logit. [C] The last map is what the last of the model's layers gives that has height and
    width. ValueError where it has none.
    """
    last = _last_map(model, variables, images)

    def logit(added):
        feature_map = None
        calls = 0

        def add(call, args, kwargs, context):
            nonlocal calls, feature_map
            y = call(*args, **kwargs)
            if not _is_map(y):
                return y
            calls += 1
            if calls != last.number:
                return y
            feature_map = y.astype(jnp.float32)
            return y + added.astype(y.dtype)

        with nn.intercept_methods(add):
            logits, _ = model.apply(variables, images)
        return jnp.take_along_axis(logits, towards[:, None], axis=1).sum(), feature_map

    gradient, feature_map = jax.grad(logit, has_aux=True)(jnp.zeros(last.shape))
    weights = gradient.mean((1, 2), keepdims=True)
    return nn.relu((weights * feature_map).sum(-1))


@dataclasses.dataclass(frozen=True)
class _Map:
    """The `number`-th feature map [b, h, w, c] that a model's layers give, and its shape."""

    number: int
    shape: tuple[int, ...]


def _last_map(model, variables, images: jax.Array) -> _Map:
    found: list[_Map] = []

    def note(call, args, kwargs, context):
        y = call(*args, **kwargs)
        if _is_map(y):
            found.append(_Map(len(found) + 1, y.shape))
        return y

    with nn.intercept_methods(note):
        jax.eval_shape(model.apply, variables, images)
    if not found:
        raise ValueError(f"Grad-CAM needs a network with feature maps [b, h, w, c]; {type(model).__name__} has none")
    return found[-1]


def _is_map(y) -> bool:
    return isinstance(y, jax.Array) and y.ndim == 4 and min(y.shape[1:3]) > 1
