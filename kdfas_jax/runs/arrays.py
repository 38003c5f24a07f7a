"""Named arrays in one .safetensors file, which whoever reads it knows by its SHA-256.

Equal arrays give equal bytes, so that the digest tells whether two runs have the same frozen parameters.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
import safetensors.numpy

from kdfas_jax.runs import files


def write(path: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Writes `arrays` {name: array} to the file `path`, never seen half-written; returns the file's SHA-256."""
    content = safetensors.numpy.save({name: np.asarray(arrays[name], order="C") for name in sorted(arrays)})
    files.write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def read(path: str, digest: str) -> dict[str, np.ndarray]:
    """Returns the arrays in the file `path`, {name: array}.

    ValueError where there is no such file or its SHA-256 is not `digest`.
    """
    if not files.is_file(path):
        raise ValueError(f"{path} is missing: expected a file with the SHA-256 {digest}")
    with files.local(path) as copy:
        with open(copy, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest:
            raise ValueError(f"{path} is damaged or another file: its SHA-256 is {found}, expected {digest}")
        return safetensors.numpy.load_file(copy)
