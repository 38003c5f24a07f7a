"""The weighted sum of terms that a config names: L = sum_k w_k term_k(student, teacher_k, batch).

`config.terms` maps a term's name to `{kind, weight, teacher?, ...options}`. A term of weight zero is not computed,
and a teacher that no remaining term reads is not run. Adding a loss: write it in `losses`, add one line to `KINDS`.

A kind is a function whose keyword-only parameters are its options, or, where it has parameters of its own that are
trained with the student, a Flax module whose fields are. It takes those of student, batch, teacher and progress that it
names, and returns its mean and the number of examples that it counted.

Any term whose kind reads the batch has the option `where`: 'label' or 'identity', the examples of which the batch says
whether they are live, or who they are. The others add nothing to it, and it is the mean over those that it counts.
"""

import dataclasses
import inspect
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from kdfas_jax import losses
from kdfas_jax.models import counting

Outputs = Mapping[str, jax.Array]
TRAINING = 3  # forwards that a training step costs: one forward, and the gradients of inputs and of parameters


def cross_entropy(student: Outputs, batch: Outputs, *, smoothing: float = 0.0) -> tuple[jax.Array, jax.Array]:
    """CE of the student's logits to the batch's labels [b, k]."""
    return losses.masked_mean(losses.cross_entropy(student["logits"], batch["label"], smoothing), batch.get("mask"))


def arcface(student: Outputs, batch: Outputs, *, s: float = 64.0, m: float = 0.5) -> tuple[jax.Array, jax.Array]:
    """CE of the cosines between embedding and class centres, scaled by `s`, to the batch's people, `identity` [b], the
    margin of `m` radians on the own class (`losses.arcface_logits`). Both defaults are the paper's [S]."""
    if "centres" not in student:
        raise ValueError("a term of kind 'arcface' needs class centres; give a face model config.model.classes > 0")
    own = batch["identity"]
    logits = losses.arcface_logits(student["embedding"], student["centres"], own, s=s, m=m)
    values = losses.cross_entropy(logits, jax.nn.one_hot(own, logits.shape[-1]))
    return losses.masked_mean(values, batch.get("mask"))


def kl(student: Outputs, batch: Outputs, teacher: Outputs, *, temperature: float = 1.0) -> tuple[jax.Array, jax.Array]:
    """KL of the teacher's softened class distribution to the student's."""
    values = losses.distillation_kl(student["logits"], teacher["logits"], temperature)
    return losses.masked_mean(values, batch.get("mask"))


def embedding(student: Outputs, batch: Outputs, teacher: Outputs) -> tuple[jax.Array, jax.Array]:
    """One less the cosine of the student's and the teacher's embedding."""
    values = losses.cosine_distance(student["embedding"], teacher["embedding"])
    return losses.masked_mean(values, batch.get("mask"))


def covariance(
    student: Outputs,
    teacher: Outputs,
    *,
    form: str = "cross",
    centre: bool = False,
    scale: str = "none",
    stages: tuple[tuple[int, int], ...] = (),
) -> tuple[jax.Array, jax.Array]:
    """Class tokens matched through a covariance matrix, averaged over the stages.

    `stages` lists (student stage, teacher stage) pairs, counted from 1. Empty [C] means all, one to one, which needs
    equal depths.
    """
    mine, theirs = student["class_tokens"], teacher["class_tokens"]
    pairs = _pairs("covariance", stages, mine, theirs)
    if stages:  # all of them need no gather
        mine, theirs = mine[pairs[:, 0]], theirs[pairs[:, 1]]
    values = losses.covariance(mine, theirs, form=form, centre=centre, scale=scale)
    return values.mean(), jnp.asarray(mine.shape[1], jnp.float32)


def _pairs(kind: str, stages, mine, theirs) -> np.ndarray:
    """`stages` counted from 0, int [n, 2], all one to one where there are none; ValueError where one does not exist."""
    depths = (len(mine), len(theirs))
    if not stages and depths[0] != depths[1]:
        raise ValueError(f"{kind}: depths {depths} differ; set stages to (student stage, teacher stage) pairs")
    pairs = np.asarray(stages) - 1 if stages else np.repeat(np.arange(depths[0])[:, None], 2, axis=1)
    if (pairs < 0).any() or (pairs >= depths).any():
        raise ValueError(f"{kind}: stages {stages} must lie within 1..{depths[0]} and 1..{depths[1]}")
    return pairs


def feature_maps(out: Outputs) -> tuple[jax.Array, ...]:
    """A model's features by stage, [b, h, w, c] each; the class tokens of a ViT are maps of one position [C]."""
    return out["stages"] if "stages" in out else tuple(token[:, None, None] for token in out["class_tokens"])


class Align(nn.Module):
    """Feature maps of the stages matched through a 1x1 projector each, averaged over the stages (`losses.align`) [C].

    The projectors carry the student's channels into the teacher's; they are trained and never exported. `stages` as
    of `covariance`.
    """

    stages: tuple[tuple[int, int], ...] = ()

    @nn.compact
    def __call__(self, student, batch, teacher):
        """-> (mean over examples and stages, number of examples)."""
        mine, theirs = feature_maps(student), feature_maps(teacher)
        distances = [
            losses.align(nn.Dense(theirs[j].shape[-1], name=f"stage{i + 1}_{j + 1}")(mine[i]), theirs[j])
            for i, j in _pairs("align", self.stages, mine, theirs)
        ]
        return losses.masked_mean(sum(distances) / len(distances), batch.get("mask"))


class DomainAdversary(nn.Module):
    """Domain-adversarial training (DAT; Ganin and Lempitsky, ICML 2015): what DAA is to stand in for.

    A head of one hidden layer [C] learns the domain from what the student's own head sees (`pre_logits`), while the
    gradient that reaches the student is reversed and scaled by 2 / (1 + exp(-gamma progress)) - 1 [S], which rises from
    0 to 1 over the run.
    """

    domains: int
    hidden: int = 128
    gamma: float = 10.0

    @nn.compact
    def __call__(self, student, batch, progress):
        """-> (cross-entropy of the head to the batch's `domain`, number of examples)."""
        scale = 2 / (1 + jnp.exp(-self.gamma * progress)) - 1
        hidden = nn.relu(nn.Dense(self.hidden, name="hidden")(losses.reverse_gradient(student["pre_logits"], scale)))
        logits = nn.Dense(self.domains, name="head")(hidden)
        own = jax.nn.one_hot(batch["domain"], self.domains)
        return losses.masked_mean(losses.cross_entropy(logits, own), batch.get("mask"))


# StarGAN's terms (Choi et al., CVPR 2018, equations 3 to 9), of what `models.stargan.StarGAN.training_pass` returns.


def critic(student: Outputs, batch: Outputs) -> tuple[jax.Array, jax.Array]:
    """The critic's values of edited images less those of real ones: what the discriminator minimises."""
    return losses.masked_mean(losses.wgan_critic(student["source"], student["edited"]), batch.get("mask"))


def penalty(student: Outputs, batch: Outputs) -> tuple[jax.Array, jax.Array]:
    """How far the critic's slope is from one (`losses.gradient_penalty`)."""
    return losses.masked_mean(student["penalty"], batch.get("mask"))


def attributes(student: Outputs, batch: Outputs) -> tuple[jax.Array, jax.Array]:
    """Binary cross-entropy of the logits of real images to their attributes, the labels [b, k], summed over these."""
    values = losses.attribute_cross_entropy(student["logits"], batch["label"])
    return losses.masked_mean(values, batch.get("mask"))


def generator(student: Outputs, batch: Outputs) -> tuple[jax.Array, jax.Array]:
    """Less the critic's values of edited images: what the generator minimises."""
    return losses.masked_mean(losses.wgan_generator(student["fooled"]), batch.get("mask"))


def edited_attributes(student: Outputs, batch: Outputs) -> tuple[jax.Array, jax.Array]:
    """As `attributes`, of edited images to the attributes that were asked for."""
    values = losses.attribute_cross_entropy(student["edited_logits"], student["wanted"])
    return losses.masked_mean(values, batch.get("mask"))


def reconstruction(student: Outputs, batch: Outputs) -> tuple[jax.Array, jax.Array]:
    """Mean absolute difference of images in [0, 1] and what is left of them after an edit there and back."""
    return losses.masked_mean(losses.reconstruction(student["images"], student["restored"]), batch.get("mask"))


KINDS: dict[str, Callable] = {
    "cross_entropy": cross_entropy,
    "arcface": arcface,
    "kl": kl,
    "embedding": embedding,
    "covariance": covariance,
    "align": Align,
    "domain_adversary": DomainAdversary,
    "critic": critic,
    "penalty": penalty,
    "attributes": attributes,
    "generator": generator,
    "edited_attributes": edited_attributes,
    "reconstruction": reconstruction,
}


class Term(NamedTuple):
    """One term bound to its options: `call` takes its parameters and what `inputs` names, by keyword."""

    weight: float
    teacher: str
    where: str
    inputs: tuple[str, ...]
    call: Callable
    module: nn.Module | None  # where it has parameters


class Objective:
    """Callable sum of the config's terms; `teachers` names those that it reads."""

    def __init__(self, terms: Mapping[str, Mapping[str, Any]], teachers: Mapping[str, Any]):
        """Checks and binds `terms`; ValueError names the term and what was expected."""
        self._terms = {name: _bind(name, dict(term), teachers) for name, term in terms.items() if term["weight"]}
        if not self._terms:
            raise ValueError("config.terms: every weight is zero; give at least one term a positive weight")
        self.teachers = tuple(sorted({term.teacher for term in self._terms.values() if term.teacher}))

    def __call__(self, student: Outputs, teachers: Mapping[str, Outputs], batch: Outputs, params=None, progress=1.0):
        """-> (loss scalar, {term name: its unweighted mean}) for the named outputs of student and teachers.

        `params` are of `init`, {} or None where no term has any; `progress` is the share of the run that is done.
        """
        total, values = 0.0, {}
        for name, term in self._terms.items():
            inputs = _inputs(term, student, teachers, batch, progress)
            values[name], _ = term.call((params or {}).get(name), **inputs)
            total += term.weight * values[name]
        return total, values

    def init(self, key: jax.Array, student: Outputs, teachers: Mapping[str, Outputs]) -> dict[str, Any]:
        """Fresh parameters of the terms that have any, {term: tree}, for outputs that may be shapes alone.

        A term's depend on the key and its own name, so that they are the same whatever other terms there are.
        """
        return {
            name: term.module.lazy_init(
                jax.random.fold_in(key, zlib.crc32(name.encode())), **_shaped(term, student, teachers)
            )["params"]
            for name, term in self._terms.items()
            if term.module
        }

    def flops(self, student: Outputs, teachers: Mapping[str, Outputs]) -> float:
        """FLOPs of training the terms' own layers, for outputs (shapes) of one image."""
        return sum(
            TRAINING * counting.forward(term.module, **_shaped(term, student, teachers))
            for term in self._terms.values()
            if term.module
        )


def _inputs(term: Term, student, teachers, batch, progress) -> dict[str, Any]:
    if term.where:
        batch = {**batch, "mask": _known(batch, term.where)}
    given = {"student": student, "teacher": teachers.get(term.teacher), "batch": batch, "progress": progress}
    return {name: given[name] for name in term.inputs}


def _known(batch: Outputs, what: str) -> jax.Array:
    """Which of the batch's examples say `what` they are, of those that count at all: bool [b]."""
    known = batch["label"].any(axis=-1) if what == "label" else batch["identity"] >= 0
    return known & (batch["mask"] > 0) if "mask" in batch else known


def _shaped(term: Term, student, teachers) -> dict[str, Any]:
    """Inputs with the shapes of a batch, as far as parameters depend on them."""
    batch = {"domain": jax.ShapeDtypeStruct((1,), jnp.int32)}
    return _inputs(term._replace(where=""), student, teachers, batch, jax.ShapeDtypeStruct((), jnp.float32))


def _bind(name: str, term: dict[str, Any], teachers: Mapping[str, Any]) -> Term:
    where = f"config.terms.{name}"
    kind, weight = term.pop("kind"), term.pop("weight")
    teacher, counted = term.pop("teacher", ""), term.pop("where", "")
    if kind not in KINDS:
        raise ValueError(f"{where}.kind={kind!r} is unknown; known kinds: {', '.join(sorted(KINDS))}")
    made = KINDS[kind]
    inputs, options = _signature(made)
    if ("teacher" in inputs) != bool(teacher):
        verb = "needs a teacher" if "teacher" in inputs else "takes no teacher"
        raise ValueError(f"{where}: a term of kind {kind!r} {verb}; {where}.teacher={teacher!r}")
    if teacher and teacher not in teachers:
        raise ValueError(f"{where}.teacher={teacher!r} is not in config.teachers ({', '.join(teachers) or 'empty'})")
    if counted not in ("", "label", "identity") or (counted and "batch" not in inputs):
        known = "'', 'label', 'identity'" if "batch" in inputs else "none, as it sees the whole batch"
        raise ValueError(f"{where}.where={counted!r}: expected for a term of kind {kind!r}: {known}")
    if unknown := sorted(set(term) - options):
        raise ValueError(f"{where}.{unknown[0]} is unknown; options of kind {kind!r}: {', '.join(sorted(options))}")
    if not inspect.isclass(made):
        return Term(weight, teacher, counted, inputs, lambda _, **given: made(**given, **term), None)
    module = made(**term)

    def apply(params, **given):
        return module.apply({"params": params}, **given)

    return Term(weight, teacher, counted, inputs, apply, module)


def _signature(kind: Callable) -> tuple[tuple[str, ...], set[str]]:
    """(what a kind reads, the names of its options)."""
    if inspect.isclass(kind):
        parameters = inspect.signature(kind.__call__).parameters
        return tuple(name for name in parameters if name != "self"), {
            field.name for field in dataclasses.fields(kind) if field.name not in ("parent", "name")
        }
    parameters = inspect.signature(kind).parameters
    options = {name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY}
    return tuple(name for name in parameters if name not in options), options
