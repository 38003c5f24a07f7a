"""Validation of a whole config before any data are prepared or a teacher is trained.

`RULES` is a table of the ranges of single keys; `check` adds conditions on several keys. Conditions that depend on the
data or the devices (the warm-up ends within the run, the batch size is a multiple of the devices) are checked where
these are known.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from kdfas_jax import models, targets
from kdfas_jax.metrics.detection import OPERATING_POINTS
from kdfas_jax.models import fine_tuning
from kdfas_jax.objective import losses, perturb
from kdfas_jax.objective.weighted_sum import Objective


class Expected(NamedTuple):
    """A condition on a value, and its wording for the error message."""

    holds: Callable[[Any], bool]
    words: str


def _number(holds: Callable[[float], bool], words: str) -> Expected:
    return Expected(lambda x: isinstance(x, Real) and not isinstance(x, bool) and math.isfinite(x) and holds(x), words)


def _whole(holds: Callable[[int], bool], words: str) -> Expected:
    return Expected(lambda x: isinstance(x, Integral) and not isinstance(x, bool) and holds(x), words)


POSITIVE = _number(lambda x: x > 0, "a finite number above 0")
NOT_NEGATIVE = _number(lambda x: x >= 0, "a finite number, 0 or more")
PROBABILITY = _number(lambda x: 0 <= x <= 1, "a number in [0, 1]")
BELOW_ONE = _number(lambda x: 0 <= x < 1, "a number in [0, 1)")
ABOVE_ZERO = _number(lambda x: 0 < x <= 1, "a number in (0, 1]")
POINT = Expected(OPERATING_POINTS.__contains__, f"one of {', '.join(OPERATING_POINTS)}")
COUNT = _whole(lambda x: x >= 1, "a whole number, 1 or more")
WHOLE = _whole(lambda x: x >= 0, "a whole number, 0 or more")

# Kind of a term -> the teacher's output that it reads, of those that can be stored (`outputs`).
STORED = {"kl": "logits", "covariance": "class_tokens", "embedding": "embedding"}

# (key, condition); `*` stands for every key at its level. A key that a config lacks is skipped.
RULES: tuple[tuple[str, Expected], ...] = (
    ("seed", WHOLE),
    (
        "seeds",
        Expected(lambda seeds: seeds and all(map(WHOLE.holds, seeds)), "one seed or more, whole numbers, 0 or more"),
    ),
    ("names", Expected(lambda names: len(names) > 0, "one variant or more")),
    ("model.classes", WHOLE),
    ("model.lora.rank", WHOLE),
    ("model.lora.alpha", POSITIVE),
    *((f"model.{key}", COUNT) for key in ("patch", "width", "depth", "heads", "image_size", "embedding")),
    ("mesh.*", _whole(lambda n: n == -1 or n >= 1, "a whole number, 1 or more, or -1 for the devices that are left")),
    ("mesh", Expected(lambda axes: list(axes.values()).count(-1) <= 1, "-1 for one axis at most")),
    ("train.batch_size", COUNT),
    ("train.epochs", POSITIVE),
    ("train.eval_epochs", POSITIVE),
    ("eval.batch_size", COUNT),
    ("eval.threshold", POINT),
    ("eval.stability", WHOLE),
    ("eval.whitebox", WHOLE),
    ("optim.lr", POSITIVE),
    ("optim.min_lr", NOT_NEGATIVE),
    ("optim.warmup_epochs", NOT_NEGATIVE),
    ("optim.weight_decay", NOT_NEGATIVE),
    ("optim.b1", BELOW_ONE),
    ("optim.b2", BELOW_ONE),
    ("optim.clip_norm", NOT_NEGATIVE),
    ("optim.accumulate", COUNT),
    ("optim.ema", BELOW_ONE),
    ("optim.layer_decay", ABOVE_ZERO),
    ("optim.freeze_blocks", WHOLE),
    ("optim.every.*", _whole(lambda n: n >= 1, "steps between two updates, a whole number, 1 or more")),
    ("terms.*.weight", _number(lambda x: x >= 0, "a finite number, 0 (off) or more")),
    ("terms.*.smoothing", BELOW_ONE),
    ("terms.*.temperature", POSITIVE),
    ("terms.*.s", POSITIVE),
    ("terms.*.m", _number(lambda x: 0 <= x < math.pi, "an angle in [0, pi)")),
    ("terms.*.gamma", NOT_NEGATIVE),
    ("terms.*.domains", COUNT),
    ("terms.*.hidden", COUNT),
    ("terms.*.form", Expected(losses.FORMS.__contains__, f"one of {', '.join(losses.FORMS)}")),
    ("terms.*.lift", WHOLE),
    ("terms.*.momentum", BELOW_ONE),
    ("daa.steps", WHOLE),
    ("daa.eps", NOT_NEGATIVE),
    ("daa.step_size", POSITIVE),
    ("daa.decay", ABOVE_ZERO),
    ("daa.target", Expected(perturb.TARGETS.__contains__, f"one of {', '.join(perturb.TARGETS)}")),
    ("data.target", Expected(targets.TARGETS.__contains__, f"one of {', '.join(targets.TARGETS)}")),
    ("data.record_size", COUNT),
    ("data.image_size", COUNT),
    ("data.scale", POSITIVE),
    ("data.dev_share", BELOW_ONE),
    ("data.views", WHOLE),
    ("data.workers", WHOLE),
    (
        "teachers.*.cache",
        Expected(lambda names: set(names) <= set(STORED.values()), f"names of {', '.join(sorted(STORED.values()))}"),
    ),
    ("data.unlabelled.share", _number(lambda x: 0 < x < 1, "a number in (0, 1)")),
    ("data.augment.crop", ABOVE_ZERO),
    ("data.augment.box.scale", NOT_NEGATIVE),
    ("data.augment.box.shift", BELOW_ONE),
    ("data.augment.exposure", NOT_NEGATIVE),
    ("data.augment.colour", NOT_NEGATIVE),
    ("data.augment.randaugment.ops", WHOLE),
    ("data.augment.randaugment.magnitude", _number(lambda x: 0 <= x <= 10, "a number in [0, 10]")),
    ("data.augment.degrade", PROBABILITY),
    ("data.augment.erasing", PROBABILITY),
    ("data.augment.mixup", NOT_NEGATIVE),  # parameters of Beta distributions, not probabilities
    ("data.augment.cutmix", NOT_NEGATIVE),
    ("data.attack.probability", BELOW_ONE),  # with 1 there would be no bona fide presentations
    ("data.attack.recapture", PROBABILITY),
)


def check(config, key: str = "config") -> None:
    """Raises ValueError for the first invalid value of `config`, with the full key, the value and the expected range.

    The configs of its teachers, to any depth, and the base of an ablation are checked in the same way. `key` is the
    name of `config` in messages.
    """
    for pattern, expected in RULES:
        for name, value in _values(config, pattern.split("."), key):
            if not expected.holds(value):
                raise ValueError(f"{name}={_plain(value)!r}: expected {expected.words}")
    if "base" in config:
        check(config.base, f"{key}.base")
        return
    _check_attack(config, key)
    try:
        fine_tuning.check(models.create(config.model), config.optim.layer_decay, config.optim.freeze_blocks)
        read = Objective(config.terms, config.teachers).teachers
    except ValueError as error:  # its message names the keys below `config`
        raise ValueError(str(error) if key == "config" else f"{key}: {error}") from error
    if read:
        _check_taught(config, [name for name in read if config.teachers[name].cache], key)
    if perturb.STUDENT in config.teachers:
        raise ValueError(
            f"{key}.teachers.{perturb.STUDENT}: expected another name, as {key}.daa.classifier={perturb.STUDENT!r} is "
            "the student itself"
        )
    for name, teacher in config.teachers.items():
        check(teacher.config, f"{key}.teachers.{name}.config")


def _check_taught(config, stored: list[str], key: str) -> None:
    """ValueError where the outputs of the teachers `stored`, or images without labels, do not fit `config`."""
    data = config.data
    changing = data.augment.mixup or data.augment.cutmix or data.attack.probability or data.attack.recapture
    if stored and (not data.views or changing or config.daa.classifier):
        raise ValueError(
            f"{key}.teachers.{stored[0]}.cache stores outputs for each view of an image: expected "
            f"{key}.data.views > 0, and mixup, cutmix, data.attack and daa off"
        )
    for name, term in config.terms.items():
        read = STORED.get(term.kind)
        for member in set(term.get("teacher", "").split("+")) & set(stored):
            if term.weight and read not in config.teachers[member].cache:
                needed = f"{read!r} in it" if read else "none, as these are not stored"
                raise ValueError(
                    f"{key}.teachers.{member}.cache={tuple(config.teachers[member].cache)}: "
                    f"{key}.terms.{name} of kind {term.kind!r} reads other outputs; expected {needed}"
                )
        counts_all = term.kind == "cross_entropy" and term.weight and term.get("where") != "label"
        if data.unlabelled.dataset and counts_all:
            raise ValueError(f"{key}.data.unlabelled: set {key}.terms.{name}.where='label'")


def _values(node, parts: list[str], name: str) -> Iterator[tuple[str, Any]]:
    """Yields (full name, value) of each key below `node`, called `name`, that matches the pattern `parts`."""
    if not parts:
        yield name, node
    elif isinstance(node, Mapping | ConfigDict):
        for part in list(node) if parts[0] == "*" else parts[:1]:
            if part in node:
                yield from _values(node[part], parts[1:], f"{name}.{part}")


def _plain(value):
    """Returns `value` in a form that prints on one line."""
    return value.to_dict() if isinstance(value, ConfigDict) else value


def _check_attack(config, key: str) -> None:
    """ValueError where an attack on the input is on, and the classifier or a target does not fit it."""
    attack = perturb.of_config(config)
    if not attack:
        return
    name = attack.classifier
    expected = [(f"{key}.data.target", config.data.target, "label")]
    if name == perturb.STUDENT:
        expected.append((f"{key}.daa.target", config.daa.target, "confuse"))
    elif name in config.teachers:
        target = config.teachers[name].config.data.target
        expected.append((f"{key}.teachers.{name}.config.data.target", target, "domain"))
    else:
        known = ", ".join(config.teachers) or "empty"
        words = f"expected {perturb.STUDENT!r} or a name of {key}.teachers ({known})"
        raise ValueError(f"{key}.daa.classifier={name!r}: {words}")
    for target, found, wanted in expected:
        if found != wanted:
            raise ValueError(f"{target}={found!r}: expected {wanted!r}, as {key}.daa.classifier={name!r} attacks")
