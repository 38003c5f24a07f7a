"""Versions of a run's config: how the config of an older run is read today.

Whoever adds a key to `configs.common.base`, or removes one, adds one row to `CHANGES` under the next number.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

ANY = object()  # of a removed key: all its values gave the same results


class Change(NamedTuple):
    """A key that schema `number` added or removed. A run without the key is a run in which it has the `value`.

    key: without 'config.', of the config of a run or of a teacher; * stands for every name. value: of an added key what
    gives the behaviour of older versions; of a removed key the only one that the code still computes, or `ANY`.
    """

    number: int
    key: str
    value: Any
    removed: bool = False


# In this order. A run whose config.json has no number is of schema 0. Options that models, readers and terms have
# defaults for need no row: a config leaves them out, unless they are set.
CHANGES = (
    Change(1, "data.align", False),
    Change(1, "data.extra_sources", []),
    Change(1, "data.dev_share", 0.0),
    Change(1, "data.balance", ""),
    Change(1, "data.train_species", []),
    Change(1, "data.augment.degrade", 0.0),
    Change(1, "data.augment.exposure", 0.0),
    Change(1, "data.attack", {"probability": 0.0, "recapture": 0.0}),
    Change(1, "data.target", "label"),
    Change(1, "data.domain_by", "domain"),
    Change(1, "data.attributes", []),
    Change(1, "daa", {"classifier": "", "steps": 5, "eps": 8 / 255, "step_size": 6 / 255, "target": "uniform"}),
    Change(1, "daa.decay", 1.0),
    Change(1, "optim.accumulate", 1),
    Change(1, "optim.every", {}),
    Change(1, "optim.ema", 0.0),
    Change(1, "report", {"faces": False}),
    Change(1, "teachers.*.allow_overlap", False),
    Change(1, "mesh.tensor", 1, removed=True),
    Change(1, "daa.random_start", False, removed=True),
    Change(1, "daa.unroll", ANY, removed=True),
    Change(2, "init_allow_overlap", False),
    Change(3, "data.truth", False),
    Change(4, "control", ""),
    Change(4, "data.views", 0),
    Change(4, "data.unlabelled", {"dataset": "", "options": {}, "raw_dir": "", "share": 0.5}),
    Change(4, "teachers.*.cache", []),
    Change(4, "eval.stability", 192),
    Change(4, "eval.whitebox", 0),
    Change(4, "optim.layer_decay", 1.0),
    Change(4, "optim.freeze_blocks", 0),
    Change(5, "data.augment.box", {"scale": 0.0, "shift": 0.0}),
    Change(6, "eval.threshold", "eer"),
    Change(7, "terms.covariance.lift", 0),
    Change(7, "terms.covariance.momentum", 0.0),
    Change(8, "data.workers", 0),
)
SCHEMA = max(change.number for change in CHANGES)


def check(number: int, path: str) -> None:
    """Raises ValueError where the file `path` has a schema `number` that is newer than this version of the code."""
    if number > SCHEMA:
        raise ValueError(
            f"{path} has schema {number}; this version of kdfas_jax reads up to {SCHEMA}: update it to read the run"
        )


def upgrade(config: Mapping[str, Any], number: int = 0) -> dict[str, Any]:
    """Returns a plain config of schema `number`, and the configs of its teachers, with today's keys.

    A key that is missing gets its value of `CHANGES`, and a removed one is dropped. A removed key with another value
    stays, so that `workdir.claim` names it: this version cannot resume that run. A config of today is returned as it
    is. `config` is not changed.
    """
    upgraded = _copied(config)
    for change in CHANGES:
        if change.number > number:
            _apply(change, upgraded, change.key.split("."))
    for teacher in upgraded.get("teachers", {}).values():
        teacher["config"] = upgrade(teacher["config"], number)
    return upgraded


def _apply(change: Change, node: dict[str, Any], parts: list[str]) -> None:
    """Applies `change` to `node`, below which its key is `parts`; a node that is not there stays away."""
    first, *rest = parts
    if rest:
        for name in list(node) if first == "*" else [first]:
            if isinstance(node.get(name), dict):
                _apply(change, node[name], rest)
    elif not change.removed:
        node.setdefault(first, _copied(change.value))
    elif first in node and (change.value is ANY or node[first] == change.value):
        del node[first]


def _copied(value: Any) -> Any:
    return {name: _copied(of) for name, of in value.items()} if isinstance(value, Mapping) else value
