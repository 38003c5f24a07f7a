"""A mask worn on the head: which part of the face it covers, and how its paint and finish differ from skin.

A mask has the relief of a face, here of another person than its wearer, and does not follow the wearer's expression.
Its values are those of `devices.masks.RANGES`.
"""

import jax.numpy as jnp

from input_pipeline.simulate.noise import ramp
from input_pipeline.simulate.people import albedo

TOP, BOTTOM = -0.66, 0.98  # of a mask on the mean head
STILL = {"open_mouth": -0.4, "smile": 0.1, "brow_raise": 0.0, "blink": -1.0}  # the expression of every mask


def coverage(mask: dict, x, y, z):
    """Returns the mask's share [h, w] at places on the mean head, and its gaps [h, w]: rim and edges of openings."""
    middle, half = 0.5 * (TOP + BOTTOM), 0.5 * (BOTTOM - TOP)
    out = 1.0 - jnp.sqrt((x / mask["wide"]) ** 4 + ((y - middle) / half) ** 4 + 1e-9) ** 0.5
    out = jnp.minimum(out * half, 0.5 * (z + 0.35))  # the sides of the head are free
    eye = (
        jnp.hypot((jnp.abs(x) - albedo.EYE[0]) / mask["eye"], (y - albedo.EYE[1]) / (0.55 * mask["eye"])) - 1.0
    ) * 0.08
    slit = jnp.hypot(x / 0.2, (y - 0.56) / 0.025) - 1.0
    slit = jnp.where(mask["mouth"] > 0.7, 0.03 * slit, 1.0)
    inside = jnp.minimum(out, jnp.minimum(eye, slit))
    share = ramp(inside, 0.02)
    return share, share * ramp(0.03 - inside, 0.03)


def painted(mask: dict, share, gap, paint):
    """Returns the reflectance [h, w, 3] of a face [h, w, 3] that the mask covers in part."""
    mean = (paint * share[..., None]).sum((0, 1)) / (share.sum() + 1e-3) + 1e-3
    own = mean * (paint / mean) ** (mask["contrast"] * (1.0 - mask["flat"]) + 0.15)[..., None]
    grey = own.mean(-1, keepdims=True)
    own = jnp.clip((grey + mask["colour"] * (own - grey)) * mask["light"], 0.01, 0.9)
    return albedo.over(own, share, paint) * (1.0 - 0.9 * mask["thick"] * gap)[..., None]
