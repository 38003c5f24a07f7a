"""Converts published ViT weights to parameters of `vit.ViT`.

The names of the arrays in a file tell its format:
  timm         state dicts of timm, DeiT (wrapped as {'model': ...}), MAE, and of DINOv2's and DINOv3's authors.
  huggingface  `model.safetensors` of transformers: ViT, DINOv2, DINOv3, CLIP, SigLIP, SigLIP 2.
  openai       OpenAI's CLIP (a TorchScript archive) and OpenCLIP; openclip: towers of timm within OpenCLIP.
  augreg       archives of google-research/vision_transformer; big_vision: its SigLIP and SigLIP 2.
The arrays also tell the family (`family_of`). A file does not record the normalisation of its training or the epsilon
of its norms: where all files of a family agree, the model's are checked.
"""

import math
import re

import jax
import numpy as np

from kdfas_jax.models import vit
from kdfas_jax.models.published import match as weights_match
from kdfas_jax.models.published import names as weights_names
from kdfas_jax.models.vit_block import ADAPTER

# Published names of modules -> ours; `*` is the number of the block.
TIMM = {
    "patch_embed.proj": "patch",
    "norm_pre": "norm_pre",
    "blocks.*.norm1": "blocks/*/norm1",
    "blocks.*.attn.qkv": "blocks/*/qkv",
    "blocks.*.attn.proj": "blocks/*/out",
    "blocks.*.norm2": "blocks/*/norm2",
    "blocks.*.mlp.fc1": "blocks/*/fc1",
    "blocks.*.mlp.fc2": "blocks/*/fc2",
    "norm": "norm",
    **{f"attn_pool.{name}": f"pool/{name}" for name in ("q", "kv", "norm")},
    **{
        f"attn_pool.{theirs}": f"pool/{ours}"
        for theirs, ours in (("proj", "out"), ("mlp.fc1", "fc1"), ("mlp.fc2", "fc2"))
    },
    "projection": "projection",
    "head": "head",
}
# Parameters that are no layer's -> ours.
TIMM_LEAVES = {"cls_token": "cls", "pos_embed": "pos", "reg_token": "registers", "attn_pool.latent": "pool/probe"}
AUGREG_LEAVES = {
    "cls": "cls",
    "Transformer/posembed_input/pos_embedding": "pos",
    "pos_embedding": "pos",
    "MAPHead_0/probe": "pool/probe",
}
AUGREG = {
    "embedding": "patch",
    "Transformer/encoder_norm": "norm",
    "head": "head",
    "MAPHead_0/LayerNorm_0": "pool/norm",
    "MAPHead_0/MlpBlock_0/Dense_0": "pool/fc1",
    "MAPHead_0/MlpBlock_0/Dense_1": "pool/fc2",
    **{f"MAPHead_0/MultiHeadDotProductAttention_0/{name}": f"pool/{name}" for name in ("query", "key", "value", "out")},
}
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
BIG_VISION = "params/img/"
HALF = {"mean": 0.5, "std": 0.5}
SATELLITE = {"mean": (0.43, 0.411, 0.296), "std": (0.213, 0.156, 0.143)}
# Family -> what its files were trained with: the allowed normalisations (None for any), and the epsilon of the norms.
TRAINED = {
    "vit": (None, 1e-6),
    "dinov2": ((vit.IMAGENET,), 1e-6),
    "dinov3": ((vit.IMAGENET, SATELLITE), 1e-5),
    "clip": ((vit.OPENAI, HALF), 1e-5),
    "siglip": ((HALF,), 1e-6),
}


def convert(theirs, model, expected, path):
    """Converts the named arrays of a file to parameters of the ViT `model`; see `weights.load`.

    The facts are {'format', 'family': `family_of` the arrays, 'gelu': the model's, 'resized': whether the position
    embedding was interpolated to the model's grid, 'head_replaced', 'dropped': in timm's names}. Adapters stay fresh,
    as no file has them.

    ImageNet-21k checkpoints have a layer `pre_logits` between class token and head. It is dropped with a head that is
    replaced, as its authors do for fine-tuning, and raises ValueError where the head would be kept [C: our own choice].
    CLIP's projection is dropped where the model has none.

    Raises ValueError also for another activation, normalisation or number of heads, or for a distillation token.
    """
    name = detect(theirs, path)
    if "dist_token" in theirs:
        raise ValueError(f"{path} is a distilled DeiT, with a dist_token; expected one with a class token alone")
    expected = _split_blocks(expected)
    named, found = both_names(theirs, name)
    family = family_of(found)
    found = _by_head(found, model.heads)
    dropped = _project(found, named, model)
    _place(found, expected, model, path)
    resized = "pos" in found and "pos" in expected and found["pos"].shape[1] != expected["pos"].shape[1]
    if resized:
        found["pos"] = resize(found["pos"], expected["pos"].shape[1], path, model.pool == "class")
    found, head = weights_match.replace_head(found, expected, named, "head", beside=("pre_logits",))
    head["dropped"] += dropped
    weights_match.require_match(
        expected,
        found,
        f"{path} ({name}) is not a ViT of patch {model.patch}, width {model.width}, depth {model.depth}; set the "
        f"model's variant to the checkpoint's{suggested_variant(found, family)}",
    )
    _check_settings(theirs, (name, family), model, path)
    facts = {"format": name, "family": family, "gelu": model.gelu, "resized": resized, **head}
    return _stack_blocks(found, model.depth), facts


def detect(theirs, path):
    """Returns the format of the named arrays; ValueError, naming the file, for an unknown one."""
    for name, key in (("augreg", "embedding/kernel"), ("big_vision", f"{BIG_VISION}embedding/kernel")):
        if key in theirs:
            return name
    for name, (key, *_) in weights_names.FORMATS.items():
        if key in theirs or (name == "huggingface" and any(key in other for other in theirs)):
            return name
    raise ValueError(
        f"{path} is in no known ViT format: it has {', '.join(sorted(theirs)[:4]) or 'nothing'}; expected "
        "patch_embed.proj.weight (timm, DeiT, DINO), embeddings.patch_embed... (Hugging Face), visual.conv1.weight "
        "(CLIP), embedding/kernel (augreg) or params/img/embedding/kernel (big_vision)"
    )


def family_of(found):
    """Returns the family, a key of `TRAINED`, of arrays in our names, each block separately."""
    if "pool/probe" in found:
        return "siglip"
    if "norm_pre/scale" in found:
        return "clip"
    if "blocks/0/ls1" in found:
        return "dinov2" if "pos" in found else "dinov3"
    return "vit"


def both_names(theirs, name):
    """Returns ({the file's or timm's name: array}, {our name: array}) of the arrays of a file of format `name`."""
    if name == "augreg":
        return theirs, from_augreg(theirs)
    if name == "big_vision":
        named = weights_names.split_stacked(theirs, BIG_VISION)
        return named, from_augreg(named)
    named = weights_names.to_timm(theirs, name)
    return named, from_timm(named)


def _project(found, named, model):
    """Takes CLIP's projection where the model has one; returns the names that were dropped where it has none.

    timm stores the projection as a head without a bias, or with one of zeros.
    """
    if not model.projection:
        return ["projection.weight"] if found.pop("projection/kernel", None) is not None else []
    bias = found.get("head/bias", np.zeros(1))
    if "projection/kernel" not in found and "head/kernel" in found and not bias.any():
        found["projection/kernel"] = found.pop("head/kernel")
        for leaf in ("weight", "bias"):
            named.pop(f"head.{leaf}", None)
        found.pop("head/bias", None)
    return []


def _place(found, expected, model, path):
    """Adds what files leave out: the class token's position where it has none, and fresh adapters."""
    if model.pool == "class" and "pos" in found and math.isqrt(found["pos"].shape[1]) ** 2 == found["pos"].shape[1]:
        found["pos"] = np.pad(found["pos"], ((0, 0), (1, 0), (0, 0)))
    found |= {key: np.asarray(value) for key, value in expected.items() if f"{ADAPTER}/" in key}


def suggested_variant(found, family):
    """Returns ', such as dinov2-B/14', the variant of the arrays in our names, or '' for an unknown size."""
    depth = len({key.split("/")[1] for key in found if key.startswith("blocks/")})
    rows, width = np.shape(found.get("patch/kernel", np.zeros((0, 0))))
    family = {"vit": "", "dinov2": "dinov2-reg-" if "registers" in found else "dinov2-"}.get(family, f"{family}-")
    for letter, of in vit.VARIANTS.items():
        if (of["width"], of["depth"]) == (width, depth):
            return f", such as {family}{letter}/{math.isqrt(rows // 3)}"
    return ""


def from_timm(theirs):
    """Renames and transposes timm's {name: array} to our layout, each block separately: `blocks/3/fc1/kernel`.

    Unknown names are kept, so that `mismatch` reports them.
    """
    ours = {}
    for key, value in theirs.items():
        module, _, leaf = key.rpartition(".")
        target = _lookup(TIMM, module)
        if key in TIMM_LEAVES:
            ours[TIMM_LEAVES[key]] = value
        elif re.fullmatch(r"blocks\.\d+\.ls[12]\.gamma", key):
            ours[module.replace(".", "/")] = value
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
        if key in AUGREG_LEAVES:
            ours[AUGREG_LEAVES[key]] = value
        elif target is None:
            ours[key] = value
        elif target.endswith(("/query", "/key", "/value")):  # [d, heads, d / heads], bias [heads, d / heads]
            ours[f"{target}/{leaf}"] = value.reshape(*value.shape[:-2], -1)
        else:  # kernels of the patches [row, column, channel, d] and of the attention's output [heads, d / heads, d]
            ours[f"{target}/{leaf}"] = value.reshape(-1, value.shape[-1]) if leaf == "kernel" else value
    for query in [key for key in ours if "/query/" in key]:
        parts = [query.replace("query", part) for part in ("query", "key", "value")]
        if not all(part in ours for part in parts):
            continue
        if query.startswith("pool/"):
            ours[query.replace("query", "q")] = ours.pop(parts[0])
            ours[query.replace("query", "kv")] = np.concatenate([ours.pop(part) for part in parts[1:]], axis=-1)
        else:
            ours[query.replace("query", "qkv")] = np.concatenate([ours.pop(part) for part in parts], axis=-1)
    return ours


def _by_head(flat, heads):
    """Reshapes `qkv` [..., 3 d] to the model's [..., 3, heads, d / heads]."""

    def split(value):
        return value.reshape(*value.shape[:-1], 3, heads, -1) if value.shape[-1] % (3 * heads) == 0 else value

    return {key: split(value) if "/qkv/" in key else value for key, value in flat.items()}


def resize(pos, tokens, path, cls=True):
    """Interpolates a position embedding [1, 1 + g * g, d] to [1, tokens, d]; the class token's, the first, is kept.

    Bicubic and antialiased over the grid, as in timm; `cls` False: there is none for a class token. Raises ValueError
    where either grid is not a square.
    """
    first = int(cls)
    old, new = math.isqrt(pos.shape[1] - first), math.isqrt(tokens - first)
    for side, count in ((old, pos.shape[1]), (new, tokens)):
        if side * side + first != count:
            token = "a class token and " * cls
            raise ValueError(f"{path}: {count} position embeddings are not {token}a square grid of patches")
    grid = jax.image.resize(pos[0, first:].reshape(old, old, -1), (new, new, pos.shape[-1]), "bicubic")
    return np.concatenate([pos[:, :first], np.asarray(grid).reshape(1, new * new, -1)], axis=1)


def gelus(name, family):
    """The activations that a file of format `name` and a `family` may have been trained with."""
    if family == "clip":  # OpenAI's are quick, OpenCLIP's mostly exact; the names are the same
        return ("quick", "exact")
    if family == "siglip" and name in ("timm", "openclip"):  # trained with tanh; timm computes most with the exact one
        return ("tanh", "exact")
    return ("tanh",) if name in ("augreg", "big_vision") or family == "siglip" else ("exact",)


def _check_settings(theirs, kind, model, path):
    """Raises ValueError for settings that shapes do not show: activation, normalisation, epsilon of norms, heads.

    `kind` is (format, family).
    """
    name, family = kind
    allowed = gelus(name, family)
    if model.gelu not in allowed:
        raise ValueError(
            f"{path} ({name}) was trained with the {' or '.join(allowed)} GELU, the model has gelu={model.gelu!r}; set "
            f"gelu={allowed[0]!r} in the model's config"
        )
    known, epsilon = TRAINED[family]
    if known and not any(_same(model, of) for of in known):
        raise ValueError(
            f"{path} is a {family} tower, trained with mean {known[0]['mean']} and std {known[0]['std']}; the model "
            f"has mean={model.mean}, std={model.std}: give config.model a variant of that family, and no mean or std"
        )
    if model.norm_eps != epsilon:
        raise ValueError(
            f"{path} is a {family} tower, whose norms have an epsilon of {epsilon:g}, the model has norm_eps="
            f"{model.norm_eps:g}; give config.model a variant of that family"
        )
    heads = {value.shape[1] for key, value in theirs.items() if key.endswith("/query/kernel") and value.ndim == 3}
    if heads - {model.heads}:
        raise ValueError(f"{path} has {heads.pop()} attention heads, the model {model.heads}; set heads in its config")


def _same(model, normalisation):
    """Whether the model normalises images in this way; one number stands for all channels."""
    return all(np.allclose(getattr(model, name), value, atol=1e-3) for name, value in normalisation.items())


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
