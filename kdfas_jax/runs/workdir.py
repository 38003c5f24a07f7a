"""A run's folder: its config, so that the run can be made again, and so that two runs never mix."""

import importlib.metadata
import json
import os
import re
import shlex
import subprocess
import sys
from typing import Any

import jax

from kdfas_jax.runs import schema
from kdfas_jax.runs.files import exists, names, read_text, write_atomically
from kdfas_jax.runs.identity import differences, digest, identity, plain
from kdfas_jax.runs.results import Results

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-cpu", "tensorflow-datasets")


def claim(config, workdir: str, fingerprint: str) -> None:
    """Writes the run to WORKDIR/config.json, or checks that the same run is there.

    A run of the same `identity` stays, one of an older version too; its config.json then gets the place and runtime of
    `config`, and the keys and schema of today. ValueError names the differing keys where the folder belongs to another
    run, or the data set has changed. A folder without a checkpoint holds nothing to protect and is overwritten.
    """
    path = os.path.join(workdir, "config.json")
    mine = plain(config)
    if exists(path) and has_checkpoint(workdir):
        note = read(workdir)
        changed = differences(identity(note["config"]), identity(mine))
        lines = [f"{key}: {theirs!r} there, {ours!r} now" for key, theirs, ours in changed]
        if note["data_fingerprint"] != fingerprint:
            lines.append(f"data_fingerprint: {note['data_fingerprint'][:12]} there, {fingerprint[:12]} now")
        if lines:
            raise ValueError(
                f"{workdir} belongs to another run: give another --workdir, or remove it. Differing:\n  "
                + "\n  ".join(lines)
            )
        if (note["config"], note.get("schema")) != (mine, schema.SCHEMA) and jax.process_index() == 0:
            write_atomically(path, json.dumps({**note, "schema": schema.SCHEMA, "config": mine}, indent=2))
        return
    note = {
        "schema": schema.SCHEMA,
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
    """Returns WORKDIR/config.json; the config of an older version has today's keys (`schema.upgrade`).

    FileNotFoundError where the folder is not a run, ValueError where the file is damaged or of a newer version.
    """
    path = os.path.join(workdir, "config.json")
    if not exists(path):
        raise FileNotFoundError(f"{path} does not exist; expected a run made by: python main.py --workdir={workdir}")
    note = _read_json(path, "copy it from a run of the same config, or train the run again in another --workdir")
    number = note.get("schema", 0)
    schema.check(number, path)
    return {**note, "config": schema.upgrade(note["config"], number)}


def command(workdir: str) -> str:
    """Returns the command that made the run in `workdir`, or completes it, for a shell; raises as `read`."""
    return shlex.join(["python", *read(workdir)["command"]])


def evaluated(workdir: str) -> dict[str, Any]:
    """Returns WORKDIR/eval/results.json; {} where the run has not been evaluated, ValueError where it is damaged.

    Its config has today's keys, as in `read`.
    """
    path = os.path.join(workdir, "eval", "results.json")
    if not exists(path):
        return {}
    mend = f"make it again by: python main.py --mode=eval --workdir={workdir}"
    found = _read_json(path, mend)
    if "config" not in found:
        raise ValueError(f"{path} has no config; {mend}")
    return {**found, "config": schema.upgrade(found["config"])}


def _read_json(path: str, mend: str) -> dict[str, Any]:
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise ValueError(f"{path} is empty or damaged ({error}); {mend}") from error


def find(folder: str, config) -> str:
    """Returns where below `folder` the run of `config` is, or is to be made: FOLDER/<its name>-<its digest>.

    Where that does not exist, it is a run of the same identity that an older version made, whose digest was another:
    one that is finished, if several are there. ValueError as in `read`.
    """
    home = os.path.join(folder, f"{config.name}-{digest(config)}")
    if exists(home):
        return home
    wanted, pattern = identity(plain(config)), re.compile(re.escape(config.name) + "-[0-9a-f]{8}")
    others = [os.path.join(folder, name) for name in sorted(names(folder)) if pattern.fullmatch(name)]
    runs = [other for other in others if exists(os.path.join(other, "config.json"))]
    same = [run for run in runs if identity(read(run)["config"]) == wanted]
    return max(same, key=lambda run: bool(evaluated(run).get("finished")), default=home)


def results(config, workdir: str) -> Results | None:
    """What WORKDIR/eval/results.json holds where the run of `config` was trained to its last step there, else None.

    ValueError where it is that of another config.
    """
    found = evaluated(workdir)
    if not found:
        return None
    if lines := differences(identity(found["config"]), identity(plain(config))):
        raise ValueError(f"{workdir} holds another run ({lines[0][0]} differs); remove it or give another --workdir")
    return found if found.get("finished") else None


def has_checkpoint(workdir: str) -> bool:
    """Returns whether the run in `workdir`, or one of its folds, has saved a checkpoint."""
    folders = ("", *names(workdir))  # of the run, and of its folds
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
