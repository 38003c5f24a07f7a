"""A camera: linear light in, the encoded picture a file would hold out. One image at a time (use `jax.vmap`).

In order: lens and motion blur, vignette, stray light, automatic exposure and white balance, Bayer sampling with shot
and read noise, demosaicing, denoising with sharpening on the way down to the picture's size, saturation, tone curve,
block-transform compression. The cameras' figures are our own choice [C].
"""

import jax
import jax.numpy as jnp
import numpy as np

from input_pipeline.simulate.noise import draw, white

REFERENCE = 224  # lengths below are in pixels of a crop of this side, and scale with the picture's size
OVERSAMPLE = 2  # sensor pixels a pixel of the face crop, along a side [C]

# The six phones: what differs between them. Blur, denoising and halo in pixels; noise at mid grey; gains around 1.
PHONES = {
    "blur": (0.65, 0.90, 0.75, 1.10, 0.80, 1.00),
    "sharpen": (0.5, 0.9, 0.3, 0.7, 1.1, 0.4),
    "noise": (0.010, 0.014, 0.008, 0.020, 0.012, 0.016),
    "saturation": (1.00, 1.15, 0.90, 1.05, 1.25, 0.95),
    "contrast": (0.70, 0.90, 0.50, 0.75, 1.00, 0.60),
    "red": (1.00, 1.05, 0.98, 0.95, 1.03, 1.08),
    "blue": (1.00, 0.94, 1.05, 1.06, 0.98, 0.92),
    "vignette": (0.10, 0.18, 0.06, 0.14, 0.22, 0.12),
    "coarseness": (0.020, 0.030, 0.015, 0.040, 0.028, 0.034),
    "brightness": (0.24, 0.27, 0.21, 0.25, 0.30, 0.22),
}
# What differs between two pictures of one phone: factors on its figures, drawn alike for live faces and attacks.
SPREAD = {
    "blur": (0.6, 2.0),
    "sharpen": (0.5, 1.5),
    "noise": (0.4, 2.0),
    "saturation": (0.70, 1.25),
    "contrast": (0.4, 1.8),
    "red": (0.95, 1.05),
    "blue": (0.95, 1.05),
    "vignette": (0.6, 1.4),
    "coarseness": (0.4, 2.0),
    "brightness": (0.80, 1.25),
    "motion": (0.0, 1.0),  # of the blur, more along one axis
    "direction": (0.0, 1.0),
    "flare": (0.0, 0.04),  # stray light, of the mean level
    "balance": (0.3, 0.8),  # how far the grey-world correction goes
    "denoise": (0.4, 0.9),  # pixels
    "levels": (0.2, 0.8),  # how far automatic contrast subtracts the darkest part
    "pedestal": (0.0, 0.010),  # black level
}
# The picture an attacker takes is a good one, at several times the crop's resolution.
SOURCE = {
    "blur": (0.35, 0.6),
    "sharpen": (0.2, 0.8),
    "noise": (0.003, 0.010),
    "saturation": (1.0, 1.4),
    "contrast": (0.4, 1.1),
    "red": (0.96, 1.04),
    "blue": (0.96, 1.04),
    "vignette": (0.0, 0.1),
    "coarseness": (0.008, 0.025),
    "brightness": (0.22, 0.32),
    "motion": (0.0, 0.3),
    "direction": (0.0, 1.0),
    "flare": (0.0, 0.02),
    "balance": (0.5, 0.9),
    "denoise": (0.4, 0.6),
    "levels": (0.3, 0.7),
    "pedestal": (0.0, 0.005),
}
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
SKIN_TINT = np.array([1.45, 0.90, 0.65], np.float32)  # about what a crop of a face averages to in white light [C]
TO_YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32
)  # ITU-T T.871
BLOCK = 8
SHOULDER = 0.7


def draw_phone(key, phone) -> dict:
    """The camera of one picture taken with `phone` (1 to 6, traced or not)."""
    figures = draw(key, SPREAD)
    own = {name: jnp.array(values)[phone - 1] for name, values in PHONES.items()}
    return {name: own.get(name, 1.0) * factor for name, factor in figures.items()}


def draw_source(key) -> dict:
    """The good camera that takes the picture an attack is made from."""
    return draw(key, SOURCE)


def gaussian(sigma, size: int, count: int | None = None):
    """Blur along one axis as a matrix [count, size] whose rows add up to 1, so borders keep their level.

    `sigma` is in pixels of the input of `size`; `count` is the number of pixels that come out, `size` if None.
    """
    count = count or size
    centre = (jnp.arange(count) + 0.5) * (size / count) - 0.5
    weights = jnp.exp(-0.5 * ((centre[:, None] - jnp.arange(size)) / jnp.maximum(sigma, 0.2)) ** 2)
    return weights / weights.sum(1, keepdims=True)


def along_axes(rows, columns, image):
    """Apply matrices [a, h] and [b, w] to the axes of an image [h, w, c] -> [a, b, c]."""
    return jnp.einsum("ij,jkc->ikc", rows, jnp.einsum("kl,jlc->jkc", columns, image))


def enlarge(image, count: int):
    """An image [s, s, c] interpolated linearly to [count, count, c], extended by its edge."""
    size = image.shape[0]
    at = jnp.clip((jnp.arange(count) + 0.5) * (size / count) - 0.5, 0.0, size - 1.0)
    weights = jnp.maximum(1.0 - jnp.abs(at[:, None] - jnp.arange(size)), 0.0)
    return along_axes(weights, weights, image)


def through_lens(image, sigma):
    """What pixels see of an image [2 n, 2 n, c] with two samples a pixel -> [n, n, c].

    A Gaussian lens of `sigma` pixels (up to about 1) before a square pixel of one pixel's width; taps end at 2 pixels.
    """
    at = (jnp.arange(8) - 3.5) / 2.0
    spread = jnp.maximum(sigma**2 + 1.0 / 12.0 - 1.0 / 48.0, 0.04)  # the pixel's variance, less that of its samples
    taps = jnp.exp(-0.5 * at * at / spread)
    taps /= taps.sum()
    for axis in (0, 1):
        count = image.shape[axis]
        padded = jnp.pad(image, [(3, 3) if axis == i else (0, 0) for i in range(3)], mode="edge")
        image = sum(tap * jax.lax.slice_in_dim(padded, k, k + count - 1, 2, axis) for k, tap in enumerate(taps))
    return image


def demosaic(mosaic, seen):
    """All colours [h, w, 3] of an image known where the mask `seen` [h, w, 3] is 1: bilinear, normalised."""

    def spread(x):
        for axis in (0, 1):
            padded = jnp.pad(x, [(1, 1) if axis == i else (0, 0) for i in range(3)])
            before, after = (jax.lax.slice_in_dim(padded, k, k + x.shape[axis], axis=axis) for k in (0, 2))
            x = 0.5 * (before + after) + x
        return x

    return spread(mosaic * seen) / spread(seen)


def bayer(side: int):
    """The colour filters of a sensor of `side` x `side` pixels, red at the first: 1 where a colour is measured."""
    odd = jnp.arange(side) % 2
    rows, columns = odd[:, None], odd
    red, blue = (1 - rows) * (1 - columns), rows * columns
    return jnp.stack([red, 1 - red - blue, blue], axis=-1).astype(jnp.float32)


def encode(linear):
    """Linear light to the code a file holds, both in [0, 1] (a gamma of 2.2)."""
    return jnp.clip(linear, 1e-5, 1.0) ** (1 / 2.2)


def decode(code):
    """The inverse of `encode`."""
    return jnp.maximum(code, 0.0) ** 2.2


def shoulder(linear):
    """The tone curve's end: light up to 1.8 times white goes into [0, 1], smoothly."""
    return linear / jnp.sqrt(1.0 + SHOULDER * linear * linear)


def unshoulder(level):
    """The inverse of `shoulder`, for levels in [0, 1]."""
    return level / jnp.sqrt(1.0 - SHOULDER * level * level)


def contrast(code, slope):
    """The S-shaped part of the tone curve for codes in [0, 1]: `slope` at mid grey; that of 1 / slope undoes it."""
    high, low = code**slope, (1.0 - code) ** slope
    return high / (high + low)


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


def photograph(scene, camera: dict, seed, size: int | None = None):
    """The picture [size, size, 3], encoded and in [0, 1], that `camera` takes of `scene` [n, n, 3] in linear light.

    `seed` (uint32) is that of the noise. Where `size` is given, the scene is what falls on the sensor's n pixels, which
    see one colour each; else (a sensor far finer than its picture) all colours, and the picture is of size n. The
    level and tint of the scene's light are mostly removed by exposure and white balance, as in a phone; what is left of
    them differs between cameras.
    """
    side = scene.shape[0]
    image = expose(scene, camera)
    noise = camera["noise"] * jnp.sqrt(jnp.clip(image, 0.0) + 0.02)  # shot noise over a floor of read noise
    # As much in the picture whatever the sensor: a finer one averages its noise away, which has to be larger.
    image += 1.6 * noise * white(seed, scene.shape) * (1.0 if size is None else 1.3)
    if size is not None:
        image = demosaic(image, bayer(side))
    return develop(image, camera, size or side)


def expose(scene, camera: dict):
    """The light [n, n, 3] on a sensor behind the lens, scaled by exposure time and white balance, from [n, n, 3]."""
    side = scene.shape[0]
    unit = side / REFERENCE
    wide = camera["blur"] * (1.0 + camera["motion"])
    along, across = camera["direction"] * wide, (1.0 - camera["direction"]) * wide
    spread = [jnp.maximum(camera["blur"], part) * unit for part in (along, across)]
    image = along_axes(gaussian(spread[0], side), gaussian(spread[1], side), scene)
    line = jnp.linspace(-1.0, 1.0, side)
    image *= (1.0 - camera["vignette"] * 0.5 * (line[:, None] ** 2 + line**2))[..., None]
    middle = slice(side // 4, side - side // 4)
    grey = image[middle, middle].mean((0, 1)) + 1e-4
    image += camera["flare"] * image.mean((0, 1))
    grey = grey / SKIN_TINT  # cameras know skin, and leave it its colour
    balance = (grey.mean() / grey) ** camera["balance"]
    image *= balance * jnp.stack([camera["red"], jnp.ones_like(camera["red"]), camera["blue"]])
    darkest = (jax.image.resize(image, (16, 16, 3), "linear") @ LUMA).min()
    image = jnp.maximum(image - camera["levels"] * darkest, 0.0)
    return image * (camera["brightness"] / (metered(image) + 1e-4))


def metered(image):
    """The level that automatic exposure measures in an image [n, n, 3]: the mean, its middle counted twice."""
    side = image.shape[0]
    middle = slice(side // 4, side - side // 4)
    return 0.5 * (image[middle, middle] @ LUMA).mean() + 0.5 * (image @ LUMA).mean()


def develop(image, camera: dict, size: int):
    """From a sensor's colours [n, n, 3] to the encoded picture [size, size, 3] in [0, 1]."""
    side = image.shape[0]
    unit, share = side / REFERENCE, side / size  # a picture of fewer pixels needs at least their width of averaging
    narrow = gaussian(jnp.hypot(camera["denoise"] * unit, 0.4 * (share - 1.0)), side, size)
    halo = gaussian(jnp.hypot(1.6 * unit, 0.4 * (share - 1.0)), side, size)
    isp = narrow + camera["sharpen"] * (narrow - halo)
    image = along_axes(isp, isp, image)
    luma = (image @ LUMA)[..., None]
    image = jnp.maximum(luma + camera["saturation"] * (image - luma), 0.0) + camera["pedestal"]
    return compress(contrast(encode(shoulder(image)), 1.0 + 0.5 * camera["contrast"]), camera["coarseness"])


def to_bytes(code):
    """[0, 1] to uint8."""
    return jnp.round(jnp.clip(code, 0.0, 1.0) * 255.0).astype(jnp.uint8)
