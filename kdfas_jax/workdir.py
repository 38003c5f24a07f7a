"""A run's folder: its config, so that the run can be made again, and so that two runs never mix."""

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-cpu", "tensorflow-datasets")


def write_atomically(path: str, text: str) -> None:
    """Writes a file under a temporary name beside `path`, then renames it: never half-written."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    temporary = f"{path}.tmp{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)


def plain(config) -> dict[str, Any]:
    """A ConfigDict -> nested dicts and lists, as JSON gives them back."""
    return json.loads(json.dumps(config.to_dict()))


def digest(config) -> str:
    """Eight hex digits that stand for a resolved config."""
    return hashlib.sha256(json.dumps(plain(config), sort_keys=True).encode()).hexdigest()[:8]


def claim(config, workdir: str, fingerprint: str) -> None:
    """Notes the run in WORKDIR/config.json, or checks that the same run is there.

    ValueError names the differing keys where the folder belongs to another config or the data set has changed. A
    folder without a checkpoint holds nothing to protect and is taken over.
    """
    path = os.path.join(workdir, "config.json")
    mine = plain(config)
    if os.path.exists(path) and _has_checkpoint(workdir):
        note = read(workdir)
        lines = [f"{key}: {theirs!r} there, {ours!r} now" for key, theirs, ours in differences(note["config"], mine)]
        if note["data_fingerprint"] != fingerprint:
            lines.append(f"data_fingerprint: {note['data_fingerprint'][:12]} there, {fingerprint[:12]} now")
        if lines:
            raise ValueError(
                f"{workdir} belongs to another run: give this one its own --workdir, or remove it. Differing:\n  "
                + "\n  ".join(lines)
            )
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
    """WORKDIR/config.json; FileNotFoundError where the folder is not a run."""
    path = os.path.join(workdir, "config.json")
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path} does not exist; expected a run made by: python main.py --workdir={workdir}")
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def results(config, workdir: str) -> dict[str, Any] | None:
    """What WORKDIR/eval/results.json holds where the run of `config` is finished there, else None.

    ValueError where it is that of another config.
    """
    path = os.path.join(workdir, "eval", "results.json")
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        found = json.load(file)
    if lines := differences(found["config"], plain(config)):
        raise ValueError(f"{workdir} holds another run ({lines[0][0]} differs); remove it or give another --workdir")
    return found


def differences(there: Any, here: Any, key: str = "config") -> list[tuple[str, Any, Any]]:
    """(key, there, here) for every leaf that differs between two nested dicts; a missing one is None."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        names = sorted(there.keys() | here.keys())
        return [row for name in names for row in differences(there.get(name), here.get(name), f"{key}.{name}")]
    return [] if there == here else [(key, there, here)]


def _has_checkpoint(workdir: str) -> bool:
    found = (path for pattern in ("checkpoints/*", "*/checkpoints/*") for path in Path(workdir).glob(pattern))
    return any(path.name.isdigit() for path in found)  # its own, or those of its folds


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _commit() -> str:
    command = ["git", "-C", os.path.dirname(__file__), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip()
