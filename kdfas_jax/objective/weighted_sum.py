"""The weighted sum of the terms in a config: L = sum_k w_k term_k(student, teacher_k, batch).

`config.terms` maps a term's name to `{kind, weight, teacher?, where?, ...options}`. A term of weight zero is not
computed, and a teacher that no remaining term reads is not run. `KINDS` has the kinds (`terms`, `adversarial`).

`teacher` may name an ensemble, "spoof+spoof2+spoof3": its logits are the mean of the members', and its other outputs
are the first member's.

The option `where` restricts the mean of a term that reads the batch to the examples with a known 'label' (live or
attack) or a known 'identity'.
"""

import dataclasses
import inspect
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdfas_jax.models import counting
from kdfas_jax.models.records import TRUTH_SIDE, Batch, Outputs
from kdfas_jax.objective import adversarial, terms

TRAINING = 3  # forwards that a training step costs: one forward, and the gradients of inputs and of parameters

KINDS: dict[str, Callable] = {
    "cross_entropy": terms.cross_entropy,
    "arcface": terms.arcface,
    "kl": terms.kl,
    "embedding": terms.embedding,
    "covariance": terms.Covariance,
    "align": terms.Align,
    "domain_adversary": terms.DomainAdversary,
    "truth": terms.Truth,
    "spectrum": terms.Spectrum,
    "critic": adversarial.critic,
    "penalty": adversarial.penalty,
    "attributes": adversarial.attributes,
    "generator": adversarial.generator,
    "edited_attributes": adversarial.edited_attributes,
    "reconstruction": adversarial.reconstruction,
}


class Term(NamedTuple):
    """One term bound to its options.

    `call` takes the term's variables, and the names in `inputs` by keyword; it returns (value, statistics after it).
    """

    weight: float
    teachers: tuple[str, ...]  # none, one, or the members of an ensemble
    where: str
    inputs: tuple[str, ...]
    call: Callable
    module: nn.Module | None  # the Flax module of a term that may have variables


class Objective:
    """Callable sum of the config's terms; `teachers` are the names of the teachers that it reads."""

    def __init__(self, terms: Mapping[str, Mapping[str, Any]], teachers: Mapping[str, Any]):
        """Checks and binds `terms`; ValueError names the term and what was expected."""
        self._terms = {name: _bind(name, dict(term), teachers) for name, term in terms.items() if term["weight"]}
        if not self._terms:
            raise ValueError("config.terms: every weight is zero; give at least one term a positive weight")
        self.teachers = tuple(sorted({name for term in self._terms.values() for name in term.teachers}))

    def __call__(self, student: Outputs, teachers: Mapping[str, Outputs], batch: Batch, params=None, progress=1.0):
        """Returns (loss scalar, {term name: unweighted mean}) as `update`, where no term has seen a batch before.

        `params` come from `init`, and are {} or None where no term has any.
        """
        return self.update(student, teachers, batch, {"params": params or {}}, progress)[:2]

    def update(self, student: Outputs, teachers: Mapping[str, Outputs], batch: Batch, variables, progress=1.0):
        """Returns (loss scalar, {term name: unweighted mean}, statistics) for the outputs of student and teachers.

        `variables` are {'params', 'statistics'} of the terms that have any, from `init` and `init_statistics`; the
        statistics returned are those after the batch. `progress` is the share of the run that is done, in [0, 1].
        """
        total, values, statistics = 0.0, {}, {}
        for name, term in self._terms.items():
            inputs = _inputs(term, student, teachers, batch, progress)
            own = {collection: of[name] for collection, of in variables.items() if name in of}
            values[name], kept = term.call(own, **inputs)
            statistics |= {name: kept} if kept else {}
            total += term.weight * values[name]
        return total, values, statistics

    def init(self, key: jax.Array, student: Outputs, teachers: Mapping[str, Outputs]) -> dict[str, Any]:
        """Returns fresh parameters of the terms that have any, {term: tree}; the outputs may be shapes.

        A term's parameters depend on the key and the term's name, and not on the other terms.
        """
        return self._fresh("params", key, student, teachers)

    def init_statistics(self, student: Outputs, teachers: Mapping[str, Outputs]) -> dict[str, Any]:
        """Returns the statistics, before the first batch, of the terms that keep any, {term: tree}."""
        return self._fresh(terms.STATISTICS, jax.random.key(0), student, teachers)

    def _fresh(self, collection: str, key: jax.Array, student, teachers) -> dict[str, Any]:
        made = {
            name: term.module.lazy_init(
                jax.random.fold_in(key, zlib.crc32(name.encode())), **_shaped(term, student, teachers)
            )
            for name, term in self._terms.items()
            if term.module
        }
        return {name: variables[collection] for name, variables in made.items() if variables.get(collection)}

    def flops(self, student: Outputs, teachers: Mapping[str, Outputs]) -> float:
        """Returns the FLOPs of training the terms' layers, for outputs (shapes) of one image."""
        return sum(
            TRAINING * counting.forward(term.module, **_shaped(term, student, teachers))
            for term in self._terms.values()
            if term.module
        )


def _inputs(term: Term, student, teachers, batch, progress) -> dict[str, Any]:
    if term.where:
        batch = {**batch, "mask": _known(batch, term.where)}
    given = {"student": student, "batch": batch, "progress": progress}
    if term.teachers:
        given["teacher"] = _together([teachers[name] for name in term.teachers])
    return {name: given[name] for name in term.inputs}


def _together(members: list[Outputs]) -> Outputs:
    """The outputs of an ensemble: the mean of the members' logits, and the first member's other outputs."""
    first, *others = members
    if not others:
        return first
    if isinstance(first["logits"], jax.ShapeDtypeStruct):
        return first
    return {**first, "logits": sum((of["logits"] for of in others), first["logits"]) / len(members)}


def _known(batch: Batch, what: str) -> jax.Array:
    """Marks the unmasked examples of the batch whose label or identity (`what`) is known: bool [b]."""
    known = batch["label"].any(axis=-1) if what == "label" else batch["identity"] >= 0
    return known & (batch["mask"] > 0) if "mask" in batch else known


def _shaped(term: Term, student, teachers) -> dict[str, Any]:
    """Inputs of a term as shapes, as parameters are made from them; of the batch only what parameters depend on."""
    truth = jax.ShapeDtypeStruct((1, TRUTH_SIDE, TRUTH_SIDE, 3), jnp.uint8)
    image = jax.ShapeDtypeStruct((1, TRUTH_SIDE, TRUTH_SIDE, 3), jnp.uint8)  # parameters do not depend on its side
    batch = {"domain": jax.ShapeDtypeStruct((1,), jnp.int32), "truth": truth, "image": image}
    return _inputs(term._replace(where=""), student, teachers, batch, jax.ShapeDtypeStruct((), jnp.float32))


def _bind(name: str, term: dict[str, Any], teachers: Mapping[str, Any]) -> Term:
    where = f"config.terms.{name}"
    kind, weight = term.pop("kind"), term.pop("weight")
    teacher, counted = term.pop("teacher", ""), term.pop("where", "")
    members = tuple(teacher.split("+")) if teacher else ()
    if kind not in KINDS:
        raise ValueError(f"{where}.kind={kind!r} is unknown; known kinds: {', '.join(sorted(KINDS))}")
    made = KINDS[kind]
    inputs, options = _signature(made)
    if ("teacher" in inputs) != bool(teacher):
        verb = "needs a teacher" if "teacher" in inputs else "takes no teacher"
        raise ValueError(f"{where}: a term of kind {kind!r} {verb}; {where}.teacher={teacher!r}")
    if unknown := [member for member in members if member not in teachers]:
        raise ValueError(f"{where}.teacher={unknown[0]!r} is not in config.teachers ({', '.join(teachers) or 'empty'})")
    if counted not in ("", "label", "identity") or (counted and "batch" not in inputs):
        known = "'', 'label', 'identity'" if "batch" in inputs else "none, as it sees the whole batch"
        raise ValueError(f"{where}.where={counted!r}: expected for a term of kind {kind!r}: {known}")
    if unknown := sorted(set(term) - options):
        raise ValueError(f"{where}.{unknown[0]} is unknown; options of kind {kind!r}: {', '.join(sorted(options))}")
    if not inspect.isclass(made):
        return Term(weight, members, counted, inputs, lambda _, **given: (made(**given, **term), {}), None)
    module = made(**term)

    def apply(variables, **given):
        value, kept = module.apply(variables, mutable=[terms.STATISTICS], **given)
        return value, kept.get(terms.STATISTICS, {})

    return Term(weight, members, counted, inputs, apply, module)


def _signature(kind: Callable) -> tuple[tuple[str, ...], set[str]]:
    """Returns (the injected parameters of a kind, the names of its options)."""
    if inspect.isclass(kind):
        parameters = inspect.signature(kind.__call__).parameters
        return tuple(name for name in parameters if name != "self"), {
            field.name for field in dataclasses.fields(kind) if field.name not in ("parent", "name")
        }
    parameters = inspect.signature(kind).parameters
    options = {name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY}
    return tuple(name for name in parameters if name not in options), options
