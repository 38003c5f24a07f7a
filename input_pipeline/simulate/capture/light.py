"""The light of a room and what it does to a head: two lamps and a sky, shadows, occlusion, light under skin, gloss.

Skin: light that enters at one point leaves at another, further in red than in blue, so the irradiance is blurred by
channel before it meets the reflectance (d'Eon, Luebke: Advanced Techniques for Realistic Real-Time Skin Rendering,
GPU Gems 3, 2007). Gloss: two Blinn lobes times Schlick's Fresnel term. The rooms are our own choice [C].
"""

import jax.numpy as jnp
import numpy as np

from input_pipeline.simulate.capture.camera import gaussian
from input_pipeline.simulate.noise import draw

# Lights: an office lamp from ahead, a window at one side, a dim warm room, daylight from all around, a window behind
# the head, a hard lamp above; and what an attacker chooses: a face well lit, before nothing much brighter. `across` and
# `down` are against 1 to the camera, `second` is the other lamp as a part of the first, `behind` the light on the room.
LIGHT = {
    "across": ((-0.5, 0.5), (0.5, 1.2), (-0.8, 0.8), (-0.6, 0.6), (0.3, 1.2), (-0.4, 0.4), (-0.7, 0.7)),
    "down": ((-0.9, -0.2), (-0.5, 0.1), (-1.2, -0.5), (-0.8, 0.0), (-0.6, -0.1), (-1.6, -0.7), (-0.9, -0.1)),
    "level": ((0.6, 0.9), (0.7, 1.1), (0.40, 0.65), (0.30, 0.55), (0.25, 0.50), (0.8, 1.1), (0.5, 1.0)),
    "warmth": ((-0.08, 0.10), (-0.22, 0.02), (0.08, 0.32), (-0.15, 0.05), (-0.2, 0.1), (0.0, 0.2), (-0.15, 0.15)),
    "sky": ((0.30, 0.55), (0.18, 0.40), (0.12, 0.30), (0.50, 0.80), (0.30, 0.50), (0.12, 0.30), (0.25, 0.60)),
    "sky_warmth": ((-0.08, 0.10), (-0.05, 0.2), (0.05, 0.25), (-0.15, 0.05), (-0.1, 0.1), (0.0, 0.2), (-0.1, 0.1)),
    "second": ((0.0, 0.35), (0.05, 0.45), (0.0, 0.6), (0.0, 0.3), (0.2, 0.9), (0.0, 0.3), (0.0, 0.5)),
    "second_warmth": ((-0.2, 0.2), (-0.1, 0.35), (-0.3, 0.2), (-0.1, 0.2), (-0.2, 0.3), (-0.2, 0.2), (-0.2, 0.2)),
    "behind": ((0.3, 6.0), (0.3, 8.0), (0.2, 6.0), (0.6, 8.0), (3.0, 12.0), (0.2, 6.0), (0.2, 2.2)),
    "size": (  # radians
        (0.15, 0.45),
        (0.25, 0.60),
        (0.10, 0.40),
        (0.40, 0.80),
        (0.25, 0.60),
        (0.06, 0.20),
        (0.20, 0.60),
    ),
}
TINT = np.array([1.0, 0.1, -1.0], np.float32)
VIEW = np.array([0.0, 0.0, 1.0], np.float32)
WRAP = np.array([0.14, 0.07, 0.04], np.float32)  # how far light reaches round the terminator, by channel
SCATTER = (0.046, 0.024, 0.014)  # how far light travels under skin, in head units by channel [C]: 4, 2 and 1 mm
REACH = np.array(
    [0.03, 0.06, 0.10, 0.16, 0.24, 0.34, 0.46, 0.60], np.float32
)  # where a ray to the lamp is tested, in head units
LOBES = ((12.0, 0.7), (48.0, 0.3))  # exponent and share of the two lobes of gloss
FRESNEL = 0.028  # reflectance of skin at normal incidence


def draw_light(key, kind) -> dict:
    """The light of one video, of `kind` 1 to 7 (a column of LIGHT, traced or not).

    Unit `direction` [3] of the lamp, colours `key` [3] of it and `ambient` [3] (a white wall in full light being about
    1), `second_direction` [3] and `second` [3] of another lamp, `size` of the lamps in radians, `behind` [3], the light
    on what stands behind the head.
    """
    ranges = {name: jnp.array(rows)[kind - 1] for name, rows in LIGHT.items()}
    v = draw(key, dict.fromkeys(LIGHT, (0.0, 1.0)) | {"mirror": (-1.0, 1.0), "back": (-0.5, 0.7)})
    v |= {name: low + (high - low) * v[name] for name, (low, high) in ranges.items()}
    direction = jnp.stack([v["across"] * jnp.sign(v["mirror"]), v["down"], jnp.ones_like(v["down"])])
    other = jnp.stack([-jnp.sign(direction[0]), -0.4 * jnp.ones_like(v["down"]), v["back"]])
    ambient = v["sky"] * (1.0 + v["sky_warmth"] * TINT)
    lamp = v["level"] * (1.0 + v["warmth"] * TINT)
    return {
        "direction": direction / jnp.linalg.norm(direction),
        "key": lamp,
        "ambient": ambient,
        "second_direction": other / jnp.linalg.norm(other),
        "second": v["second"] * v["level"] * (1.0 + v["second_warmth"] * TINT),
        "size": v["size"],
        "behind": v["behind"] * (ambient + 0.3 * lamp),
    }


def lamps(light):
    """(direction [3], colour [3]) of both lamps."""
    return (light["direction"], light["key"]), (light["second_direction"], light["second"])


def shift(depth, du, dv):
    """A picture [h, w] moved by a fraction of a pixel, edges repeated: two products with hat matrices."""
    rows = jnp.arange(depth.shape[0])

    def hat(d):
        at = jnp.clip(rows + d, 0.0, depth.shape[0] - 1.0)
        return jnp.maximum(1.0 - jnp.abs(at[:, None] - rows), 0.0)

    return hat(dv) @ depth @ hat(du).T


def visible(depth, lamp, size, step):
    """How much [h, w] of a lamp in direction `lamp`, `size` radians wide, is seen from each point of a depth map."""

    def blocked(reach):
        rise = shift(depth, reach * lamp[0] / step, reach * lamp[1] / step) - depth - reach * lamp[2]
        return jnp.clip(rise / (0.015 + reach * size), 0.0, 1.0)

    return 1.0 - jnp.stack([blocked(reach) for reach in REACH]).max(0)


def openness(depth, step):
    """How much [h, w] of the half-sphere is open at each point: depth against its surroundings at three scales."""
    size, closed = depth.shape[0], 0.0
    for radius, strength in ((0.05, 7.0), (0.12, 4.5), (0.30, 1.6)):
        around = gaussian(radius / step, size)
        closed += strength * jnp.maximum(around @ depth @ around.T - depth, 0.0)
    return 1.0 / (1.0 + closed)


def dome(normal, open_sky, light):
    """Light [h, w, 3] of the sky and of the floor on a surface with `normal` [h, w, 3] that is open to `open_sky`."""
    above = (0.60 - 0.40 * normal[..., 1] + 0.15 * normal[..., 2]) * open_sky
    floor = 0.10 * jnp.maximum(normal[..., 1], 0.0) * open_sky
    return above[..., None] * light["ambient"] + floor[..., None] * light["key"]


def toward(normal, direction):
    """How much [h, w, 3] a surface with `normal` [h, w, 3] turns towards a lamp, by channel: red reaches round."""
    return jnp.clip(((normal @ direction)[..., None] + WRAP) / (1.0 + WRAP), 0.0)


def scatter(arrived, mask, step):
    """Irradiance [h, w, 3] blurred as under skin, within `mask` [h, w]."""
    size = mask.shape[0]

    def one(channel, length):
        around = gaussian(length / step, size)
        return (around @ (channel * mask) @ around.T) / (around @ mask @ around.T + 1e-3)

    return jnp.stack([one(arrived[..., i], length) for i, length in enumerate(SCATTER)], -1)


def gloss(normal, light, rough, open_sky, arrived):
    """Light [h, w, 3] mirrored by moist skin with `normal` [h, w, 3]; `rough` (0 to 1) widens the highlights.

    Shadows are taken from `arrived`, the irradiance [h, w, 3], against that of an open surface.
    """
    facing = jnp.clip(normal[..., 2], 0.2, 1.0)
    grazing = FRESNEL + (1.0 - FRESNEL) * (1.0 - facing) ** 5
    total = (0.45 * grazing * open_sky * (0.7 - 0.5 * normal[..., 1]))[..., None] * light["ambient"]
    for direction, colour in lamps(light):
        half = (direction + VIEW) / jnp.linalg.norm(direction + VIEW)
        away = 1.0 - jnp.clip(normal @ half, 0.0, 1.0)
        lobe = sum(share * (m + 2.0) / 8.0 * jnp.exp(-m * away * (1.0 - 0.5 * rough)) for m, share in LOBES)
        toward = jnp.clip(normal @ direction, 0.0)
        total += (grazing * lobe * toward * jnp.clip(arrived.mean(-1), 0.0, 1.0))[..., None] * colour
    return total
