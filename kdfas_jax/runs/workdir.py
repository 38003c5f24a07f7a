"""A run's folder: its config, so that the run can be made again, and so that two runs never mix."""

import importlib.metadata
import json
import os
import subprocess
import sys
from typing import Any

import jax

from kdfas_jax.runs.files import exists, names, read_text, write_atomically
from kdfas_jax.runs.identity import differences, identity, plain

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-cpu", "tensorflow-datasets")


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
