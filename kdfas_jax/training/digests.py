"""SHA-256 digests of the files in a folder, stored in its digests.sha256, which `sha256sum --check` can read."""

import hashlib
import os
import re
from collections.abc import Iterator

from etils import epath

from kdfas_jax.runs import files

NAME = "digests.sha256"
LINE = re.compile(r"([0-9a-f]{64})  (.+)")  # a line of NAME: the digest of a file, and its path below the folder
CHUNK = 1 << 22  # bytes read at once


def exist(folder: str) -> bool:
    """Returns whether `folder` has digests."""
    return files.exists(os.path.join(folder, NAME))


def write(folder: str) -> None:
    """Writes the digests of all files in `folder`."""
    lines = [f"{_sha256(os.path.join(folder, name))}  {name}\n" for name in sorted(_files(folder))]
    files.write_atomically(os.path.join(folder, NAME), "".join(lines))


def problem(folder: str, below: str = "") -> str | None:
    """Compares the files of `folder` with its digests; returns an error message for the first difference, else None.

    A damaged digests.sha256 is a difference, too; a folder without one passes. `below` restricts the comparison to
    paths with this prefix.
    """
    path = os.path.join(folder, NAME)
    if not files.exists(path):
        return None
    try:
        lines = [LINE.fullmatch(line) for line in files.read_text(path).removesuffix("\n").split("\n")]
    except UnicodeDecodeError:
        lines = [None]
    if None in lines:
        return f"{path} is damaged: expected lines of a SHA-256 digest and a file's name"
    noted = {line[2]: line[1] for line in lines if line[2].startswith(below)}
    found = {name for name in _files(folder) if name.startswith(below)}
    for name in sorted(noted.keys() | found):
        of = os.path.join(folder, name)
        if name not in found:
            return f"{of} is missing, which {NAME} lists"
        if name not in noted:
            return f"{of} is not listed in {NAME}: one of the two is damaged"
        if _sha256(of) != noted[name]:
            return f"{of} is damaged: its SHA-256 is not the one in {NAME}"
    return None


def _files(folder: str, above: str = "") -> Iterator[str]:
    """Yields the paths of all files below `folder`, except the digests and what a killed `write` left."""
    for path in epath.Path(folder).iterdir():
        name = f"{above}{path.name}"
        if path.is_dir():
            yield from _files(os.fspath(path), f"{name}/")
        elif not name.startswith(NAME):
            yield name


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with epath.Path(path).open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
