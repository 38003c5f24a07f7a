"""Files of runs, on a local disk or on object storage (gs://BUCKET/...), which `etils.epath` reads by TensorFlow.

Paths are strings. Every module that looks for, reads or writes a file of a run calls these functions.
"""

import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from etils import epath


def is_remote(path: str) -> bool:
    """Whether `path` is on object storage: gs://BUCKET/..."""
    return "://" in path


def absolute(path: str) -> str:
    """`path` from the root, without a slash at its end."""
    return path.rstrip("/") if is_remote(path) else os.path.abspath(path)


def exists(path: str) -> bool:
    """Whether there is a file or folder `path`."""
    return epath.Path(path).exists()


def is_file(path: str) -> bool:
    """Whether there is a file `path`."""
    return epath.Path(path).is_file()


def names(folder: str) -> list[str]:
    """The names of the files and folders in `folder`; none where there is no such folder."""
    folder = epath.Path(folder)
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def read_text(path: str) -> str:
    """What the UTF-8 file `path` holds; FileNotFoundError."""
    return epath.Path(path).read_text()


def append(path: str, text: str) -> None:
    """Adds to the file `path`, which object storage writes anew as a whole."""
    with epath.Path(path).open("a") as file:
        file.write(text)


def write_atomically(path: str, content: str | bytes) -> None:
    """Writes a file that is never seen half-written, and the folders above it.

    Locally under a temporary name beside `path`, then renamed; the file and its folder are on the disk when this
    returns (fsync). Object storage takes a file as a whole.
    """
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_remote(str(path)):
        _write(path, content)
        return
    temporary = path.with_name(f"{path.name}.tmp{os.getpid()}")
    _write(temporary, content)
    _to_disk(temporary)
    temporary.replace(path)
    _to_disk(path.parent)


def _write(path: epath.Path, content: str | bytes) -> None:
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)


def _to_disk(path: epath.Path) -> None:
    """Returns when the local file or folder `path` would survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: str) -> None:
    """Removes the file, or the folder and everything in it; nothing where there is none."""
    path = epath.Path(path)
    path.unlink(missing_ok=True) if path.is_file() else path.rmtree(missing_ok=True)


def move(folder: str, to: str) -> None:
    """Renames a folder; an older folder `to` is removed."""
    remove(to)
    epath.Path(folder).rename(to)


@contextmanager
def growing(path: str) -> Iterator[Callable[[str], None]]:
    """Gives `add(text)`, by which the file `path` grows unseen; it appears, or replaces an older one, after the block.

    Until then the texts are in PATH.partial-PID, and they stay there after an error or a kill. Folders above are made.
    A block that adds nothing leaves `path` as it was.
    OSError before the block where the file cannot be written, ValueError where `path` is something else.
    """
    if exists(path) and not is_file(path):
        raise ValueError(f"{path} is no file; expected the name of a file to write")
    partial = epath.Path(f"{path}.partial-{os.getpid()}")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text("")
    except OSError as error:
        raise OSError(f"{path} cannot be written ({error.strerror or error}); give another place") from error
    try:
        yield functools.partial(append, os.fspath(partial))
    finally:
        if not partial.stat().length:
            partial.unlink()
    if partial.exists():
        partial.replace(path)


@contextmanager
def local(path: str) -> Iterator[str]:
    """The file `path` for readers that know local disks alone: itself, or a copy of one on object storage."""
    if not is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, os.path.basename(path))
        epath.Path(path).copy(copy)
        yield copy
