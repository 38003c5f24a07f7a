"""Import of published weights into the variables of our models.

Files are .safetensors, .npz, or PyTorch's .pth, .pt, .bin and .ckpt. Each class of model has a converter that maps the
published names to ours.
"""

import pathlib
import pickle
import zipfile

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from kdfas_jax.models import iresnet, mobilefacenet, resnet, stargan, vit
from kdfas_jax.models.published import cnn as weights_cnn
from kdfas_jax.models.published import stargan as weights_stargan
from kdfas_jax.models.published import torchscript
from kdfas_jax.models.published import vit as weights_vit

# Class -> convert(theirs {name: array}, model, expected {our name: array}, path) -> ({our name: array}, facts).
CONVERTERS = {
    vit.ViT: weights_vit.convert,
    resnet.ResNet: weights_cnn.convert_resnet,
    iresnet.IResNet: weights_cnn.convert_iresnet,
    stargan.Generator: weights_stargan.convert_generator,
    stargan.Discriminator: weights_stargan.convert_discriminator,
    mobilefacenet.MobileFaceNet: weights_cnn.convert_mobilefacenet,
}
SUFFIXES = (".safetensors", ".npz", ".pth", ".pt", ".bin", ".ckpt")  # the last four are PyTorch's
OLDEST_TORCH = (2, 6)  # in older versions a crafted file can bypass weights_only=True (CVE-2025-32434)
# Errors of the readers for a damaged file, or a file that holds more than arrays.
UNREADABLE = (
    AttributeError,
    EOFError,
    RuntimeError,
    ValueError,
    pickle.UnpicklingError,
    safetensors.SafetensorError,
    zipfile.BadZipFile,
)


def load(path, model, variables):
    """Reads a published checkpoint into the variables of a model.

    Args:
      path: a .safetensors, .pth, .pt, .bin, .ckpt or .npz file in a format that the model's converter knows.
      model: the module for the weights, of a class in `CONVERTERS`.
      variables: the model's initialised variables, {'params', 'batch_stats'}; they give the shapes and a fresh head.

    Returns `(variables, facts)`: the same tree as host arrays of the same dtypes, and {'format': the file's format,
    'head_replaced': whether the fresh head stayed because the file has none or one with another number of classes,
    'dropped': the names in the file that were left out for it}; more facts for a ViT (`weights_vit.convert`).

    Raises FileNotFoundError, ImportError (a .pth without PyTorch 2.6) or ValueError (a model without published weights,
    an unreadable file, an unknown format, another architecture, a number that is not finite); the message names the
    file and the first parameters that differ or are not finite.
    """
    if type(model) not in CONVERTERS:
        known = ", ".join(module.__name__ for module in CONVERTERS)
        raise ValueError(
            f"config.init={path!r}: there are no published weights for a {type(model).__name__}; expected one of "
            f"{known}, or leave config.init empty"
        )
    expected = {name: traverse_util.flatten_dict(tree, sep="/") for name, tree in variables.items()}
    # As in the files, one mapping holds a norm's statistics (mean, var) and its parameters (scale, bias).
    every = expected["params"] | expected["batch_stats"]
    found, facts = CONVERTERS[type(model)](read(path), model, every, path)
    trees = {
        name: {key: np.asarray(found[key], leaf.dtype) for key, leaf in tree.items()} for name, tree in expected.items()
    }
    loaded = {name: traverse_util.unflatten_dict(tree, sep="/") for name, tree in trees.items()}
    check_finite(loaded, path)
    return loaded, facts


def check_finite(tree, source) -> None:
    """Raises ValueError, with `source` (the file or folder of `tree`) and the first leaf, for a non-finite number."""
    near = all(map(_in_memory, jax.tree.leaves(tree)))  # then NumPy answers, and nothing is compiled
    found = jax.tree.map(lambda leaf: np.isfinite(leaf).all(), tree) if near else jax.device_get(_all_finite(tree))
    for path, finite in jax.tree_util.tree_leaves_with_path(found):
        if not finite:
            leaf = jax.tree_util.keystr(path, simple=True, separator="/")
            raise ValueError(
                f"{source}: the weights are not finite, first in {leaf}; expected only finite numbers: use another "
                "file, or train that run again"
            )


def _in_memory(leaf) -> bool:
    """Whether NumPy reads `leaf` without a copy from a device or from another process."""
    return not isinstance(leaf, jax.Array) or (
        leaf.is_fully_addressable and all(device.platform == "cpu" for device in leaf.devices())
    )


@jax.jit
def _all_finite(tree):
    return jax.tree.map(lambda leaf: jnp.isfinite(leaf).all(), tree)


def read(path):
    """Reads a .safetensors, .npz or PyTorch (.pth, .pt, .bin, .ckpt) file: {name: fp32 array}; runs no pickled code.

    Raises FileNotFoundError, ImportError (PyTorch is needed and missing or too old) or ValueError (unreadable); the
    messages name the file.
    """
    path = pathlib.Path(path)
    readers = dict(zip(SUFFIXES, (safetensors.numpy.load_file, _read_npz, *[_read_torch] * 4), strict=True))
    if path.suffix not in readers:
        raise ValueError(f"{path}: unknown kind of checkpoint; expected one of {', '.join(readers)}")
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; download it, or correct the path in the config")
    try:
        return {key: np.asarray(value, np.float32) for key, value in readers[path.suffix](path).items()}
    except UNREADABLE as error:
        hint = "download it again, or save only its state dict"
        raise ValueError(f"{path} cannot be read as a {path.suffix} of named arrays: {error}; {hint}") from error


def _read_npz(path):
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        # NumPy has no bfloat16: it reads the two bytes of each as they are.
        return {key: value.view(ml_dtypes.bfloat16) if value.dtype == "V2" else value for key, value in archive.items()}


def _read_torch(path):
    if torchscript.holds(path):
        return torchscript.read(path)
    try:
        import torch  # optional: only .pth files need it
    except ImportError as error:
        raise ImportError(
            f"{path} is a PyTorch file and PyTorch is not installed; `pip install torch`, or use the checkpoint's "
            ".safetensors"
        ) from error
    if _version(torch.__version__) < OLDEST_TORCH:
        raise ImportError(
            f"{path} is a PyTorch file, and the weights_only of PyTorch {torch.__version__} lets pickled code run "
            "(CVE-2025-32434); expected 2.6 or later: `pip install 'torch>=2.6'`, or use the checkpoint's .safetensors"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's message would tell how to run the file's code
        raise ValueError("it holds pickled objects, which are never loaded, or is damaged") from error
    state = state.get("model", state)
    return {key: tensor.float().numpy() for key, tensor in state.items()}


def _version(text):
    """'2.15.0+cpu' -> (2, 15)."""
    return tuple(int(part) for part in text.split(".")[:2])
