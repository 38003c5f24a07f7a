"""Simulated attacks from live face crops, which are printed or displayed and photographed again.

`simulate_attack` turns live crops (of any data set) into attacks; `recapture` passes live crops through the same camera
without an instrument, so that the camera does not predict the label: train on both. A fifth of the images have an ideal
camera, since the crop already has the traces of a real one. All draws depend only on the key, one uint32 per image. The
ranges are our own choice.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from input_pipeline.simulate.capture import camera, instruments
from input_pipeline.simulate.capture.camera import LUMA
from input_pipeline.simulate.noise import draw, fold, ramp, uniform, value_noise

SPECIES = ("print", "replay")
CHUNK = 8  # images per compiled call; results do not depend on the division into chunks
SMALLEST = 32  # smallest side of an image in pixels

# Ranges of a camera, from webcams to phones (names of `camera.SPREAD`).
CAMERA = {
    "blur": (0.3, 2.2),
    "sharpen": (0.0, 1.8),
    "noise": (0.002, 0.025),
    "saturation": (0.75, 1.6),
    "contrast": (0.2, 1.3),
    "red": (0.88, 1.12),
    "blue": (0.88, 1.12),
    "vignette": (0.0, 0.25),
    "coarseness": (0.008, 0.05),
    "motion": (0.0, 1.0),
    "direction": (0.0, 1.0),
    "flare": (0.0, 0.12),
    "balance": (0.2, 0.9),
    "denoise": (0.4, 1.0),
    "levels": (0.8, 1.0),  # high, so that the black of paper does not reveal prints
    "pedestal": (0.0, 0.03),
}
STANDARD = {"saturation": 1.2, "contrast": 0.6}  # assumed rendering of the camera that took the live crops
# The ideal camera; parameters that are not named are 0.
IDEAL = STANDARD | {"red": 1.0, "blue": 1.0, "coarseness": 0.004, "blur": 0.2, "denoise": 0.2, "levels": 0.9}
SLOPE = 1.0 + 0.5 * STANDARD["contrast"]
EXPOSURE = (0.14, 0.45)  # target level of automatic exposure
LIGHT = {  # light of the room in which the second photograph is taken
    "across": (-1.0, 1.0),
    "down": (-1.0, 0.2),
    "level": (0.3, 1.0),
    "sky": (0.1, 0.6),
    "warmth": (-0.25, 0.25),
    "green": (-0.08, 0.08),
    "sky_warmth": (-0.25, 0.25),
}
# `shading` is the remaining share of the crop's uneven light: live faces are sometimes in even light, too, and the
# attacker's photograph was taken in good light.
ROOM = {"shading": (0.3, 1.0), "exposure": (0.18, 0.40), "saturation": (0.7, 1.2)}
SOURCE = ROOM | {"shading": (0.0, 0.7)}
# Backdrops of one colour, as in identity photographs, for live crops and for the photographs of attacks.
BACKDROP = {"shown": (-1.5, 1.0), "level": (0.1, 1.0), "red": (0.7, 1.1), "blue": (0.7, 1.2), "fall": (-0.3, 0.3)}


def species(keys):
    """Returns the attack of each key [n], print (0) or replay (1, positions in `SPECIES`) with equal probability."""
    return (fold(keys, 0) >> 16) & 1


def capture(key, level):
    """Draws the camera of an image of mean `level`; returns it and its distance from ideal in [0, 1], 0 for a fifth."""
    amount = jnp.maximum(uniform(fold(key, 0), (), -0.25, 1.0), 0.0)
    figures = {name: IDEAL.get(name, 0.0) for name in CAMERA}
    drawn = draw(fold(key, 1), CAMERA)
    figures = {name: ideal + amount * (drawn[name] - ideal) for name, ideal in figures.items()}
    figures["brightness"] = level ** (1.0 - amount) * uniform(fold(key, 2), (), *EXPOSURE) ** amount
    return figures, amount


def draw_light(key, amount) -> dict:
    """Draws direction, key and ambient of a room's light, as `light.draw_light`; `amount` in [0, 1] scales tints."""
    v = draw(key, LIGHT)
    direction = jnp.stack([v["across"], v["down"], jnp.ones_like(v["down"])])
    warm, green = jnp.array([1.0, 0.0, -1.0]), jnp.array([-0.5, 1.0, -0.5])
    tint = 1.0 + amount * (v["warmth"] * warm + v["green"] * green)
    sky = 1.0 + amount * (v["sky_warmth"] * warm + v["green"] * green)
    return {"direction": direction / jnp.linalg.norm(direction), "key": v["level"] * tint, "ambient": v["sky"] * sky}


def light_of(image):
    """Inverts a camera's rendering: an encoded crop in [0, 1] becomes linear light [s, s, 3]."""
    code = camera.contrast(image, 1.0 / SLOPE)
    rendered = camera.unshoulder(camera.decode(code))
    luma = (rendered @ LUMA)[..., None]
    return jnp.maximum(luma + (rendered - luma) / STANDARD["saturation"], 0.0)


def room(key, size: int, light):
    """Blurred surroundings of an instrument: patches of light [size, size, 3]."""
    line = jnp.linspace(-1.0, 1.0, 16)
    u, v = jnp.meshgrid(line, line)
    level = value_noise(fold(key, 0), 1.5 * u, 1.5 * v) + 0.5 * value_noise(fold(key, 1), 4.0 * u, 4.0 * v)
    tint = jnp.stack([value_noise(fold(key, 2 + c), 1.2 * u, 1.2 * v) for c in range(3)], axis=-1)
    return camera.enlarge(
        (0.5 * light["key"] + light["ambient"]) * jnp.exp(1.2 * level[..., None] + 0.3 * tint - 1.2), size
    )


def backdrop(image, key):
    """Puts head and shoulders of the crop [s, s, 3] on a backdrop of one colour, for two keys of five."""
    v = draw(key, BACKDROP)
    line = jnp.linspace(-1.0, 1.0, image.shape[0])
    x, y = jnp.meshgrid(line, line)
    head = 1.0 - jnp.hypot(x / 0.74, (y + 0.05) / 1.02)
    shoulders = 0.8 * (y - 0.62) + 0.12 * (1.0 - jnp.abs(x))
    around = 1.0 - ramp(jnp.maximum(head, shoulders), 0.16)
    colour = v["level"] * (1.0 + v["fall"] * y[..., None]) * jnp.stack([v["red"], jnp.ones(()), v["blue"]])
    return image + (v["shown"] > 0) * around[..., None] * (camera.encode(colour) - image)


def relight(image, v: dict):
    """Relights the encoded crop [s, s, 3] by `v` (draws of `ROOM` or `SOURCE`), exposed for the face."""
    size = image.shape[0]
    linear = camera.decode(image)
    wide = camera.gaussian(0.16 * size, size)
    shade = jnp.exp(camera.along_axes(wide, wide, jnp.log(linear @ LUMA + 0.02)[..., None]))
    linear = linear * (shade.mean() / shade) ** (1.0 - v["shading"])
    luma = (linear @ LUMA)[..., None]
    linear = jnp.maximum(luma + v["saturation"] * (linear - luma), 0.0)
    face = slice(size // 4, size - size // 4)
    return camera.encode(camera.shoulder(linear * v["exposure"] / ((linear[face, face] @ LUMA).mean() + 1e-4)))


def _attack(image, key, replay):
    """Returns the light of an attack on the sensor [n, n, 3], from a live crop [s, s, 3] in [0, 1], and the camera."""
    size = image.shape[0]
    figures, amount = capture(fold(key, 1), camera.metered(light_of(image)))
    picture = relight(backdrop(image, fold(key, 8)), draw(fold(key, 5), SOURCE))
    light = draw_light(fold(key, 2), amount)
    tool = instruments.draw_instrument(fold(key, 3), replay, 1 + (fold(key, 4) >> 16) % 2)
    count = camera.OVERSAMPLE * size
    lens = figures["blur"] * count / camera.REFERENCE
    behind = room(fold(key, 6), size, light)
    shown = instruments.present(picture, tool, light, behind, count, lens)
    return shown, figures


def _recapture(image, key):
    """As `_attack` without an instrument, with the same framing, fall-off and colour of the light."""
    light_on = light_of(relight(backdrop(image, fold(key, 8)), draw(fold(key, 5), ROOM)))
    figures, amount = capture(fold(key, 1), camera.metered(light_of(image)))
    light = draw_light(fold(key, 2), amount)
    view = draw(fold(key, 3), instruments.COMMON)
    u, v = instruments.plane(view, camera.OVERSAMPLE * image.shape[0])
    fall = 1.0 + view["tilt_x"] * u + view["tilt_y"] * v
    white = light["key"] + light["ambient"]
    return instruments.sample(light_on, u, v) * fall[..., None] * (white / white.mean()), figures


# Both are compiled separately, since both use the camera.
@jax.jit
def light_of_attacks(images, keys, kinds):
    """Returns the light of attacks on the sensor, fp32 [n, m, m, 3], m = `OVERSAMPLE` s, and the cameras' parameters.

    images: live crops, fp32 [n, s, s, 3] in [0, 1]. keys: uint32 [n]. kinds: print (0) or replay (1), uint32 [n].
    """
    # A map, not `vmap`, renders only the branch of each attack's species.
    return jax.lax.map(lambda picture: _attack(*picture), (images, keys, kinds))


@jax.jit
def light_of_recaptures(images, keys):
    """Returns what `light_of_attacks` returns, for the faces themselves without an instrument."""
    return jax.vmap(_recapture)(images, keys)


@functools.partial(jax.jit, static_argnames="size")
def _photographs(light, figures, keys, size):
    noise = fold(keys, 7)
    shots = jax.vmap(functools.partial(camera.photograph, size=size))(light, figures, noise)
    return camera.to_bytes(shots)


def simulate_attack(images: np.ndarray, keys: np.ndarray, kinds: np.ndarray | None = None) -> np.ndarray:
    """Turns live face crops into presentation attacks: uint8 [n, s, s, 3] -> uint8 [n, s, s, 3], RGB.

    `keys` [n] are integers in [0, 2^32), one per image; `kinds` [n] is print (0) or replay (1), by default
    `species(keys)`. The result of an image depends only on its crop, key and kind. Raises ValueError for other shapes
    or types, or a side below 32.
    """
    keys = _checked(images, keys)
    if kinds is None:  # chunk by chunk: each size of an array is a compilation
        return _in_chunks(lambda crops, chunk: light_of_attacks(crops, chunk, species(chunk)), images, keys)
    return _in_chunks(light_of_attacks, images, keys, np.asarray(kinds, np.uint32))


def recapture(images: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Passes live face crops through the camera of `simulate_attack`, without an instrument.

    Arguments and errors as in `simulate_attack`; the same key gives the same camera, framing and light.
    """
    return _in_chunks(light_of_recaptures, images, _checked(images, keys))


def _checked(images, keys):
    """Checks images and keys; returns `keys` as uint32."""
    keys = np.asarray(keys)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3:
        raise ValueError(f"simulated attacks need uint8 [n, s, s, 3], got {images.dtype} {list(images.shape)}")
    if images.shape[1] < SMALLEST:
        raise ValueError(f"simulated attacks need crops of at least {SMALLEST} pixels, got {images.shape[1]}")
    if keys.shape != images.shape[:1]:
        raise ValueError(f"simulated attacks need a key for each of {len(images)} images, got {list(keys.shape)}")
    return keys.astype(np.uint32)


def _in_chunks(present, images, keys, *more):
    """Applies `present` and the camera to chunks of a fixed size; the last chunk is padded by repetition."""
    out = []
    for start in range(0, len(images), CHUNK):
        rows = np.resize(np.arange(start, min(start + CHUNK, len(images))), CHUNK)
        chunk, key = images[rows].astype(np.float32) / 255.0, keys[rows]
        light, figures = present(chunk, key, *(a[rows] for a in more))
        shots = _photographs(light, figures, key, images.shape[1])
        out.append(np.asarray(shots)[: len(images) - start])
    return np.concatenate(out) if out else np.zeros_like(images)
