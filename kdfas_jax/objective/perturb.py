"""Perturbations of the input: the domain adversarial attack (DAA), which makes images of all domains look alike.

METHODS section 2: DAA stands in for domain-adversarial training [S]; its equation is ours [C], the projected
gradient method of Madry et al., ICLR 2018 (arXiv 1706.06083), on a domain classifier trained before and then frozen.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from kdfas_jax.objective import losses

# What the attack raises, per example, from the domain classifier's logits [b, k] and one-hot domains [b, k] [C].
TARGETS = {
    "uniform": lambda logits, domains: -losses.cross_entropy(logits, jnp.full_like(domains, 1 / domains.shape[-1])),
    "confuse": losses.cross_entropy,
}


def make(config, readers: Mapping[str, Callable], *, unroll: bool = False) -> Callable | None:
    """-> attack(variables of all teachers, images, domains, key) -> x_adv, as `config.daa` asks; None where it is off.

    `readers` has a read(variables, images) -> (logits, outputs) for each name of `config.teachers` in use. `unroll`
    lays the steps out one by one whatever the config says, so that a compiler's count of FLOPs sees them all.
    """
    name, *_ = classifiers(config) or [""]
    if not name:
        return None
    options = {key: value for key, value in config.daa.items() if key != "classifier"}
    options["unroll"] |= unroll

    def attack(variables: Mapping[str, Any], images: jax.Array, domains: jax.Array, key: jax.Array) -> jax.Array:
        return daa(lambda x: readers[name](variables[name], x)[0], images, domains, key, **options)

    return attack


def classifiers(config) -> tuple[str, ...]:
    """The teacher whose domains `config.daa` attacks, or none where it is off; `validate` checks the keys."""
    return (config.daa.classifier,) if config.daa.classifier and config.daa.steps else ()


def daa(
    classify: Callable[[jax.Array], jax.Array],
    images: jax.Array,
    domains: jax.Array,
    key: jax.Array,
    *,
    eps: float = 8 / 255,
    step_size: float = 6 / 255,
    decay: float = 0.5,
    steps: int = 5,
    target: str = "uniform",
    random_start: bool = False,
    unroll: bool = False,
) -> jax.Array:
    """Perturbs `images` until the domain classifier cannot tell where they are from -> x_adv, their shape, fp32.

    x_0 = x, and x_{t+1} = clip_[0,1](clip_[x-eps,x+eps](x_t + step_size decay^t sign(g))), g the gradient of an
    example's own goal with respect to its pixels; where g is zero, the pixel stays. Steps that halve [C] search as
    bisection does: 'uniform' is a point to be met, over which equal steps go back and forth.

    Args:
      classify: images [b, h, w, c] -> domain logits [b, k], each example by itself: a closure over frozen parameters.
      images: [b, h, w, c] in [0, 1].
      domains: [b], integers in [0, k).
      key: what the random start is drawn from.
      eps, step_size: largest change of a pixel, and its change in the first step, in units of the image.
      decay: each step over the one before, in (0, 1].
      steps: number of steps; 0 gives the images back.
      target: 'uniform' lowers the cross-entropy to equal probabilities of all domains; 'confuse' raises that to the
        own domain, and may move an image into another wrong one.
      random_start: begin at x + U(-eps, eps), cut to [0, 1], in place of x.
      unroll: compile the steps one by one, in place of a loop: 2.5 times as fast on two CPU cores, for five steps of a
        ResNet-18 of width 16, as convolutions within a loop run on one core there.

    No gradient flows through the result, neither to the images nor to the classifier. ValueError for an unknown target.
    """
    if target not in TARGETS:
        raise ValueError(f"unknown target {target!r} of the domain adversarial attack; known: {', '.join(TARGETS)}")
    images = images.astype(jnp.float32)
    if steps == 0:
        return jax.lax.stop_gradient(images)
    low, high = jnp.maximum(images - eps, 0), jnp.minimum(images + eps, 1)

    def goal(x):
        logits = classify(x).astype(jnp.float32)
        return TARGETS[target](logits, jax.nn.one_hot(domains, logits.shape[-1])).sum()  # of examples: their own each

    def ascend(x, change):
        return jnp.clip(x + change * jnp.sign(jax.grad(goal)(x)), low, high), None

    x = images
    if random_start:
        x = jnp.clip(x + jax.random.uniform(key, x.shape, minval=-eps, maxval=eps), low, high)
    changes = step_size * decay ** jnp.arange(steps)
    return jax.lax.stop_gradient(jax.lax.scan(ascend, x, changes, unroll=steps if unroll else 1)[0])


def flops(model_flops: float, steps: int) -> float:
    """FLOPs of `daa` on one image: `model_flops` is one forward of the domain classifier on it.

    A step is a forward and the gradient with respect to its input, which has as many products; the third part of a
    training step, the gradient with respect to the parameters, is never computed.
    """
    return 2.0 * steps * model_flops
