"""Published ViT weights as the parameters of `vit.ViT`.

Two families of files are told apart by the names inside, never by the file's name:
  timm    timm's and DeiT's state dicts (DeiT wraps its own as {'model': ...}); exact GELU.
  augreg  google-research/vision_transformer archives; tanh GELU.
A file does not say which normalisation it was trained with: see `mean` and `std` of `vit.ViT`.
"""

import math
import re

import jax
import numpy as np

from kdfas_jax.models.published import match as weights_match

# Module by module, their names -> ours; `*` is the number of the block.
TIMM = {
    "patch_embed.proj": "patch",
    "blocks.*.norm1": "blocks/*/norm1",
    "blocks.*.attn.qkv": "blocks/*/qkv",
    "blocks.*.attn.proj": "blocks/*/out",
    "blocks.*.norm2": "blocks/*/norm2",
    "blocks.*.mlp.fc1": "blocks/*/fc1",
    "blocks.*.mlp.fc2": "blocks/*/fc2",
    "norm": "norm",
    "head": "head",
}
AUGREG = {"embedding": "patch", "Transformer/encoder_norm": "norm", "head": "head"}
# Flax once numbered the parts of a block in one row, and the released archives still do; today each kind has its own.
for _norm2, _attention, _mlp in ((2, 1, 3), (1, 0, 0)):
    AUGREG |= {
        f"Transformer/encoderblock_*/{theirs}": f"blocks/*/{ours}"
        for theirs, ours in {
            "LayerNorm_0": "norm1",
            f"MultiHeadDotProductAttention_{_attention}/query": "query",
            f"MultiHeadDotProductAttention_{_attention}/key": "key",
            f"MultiHeadDotProductAttention_{_attention}/value": "value",
            f"MultiHeadDotProductAttention_{_attention}/out": "out",
            f"LayerNorm_{_norm2}": "norm2",
            f"MlpBlock_{_mlp}/Dense_0": "fc1",
            f"MlpBlock_{_mlp}/Dense_1": "fc2",
        }.items()
    }
GELU = {"timm": "exact", "augreg": "tanh"}


def convert(theirs, model, expected, path):
    """The named arrays of a file as parameters of the ViT `model`; arguments, result and errors of `weights.load`.

    The facts are {'format': 'timm' or 'augreg', 'gelu': 'exact' or 'tanh', 'resized': whether the position embedding
    was interpolated to the model's grid, 'head_replaced', 'dropped'}.

    A `pre_logits` layer (ImageNet-21k checkpoints have one between class token and head) is dropped together with
    a head that is replaced, as its authors do to fine-tune, and is an error where the head would be kept [C].

    ValueError also for another activation, number of heads, or a distillation token.
    """
    name = detect(theirs, path)
    _check_settings(theirs, name, model, path)
    expected = _split_blocks(expected)
    found = _by_head(from_timm(theirs) if name == "timm" else from_augreg(theirs), model.heads)
    found, head = weights_match.replace_head(found, expected, theirs, "head", beside=("pre_logits",))
    resized = "pos" in found and found["pos"].shape[1] != expected["pos"].shape[1]
    if resized:
        found["pos"] = resize(found["pos"], expected["pos"].shape[1], path)
    weights_match.require_match(
        expected,
        found,
        f"{path} ({name}) is not a ViT of patch {model.patch}, width {model.width}, depth {model.depth}; set the "
        "model's variant to the checkpoint's",
    )
    return _stack_blocks(found, model.depth), {"format": name, "gelu": GELU[name], "resized": resized, **head}


def detect(theirs, path):
    """The format of the named arrays, 'timm' or 'augreg'; ValueError for any other, naming the file."""
    for name, key in (("timm", "patch_embed.proj.weight"), ("augreg", "embedding/kernel")):
        if key in theirs:
            return name
    raise ValueError(
        f"{path} is in no known ViT format: expected patch_embed.proj.weight (timm, DeiT) or embedding/kernel "
        f"(augreg) in it, found {', '.join(sorted(theirs)[:4]) or 'nothing'}"
    )


def from_timm(theirs):
    """Our names and layouts for timm's {name: array}: blocks one by one, `blocks/3/fc1/kernel`.

    A name that we have no place for stays as it is, for `mismatch` to report.
    """
    ours = {}
    for key, value in theirs.items():
        module, _, leaf = key.rpartition(".")
        target = _lookup(TIMM, module)
        if key in ("cls_token", "pos_embed"):
            ours[key[:3]] = value
        elif target is None or leaf not in ("weight", "bias"):
            ours[key] = value
        elif leaf == "bias":
            ours[f"{target}/bias"] = value
        elif value.ndim == 1:
            ours[f"{target}/scale"] = value
        else:  # [out, in], or the patch convolution's [out, channel, row, column]
            value = np.moveaxis(value, (0, 1), (-1, -2))
            ours[f"{target}/kernel"] = value.reshape(-1, value.shape[-1])
    return ours


def from_augreg(theirs):
    """Our names and layouts for augreg's {name: array}; as `from_timm`, with query, key and value made one."""
    ours = {}
    for key, value in theirs.items():
        module, _, leaf = key.rpartition("/")
        target = _lookup(AUGREG, module)
        if key == "cls":
            ours["cls"] = value
        elif key == "Transformer/posembed_input/pos_embedding":
            ours["pos"] = value
        elif target is None:
            ours[key] = value
        elif target.endswith(("/query", "/key", "/value")):  # [d, heads, d / heads], bias [heads, d / heads]
            ours[f"{target}/{leaf}"] = value.reshape(*value.shape[:-2], -1)
        else:  # the kernel of the patches [row, column, channel, d], of the attention's output [heads, d / heads, d]
            ours[f"{target}/{leaf}"] = value.reshape(-1, value.shape[-1]) if leaf == "kernel" else value
    for query in [key for key in ours if "/query/" in key]:
        parts = [query.replace("query", part) for part in ("query", "key", "value")]
        if all(part in ours for part in parts):
            ours[query.replace("query", "qkv")] = np.concatenate([ours.pop(part) for part in parts], axis=-1)
    return ours


def _by_head(flat, heads):
    """Query, key and value as the model has them: `qkv` [..., 3 d] becomes [..., 3, heads, d / heads]."""

    def apart(value):
        return value.reshape(*value.shape[:-1], 3, heads, -1) if value.shape[-1] % (3 * heads) == 0 else value

    return {key: apart(value) if "/qkv/" in key else value for key, value in flat.items()}


def resize(pos, tokens, path):
    """Interpolates a position embedding [1, 1 + g * g, d] to [1, tokens, d]; the class slot comes first and stays.

    Bicubic and antialiased over the grid, as timm does it. Raises ValueError where either grid is not a square.
    """
    old, new = math.isqrt(pos.shape[1] - 1), math.isqrt(tokens - 1)
    for side, count in ((old, pos.shape[1]), (new, tokens)):
        if side * side + 1 != count:
            raise ValueError(f"{path}: {count} position embeddings are not a class slot and a square grid of patches")
    grid = jax.image.resize(pos[0, 1:].reshape(old, old, -1), (new, new, pos.shape[-1]), "bicubic")
    return np.concatenate([pos[:, :1], np.asarray(grid).reshape(1, new * new, -1)], axis=1)


def _check_settings(theirs, name, model, path):
    """Raises ValueError for what no shape would reveal: the activation, the number of heads, a distillation token."""
    if model.gelu != GELU[name]:
        raise ValueError(
            f"{path} ({name}) was trained with the {GELU[name]} GELU, the model has gelu={model.gelu!r}; set "
            f"gelu={GELU[name]!r} in the model's config"
        )
    heads = {value.shape[1] for key, value in theirs.items() if key.endswith("/query/kernel")}
    if heads - {model.heads}:
        raise ValueError(f"{path} has {heads.pop()} attention heads, the model {model.heads}; set heads in its config")
    if "dist_token" in theirs:
        raise ValueError(f"{path} is a distilled DeiT, with a dist_token; expected one with a class token alone")


def _lookup(table, module):
    """Our name of a module, or None; the block's number is carried over."""
    number = re.search(r"(?<=blocks\.)\d+|(?<=encoderblock_)\d+", module)
    if number is None:
        return table.get(module)
    target = table.get(f"{module[: number.start()]}*{module[number.end() :]}")
    return target and target.replace("*", number[0])


def _split_blocks(flat):
    """{name: array} with the stacked blocks apart: `blocks/fc1/kernel` becomes `blocks/3/fc1/kernel` and so on."""
    blocks = {
        key.replace("/", f"/{i}/", 1): row
        for key, value in flat.items()
        if key.startswith("blocks/")
        for i, row in enumerate(value)
    }
    return {key: value for key, value in flat.items() if not key.startswith("blocks/")} | blocks


def _stack_blocks(flat, depth):
    """The inverse of `_split_blocks`."""
    first = [key for key in flat if key.startswith("blocks/0/")]
    stacked = {
        key.replace("/0/", "/", 1): np.stack([flat[key.replace("/0/", f"/{i}/", 1)] for i in range(depth)])
        for key in first
    }
    rest = {key: value for key, value in flat.items() if not key.startswith("blocks/")}
    return rest | stacked
