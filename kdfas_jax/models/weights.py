"""Import of published ViT weights into the parameter tree of `vit.ViT`.

Two families of files are read, told apart by the names inside, never by the file's name:
  timm    timm's and DeiT's state dicts, .safetensors or .pth/.pt/.bin (DeiT wraps its own as {'model': ...});
          exact GELU.
  augreg  google-research/vision_transformer archives, .npz; tanh GELU.
A file does not say which normalisation it was trained with: see `mean` and `std` of `vit.ViT`.
"""

import math
import pathlib
import pickle
import re
import zipfile

import jax
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

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
HEAD = ("head/kernel", "head/bias")
# What the readers raise for a damaged file, or for one that holds more than arrays.
UNREADABLE = (
    AttributeError,
    EOFError,
    RuntimeError,
    ValueError,
    pickle.UnpicklingError,
    safetensors.SafetensorError,
    zipfile.BadZipFile,
)


def load(path, model, params):
    """Reads a published checkpoint into the parameters of a ViT.

    Args:
      path: a .safetensors, .pth, .pt, .bin or .npz file in one of the formats above.
      model: the `vit.ViT` that will run it.
      params: the model's initialised parameters (what `init` returns under 'params'): the shapes, and a fresh head.

    Returns `(params, facts)`: the same tree as fp32 host arrays, and {'format': 'timm' or 'augreg', 'gelu': 'exact'
    or 'tanh', 'resized': whether the position embedding was interpolated to the model's grid, 'head_replaced':
    whether the fresh head stayed because the file has none or one of another class count, 'dropped': the names in
    the file that were left out for it}.

    A `pre_logits` layer (ImageNet-21k checkpoints have one between class token and head) is dropped together with
    a head that is replaced, as its authors do to fine-tune, and is an error where the head would be kept [C].

    Raises FileNotFoundError, ImportError (a .pth without PyTorch) or ValueError (an unreadable file, an unknown
    format, another architecture or activation); the message names the file and the first differing parameters.
    """
    theirs = read(path)
    name = detect(theirs, path)
    _check_settings(theirs, name, model, path)
    found = from_timm(theirs) if name == "timm" else from_augreg(theirs)
    expected = _split_blocks(params)
    facts = {"format": name, "gelu": GELU[name], "resized": False, "head_replaced": False, "dropped": []}

    if any(key not in found or found[key].shape[-1] != expected[key].shape[-1] for key in HEAD):
        facts["head_replaced"] = True
        facts["dropped"] = sorted(key for key in theirs if key.startswith(("head.", "head/", "pre_logits")))
        found = {key: value for key, value in found.items() if key not in (*HEAD, *facts["dropped"])}
        found |= {key: np.asarray(expected[key], np.float32) for key in HEAD}
    if "pos" in found and found["pos"].shape[1] != expected["pos"].shape[1]:
        facts["resized"] = True
        found["pos"] = resize(found["pos"], expected["pos"].shape[1], path)

    if lines := mismatch(expected, found):
        more = [f"... and {len(lines) - 8} more"] if len(lines) > 8 else []
        raise ValueError(
            f"{path} ({name}) is not a ViT of patch {model.patch}, width {model.width}, depth {model.depth}; set the "
            "model's variant to the checkpoint's:\n  " + "\n  ".join(lines[:8] + more)
        )
    return _stack_blocks(found, model.depth), facts


def mismatch(expected, found):
    """Readable differences of two parameter trees: a line for each name that is missing, unexpected or misshapen.

    Nested or flat mappings; leaves are shapes, or anything with a `shape`. Returns [] where the two agree.
    """
    expected, found = (traverse_util.flatten_dict(tree, sep="/") for tree in (expected, found))

    def shape(leaf):
        return tuple(getattr(leaf, "shape", leaf))

    lines = []
    for key in [*expected, *(key for key in found if key not in expected)]:
        if key not in found:
            lines.append(f"{key}: expected {shape(expected[key])}, missing")
        elif key not in expected:
            lines.append(f"{key}: unexpected, found {shape(found[key])}")
        elif shape(expected[key]) != shape(found[key]):
            lines.append(f"{key}: expected {shape(expected[key])}, found {shape(found[key])}")
    return lines


def read(path):
    """Reads a .safetensors, .npz or PyTorch (.pth, .pt, .bin) file into {name: fp32 array}; runs no pickled code.

    Raises FileNotFoundError, ImportError (PyTorch needed and absent) or ValueError (unreadable); they name the file.
    """
    path = pathlib.Path(path)
    readers = {".safetensors": safetensors.numpy.load_file, ".npz": _read_npz}
    readers |= dict.fromkeys((".pth", ".pt", ".bin"), _read_torch)
    if path.suffix not in readers:
        raise ValueError(f"{path}: unknown kind of checkpoint; expected one of {', '.join(readers)}")
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; download it, or correct the path in the config")
    try:
        return {key: np.asarray(value, np.float32) for key, value in readers[path.suffix](path).items()}
    except UNREADABLE as error:
        mend = "download it again, or save its state dict alone"
        raise ValueError(f"{path} cannot be read as a {path.suffix} of named arrays: {error}; {mend}") from error


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


def _split_blocks(params):
    """Flattens a parameter tree to {name: array}, with the stacked blocks apart: `blocks/3/fc1/kernel`."""
    flat = traverse_util.flatten_dict(params, sep="/")
    stacked = {key: flat.pop(key) for key in list(flat) if key.startswith("blocks/")}
    blocks = {key.replace("/", f"/{i}/", 1): row for key, value in stacked.items() for i, row in enumerate(value)}
    return flat | blocks


def _stack_blocks(flat, depth):
    """The inverse of `_split_blocks`."""
    first = [key for key in flat if key.startswith("blocks/0/")]
    stacked = {
        key.replace("/0/", "/", 1): np.stack([flat[key.replace("/0/", f"/{i}/", 1)] for i in range(depth)])
        for key in first
    }
    rest = {key: value for key, value in flat.items() if not key.startswith("blocks/")}
    return traverse_util.unflatten_dict(rest | stacked, sep="/")


def _read_npz(path):
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return dict(archive)


def _read_torch(path):
    try:
        import torch  # only here: nothing else in the project needs it
    except ImportError as error:
        raise ImportError(
            f"{path} is a PyTorch file and PyTorch is not installed; `pip install torch`, or take the checkpoint's "
            ".safetensors"
        ) from error
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("model", state)
    return {key: tensor.float().numpy() for key, tensor in state.items()}
