"""Clothes and hair around the head, lit without cast shadows; one image at a time (use `jax.vmap`)."""

import jax.numpy as jnp
import numpy as np

from input_pipeline.simulate.capture import light as lighting
from input_pipeline.simulate.noise import bell, ramp, value_noise
from input_pipeline.simulate.people import albedo, hair

CURTAIN = np.array([0.0, -0.1, -0.5, 0.84, 0.95, 0.5], np.float32)  # long hair: centre and radii


def _lit(colour, normal, light, open_sky):
    """Lights cloth or hair of reflectance `colour` by the lamps and the sky, without cast shadows: [h, w, 3]."""
    if "sh" in light:
        total = lighting.dome(normal, open_sky, light)
    else:
        total = ((0.60 - 0.40 * normal[..., 1]) * open_sky)[..., None] * light["ambient"]
    for direction, lamp in lighting.lamps(light):
        total += jnp.clip(0.85 * (normal @ direction) + 0.15, 0.0)[..., None] * lamp * (0.3 + 0.7 * open_sky)[..., None]
    return colour * total


def clothes(who, worn, u, v, pixel, *, light, below, shoulder):
    """Draws a garment with folds over `below`: a round neck or an open shirt collar, plain or striped.

    `worn` holds the values of `person.CLOTHES`; `shoulder` [h, w] is above 0 on shoulders, which any collar covers.
    """
    opening = jnp.where(worn["open"] > 0.6, 0.55 * jnp.maximum(0.40 - jnp.abs(u), 0.0), 0.16 * bell(u / 0.3))
    collar = worn["collar"] + opening - 0.05
    edge = jnp.minimum(v - collar, 0.3 * (v - 1.12 - 0.10 * jnp.abs(u) ** 1.6))
    edge = jnp.maximum(edge, shoulder)
    seed = albedo.stream(who, 22)
    crumple = value_noise(seed, 2.5 * u + 1.5 * v, 5.0 * v) + 0.5 * value_noise(seed + 1, 7.0 * u + 4.0 * v, 9.0 * v)
    crumple *= worn["folds"]
    slope = [jnp.roll(crumple, -1, axis) - crumple for axis in (1, 0)]
    n = jnp.stack([0.5 * u - 0.02 * slope[0] / pixel, -0.45 - 0.02 * slope[1] / pixel, 0.8 + 0.0 * u], -1)
    weave = value_noise(seed + 2, 70.0 * u, 70.0 * v)
    dye = worn["lightness"] * (1.0 + jnp.stack([worn["red"], -0.3 * (worn["red"] + worn["blue"]), worn["blue"]]))
    stripe = (worn["stripes"] > 0.7) * ramp(jnp.sin(60.0 * worn["stripes"] * (u + 0.02 * crumple)), 0.6)
    colour = dye * ((1.0 + 0.08 * weave) * (1.0 - 0.45 * stripe))[..., None]
    under_chin = 0.9 - 0.5 * bell(u / 0.45) * ramp(1.3 - v, 0.5)
    hem = 1.0 - 0.35 * bell((edge - 0.035) / 0.010)
    cast = ramp(edge + 0.06, 0.10)  # shadow of the collar on the neck
    below = below * (1.0 - 0.35 * cast * ramp(0.02 - edge, 0.04))[..., None]
    return albedo.over(_lit(colour * hem[..., None], n, light, under_chin), ramp(edge, pixel + 0.008), below)


def curtain(who, turn, u, v, pixel, *, light, below):
    """Draws long hair behind the face over `below`; also returns its light [h, w, 3] and opacity [h, w]."""
    shape = (
        jnp.asarray(CURTAIN)
        .at[3]
        .add(1.2 * who["hair_volume"])
        .at[4]
        .set(jnp.where(who["hair_style"] > 0.75, 1.75, 0.95))
    )
    _, edge = _meet(turn, shape, u, v)
    where, paint, thin = hair.curtain(who, u, v, edge, pixel)
    n = jnp.stack([u, -0.25 - 0.1 * thin, 0.6 + 0.0 * u], -1)
    deep = 0.30 + 0.45 * ramp(jnp.abs(u) - 0.55, 0.35)
    locks = _lit(paint, n, light, deep)
    return albedo.over(locks, where, below), locks, where


def crop(locks, layer, light, below):
    """Draws the hair on the skull over `below`."""
    mask, paint, thin = locks
    n = layer[..., 3:6] / (jnp.linalg.norm(layer[..., 3:6], axis=-1, keepdims=True) + 1e-6)
    lit = _lit(paint, n, light, jnp.full(mask.shape, 0.85))
    for direction, lamp in lighting.lamps(light):
        shine = hair.sheen(n, thin, direction)[..., None] * lamp
        lit += (0.10 * paint / (paint.mean(-1, keepdims=True) + 0.05) + 0.035) * shine
    return albedo.over(lit, mask, below)


def _meet(turn, shape, u, v):
    """Intersects rays with an ellipsoid: depth [h, w] towards the viewer, signed distance inside its outline [h, w]."""
    centre, radii = shape[:3], shape[3:]
    along = turn[2] / radii  # the viewing direction in head coordinates is the last row of the rotation
    start = [(turn[0, i] * u + turn[1, i] * v - centre[i]) / radii[i] for i in range(3)]
    a = along @ along
    b = sum(start[i] * along[i] for i in range(3))
    c = sum(s * s for s in start) - 1.0
    inside = (b * b - a * c) / a  # 1 in the middle, 0 on the outline
    depth = (-b + jnp.sqrt(jnp.maximum(a * inside, 1e-4))) / a
    return depth, 0.5 * inside * jnp.minimum(radii[0], radii[1])
