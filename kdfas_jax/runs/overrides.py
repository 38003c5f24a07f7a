"""What `--config.KEY=VALUE` means for a run that exists already, and for the name of one that does not yet."""

import json
import re
from collections.abc import Mapping
from typing import Any

from kdfas_jax.runs import identity, workdir

# The modes that read the config of a run -> whether its place and runtime may be overridden.
HONOURED = {
    "eval": True,
    "selftest": True,
    **dict.fromkeys(
        ("adapt", "predict", "export", "serve", "counterfactual", "verify", "confuse", "edit", "join"), False
    ),
}


def check(folder: str, mode: str, config, changes: Mapping[str, Any]) -> None:
    """Refuses what `mode` would ignore: it reads the config of the run in `folder`.

    changes: {'optim.lr': 0.04}, the overrides of the command line. config: the config that the command names, or
    None. ValueError for an override that differs from the run's own value, unless the mode honours it (`eval`
    honours the keys of `identity.PLACE_AND_RUNTIME`), and for a config that is another run's.
    """
    own = workdir.read(folder)["config"]
    for key, value in json.loads(json.dumps(dict(changes))).items():  # tuples as lists, as the run's own are
        there = _value(own, key)
        if value != there and not (HONOURED[mode] and identity.may_change(key)):
            known = ", ".join(identity.PLACE_AND_RUNTIME) if HONOURED[mode] else "none"
            raise ValueError(
                f"--config.{key}={value}: --mode={mode} reads the run in {folder}, whose config.{key} is {there!r}; "
                f"keys that it can override: {known}. Leave --mode out to train another run"
            )
    if config is None:
        return
    if lines := identity.differences(identity.identity(own), identity.identity(identity.plain(config))):
        key, there, here = lines[0]
        raise ValueError(
            f"--config asks for another run than {folder}: {key} is {there!r} there and {here!r} in --config; leave "
            "--config out, or name that run's own"
        )


def _value(config: Mapping[str, Any], key: str) -> Any:
    for name in key.split("."):
        config = config.get(name) if isinstance(config, Mapping) else None
    return config


def suffix(changes: Mapping[str, Any]) -> str:
    """The part of a default folder's name that tells overrides of a run's identity apart: '-optim.lr=0.04', or ''."""
    kept = [f"-{key}={value}" for key, value in sorted(changes.items()) if not _may_change(key)]
    return re.sub(r"[^\w.=+-]+", "_", "".join(kept))


def _may_change(key: str) -> bool:
    """As `identity.may_change`; of a study's base and a teacher's config, too."""
    return identity.may_change(re.sub(r"^(base\.|teachers\.[^.]+\.config\.)*", "", key))
