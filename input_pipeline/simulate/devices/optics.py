"""Tools of the device models: random draws, transfer curves, blurs, noise from a bank, and resizing."""

import cv2
import numpy as np

LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
BANK = 640  # side of the tile of normal noise that every picture cuts a part of
TABLE = 4096  # steps of a transfer curve over the square root of linear light
KERNELS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4)
KERNEL_SHARES = (0.06, 0.34, 0.2, 0.28, 0.12)

_noise = np.random.default_rng(7).standard_normal((BANK, BANK, 3), np.float32)


def generator(*words: int) -> np.random.Generator:
    """Returns a generator whose stream depends only on the integers `words`."""
    return np.random.default_rng([int(word) & 0xFFFFFFFF for word in words])


def log_uniform(rng, low: float, high: float) -> float:
    """Draws a number whose logarithm is uniform between those of `low` and `high`."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def noise(rng, height: int, width: int) -> np.ndarray:
    """Returns normal noise float32 [height, width, 3], height and width at most BANK: a random part of the bank."""
    y, x = rng.integers(BANK - height + 1), rng.integers(BANK - width + 1)
    return _noise[y : y + height, x : x + width, rng.permutation(3)]


def patches(rng, height: int, width: int, cells: float) -> np.ndarray:
    """Returns smooth noise float32 [height, width] of about unit deviation with about `cells` knots along the width."""
    side = int(np.clip(cells, 2, BANK // 4))
    y, x = rng.integers(BANK - side, size=2)
    return cv2.resize(_noise[y : y + side, x : x + side, 0], (width, height), interpolation=cv2.INTER_CUBIC)


def luma(image: np.ndarray) -> np.ndarray:
    """Returns the luminance [h, w] of linear or encoded RGB [h, w, 3]."""
    return cv2.transform(image, LUMA[None])


def decode(code: np.ndarray) -> np.ndarray:
    """Converts sRGB uint8 to linear float32 in [0, 1]."""
    return _LINEAR[code]


def curve(values: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Applies a transfer curve, given at TABLE square roots of linear light, to linear light float32."""
    index = cv2.sqrt(np.clip(linear, 0.0, 1.0)) * (TABLE - 1) + 0.5
    return values[index.astype(np.uint16)]


def steps() -> np.ndarray:
    """Returns the linear light at which transfer curves are given, float32 [TABLE]."""
    return (np.arange(TABLE, dtype=np.float32) / (TABLE - 1)) ** 2


def srgb(linear: np.ndarray) -> np.ndarray:
    """Encodes linear light in [0, 1] by the curve of sRGB (IEC 61966-2-1)."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-6) ** (1 / 2.4) - 0.055)


def tone(contrast: float, lift: float = 0.0) -> np.ndarray:
    """Returns a curve from linear to linear light, for `curve`: an S in the code of sRGB, or its inverse below 1.

    lift: of a medium grey, as a logit.
    """
    code = s_curve(srgb(steps()), contrast, lift)
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4).astype(np.float32)


def s_curve(code: np.ndarray, contrast: float, lift: float = 0.0) -> np.ndarray:
    """Bends a rising table of codes in [0, 1] by an S of slope `contrast` around a medium grey; the ends stay."""
    logit = np.log((code + 0.01) / (1.01 - code))
    bent = 1.0 / (1.0 + np.exp(-contrast * logit - lift))
    return (bent - bent[0]) / (bent[-1] - bent[0])


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of a deviation of `sigma` pixels; below a fifth of a pixel the image itself."""
    return image if sigma < 0.2 else cv2.GaussianBlur(image, (0, 0), sigma)


def smooth(image: np.ndarray, radius: int, contrast: float) -> np.ndarray:
    """Smooths texture below `contrast` and keeps edges: the guided filter (He et al., ECCV 2010) guided by itself."""
    size = (2 * radius + 1, 2 * radius + 1)
    mean = cv2.blur(image, size)
    variance = np.maximum(cv2.blur(image * image, size) - mean * mean, 0.0)
    keep = variance / (variance + contrast * contrast)
    return cv2.blur(keep, size) * (image - mean) + mean


def motion(image: np.ndarray, length: float, angle: float) -> np.ndarray:
    """Blurs along a line of `length` pixels at `angle` radians."""
    side = int(np.ceil(length)) | 1
    if side < 3:
        return image
    kernel, middle = np.zeros((side, side), np.float32), side // 2
    reach = 0.5 * length * np.array([np.cos(angle), np.sin(angle)])
    ends = [tuple(round(16 * (middle + sign * a)) for a in reach) for sign in (-1, 1)]
    cv2.line(kernel, *ends, 1.0, 1, cv2.LINE_8, 4)
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def resized(image: np.ndarray, height: int, width: int, kernel: int) -> np.ndarray:
    """Resizes to [height, width] by an OpenCV kernel."""
    if image.shape[:2] == (height, width):
        return image
    return cv2.resize(image, (width, height), interpolation=kernel)


def draw_kernel(rng) -> int:
    """Draws the kernel of an app's or a detector's resizing."""
    return KERNELS[rng.choice(len(KERNELS), p=KERNEL_SHARES)]


_CODES = np.arange(256, dtype=np.float32) / 255.0
_LINEAR = np.where(_CODES <= 0.04045, _CODES / 12.92, ((_CODES + 0.055) / 1.055) ** 2.4).astype(np.float32)
