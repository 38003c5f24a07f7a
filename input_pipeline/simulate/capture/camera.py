"""A camera model, from linear light to an encoded image; one image at a time (use `jax.vmap`).

The stages: lens and motion blur, vignette, stray light, automatic exposure and white balance, Bayer sampling with shot
and read noise, demosaicing, denoising and sharpening while resizing to the image's size, saturation, tone curve,
block-transform compression. The parameters of the cameras are our own choice [C].
"""

import jax
import jax.numpy as jnp
import numpy as np

from input_pipeline.simulate.noise import draw, white

REFERENCE = 224  # lengths below are in pixels of a crop of this side, and scale with the size of the image
OVERSAMPLE = 2  # sensor pixels per pixel of the face crop, along a side [C]

# Parameters of the six phones. Blur, denoising and halo in pixels; noise at mid grey; gains around 1.
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
# Variation between images of one phone: factors on its parameters, from the same ranges for live faces and attacks.
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
    "motion": (0.0, 1.0),  # share of the blur that is added along one axis
    "direction": (0.0, 1.0),
    "flare": (0.0, 0.04),  # stray light, as a share of the mean level
    "balance": (0.3, 0.8),  # strength of the grey-world correction
    "denoise": (0.4, 0.9),  # pixels
    "levels": (0.2, 0.8),  # share of the darkest level that automatic contrast subtracts
    "pedestal": (0.0, 0.010),  # black level
}
# The camera of the attacker's photograph, which is a good one at several times the crop's resolution.
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
SKIN_TINT = np.array([1.45, 0.90, 0.65], np.float32)  # approximate mean colour of a face crop in white light [C]
TO_YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32
)  # ITU-T T.871
BLOCK = 8
SHOULDER = 0.7


def draw_phone(key, phone) -> dict:
    """Draws the camera of one image taken with `phone` (1 to 6, traced or not)."""
    figures = draw(key, SPREAD)
    own = {name: jnp.array(values)[phone - 1] for name, values in PHONES.items()}
    return {name: own.get(name, 1.0) * factor for name, factor in figures.items()}


def draw_source(key) -> dict:
    """Draws the camera of the photograph that an attack shows."""
    return draw(key, SOURCE)


def gaussian(sigma, size: int, count: int | None = None):
    """Gaussian blur along one axis as a matrix [count, size] whose rows sum to 1, so that borders keep their level.

    `sigma` is in pixels of the input of `size`; `count` is the number of output pixels, by default `size`.
    """
    count = count or size
    centre = (jnp.arange(count) + 0.5) * (size / count) - 0.5
    weights = jnp.exp(-0.5 * ((centre[:, None] - jnp.arange(size)) / jnp.maximum(sigma, 0.2)) ** 2)
    return weights / weights.sum(1, keepdims=True)


def along_axes(rows, columns, image):
    """Applies matrices [a, h] and [b, w] to the axes of an image [h, w, c] -> [a, b, c]."""
    return jnp.einsum("ij,jkc->ikc", rows, jnp.einsum("kl,jlc->jkc", columns, image))


def enlarge(image, count: int):
    """Interpolates an image [s, s, c] linearly to [count, count, c], with edge padding."""
    size = image.shape[0]
    at = jnp.clip((jnp.arange(count) + 0.5) * (size / count) - 0.5, 0.0, size - 1.0)
    weights = jnp.maximum(1.0 - jnp.abs(at[:, None] - jnp.arange(size)), 0.0)
    return along_axes(weights, weights, image)


def through_lens(image, sigma):
    """Samples an image [2 n, 2 n, c] with two samples per pixel by pixels behind a lens -> [n, n, c].

    The lens is Gaussian with `sigma` pixels (up to about 1), the pixel a square of width 1; taps end at 2 pixels.
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
    """Interpolates all colours [h, w, 3] of an image that is known where the mask `seen` [h, w, 3] is 1, bilinearly."""

    def spread(x):
        for axis in (0, 1):
            padded = jnp.pad(x, [(1, 1) if axis == i else (0, 0) for i in range(3)])
            before, after = (jax.lax.slice_in_dim(padded, k, k + x.shape[axis], axis=axis) for k in (0, 2))
            x = 0.5 * (before + after) + x
        return x

    return spread(mosaic * seen) / spread(seen)


def bayer(side: int):
    """Masks [side, side, 3] of a sensor's colour filters, red first: 1 where a colour is measured."""
    odd = jnp.arange(side) % 2
    rows, columns = odd[:, None], odd
    red, blue = (1 - rows) * (1 - columns), rows * columns
    return jnp.stack([red, 1 - red - blue, blue], axis=-1).astype(jnp.float32)


def encode(linear):
    """Encodes linear light as in a file, both in [0, 1] (a gamma of 2.2)."""
    return jnp.clip(linear, 1e-5, 1.0) ** (1 / 2.2)


def decode(code):
    """The inverse of `encode`."""
    return jnp.maximum(code, 0.0) ** 2.2


def shoulder(linear):
    """Compresses highlights: maps light of up to 1.8 times white smoothly into [0, 1]."""
    return linear / jnp.sqrt(1.0 + SHOULDER * linear * linear)


def unshoulder(level):
    """The inverse of `shoulder`, for levels in [0, 1]."""
    return level / jnp.sqrt(1.0 - SHOULDER * level * level)


def contrast(code, slope):
    """S-shaped tone curve for codes in [0, 1] with `slope` at mid grey; its inverse has the slope 1 / slope."""
    high, low = code**slope, (1.0 - code) ** slope
    return high / (high + low)


def compress(image, coarseness):
    """Block-transform compression: 8 x 8 cosines of luma and chroma, rounded to steps that grow with frequency.

    `image` [h, w, 3] in [0, 1]; a side that is not a multiple of 8 is edge-padded. `coarseness` is the step of the
    lowest frequency; chroma steps are twice as large. It is a JPEG without quantisation tables and entropy coding [C].
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
    """Takes the photograph [size, size, 3], encoded and in [0, 1], of `scene` [n, n, 3] in linear light with `camera`.

    `seed` (uint32) seeds the noise. With `size`, the scene is the light on the sensor's n x n pixels, which measure one
    colour each; without it (a sensor far finer than the image) they measure all colours, and the image has size n.
    Exposure and white balance remove most of the level and tint of the scene's light, as in a phone; the rest differs
    between cameras.
    """
    side = scene.shape[0]
    image = expose(scene, camera)
    noise = camera["noise"] * jnp.sqrt(jnp.clip(image, 0.0) + 0.02)  # shot noise over a floor of read noise
    # Larger for a fine sensor, whose noise is averaged, so that the noise in the image does not depend on the sensor.
    image += 1.6 * noise * white(seed, scene.shape) * (1.0 if size is None else 1.3)
    if size is not None:
        image = demosaic(image, bayer(side))
    return develop(image, camera, size or side)


def expose(scene, camera: dict):
    """Light [n, n, 3] on the sensor, from `scene` [n, n, 3]: through the lens, scaled by exposure and white balance."""
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
    grey = grey / SKIN_TINT  # cameras keep the colour of skin
    balance = (grey.mean() / grey) ** camera["balance"]
    image *= balance * jnp.stack([camera["red"], jnp.ones_like(camera["red"]), camera["blue"]])
    darkest = (jax.image.resize(image, (16, 16, 3), "linear") @ LUMA).min()
    image = jnp.maximum(image - camera["levels"] * darkest, 0.0)
    return image * (camera["brightness"] / (metered(image) + 1e-4))


def metered(image):
    """Returns the level that automatic exposure measures in an image [n, n, 3]: a mean that weights the middle more."""
    side = image.shape[0]
    middle = slice(side // 4, side - side // 4)
    return 0.5 * (image[middle, middle] @ LUMA).mean() + 0.5 * (image @ LUMA).mean()


def develop(image, camera: dict, size: int):
    """Develops a sensor's colours [n, n, 3] to an encoded image [size, size, 3] in [0, 1]."""
    side = image.shape[0]
    unit, share = side / REFERENCE, side / size  # an image of fewer pixels is averaged over at least their width
    narrow = gaussian(jnp.hypot(camera["denoise"] * unit, 0.4 * (share - 1.0)), side, size)
    halo = gaussian(jnp.hypot(1.6 * unit, 0.4 * (share - 1.0)), side, size)
    isp = narrow + camera["sharpen"] * (narrow - halo)
    image = along_axes(isp, isp, image)
    luma = (image @ LUMA)[..., None]
    image = jnp.maximum(luma + camera["saturation"] * (image - luma), 0.0) + camera["pedestal"]
    return compress(contrast(encode(shoulder(image)), 1.0 + 0.5 * camera["contrast"]), camera["coarseness"])


def to_bytes(code):
    """Converts [0, 1] to uint8."""
    return jnp.round(jnp.clip(code, 0.0, 1.0) * 255.0).astype(jnp.uint8)
