"""The room behind the head: walls, shelves, doors, windows and lamps, in or out of focus. All is our own choice [C].

Small sensors see a room nearly as sharply as a face, and windows saturate. A background with edges, clutter and a wide
range keeps a model from taking any edge for that of an instrument.
"""

import jax
import jax.numpy as jnp

from input_pipeline.simulate.noise import fold, ramp, uniform, value_noise

THINGS = 16  # boxes in a room
LAMPS = 5  # spots of light


def backdrop(key, size: int, light):
    """Renders a room [size, size, 3] in linear light under `light` [3]: a wall, boxes, windows, lamps.

    The key decides clutter, from a bare wall (a third of the rooms) to a crowded room, and focus.
    """
    clutter, focus, tall, bright = uniform(fold(key, 0), (4,))
    clutter = jnp.maximum(1.5 * clutter - 0.5, 0.0)
    wall = _hue(fold(key, 1), 0.25 + 0.6 * bright, 0.10)
    line = (jnp.arange(size) + 0.5) / size
    soft = 0.006 + 0.16 * focus * focus
    slope = uniform(fold(key, 2), (2,), -0.35, 0.35)
    shade = 1.0 + slope[0] * (line - 0.5) + slope[1] * (line[:, None] - 0.5)
    picture = wall * shade[..., None]

    def thing(picture, seed):
        x, y, w, h, shown, window = uniform(fold(seed, 0), (6,))
        width, height = 0.08 + 0.50 * w * w, jnp.where(tall > 0.5, 0.4 + 1.2 * h, 0.15 + 0.5 * h * h)
        across = ramp(0.5 * width - jnp.abs(line - x), soft) * ramp(width - 0.3 * soft, soft)
        down = ramp(0.5 * height - jnp.abs(line - y), soft) * ramp(height - 0.3 * soft, soft)
        paint = _hue(fold(seed, 1), 0.03 + 0.80 * uniform(fold(seed, 2), ()) ** 2, 0.25)
        paint = jnp.where(window > 0.65, (3.0 + 25.0 * (window - 0.65)) * (0.5 + 0.5 * paint), paint)
        mask = (shown < clutter * 1.2) * down[:, None] * across
        return picture + mask[..., None] * (paint - picture), None

    picture, _ = jax.lax.scan(thing, picture, fold(key, 3, jnp.arange(THINGS)))

    def lamp(picture, seed):
        x, y, r, on, warm = uniform(fold(seed, 0), (5,))
        radius = 0.01 + 0.04 * r + 0.5 * soft * r
        disc = ramp(radius - jnp.hypot(line - x, line[:, None] - 0.7 * y), 0.4 * radius + 0.02)
        glow = 6.0 * jnp.stack([1.0 + 0.0 * warm, 0.95 - 0.15 * warm, 0.9 - 0.4 * warm])
        return picture + ((on < 0.4 * clutter) * disc)[..., None] * glow, None

    picture, _ = jax.lax.scan(lamp, picture, fold(key, 4, jnp.arange(LAMPS)))
    grain = 0.06 * value_noise(fold(key, 5), 9.0 * line, 9.0 * line[:, None])
    grain += clutter * ramp(0.08 - soft, 0.06) * 0.15 * value_noise(fold(key, 6), 40.0 * line, 25.0 * line[:, None])
    return picture * (1.0 + grain)[..., None] * light


def _hue(key, level, strength):
    """Draws a colour [3] of a level whose channels differ by up to `strength`, relative."""
    return level * (1.0 + strength * uniform(key, (3,), -1.0, 1.0))
