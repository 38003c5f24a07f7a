"""The identity of a run: the part of its config that two runs must share to be the same run."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

PLACE_AND_RUNTIME = ("data.raw_dir", "data.data_dir", "eval.batch_size", "mesh", "report")  # keys of a config


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


def differences(there: Any, here: Any, key: str = "config") -> list[tuple[str, Any, Any]]:
    """(key, there, here) for every leaf that differs between two nested dicts; a missing one is None."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        names = sorted(there.keys() | here.keys())
        return [row for name in names for row in differences(there.get(name), here.get(name), f"{key}.{name}")]
    return [] if there == here else [(key, there, here)]
