"""The light of a room on a head: two lamps and a sky, shadows, occlusion, subsurface scattering, gloss.

Skin: light that enters at one point leaves at another, further away in red than in blue, so the irradiance is blurred
by channel before it is multiplied by the reflectance (d'Eon, Luebke: Advanced Techniques for Realistic Real-Time Skin
Rendering, GPU Gems 3, 2007). Gloss: two Blinn lobes times Schlick's Fresnel term. The rooms are our own choice [C].
"""

import jax.numpy as jnp
import numpy as np

from input_pipeline.simulate.capture.camera import gaussian
from input_pipeline.simulate.noise import draw

# Kinds of light: an office lamp in front, a window at one side, a dim warm room, daylight from all sides, a window
# behind the head, a hard lamp above; and the attacker's: a well-lit face in front of a background that is not much
# brighter. `across` and `down` are relative to 1 towards the camera, `second` is the other lamp relative to the first,
# `behind` the light on the room.
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
WRAP = np.array([0.14, 0.07, 0.04], np.float32)  # reach of light beyond the terminator, by channel
SCATTER = (0.046, 0.024, 0.014)  # distance of scattering under skin, in head units by channel [C]: 4, 2 and 1 mm
# Distances at which a ray to the lamp is tested, in head units.
REACH = np.array([0.03, 0.06, 0.10, 0.16, 0.24, 0.34, 0.46, 0.60], np.float32)
LOBES = ((12.0, 0.7), (48.0, 0.3))  # exponent and weight of the two lobes of gloss
FRESNEL = 0.028  # reflectance of skin at normal incidence


def draw_light(key, kind) -> dict:
    """Draws the light of one video, of `kind` 1 to 7 (a column of LIGHT, traced or not).

    Returns the unit `direction` [3] and the colour `key` [3] of the lamp, the colour `ambient` [3] of the sky (a white
    wall in full light is about 1), `second_direction` [3] and `second` [3] of another lamp, the `size` of the lamps in
    radians, and `behind` [3], the light on the room behind the head.
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
    """Returns (direction [3], colour [3]) of both lamps."""
    return (light["direction"], light["key"]), (light["second_direction"], light["second"])


def shift(depth, du, dv):
    """Shifts an image [h, w] by a fraction of a pixel, with edge padding, by two products with hat matrices."""
    rows = jnp.arange(depth.shape[0])

    def hat(d):
        at = jnp.clip(rows + d, 0.0, depth.shape[0] - 1.0)
        return jnp.maximum(1.0 - jnp.abs(at[:, None] - rows), 0.0)

    return hat(dv) @ depth @ hat(du).T


def visible(depth, lamp, size, step):
    """Returns the visible share [h, w] of a lamp in direction `lamp`, `size` radians wide, at each point of `depth`."""

    def blocked(reach):
        rise = shift(depth, reach * lamp[0] / step, reach * lamp[1] / step) - depth - reach * lamp[2]
        return jnp.clip(rise / (0.015 + reach * size), 0.0, 1.0)

    return 1.0 - jnp.stack([blocked(reach) for reach in REACH]).max(0)


def openness(depth, step):
    """Returns the open share [h, w] of the half-sphere at each point, from the depth around it at three scales."""
    size, closed = depth.shape[0], 0.0
    for radius, strength in ((0.05, 7.0), (0.12, 4.5), (0.30, 1.6)):
        around = gaussian(radius / step, size)
        closed += strength * jnp.maximum(around @ depth @ around.T - depth, 0.0)
    return 1.0 / (1.0 + closed)


def dome(normal, open_sky, light):
    """Returns the light [h, w, 3] of sky and floor on a surface with `normal` [h, w, 3] and openness `open_sky`.

    A light with spherical harmonics `sh` [9, 3] (`wild.environments`) has them in place of sky and floor.
    """
    if "sh" in light:
        return jnp.maximum(harmonics(normal) @ light["sh"], 0.0) * open_sky[..., None]
    above = (0.60 - 0.40 * normal[..., 1] + 0.15 * normal[..., 2]) * open_sky
    floor = 0.10 * jnp.maximum(normal[..., 1], 0.0) * open_sky
    return above[..., None] * light["ambient"] + floor[..., None] * light["key"]


def harmonics(normal):
    """Returns the nine real spherical harmonics [..., 9] of unit vectors [..., 3], a NumPy or a JAX array."""
    xp = np if isinstance(normal, np.ndarray) else jnp
    x, y, z = (normal[..., i] for i in range(3))
    one = xp.full_like(x, 0.282095)
    first = [0.488603 * y, 0.488603 * z, 0.488603 * x]
    second = [1.092548 * x * y, 1.092548 * y * z, 0.315392 * (3.0 * z * z - 1.0), 1.092548 * x * z]
    return xp.stack([one, *first, *second, 0.546274 * (x * x - y * y)], -1)


def toward(normal, direction):
    """Returns the wrapped cosine [h, w, 3] of `normal` [h, w, 3] and a lamp's direction, by channel."""
    return jnp.clip(((normal @ direction)[..., None] + WRAP) / (1.0 + WRAP), 0.0)


def scatter(arrived, mask, step):
    """Blurs irradiance [h, w, 3] by subsurface scattering within `mask` [h, w]."""
    size = mask.shape[0]

    def one(channel, length):
        around = gaussian(length / step, size)
        return (around @ (channel * mask) @ around.T) / (around @ mask @ around.T + 1e-3)

    return jnp.stack([one(arrived[..., i], length) for i, length in enumerate(SCATTER)], -1)


def gloss(normal, light, rough, open_sky, arrived):
    """Returns the specular light [h, w, 3] of moist skin with `normal` [h, w, 3]; `rough` in [0, 1] widens highlights.

    Shadows come from `arrived`, the irradiance [h, w, 3].
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
