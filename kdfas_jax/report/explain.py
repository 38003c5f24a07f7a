"""Heat maps of a model's decision: attention rollout for a ViT, Grad-CAM for a convolutional network.

Pure, jittable functions of (model, variables, images). They run the model's forward pass and read its intermediate
values by Flax's `capture_intermediates` and `intercept_methods`. In shapes, `b` is the batch, `n` the tokens.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdfas_jax.models import crops, vit


def attention(model, variables, images: jax.Array, towards: jax.Array) -> jax.Array:
    """Heat maps [b, h, w] of images [b, h, w, 3] in [0, 1], each scaled so that its minimum is 0 and its maximum 1.

    A constant map becomes 0. A ViT gives the attention rollout, which does not depend on the class; other models give
    Grad-CAM of the class `towards` (int [b]).
    """
    if isinstance(model, crops.Crops):  # of the whole image
        inner = {name: of["network"] for name, of in variables.items()}
        return jax.image.resize(
            attention(model.network, inner, crops.resized(images, model.size), towards), images.shape[:3], "linear"
        )
    if isinstance(model, vit.ViT):
        coarse = rollout(model, variables, images)
    else:
        coarse = grad_cam(model, variables, images, towards)
    heat = jax.image.resize(coarse, images.shape[:3], "linear")
    heat -= heat.min((1, 2), keepdims=True)
    return heat / jnp.maximum(heat.max((1, 2), keepdims=True), jnp.finfo(heat.dtype).tiny)


def rollout(model: vit.ViT, variables, images: jax.Array) -> jax.Array:
    """Attention rollout: the share of each patch in the class token, [b, rows, columns].

    The shares of the patches and of the other tokens sum to 1. Where attention pools, the mean of the patches stands
    for the class token [C].
    Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020 (arXiv 2005.00928): the product over
    blocks of (A + I) / 2, where A is the mean of the heads' attention and I stands for the skip connection.
    """
    total = None
    for weights in attention_weights(model, variables, images):
        mixed = (weights.mean(1) + jnp.eye(weights.shape[-1])) / 2
        total = mixed if total is None else mixed @ total
    rows = images.shape[1] // model.patch
    first = total[:, 0] if model.pool == "class" else total.mean(1)
    return first[:, model.prefix :].reshape(len(images), rows, -1)


def attention_weights(model: vit.ViT, variables, images: jax.Array) -> list[jax.Array]:
    """Returns the attention [b, heads, n, n] of each block of a ViT; rows (queries) sum to 1, the class token is 0."""
    _, kept = model.apply(variables, images, capture_intermediates=_enters, mutable=["intermediates"])
    tokens = kept["intermediates"]["Dropout_0"]["__call__"][0]
    options = {**model.block_options(images.shape[1] // model.patch), "name": None}
    block = vit.Block(**options, stochastic=False, deterministic=True)
    found = []
    for layer in range(model.depth):  # `nn.scan` captures no intermediates, so the blocks run one by one
        params = jax.tree.map(lambda leaf, layer=layer: leaf[layer], variables["params"]["blocks"])
        (tokens, _), kept = block.apply({"params": params}, tokens, 0.0, mutable=["intermediates"])
        found.append(_softmax(*kept["intermediates"]["queries_keys"][0]))
    return found


def _enters(module: nn.Module, _) -> bool:
    """Returns whether `module` is the dropout whose output enters the ViT's stack of blocks."""
    return isinstance(module, nn.Dropout) and isinstance(module.parent, vit.ViT)


def _softmax(q: jax.Array, k: jax.Array) -> jax.Array:
    """Returns the attention [b, heads, n, n], fp32, from the queries and keys, [b, n, heads, d / heads] each."""
    q, k = q.astype(jnp.float32), k.astype(jnp.float32)
    return jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / jnp.sqrt(q.shape[-1]), axis=-1)


def grad_cam(model, variables, images: jax.Array, towards: jax.Array) -> jax.Array:
    """Grad-CAM of the class `towards` (int [b]) on the last feature map: [b, rows, columns], >= 0.

    Selvaraju et al., Grad-CAM, ICCV 2017 (arXiv 1610.02391): the relu of the sum over channels, each weighted by the
    mean gradient of the class's logit. The last feature map is the last output of a layer with a height and a width
    [C: our own choice]. Raises ValueError for a model without feature maps.
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
    """The `number`-th feature map [b, h, w, c] in the order of the forward pass, and its shape."""

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
