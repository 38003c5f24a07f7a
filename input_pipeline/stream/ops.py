"""Augmentation of face crops, on OpenCV: uint8 from the file to the device.

Every random choice is drawn from a generator that the caller seeds (`generator`): the same seed gives the same pixels,
so a stream that is rebuilt continues identically. Images are RGB uint8 [h, w, 3], square. All that moves pixels (crop,
flip, shear, shift, rotation) is done at once, so that a view is interpolated once.
"""

import math

import cv2
import numpy as np

ERASED_AREA = (0.02, 0.33)  # share of the image that a rectangle covers (Zhong et al. 2020)
LOG_ASPECT = math.log(3 / 4), math.log(4 / 3)  # of a random crop
GREY = np.array([0.299, 0.587, 0.114])  # luma of RGB (ITU-R BT.601)
KEEP, TO_GREY = np.eye(3), np.tile(GREY, (3, 1))  # of colours
SHOULDER = 0.7  # of a camera's tone curve, as in simulate.camera [C]
FILL = 128  # beyond the border of a sheared, shifted or turned image
SPREAD = 0.5  # deviation of RandAugment's magnitude, and its chance of leaving an operation out: timm's for DeiT
SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13  # PIL's, which sharpness is defined by


def generator(*seed: int) -> np.random.Generator:
    """The generator of one example: `generator(run seed, epoch, index)`."""
    return np.random.default_rng(seed)


class Augmentation:
    """The random view of a training example, as `config` (data.augment) says.

    - `crop` a in (0, 1]: a random crop of area a..1 and aspect 3/4..4/3, resized back; 1 switches it off.
    - `box` {scale, shift}: another face box, as detectors err: its side times 1 / (1 + scale) to 1 + scale, drawn from
      a log-uniform distribution, and moved by up to `shift` sides of the crop along each axis. Pixels at the edge are
      repeated where it leaves the crop.
    - `flip`: a mirror image half of the time.
    - `exposure` s: the light that a camera took in, up to s stops more or less; highlights burn out.
    - `colour` s: brightness moved by up to s / 2, contrast and saturation by up to s.
    - `randaugment` {ops, magnitude}: that many operations at magnitude 0..10 (Cubuk et al. 2020), each with timm's
      chance of one half, magnitude deviation of 0.5 and ranges.
    - `degrade` p: low resolution, blur, noise and JPEG, each with probability p: what other cameras and links do [C].
    - `erasing` p: with probability p a rectangle is filled with noise (Zhong et al. 2020).
    - `mixup`, `cutmix`: the alphas of their Beta distributions; 0 is off.
    """

    def __init__(self, config):
        self._crop, self._flip = config.crop, config.flip
        self._scale, self._shift = config.box.scale, config.box.shift
        self._exposure, self._colour = config.exposure, config.colour
        self._operations, self._magnitude = config.randaugment.ops, config.randaugment.magnitude
        self._degrade, self._erasing = config.degrade, config.erasing
        self._mixing = [(mix, alpha) for mix, alpha in ((_mixup, config.mixup), (_cutmix, config.cutmix)) if alpha]

    def view(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One random view of an image, of its size."""
        return self.views(image, None, rng)[0]

    def views(
        self, image: np.ndarray, truth: np.ndarray | None, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """One random view of an image, and the same view of its `truth` map [m, m, 3], where it has one."""
        size = len(image)
        box = random_crop(self._crop, size, rng) if self._crop < 1 else (0, 0, size, size)
        mirrored = self._flip and rng.random() < 0.5
        tones = [expose(rng.uniform(-self._exposure, self._exposure))] if self._exposure else []
        tones += [_colour_jitter(self._colour, rng)] if self._colour else []
        moved = self._other_box(size, rng) if self._scale or self._shift else None
        repeated = moved is not None
        for _ in range(self._operations):
            if rng.random() < 0.5:
                continue
            level = min(max(rng.normal(self._magnitude, SPREAD), 0), 10) / 10
            drawn = OPERATIONS[rng.integers(len(OPERATIONS))](level if rng.random() < 0.5 else -level, size)
            if callable(drawn):
                tones.append(drawn)
            else:
                moved = drawn if moved is None else moved @ drawn
        to_box = map_to_box(box, mirrored, size)
        if truth is not None:
            truth = _moved_map(truth, to_box @ (KEEP if moved is None else moved), size)
        image = cut_out(image, box, mirrored) if moved is None else warp(image, to_box @ moved, repeated)
        for tone in tones:
            image = tone(image)
        for degrade in DEGRADATIONS if self._degrade else ():
            image = degrade(image, rng) if rng.random() < self._degrade else image
        erased = self._erasing and rng.random() < self._erasing
        return _erase(image, rng) if erased else image, truth

    def _other_box(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """The affine map [3, 3] from the pixels of a box that is drawn to the pixels of the crop."""
        side = (1 + self._scale) ** rng.uniform(-1, 1)
        return _about_centre(side * np.eye(2), size, self._shift * size * rng.uniform(-1, 1, 2))

    def mix(self, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Mixes neighbours by mixup or cutmix, in place, and returns the labels; a fair coin where both are on (DeiT).

        images: uint8 [n, h, w, 3]; rows 2 k and 2 k + 1 are mixed with each other, a last odd one stays. labels:
        float32 [n, classes]. One draw holds for all rows, so with the same `rng` a batch may come in pieces.
        """
        if not self._mixing:
            return labels
        mix, alpha = self._mixing[rng.integers(len(self._mixing))]
        kept = mix(images, rng.beta(alpha, alpha), rng)
        partner = np.arange(len(labels)) ^ 1
        partner[-1] = min(partner[-1], len(labels) - 1)
        return np.float32(kept) * labels + np.float32(1 - kept) * labels[partner]


Box = tuple[int, int, int, int]  # left, top, width, height


def random_crop(smallest: float, size: int, rng: np.random.Generator) -> Box:
    """Draws a box inside a square image of `size` pixels: its share of the area in `smallest`..1, its aspect 3/4..4/3.

    A side that would exceed the image is cut to it.
    """
    area = rng.uniform(smallest, 1)
    ratio = math.exp(rng.uniform(*LOG_ASPECT))
    width, height = (min(round(math.sqrt(area * r) * size), size) for r in (ratio, 1 / ratio))
    return int(rng.integers(size - width + 1)), int(rng.integers(size - height + 1)), width, height


def cut_out(image: np.ndarray, box: Box, mirrored: bool) -> np.ndarray:
    """Returns the box of a square image, resized to the image's size, and its mirror image where it is `mirrored`.

    It shows what `warp` by `map_to_box` shows, but for the border, and takes half the time.
    """
    left, top, width, height = box
    cut = cv2.resize(image[top : top + height, left : left + width], image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return cv2.flip(cut, 1) if mirrored else cut


def map_to_box(box: Box, mirrored: bool, size: int) -> np.ndarray:
    """Returns the affine map [3, 3] from the pixels of the resized box to the pixels of the image."""
    left, top, width, height = box
    x, y = width / size, height / size
    matrix = np.array([[x, 0, left + x / 2 - 0.5], [0, y, top + y / 2 - 0.5], [0, 0, 1]])
    return matrix @ np.array([[-1, 0, size - 1], [0, 1, 0], [0, 0, 1]]) if mirrored else matrix


def warp(image: np.ndarray, to_source: np.ndarray, repeated: bool = False) -> np.ndarray:
    """Returns the image whose pixel (x, y) shows `to_source` [3, 3] (x, y, 1) of `image`, by linear interpolation.

    Beyond the border of `image` it is grey; with `repeated` it shows the pixels at the edge.
    """
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    border = cv2.BORDER_REPLICATE if repeated else cv2.BORDER_CONSTANT
    return cv2.warpAffine(
        image, to_source[:2], image.shape[1::-1], flags=flags, borderMode=border, borderValue=(FILL,) * 3
    )


def _moved_map(truth: np.ndarray, to_source: np.ndarray, size: int) -> np.ndarray:
    """Moves a map [m, m, 3] of an image of `size` px as `warp` moves the image; its edge is repeated."""
    share = len(truth) / size
    to_map = np.array([[share, 0, (share - 1) / 2], [0, share, (share - 1) / 2], [0, 0, 1]])
    matrix = (to_map @ to_source @ np.linalg.inv(to_map))[:2]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(truth, matrix, truth.shape[1::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _about_centre(linear: np.ndarray, size: int, shift=(0.0, 0.0)) -> np.ndarray:
    """The affine map [3, 3] that keeps the centre of a square image, but for `shift` in pixels."""
    centre = np.full(2, (size - 1) / 2)
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = centre - linear @ centre + shift
    return matrix


def _recolour(image: np.ndarray, matrix: np.ndarray, offset: float = 0.0) -> np.ndarray:
    """`matrix` [3, 3] times every pixel, plus `offset`."""
    affine = np.full((3, 4), offset, np.float32)
    affine[:, :3] = matrix + 1e-6  # OpenCV takes six times as long for a diagonal matrix
    return cv2.transform(image, affine)


def _luma(image: np.ndarray) -> float:
    columns = cv2.reduce(image, 0, cv2.REDUCE_AVG)  # this first step makes the mean ten times as fast
    return float(np.dot(cv2.mean(columns)[:3], GREY))


def brightness(factor: float):
    """Returns a function of an image that multiplies all channels by `factor`, as Pillow's enhancer does."""
    return lambda image: _recolour(image, factor * KEEP)


def contrast(factor: float):
    """Returns a function of an image: `factor` times each pixel's difference from the mean luma, plus the mean luma."""
    return lambda image: _recolour(image, factor * KEEP, (1 - factor) * _luma(image))


def saturation(factor: float):
    """Returns a function of an image: `factor` times each pixel's difference from its luma, plus its luma."""
    return lambda image: _recolour(image, factor * KEEP + (1 - factor) * TO_GREY)


def _colour_jitter(strength: float, rng: np.random.Generator):
    """Brightness, contrast and saturation in one map; clipped once, at its end."""
    b, c, s = 1 + rng.uniform(-strength, strength, 3) * (0.5, 1, 1)
    return lambda image: _recolour(image, b * c * (s * KEEP + (1 - s) * TO_GREY), (1 - c) * b * _luma(image))


def sharpness(factor: float):
    """Returns a function of an image: `factor` times its difference from its smoothed version, plus that version."""
    return lambda image: cv2.addWeighted(image, factor, cv2.filter2D(image, -1, SMOOTH), 1 - factor, 0)


def _look_up(table: np.ndarray):
    return lambda image: cv2.LUT(image, table.astype(np.uint8))


def expose(stops: float):
    """`stops` more light on the sensor: a gamma of 2.2 and a curve that takes light up to 1.8 times white [C]."""
    level = (np.arange(256) / 255) ** 2.2
    light = level / np.sqrt(1 - SHOULDER * level**2) * 2.0**stops
    level = np.minimum(light / np.sqrt(1 + SHOULDER * light**2), 1)
    return _look_up(np.round(255 * level ** (1 / 2.2)))


def posterize(level: float):
    """Returns a function of an image that sets the lowest 4 `level` bits, rounded, of each tone to 0; level in 0..1."""
    return _look_up(np.arange(256) & (0xFF << round(4 * level)))


def solarize(level: float):
    """Returns a function of an image that inverts the tones from 256 (1 - level) on; level in 0..1."""
    tones = np.arange(256)
    return _look_up(np.where(tones < 256 * (1 - level), tones, 255 - tones))


def autocontrast(image: np.ndarray) -> np.ndarray:
    """Returns the image with each channel stretched to 0..255; a channel of one tone stays."""
    channels = cv2.split(image)
    for channel in channels:
        low, high, *_ = cv2.minMaxLoc(channel)
        if low < high:
            cv2.convertScaleAbs(channel, channel, 255 / (high - low), -255 * low / (high - low))
    return cv2.merge(channels)


def equalize(image: np.ndarray) -> np.ndarray:
    """Returns the image with the histogram of each channel equalised."""
    return cv2.merge([cv2.equalizeHist(channel) for channel in cv2.split(image)])


# (signed level in -1..1, size in pixels) -> an affine map to the source [3, 3], or what changes the tones; timm's
# ranges, but a milder posterize: it leaves 8 - 4 level bits, where timm's leaves a single one, and no moire [C].
OPERATIONS = (
    lambda level, size: _about_centre(np.array([[1, 0.3 * level], [0, 1]]), size),
    lambda level, size: _about_centre(np.array([[1, 0], [0.3 * level, 1]]), size),
    lambda level, size: _about_centre(np.eye(2), size, (0.45 * level * size, 0)),
    lambda level, size: _about_centre(np.eye(2), size, (0, 0.45 * level * size)),
    lambda level, size: _about_centre(_rotation(np.deg2rad(30 * level)), size),
    lambda level, size: brightness(1 + 0.9 * level),
    lambda level, size: contrast(1 + 0.9 * level),
    lambda level, size: saturation(1 + 0.9 * level),
    lambda level, size: sharpness(1 + 0.9 * level),
    lambda level, size: posterize(abs(level)),
    lambda level, size: solarize(abs(level)),
    lambda level, size: autocontrast,
    lambda level, size: equalize,
)


def _lose_resolution(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    size = len(image)
    small = max(8, round(rng.uniform(0.4, 1) * size))
    image = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)


def _blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.002, 0.016) * len(image))


def _add_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noise = rng.normal(0, rng.uniform(1, 8), image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def _compress(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 96))])[1]
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)  # channels are in the order in which they went in


DEGRADATIONS = (_lose_resolution, _blur, _add_noise, _compress)


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _rectangle(share: float, size: int, rng: np.random.Generator, aspect: float = 1.0) -> tuple[slice, slice]:
    """A rectangle inside a square image that covers `share` of it (less where its aspect does not allow it)."""
    height, width = (min(round(math.sqrt(share * a) * size), size) for a in (aspect, 1 / aspect))
    top, left = (int(rng.integers(size - side + 1)) for side in (height, width))
    return slice(top, top + height), slice(left, left + width)


def _erase(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    aspect = math.exp(rng.uniform(-1, 1) * math.log(1 / 0.3))
    where = _rectangle(rng.uniform(*ERASED_AREA), len(image), rng, aspect)
    image = image.copy()
    image[where] = rng.integers(0, 256, image[where].shape, np.uint8)
    return image


def _mixup(images: np.ndarray, kept: float, rng: np.random.Generator) -> float:
    for one, other in zip(images[0::2], images[1::2], strict=False):
        mixed = cv2.addWeighted(one, kept, other, 1 - kept, 0)
        cv2.addWeighted(other, kept, one, 1 - kept, 0, dst=other)
        one[:] = mixed
    return kept


def _cutmix(images: np.ndarray, kept: float, rng: np.random.Generator) -> float:
    size = images.shape[1]
    rows, columns = _rectangle(1 - kept, size, rng)
    pairs = len(images) // 2 * 2
    ones, others = images[0:pairs:2, rows, columns], images[1:pairs:2, rows, columns]
    ones[:], others[:] = others.copy(), ones.copy()
    return 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / size**2
