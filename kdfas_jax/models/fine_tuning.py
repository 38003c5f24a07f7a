"""Fine-tuning of vision transformers: which parameters are trained, what that saves, and the merge of adapters.

LoRA: Hu et al., ICLR 2022 (arXiv 2106.09685). Layer-wise learning-rate decay: as in BEiT (arXiv 2106.08254). Names are
paths of the parameter tree, such as 'blocks/qkv/kernel'; the leaves below 'blocks' are stacked as [depth, ...].
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from kdfas_jax.models import vit
from kdfas_jax.models.vit_block import ADAPTER, Lora

EMBEDDING = ("stem", "patch", "cls", "pos", "registers", "norm_pre")  # what comes before the blocks


def check(model, layer_decay: float, freeze_blocks: int) -> None:
    """ValueError where a model has no blocks to freeze or to decay learning rates over, or fewer than `freeze_blocks`.

    The arguments are config.optim's.
    """
    if layer_decay == 1 and not freeze_blocks:
        return
    if not isinstance(model, vit.ViT):
        raise ValueError(
            f"config.optim.layer_decay={layer_decay}, freeze_blocks={freeze_blocks}: a {type(model).__name__} has no "
            "blocks; expected 1 and 0, or a model of name 'vit'"
        )
    if freeze_blocks > model.depth:
        raise ValueError(f"config.optim.freeze_blocks={freeze_blocks}: expected at most the model's {model.depth}")


def frozen(model, names: Iterable[str], freeze_blocks: int = 0) -> tuple[str, ...]:
    """Returns the `names` of the parameters that are not trained.

    With adapters only adapters, norms and head are trained [S: adapters; C: norms and head]. Where the first
    blocks are frozen, so is what comes before them; `stop_blocks` freezes their rows of the stacked leaves.
    """
    adapted = isinstance(model, vit.ViT) and model.lora.rank

    def stays(name: str) -> bool:
        first, *rest = name.split("/")
        below_frozen = freeze_blocks and first.startswith(EMBEDDING)
        trained = any(part.startswith(("norm", "head")) or part.endswith(ADAPTER) for part in (first, *rest))
        return bool(below_frozen or (adapted and not trained))

    return tuple(name for name in names if stays(name))


def stop_blocks(params, number: int):
    """`params` whose gradients are zero in the first `number` blocks."""
    if not number:
        return params

    def stop(leaf):
        return jnp.concatenate([jax.lax.stop_gradient(leaf[:number]), leaf[number:]])

    return {**params, "blocks": jax.tree.map(stop, params["blocks"])}


def rates(name: str, shape: tuple[int, ...], depth: int, layer_decay: float, freeze_blocks: int):
    """The factor of the learning rate of a parameter: a number, or an array that broadcasts over a stacked leaf.

    Block i of n, counted from 0, has `layer_decay`^(n - i), the embedding `layer_decay`^(n + 1), the rest 1 [S]; the
    first `freeze_blocks` blocks have 0.
    """
    first = name.split("/")[0]
    if first == "blocks":
        number = jnp.arange(depth)
        factors = jnp.where(number < freeze_blocks, 0.0, layer_decay ** (depth - number))
        return factors.reshape(depth, *[1] * (len(shape) - 1))
    return layer_decay ** (depth + 1) if first.startswith(EMBEDDING) else 1.0


def untrained_flops(model, image_size: int, freeze_blocks: int = 0) -> float:
    """The FLOPs that a training step for one image saves, of three times `vit.flops`, by what is not trained.

    A frozen kernel needs no gradient of its weights, a third of its step's FLOPs; frozen blocks and a frozen embedding
    need no backward pass at all, two thirds.
    """
    if not isinstance(model, vit.ViT):
        return 0.0
    products = vit.products(model, image_size)
    embedding, dense = products["stem"] + products["patch"], products["dense"]
    saved = 0.0
    if model.lora.rank:
        saved += 2 * embedding + dense * (model.depth - freeze_blocks) / model.depth
        saved += products["pool"] + products["projection"]
    elif freeze_blocks:
        saved += 2 * embedding
    blocks = dense + products["attention"] + products["adapters"]
    return 2.0 * (saved + 2 * blocks * freeze_blocks / model.depth)


def merge(fields, variables: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns (config.model without adapters, the variables of that model): W + alpha / rank A B takes W's place.

    `fields` is config.model and `variables` are {'params', 'batch_stats'}; without adapters both are returned as they
    are, and with adapters all parameters are fp32.
    """
    lora = vit.lora_of(fields.get("lora"))
    if not lora.rank:
        return dict(fields), variables
    flat = traverse_util.flatten_dict(variables["params"], sep="/")
    for name in [name for name in flat if name.endswith(f"{ADAPTER}/a")]:
        adapter = name.removesuffix("/a")
        a, b = flat.pop(name), flat.pop(f"{adapter}/b")
        kernel = f"{adapter.removesuffix(ADAPTER)}/kernel"
        product = jnp.einsum("ldr,lr...->ld...", a, b, precision="highest")
        flat[kernel] = jax.device_get(flat[kernel] + lora.scale * product)
    flat = {name: leaf.astype(jnp.float32) for name, leaf in flat.items()}
    without = {**fields, "lora": {**Lora()._asdict()}}
    return without, {**variables, "params": traverse_util.unflatten_dict(flat, sep="/")}
