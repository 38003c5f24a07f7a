"""Prediction targets: what a run learns and how it is judged, one file each. May import report, metrics, select."""

from kdfas_jax.targets.attributes import ATTRIBUTES
from kdfas_jax.targets.domain import DOMAIN
from kdfas_jax.targets.identity import IDENTITY
from kdfas_jax.targets.label import LABEL
from kdfas_jax.targets.label_identity import LABEL_IDENTITY
from kdfas_jax.targets.target import Target

TARGETS: dict[str, Target] = {target.name: target for target in (LABEL, IDENTITY, LABEL_IDENTITY, DOMAIN, ATTRIBUTES)}


def get(name: str) -> Target:
    """Returns the target that `config.data.target` names; ValueError, with the known names, for another."""
    if name not in TARGETS:
        raise ValueError(f"config.data.target={name!r} is unknown; known: {', '.join(TARGETS)}")
    return TARGETS[name]
