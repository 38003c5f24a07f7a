"""The domain adversarial attack (DAA): a perturbation of the input that makes images of all domains look alike.

DAA replaces domain-adversarial training [S: a source states it]; its equation is our own choice [C], the projected
gradient method of Madry et al., ICLR 2018 (arXiv 1706.06083), against a frozen domain classifier. See DTDA in
docs/methods.md.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from kdfas_jax.objective import losses

# The attack's objective per example, to be maximised, from the domain classifier's logits [b, k] and one-hot domains
# [b, k] [C].
TARGETS = {
    "uniform": lambda logits, domains: -losses.cross_entropy(logits, jnp.full_like(domains, 1 / domains.shape[-1])),
    "confuse": losses.cross_entropy,
}


def make(config, readers: Mapping[str, Callable], *, unroll: bool = False) -> Callable | None:
    """Returns attack(variables of all teachers, images, domains, key) -> x_adv by `config.daa`; None where it is off.

    `readers` maps the name of each teacher in use to read(variables, images) -> (logits, outputs). `unroll` compiles
    the steps one by one whatever the config says, so that a compiler's FLOP count includes all of them.
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
    """Returns the name of the domain classifier that `config.daa` attacks, or () where it is off."""
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
    """Perturbs `images` so that the classifier cannot tell their domain; returns x_adv, fp32, of the same shape.

    x_0 = x, and x_{t+1} = clip_[0,1](clip_[x-eps,x+eps](x_t + step_size decay^t sign(g))), where g is the gradient of
    an example's objective (`TARGETS`) with respect to its pixels; a pixel with g = 0 does not move. Halving steps [C]
    search as bisection does: the optimum of 'uniform' is a point, about which steps of equal size oscillate.

    Args:
      classify: maps images [b, h, w, c] to domain logits [b, k], each example independently.
      images: [b, h, w, c] in [0, 1].
      domains: [b], integers in [0, k).
      key: seed of the random start.
      eps: largest change of a pixel, in units of the image.
      step_size: change of a pixel in the first step, in units of the image.
      decay: ratio of successive step sizes, in (0, 1].
      steps: number of steps; with 0 the images are returned unchanged.
      target: 'uniform' lowers the cross-entropy to equal probabilities of all domains; 'confuse' raises the
        cross-entropy to the true domain, and may push an image into another wrong domain.
      random_start: start at x + U(-eps, eps), clipped to [0, 1], instead of x.
      unroll: compile the steps one by one instead of a loop: 2.5 times as fast on two CPU cores, for five steps of a
        ResNet-18 of width 16, as convolutions within a loop run on one core there.

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

    x = images
    if random_start:
        x = jnp.clip(x + jax.random.uniform(key, x.shape, minval=-eps, maxval=eps), low, high)
    changes = step_size * decay ** jnp.arange(steps)
    return jax.lax.stop_gradient(jax.lax.scan(ascend, x, changes, unroll=steps if unroll else 1)[0])


def flops(model_flops: float, steps: int) -> float:
    """FLOPs of `daa` on one image, where one forward pass of the domain classifier takes `model_flops`.

    A step is a forward pass and the gradient with respect to the input, which costs as much again. The gradient with
    respect to the parameters, which a training step has in addition, is not computed.
    """
    return 2.0 * steps * model_flops
