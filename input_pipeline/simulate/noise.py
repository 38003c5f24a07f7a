"""Random numbers and noise for images by hashing, identical on every device and for every batch size.

A key is a uint32. An integer hash of key and position replaces `jax.random` [C: our own choice]: an image needs a
hundred thousand noisy pixels and a hundred parameters under a dozen keys, which took 14 s to compile with threefry and
well under one with the hash. The hash is good enough for images, but not for cryptography or long streams of one key.
"""

import jax.numpy as jnp
import numpy as np


def mix(x):
    """Bijective hash of uint32 (the `lowbias32` constants of C. Wellons' hash-prospector)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def fold(key, *numbers):
    """Derives a key from `key` and a sequence of integers (Python's or traced)."""
    key = jnp.asarray(key, jnp.uint32)
    for number in numbers:
        key = mix(mix(key ^ jnp.uint32(0x9E3779B9)) + jnp.asarray(number, jnp.uint32))
    return key


def bits(key, shape: tuple[int, ...]):
    """Random uint32 array of this shape."""
    place = jnp.arange(np.prod(shape, dtype=int), dtype=jnp.uint32).reshape(shape)
    return mix(mix(place + key) ^ key)


def uniform(key, shape: tuple[int, ...], low=0.0, high=1.0):
    """Uniform floats in [low, high) of this shape; the bounds broadcast."""
    return low + (high - low) * ((bits(key, shape) >> 8).astype(jnp.float32) / (1 << 24))


def white(key, shape: tuple[int, ...]):
    """Nearly normal noise of zero mean and unit variance: the sum of the four bytes of a hash (Irwin-Hall) [C]."""
    words = bits(key, shape)
    total = sum((words >> shift) & jnp.uint32(255) for shift in (0, 8, 16, 24))
    return (total.astype(jnp.float32) - 510.0) / 147.8


def draw(key, ranges: dict[str, tuple[float, float]]) -> dict:
    """Draws a uniform scalar for each name of `ranges`, {name: (low, high)}."""
    low, high = jnp.array(list(ranges.values())).T
    return dict(zip(ranges, uniform(key, (len(ranges),), low, high), strict=True))


def value_noise(seed, x, y):
    """Smooth noise in [-1, 1] with a knot per unit of x and y; seed, x and y broadcast."""
    x0, y0 = jnp.floor(x), jnp.floor(y)
    fx, fy = x - x0, y - y0
    fx, fy = (f * f * (3.0 - 2.0 * f) for f in (fx, fy))
    column, row = (a.astype(jnp.int32).astype(jnp.uint32) for a in (x0, y0))

    def knot(i, j):
        word = mix((column + i) * jnp.uint32(0x9E3779B1) ^ ((row + j) * jnp.uint32(0x85EBCA77) + seed))
        return (word >> 8).astype(jnp.float32) * (2.0 / (1 << 24)) - 1.0

    top = knot(0, 0) * (1 - fx) + knot(1, 0) * fx
    bottom = knot(0, 1) * (1 - fx) + knot(1, 1) * fx
    return top * (1 - fy) + bottom * fy


def ramp(distance, width):
    """Anti-aliased step: 0 below -width / 2, 1 above width / 2, linear between."""
    return jnp.clip(distance / width + 0.5, 0.0, 1.0)


def bell(x):
    """exp(-x^2 / 2)."""
    return jnp.exp(-0.5 * x * x)
