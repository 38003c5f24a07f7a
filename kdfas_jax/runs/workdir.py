"""A run's folder: its config, so that the run can be made again, and so that two runs never mix.

It lies on a local disk or on object storage (gs://BUCKET/...), which `etils.epath` has TensorFlow read and write. Paths
are strings; whoever asks for, reads or writes a file of a run does it by the functions here.
"""

import functools
import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
from etils import epath

PLACE_AND_RUNTIME = ("data.raw_dir", "data.data_dir", "eval.batch_size", "mesh", "report")  # keys of a config
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-cpu", "tensorflow-datasets")


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


def write_atomically(path: str, text: str) -> None:
    """Writes a file that is never seen half-written, and the folders above it.

    Locally under a temporary name beside `path`, then renamed; the file and its folder are on the disk when this
    returns (fsync). Object storage takes a file as a whole.
    """
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_remote(str(path)):
        path.write_text(text)
        return
    temporary = path.with_name(f"{path.name}.tmp{os.getpid()}")
    temporary.write_text(text)
    _to_disk(temporary)
    temporary.replace(path)
    _to_disk(path.parent)


def _to_disk(path: epath.Path) -> None:
    """Returns when the local file or folder `path` would survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(folder: str) -> None:
    """Removes `folder` and everything in it; nothing where there is none."""
    epath.Path(folder).rmtree(missing_ok=True)


def move(folder: str, to: str) -> None:
    """Renames a folder; an older folder `to` is removed."""
    remove(to)
    epath.Path(folder).rename(to)


@contextmanager
def growing(path: str) -> Iterator[Callable[[str], None]]:
    """Gives `add(text)`, by which the file `path` grows unseen; it appears, or replaces an older one, after the block.

    Until then the texts are in PATH.partial-PID, and they stay there after an error or a kill. Folders above are made.
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
    except BaseException:
        if not partial.stat().length:
            partial.unlink()
        raise
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


def plain(config) -> dict[str, Any]:
    """A ConfigDict -> nested dicts and lists, as JSON gives them back."""
    return json.loads(json.dumps(config.to_dict()))


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a plain config that makes a run what it is: its model, data, recipe and seed, and its teachers'.

    Left out is where things lie and how they are run, `PLACE_AND_RUNTIME`: these keys may change between two calls of
    one run. `claim` compares the data themselves by their records' fingerprint.
    """
    kept = _kept(config)
    if "teachers" in config:
        taught = config["teachers"].items()
        kept["teachers"] = {name: {**teacher, "config": identity(teacher["config"])} for name, teacher in taught}
    return kept


def _kept(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """`tree` without the keys of place and runtime."""
    return {
        name: _kept(value, f"{above}{name}.") if isinstance(value, Mapping) and name != "teachers" else value
        for name, value in tree.items()
        if f"{above}{name}" not in PLACE_AND_RUNTIME
    }


def may_change(key: str) -> bool:
    """Whether `key` ('data.raw_dir', 'mesh.fsdp'), without 'config.', is of place or runtime."""
    return any(key == name or key.startswith(f"{name}.") for name in PLACE_AND_RUNTIME)


def digest(config) -> str:
    """Eight hex digits that stand for the identity of a resolved config."""
    return hashlib.sha256(json.dumps(identity(plain(config)), sort_keys=True).encode()).hexdigest()[:8]


def claim(config, workdir: str, fingerprint: str) -> None:
    """Notes the run in WORKDIR/config.json, or checks that the same run is there.

    A run of the same `identity` stays; its note then has the place and runtime of `config`. ValueError names the
    differing keys where the folder belongs to another run, or the data set has changed. A folder without a checkpoint
    holds nothing to protect and is taken over.
    """
    path = os.path.join(workdir, "config.json")
    mine = plain(config)
    if exists(path) and _has_checkpoint(workdir):
        note = read(workdir)
        changed = differences(identity(note["config"]), identity(mine))
        lines = [f"{key}: {theirs!r} there, {ours!r} now" for key, theirs, ours in changed]
        if note["data_fingerprint"] != fingerprint:
            lines.append(f"data_fingerprint: {note['data_fingerprint'][:12]} there, {fingerprint[:12]} now")
        if lines:
            raise ValueError(
                f"{workdir} belongs to another run: give this one its own --workdir, or remove it. Differing:\n  "
                + "\n  ".join(lines)
            )
        if note["config"] != mine and jax.process_index() == 0:
            write_atomically(path, json.dumps({**note, "config": mine}, indent=2))
        return
    note = {
        "config": mine,
        "command": sys.argv,
        "packages": {name: _version(name) for name in PACKAGES},
        "python": sys.version.split()[0],
        "commit": _commit(),
        "devices": [str(device) for device in jax.devices()],
        "processes": jax.process_count(),
        "data_fingerprint": fingerprint,
    }
    if jax.process_index() == 0:
        write_atomically(path, json.dumps(note, indent=2))


def read(workdir: str) -> dict[str, Any]:
    """WORKDIR/config.json; FileNotFoundError where the folder is not a run, ValueError where the file is damaged."""
    path = os.path.join(workdir, "config.json")
    if not exists(path):
        raise FileNotFoundError(f"{path} does not exist; expected a run made by: python main.py --workdir={workdir}")
    return _read_json(path, "copy it from a run of the same config, or train the run again in another --workdir")


def evaluated(workdir: str) -> dict[str, Any]:
    """WORKDIR/eval/results.json; {} where the run has not been evaluated, ValueError where the file is damaged."""
    path = os.path.join(workdir, "eval", "results.json")
    command = f"python main.py --mode=eval --workdir={workdir}"
    return _read_json(path, f"make it again by: {command}") if exists(path) else {}


def _read_json(path: str, mend: str) -> dict[str, Any]:
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise ValueError(f"{path} is empty or damaged ({error}); {mend}") from error


def results(config, workdir: str) -> dict[str, Any] | None:
    """What WORKDIR/eval/results.json holds where the run of `config` was trained to its last step there, else None.

    ValueError where it is that of another config.
    """
    found = evaluated(workdir)
    if not found:
        return None
    if lines := differences(identity(found["config"]), identity(plain(config))):
        raise ValueError(f"{workdir} holds another run ({lines[0][0]} differs); remove it or give another --workdir")
    return found if found.get("finished") else None


def differences(there: Any, here: Any, key: str = "config") -> list[tuple[str, Any, Any]]:
    """(key, there, here) for every leaf that differs between two nested dicts; a missing one is None."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        names = sorted(there.keys() | here.keys())
        return [row for name in names for row in differences(there.get(name), here.get(name), f"{key}.{name}")]
    return [] if there == here else [(key, there, here)]


def _has_checkpoint(workdir: str) -> bool:
    folders = ("", *names(workdir))  # its own, and those of its folds
    return any(name.isdigit() for of in folders for name in names(os.path.join(workdir, of, "checkpoints")))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _commit() -> str:
    command = ["git", "-C", os.path.dirname(__file__), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip()
