"""A phone camera: linear light in, the encoded picture a file would hold out. One image at a time (use `jax.vmap`).

In order: lens and motion blur, vignette, stray light, automatic exposure and white balance, shot and read noise,
denoising with sharpening, saturation, tone curve, block-transform compression. The phones' figures are our own choice
[C].
"""

import jax.numpy as jnp

from input_pipeline.simulate.noise import draw, white

REFERENCE = 224  # lengths below are in pixels of a crop of this side, and scale with the picture's size

# The six phones: what differs between them. Blur, denoising and halo in pixels; noise at mid grey; gains around 1.
PHONES = {
    "blur": (0.65, 0.90, 0.75, 1.10, 0.80, 1.00),
    "sharpen": (0.5, 0.9, 0.3, 0.7, 1.1, 0.4),
    "noise": (0.010, 0.014, 0.008, 0.020, 0.012, 0.016),
    "saturation": (1.00, 1.15, 0.90, 1.05, 1.25, 0.95),
    "contrast": (0.25, 0.40, 0.10, 0.30, 0.50, 0.15),
    "red": (1.00, 1.05, 0.98, 0.95, 1.03, 1.08),
    "blue": (1.00, 0.94, 1.05, 1.06, 0.98, 0.92),
    "vignette": (0.10, 0.18, 0.06, 0.14, 0.22, 0.12),
    "coarseness": (0.020, 0.030, 0.015, 0.040, 0.028, 0.034),
    "brightness": (0.30, 0.34, 0.27, 0.31, 0.37, 0.28),
}
# What differs between two pictures of one phone: factors on its figures, drawn alike for live faces and attacks.
SPREAD = {
    "blur": (0.6, 2.0),
    "sharpen": (0.5, 1.5),
    "noise": (0.4, 2.0),
    "saturation": (0.70, 1.25),
    "contrast": (0.1, 1.8),
    "red": (0.95, 1.05),
    "blue": (0.95, 1.05),
    "vignette": (0.6, 1.4),
    "coarseness": (0.4, 2.0),
    "brightness": (0.80, 1.25),
    "motion": (0.0, 1.0),  # of the blur, more along one axis
    "direction": (0.0, 1.0),
    "flare": (0.0, 0.10),  # stray light, of the mean level
    "balance": (0.3, 0.8),  # how far the grey-world correction goes
}
# The picture an attacker takes is a good one, at several times the crop's resolution.
SOURCE = {
    "blur": (0.35, 0.6),
    "sharpen": (0.2, 0.8),
    "noise": (0.003, 0.010),
    "saturation": (1.0, 1.4),
    "contrast": (0.2, 0.7),
    "red": (0.96, 1.04),
    "blue": (0.96, 1.04),
    "vignette": (0.0, 0.1),
    "coarseness": (0.008, 0.025),
    "brightness": (0.28, 0.36),
    "motion": (0.0, 0.3),
    "direction": (0.0, 1.0),
    "flare": (0.0, 0.02),
    "balance": (0.5, 0.9),
}
LUMA = jnp.array([0.299, 0.587, 0.114])
TO_YCC = jnp.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])  # ITU-T T.871
BLOCK = 8


def draw_phone(key, phone) -> dict:
    """The camera of one picture taken with `phone` (1 to 6, traced or not)."""
    figures = draw(key, SPREAD)
    own = {name: jnp.array(values)[phone - 1] for name, values in PHONES.items()}
    return {name: own.get(name, 1.0) * factor for name, factor in figures.items()}


def draw_source(key) -> dict:
    """The good camera that takes the picture an attack is made from."""
    return draw(key, SOURCE)


def gaussian(sigma, size: int):
    """Blur along one axis as a matrix [size, size] whose rows add up to 1, so borders keep their level."""
    at = jnp.arange(size, dtype=jnp.float32)
    weights = jnp.exp(-0.5 * ((at[:, None] - at) / jnp.maximum(sigma, 0.2)) ** 2)
    return weights / weights.sum(1, keepdims=True)


def along_axes(rows, columns, image):
    """Apply matrices [h, h] and [w, w] to the axes of an image [h, w, c]."""
    return jnp.einsum("ij,jkc->ikc", rows, jnp.einsum("kl,jlc->jkc", columns, image))


def encode(linear):
    """Linear light to the code a file holds, both in [0, 1] (a gamma of 2.2)."""
    return jnp.clip(linear, 1e-5, 1.0) ** (1 / 2.2)


def decode(code):
    """The inverse of `encode`."""
    return jnp.maximum(code, 0.0) ** 2.2


def compress(image, coarseness):
    """Block-transform compression: 8 x 8 cosines of luma and chroma, rounded to steps that grow with frequency.

    `image` [h, w, 3] in [0, 1]; a side that is no multiple of 8 is padded by repetition. `coarseness` is the step of
    the lowest frequency; chroma steps are twice as large. A JPEG without its tables and its entropy code [C].
    """
    h, w, _ = image.shape
    padded = jnp.pad(image, ((0, -h % BLOCK), (0, -w % BLOCK), (0, 0)), mode="edge")
    k = jnp.arange(BLOCK)
    basis = jnp.cos(jnp.pi * (2 * k + 1) * k[:, None] / (2 * BLOCK)) * jnp.where(k == 0, 0.5, 2**-0.5)[:, None] / 2**0.5
    step = coarseness * (1.0 + 0.35 * (k + k[:, None]))[..., None] * jnp.array([1.0, 2.0, 2.0])
    blocks = (padded @ TO_YCC.T).reshape(padded.shape[0] // BLOCK, BLOCK, padded.shape[1] // BLOCK, BLOCK, 3)
    codes = jnp.einsum("ui,aibjc,vj->abuvc", basis, blocks, basis)
    codes = jnp.round(codes / step) * step
    blocks = jnp.einsum("ui,abuvc,vj->aibjc", basis, codes, basis)
    return jnp.clip(blocks.reshape(padded.shape) @ jnp.linalg.inv(TO_YCC).T, 0.0, 1.0)[:h, :w]


def photograph(scene, camera: dict, seed):
    """The picture [s, s, 3], encoded and in [0, 1], that `camera` takes of `scene` [s, s, 3] in linear light.

    `seed` (uint32) is that of the noise. The level and tint of the scene's light are mostly removed by exposure and
    white balance, as in a phone; what is left of them differs between phones.
    """
    size = scene.shape[0]
    unit = size / REFERENCE
    wide = camera["blur"] * (1.0 + camera["motion"])
    along, across = camera["direction"] * wide, (1.0 - camera["direction"]) * wide
    spread = [jnp.maximum(camera["blur"], part) * unit for part in (along, across)]
    image = along_axes(gaussian(spread[0], size), gaussian(spread[1], size), scene)
    line = jnp.linspace(-1.0, 1.0, size)
    image *= (1.0 - camera["vignette"] * 0.5 * (line[:, None] ** 2 + line**2))[..., None]
    middle = slice(size // 4, size - size // 4)
    grey = image[middle, middle].mean((0, 1))
    image += camera["flare"] * image.mean((0, 1))
    balance = (grey.mean() / grey) ** camera["balance"]
    image *= balance * jnp.stack([camera["red"], jnp.ones_like(camera["red"]), camera["blue"]])
    image *= camera["brightness"] / (0.5 * (image @ LUMA)[middle, middle].mean() + 0.5 * (image @ LUMA).mean())
    noise = camera["noise"] * jnp.sqrt(jnp.clip(image, 0.0) + 0.02)  # shot noise over a floor of read noise
    image = image + 1.6 * noise * white(seed, scene.shape)
    narrow, halo = gaussian(0.7 * unit, size), gaussian(1.6 * unit, size)
    isp = narrow + camera["sharpen"] * (narrow - halo)
    image = along_axes(isp, isp, image)
    luma = (image @ LUMA)[..., None]
    image = luma + camera["saturation"] * (image - luma)
    image = image / (1.0 + 0.35 * jnp.clip(image, 0.0) ** 2)  # the shoulder of the tone curve
    code = encode(image)
    code += camera["contrast"] * (code * code * (3.0 - 2.0 * code) - code)
    return compress(code, camera["coarseness"])


def to_bytes(code):
    """[0, 1] to uint8."""
    return jnp.round(jnp.clip(code, 0.0, 1.0) * 255.0).astype(jnp.uint8)
