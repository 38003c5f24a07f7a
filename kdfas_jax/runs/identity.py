"""The identity of a run: the part of its config that two runs must share to be the same run."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from kdfas_jax.runs import schema

# Keys of a config.
_EVALUATION = ("eval.batch_size", "eval.threshold", "eval.stability", "eval.whitebox")
PLACE_AND_RUNTIME = ("data.raw_dir", "data.data_dir", "data.workers", *_EVALUATION, "mesh", "report", "control")


def plain(config) -> dict[str, Any]:
    """A ConfigDict -> nested dicts and lists, as JSON gives them back."""
    return json.loads(json.dumps(config.to_dict()))


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of a plain config that makes a run what it is: its model, data, recipe, seed and teachers.

    `PLACE_AND_RUNTIME` is left out: these keys say where the run's files are and how it is executed, and may change
    between two calls of one run. The data are identified by their protocol and, in `workdir.claim`, by the fingerprint
    of their records. Keys that change rounding alone, such as model.unroll, model.remat and optim.accumulate, belong to
    the identity, as a resumed run is to give the bits of an uninterrupted one. So do a teacher's `checkpoint` and
    `init`, which are paths: they name a model.

    The config is brought to today's keys first (`schema.upgrade`): a run of an older version keeps its identity when a
    key is added.
    """
    return _identity(schema.upgrade(config))


def _identity(config: Mapping[str, Any]) -> dict[str, Any]:
    kept = _kept(config)
    if "teachers" in config:
        taught = config["teachers"].items()
        kept["teachers"] = {name: {**teacher, "config": _identity(teacher["config"])} for name, teacher in taught}
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
    """Returns eight hex digits that stand for the identity of a resolved config.

    They change when a key is added to all configs; `workdir.find` therefore compares identities, too.
    """
    return hashlib.sha256(json.dumps(identity(plain(config)), sort_keys=True).encode()).hexdigest()[:8]


def differences(there: Any, here: Any, key: str = "config") -> list[tuple[str, Any, Any]]:
    """(key, there, here) for every leaf that differs between two nested dicts; a missing one is None."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        names = sorted(there.keys() | here.keys())
        return [row for name in names for row in differences(there.get(name), here.get(name), f"{key}.{name}")]
    return [] if there == here else [(key, there, here)]
