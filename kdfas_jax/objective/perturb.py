"""Attacks on the images of a batch, in training: on their domains (DAA) or on the student (adversarial training).

The domain adversarial attack is a perturbation of the input that makes images of all domains look alike. It replaces
domain-adversarial training [S: a source states it]; its equation is our own choice [C], the projected gradient method
of Madry et al., ICLR 2018 (arXiv 1706.06083), against a frozen domain classifier. See DTDA in docs/methods.md. The same
method against the labels of the student itself is adversarial training, as in that paper.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kdfas_jax.objective import losses
from kdfas_jax.parallel import sharding

# The attack's objective per example, to be maximised, from the domain classifier's logits [b, k] and one-hot domains
# [b, k] [C].
TARGETS = {
    "uniform": lambda logits, domains: -losses.cross_entropy(logits, jnp.full_like(domains, 1 / domains.shape[-1])),
    "confuse": losses.cross_entropy,
}


STUDENT = "student"  # as `classifier`: the model in training is attacked; any other name is a teacher's


class Attack(NamedTuple):
    """The attack that `config.daa` asks for: its `classifier`, a teacher's name or `STUDENT`, and `daa`'s options."""

    classifier: str
    options: Mapping[str, Any]

    @property
    def teachers(self) -> tuple[str, ...]:
        """The names of the teachers that the attack reads."""
        return () if self.classifier == STUDENT else (self.classifier,)

    def __call__(self, classify: Callable[[jax.Array], jax.Array], images: jax.Array, domains: jax.Array) -> jax.Array:
        """Returns the attacked images, see `daa`."""
        return daa(classify, images, domains, **self.options)

    def flops(self, model_flops: float) -> float:
        """FLOPs of the attack on one image; `model_flops` is one forward of the domain classifier.

        A step is a forward and the gradient with respect to its input, which has as many products; the third part of a
        training step, the gradient with respect to the parameters, is never computed.
        """
        return 2.0 * self.options["steps"] * model_flops


def of_config(config) -> Attack | None:
    """The attack of a whole config; None where it is off. `validate` checks the keys."""
    options = dict(config.daa)
    classifier = options.pop("classifier")
    return Attack(classifier, options) if classifier and options["steps"] else None


def daa(
    classify: Callable[[jax.Array], jax.Array],
    images: jax.Array,
    domains: jax.Array,
    *,
    eps: float = 8 / 255,
    step_size: float = 6 / 255,
    decay: float = 0.5,
    steps: int = 5,
    target: str = "uniform",
) -> jax.Array:
    """Perturbs `images` until the classifier cannot tell their domains. Returns x_adv, fp32, of their shape.

    x_0 = x, and x_{t+1} = clip_[0,1](clip_[x-eps,x+eps](x_t + step_size decay^t sign(g))), g the gradient of an
    example's goal with respect to its pixels; where g is zero, the pixel stays. Steps that halve [C] search as
    bisection does: 'uniform' is a point to reach, over which equal steps would oscillate.

    On a CPU the steps are unrolled, where convolutions within a loop run on one core: 2.5 times as fast on two cores,
    for five steps of a ResNet-18 of width 16. On other platforms they are a loop.

    Args:
      classify: maps images [b, h, w, c] to domain logits [b, k], each example independently; a closure over frozen
        parameters.
      images: [b, h, w, c] in [0, 1].
      domains: [b], integers in [0, k): the domains, or the classes of another classifier. A target 'confuse' leaves an
        image with -1, whose class is not known, as it is.
      eps, step_size: largest change of a pixel, and its change in the first step, in units of the image.
      decay: ratio of each step to the previous one, in (0, 1].
      steps: number of steps; 0 returns the images.
      target: 'uniform' lowers the cross-entropy to equal probabilities of all domains; 'confuse' raises the
        cross-entropy to the true domain, and may move an image into another wrong one.

    No gradient flows through the result to the images or the classifier. Raises ValueError for an unknown target.
    """
    if target not in TARGETS:
        raise ValueError(f"unknown target {target!r} of the domain adversarial attack; known: {', '.join(TARGETS)}")
    images = images.astype(jnp.float32)
    if steps == 0:
        return jax.lax.stop_gradient(images)
    low, high = jnp.maximum(images - eps, 0), jnp.minimum(images + eps, 1)

    def goal(x):
        logits = classify(x).astype(jnp.float32)
        return TARGETS[target](logits, jax.nn.one_hot(domains, logits.shape[-1])).sum()  # examples are independent

    def ascend(x, change):
        return jnp.clip(x + change * jnp.sign(jax.grad(goal)(x)), low, high), None

    changes = step_size * decay ** jnp.arange(steps)
    unroll = steps if sharding.platform() == "cpu" else 1
    return jax.lax.stop_gradient(jax.lax.scan(ascend, images, changes, unroll=unroll)[0])
