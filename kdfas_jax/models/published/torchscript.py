"""Reads the tensors of a TorchScript archive (OpenAI's CLIP) without PyTorch and without running any of its code.

The archive is a zip: `data.pkl` is a pickle of nested modules, whose tensors refer to the files data/0, data/1, ...
Only the few names below are resolved while the pickle is read; every other name ends the import.
"""

import collections
import pathlib
import pickle
import zipfile

import ml_dtypes
import numpy as np

STORAGES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


def holds(path) -> bool:
    """Whether the file at `path` is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(pathlib.PurePosixPath(name).name == "constants.pkl" for name in archive.namelist())


def read(path) -> dict[str, np.ndarray]:
    """Returns {name: array} of the archive's parameters and buffers, as a state dict names them.

    pickle.UnpicklingError for a pickle that names anything but modules and tensors.
    """
    with zipfile.ZipFile(path) as archive:
        (pickled,) = (name for name in archive.namelist() if pathlib.PurePosixPath(name).name == "data.pkl")
        with archive.open(pickled) as file:
            module = _Unpickler(file, archive, pickled.removesuffix("data.pkl")).load()
    return dict(_named(module, ""))


class _Module(dict):
    """A pickled module: its attributes, parameters and modules by name."""

    def __setstate__(self, state):
        self.update(state)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, archive: zipfile.ZipFile, root: str):
        super().__init__(file)
        self.archive, self.root = archive, root

    def find_class(self, module, name):
        """What `module`.`name` stands for: a module, a kind of storage, or a rebuilt tensor or list."""
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        known = {
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
            ("collections", "OrderedDict"): collections.OrderedDict,
            **{("torch.jit._pickle", f"build_{of}list"): list for of in ("int", "double", "bool", "tensor")},
        }
        if (module, name) in known:
            return known[module, name]
        raise pickle.UnpicklingError(f"it refers to {module}.{name}, which is no module or tensor")

    def persistent_load(self, pid):
        """The numbers of a storage: pid is ('storage', its kind, the name of its file, its device, their number)."""
        kind, name = pid[1], pid[2]
        return np.frombuffer(self.archive.read(f"{self.root}data/{name}"), kind)


def _tensor(storage, offset, size, stride, *_):
    """A tensor as an array that shares the numbers of its `storage`."""
    if offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) >= max(1, len(storage)):
        raise pickle.UnpicklingError(f"a tensor of shape {size} exceeds its storage of {len(storage)} numbers")
    strides = tuple(step * storage.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides, writeable=False)


def _named(node, prefix):
    for name, value in node.items():
        if isinstance(value, _Module):
            yield from _named(value, f"{prefix}{name}.")
        elif isinstance(value, np.ndarray):
            yield f"{prefix}{name}", value
