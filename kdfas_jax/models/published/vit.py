"""Converts published ViT weights to parameters of `vit.ViT`.

The names of the arrays in a file tell its format:
  timm    state dicts of timm and DeiT (DeiT's are wrapped as {'model': ...}); exact GELU.
  augreg  archives of google-research/vision_transformer; tanh GELU.
A file does not record the normalisation of its training: see `mean` and `std` of `vit.ViT`.
"""

import math
import re

import jax
import numpy as np

from kdfas_jax.models.published import match as weights_match

# Published names of modules -> ours; `*` is the number of the block.
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
# Old versions of Flax numbered all parts of a block together, as the released archives do; new ones number each kind.
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
    """Converts the named arrays of a file to parameters of the ViT `model`; see `weights.load`.

    The facts are {'format': 'timm' or 'augreg', 'gelu': 'exact' or 'tanh', 'resized': whether the position embedding
    was interpolated to the model's grid, 'head_replaced', 'dropped'}.

    ImageNet-21k checkpoints have a layer `pre_logits` between class token and head. It is dropped with a head that is
    replaced, as its authors do for fine-tuning, and raises ValueError where the head would be kept [C: our own choice].

    Raises ValueError also for another activation or number of heads, or for a distillation token.
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
    """Returns the format of the named arrays, 'timm' or 'augreg'; ValueError, naming the file, for any other."""
    for name, key in (("timm", "patch_embed.proj.weight"), ("augreg", "embedding/kernel")):
        if key in theirs:
            return name
    raise ValueError(
        f"{path} is in no known ViT format: it has {', '.join(sorted(theirs)[:4]) or 'nothing'}; expected "
        "patch_embed.proj.weight (timm, DeiT) or embedding/kernel (augreg)"
    )


def from_timm(theirs):
    """Renames and transposes timm's {name: array} to our layout, each block separately: `blocks/3/fc1/kernel`.

    Unknown names are kept, so that `mismatch` reports them.
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
    """Renames and reshapes augreg's {name: array} as `from_timm` does, and joins query, key and value to `qkv`."""
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
        else:  # kernels of the patches [row, column, channel, d] and of the attention's output [heads, d / heads, d]
            ours[f"{target}/{leaf}"] = value.reshape(-1, value.shape[-1]) if leaf == "kernel" else value
    for query in [key for key in ours if "/query/" in key]:
        parts = [query.replace("query", part) for part in ("query", "key", "value")]
        if all(part in ours for part in parts):
            ours[query.replace("query", "qkv")] = np.concatenate([ours.pop(part) for part in parts], axis=-1)
    return ours


def _by_head(flat, heads):
    """Reshapes `qkv` [..., 3 d] to the model's [..., 3, heads, d / heads]."""

    def split(value):
        return value.reshape(*value.shape[:-1], 3, heads, -1) if value.shape[-1] % (3 * heads) == 0 else value

    return {key: split(value) if "/qkv/" in key else value for key, value in flat.items()}


def resize(pos, tokens, path):
    """Interpolates a position embedding [1, 1 + g * g, d] to [1, tokens, d]; the class token's, the first, is kept.

    Bicubic and antialiased over the grid, as in timm. Raises ValueError where either grid is not a square.
    """
    old, new = math.isqrt(pos.shape[1] - 1), math.isqrt(tokens - 1)
    for side, count in ((old, pos.shape[1]), (new, tokens)):
        if side * side + 1 != count:
            raise ValueError(f"{path}: {count} position embeddings are not a class token and a square grid of patches")
    grid = jax.image.resize(pos[0, 1:].reshape(old, old, -1), (new, new, pos.shape[-1]), "bicubic")
    return np.concatenate([pos[:, :1], np.asarray(grid).reshape(1, new * new, -1)], axis=1)


def _check_settings(theirs, name, model, path):
    """Raises ValueError for settings that shapes do not show: activation, number of heads, distillation token."""
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
    """Returns our name of a module, with the number of its block, or None for an unknown module."""
    number = re.search(r"(?<=blocks\.)\d+|(?<=encoderblock_)\d+", module)
    if number is None:
        return table.get(module)
    target = table.get(f"{module[: number.start()]}*{module[number.end() :]}")
    return target and target.replace("*", number[0])


def _split_blocks(flat):
    """Splits the stacked blocks of {name: array}: `blocks/fc1/kernel` becomes `blocks/3/fc1/kernel` and so on."""
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
