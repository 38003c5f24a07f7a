"""The weighted sum of terms that a config names: L = sum_k w_k term_k(student, teacher_k, batch).

`config.terms` maps a term's name to `{kind, weight, teacher?, ...options}`. A term of weight zero is not computed,
and a teacher that no remaining term reads is not run. Adding a loss: write it in `losses`, add one line to `KINDS`.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdfas_jax import losses

Outputs = Mapping[str, jax.Array]


def cross_entropy(student: Outputs, batch: Outputs, *, smoothing: float = 0.0) -> tuple[jax.Array, jax.Array]:
    """CE of the student's logits to the batch's labels [b, k]."""
    return losses.masked_mean(losses.cross_entropy(student["logits"], batch["label"], smoothing), batch.get("mask"))


def arcface(student: Outputs, batch: Outputs, *, s: float = 64.0, m: float = 0.5) -> tuple[jax.Array, jax.Array]:
    """CE of the cosines between embedding and class centres, scaled by `s`, to the labels [b, k], the margin of `m`
    radians on the own class (`losses.arcface_logits`). Both defaults are the paper's [S]."""
    if "centres" not in student:
        raise ValueError("a term of kind 'arcface' needs class centres; give an iresnet config.model.classes > 0")
    own = batch["label"].argmax(axis=-1)
    logits = losses.arcface_logits(student["embedding"], student["centres"], own, s=s, m=m)
    return losses.masked_mean(losses.cross_entropy(logits, batch["label"]), batch.get("mask"))


def kl(student: Outputs, batch: Outputs, teacher: Outputs, *, temperature: float = 1.0) -> tuple[jax.Array, jax.Array]:
    """KL of the teacher's softened class distribution to the student's."""
    values = losses.distillation_kl(student["logits"], teacher["logits"], temperature)
    return losses.masked_mean(values, batch.get("mask"))


def covariance(
    student: Outputs,
    batch: Outputs,
    teacher: Outputs,
    *,
    form: str = "cross",
    centre: bool = False,
    scale: str = "none",
    stages: tuple[tuple[int, int], ...] = (),
) -> tuple[jax.Array, jax.Array]:
    """Class tokens matched through a covariance matrix, averaged over the stages.

    `stages` lists (student block, teacher block) pairs, counted from 1. Empty [C] means all, one to one, which needs
    equal depths.
    """
    mine, theirs = student["class_tokens"], teacher["class_tokens"]
    depths = (mine.shape[0], theirs.shape[0])
    if not stages and depths[0] != depths[1]:
        raise ValueError(f"covariance: depths {depths} differ; set stages to (student block, teacher block) pairs")
    if stages:
        pairs = np.asarray(stages) - 1
        if (pairs < 0).any() or (pairs >= depths).any():
            raise ValueError(f"covariance: stages {stages} must lie within 1..{depths[0]} and 1..{depths[1]}")
        mine, theirs = mine[pairs[:, 0]], theirs[pairs[:, 1]]
    values = losses.covariance(mine, theirs, form=form, centre=centre, scale=scale)
    return values.mean(), jnp.asarray(mine.shape[1], jnp.float32)


KINDS: dict[str, Callable] = {
    "cross_entropy": cross_entropy,
    "arcface": arcface,
    "kl": kl,
    "covariance": covariance,
}


class Objective:
    """Callable sum of the config's terms; `teachers` names those that it reads."""

    def __init__(self, terms: Mapping[str, Mapping[str, Any]], teachers: Mapping[str, Any]):
        """Checks and binds `terms`; ValueError names the term and what was expected."""
        self._terms = {name: _bind(name, dict(term), teachers) for name, term in terms.items() if term["weight"]}
        if not self._terms:
            raise ValueError("config.terms: every weight is zero; give at least one term a positive weight")
        self.teachers = tuple(sorted({teacher for _, teacher, _ in self._terms.values() if teacher}))

    def __call__(self, student: Outputs, teachers: Mapping[str, Outputs], batch: Outputs):
        """-> (loss scalar, {term name: its unweighted mean}) for the named outputs of student and teachers."""
        total, values = 0.0, {}
        for name, (weight, teacher, term) in self._terms.items():
            values[name], _ = term(student, batch, teachers[teacher]) if teacher else term(student, batch)
            total += weight * values[name]
        return total, values


def _bind(name: str, term: dict[str, Any], teachers: Mapping[str, Any]):
    where = f"config.terms.{name}"
    kind, weight, teacher = term.pop("kind"), term.pop("weight"), term.pop("teacher", "")
    if kind not in KINDS:
        raise ValueError(f"{where}.kind={kind!r} is unknown; known kinds: {', '.join(sorted(KINDS))}")
    if weight < 0:
        raise ValueError(f"{where}.weight={weight} is negative; a weight is zero (off) or positive")
    function = KINDS[kind]
    parameters = inspect.signature(function).parameters
    if ("teacher" in parameters) != bool(teacher):
        verb = "needs a teacher" if "teacher" in parameters else "takes no teacher"
        raise ValueError(f"{where}: a term of kind {kind!r} {verb}; {where}.teacher={teacher!r}")
    if teacher and teacher not in teachers:
        raise ValueError(f"{where}.teacher={teacher!r} is not in config.teachers ({', '.join(teachers) or 'empty'})")
    options = {key for key, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY}
    if unknown := sorted(set(term) - options):
        raise ValueError(f"{where}.{unknown[0]} is unknown; options of kind {kind!r}: {', '.join(sorted(options))}")
    return weight, teacher, functools.partial(function, **term)
