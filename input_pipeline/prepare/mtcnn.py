"""MTCNN's three networks and their stages in NumPy and OpenCV, with the weights of the package `mtcnn`.

Zhang, Zhang, Li, Qiao: Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks, IEEE SPL
2016. The package runs the same weights on TensorFlow, which takes seconds to import; its networks are so
small that NumPy is as fast. The stages, thresholds and rounding are the package's, version 1.0.0 [S]. Its modules are
not imported, as any import of the package imports TensorFlow. [C] marks our own choices.
"""

import functools
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

SMALLEST = 20  # px of the smallest face
CELL, STRIDE = 12, 2  # px of the window that the first network sees, and its step
FACTOR = 0.709  # between neighbouring sizes of the pyramid
THRESHOLDS = 0.6, 0.7, 0.8  # of the confidence, by network
MOST_PATCHES = 256  # patches that a network sees at once, which bounds the memory [C]


class Network(NamedTuple):
    """Weights of a network, (kernel, bias, slope of PReLU) a layer, and what follows its convolutions.

    pools: (size, whether the border is padded) of the maximum after each convolution, or None. dense: whether a layer
    on the whole patch comes before the outputs.
    """

    weights: Sequence[np.ndarray]
    pools: Sequence[tuple[int, bool] | None]
    dense: bool

    def __call__(self, x: np.ndarray) -> list[np.ndarray]:
        """Maps float32 [n, h, w, 3] in [-1, 1] to the outputs; the last is the confidence in [0, 1]."""
        weights, x = iter(self.weights), x.transpose(0, 1, 3, 2)
        for pool in self.pools:
            x = _prelu(_convolve(x, next(weights), next(weights)), next(weights).reshape(-1, 1))
            x = _pool(x, *pool) if pool else x
        if self.dense:
            x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)  # the weights expect columns, rows, channels
            x = _prelu(x @ next(weights) + next(weights), next(weights))
        else:
            x = x.transpose(0, 1, 3, 2)
        *outputs, classes = [
            x @ kernel.reshape(-1, kernel.shape[-1]) + bias for kernel, bias in zip(weights, weights, strict=True)
        ]
        return [*outputs, np.exp(-np.logaddexp(0, classes[..., 0] - classes[..., 1]))]


@functools.cache
def _networks() -> tuple[Network, Network, Network]:
    import joblib  # takes 0.2 s, which callers with annotated boxes need not wait for

    spec = importlib.util.find_spec("mtcnn")
    if spec is None:
        raise ModuleNotFoundError("face detection needs the weights of the package mtcnn: pip install mtcnn lz4 joblib")
    folder = Path(spec.submodule_search_locations[0], "assets", "weights")
    pnet, rnet, onet = (joblib.load(folder / f"{name}.lz4") for name in ("pnet", "rnet", "onet"))
    return (
        Network(pnet, [(2, True), None, None], False),
        Network(rnet, [(3, True), (3, False), None], True),
        Network(onet, [(3, True), (3, False), (2, True), None], True),
    )


@functools.cache
def _one_thread():
    """Returns a controller of the BLAS, whose threads would wait for each other longer than they compute here."""
    import threadpoolctl

    return threadpoolctl.ThreadpoolController()


def detect(image: np.ndarray) -> np.ndarray:
    """Detects the faces of an RGB uint8 image [h, w, 3]; returns float64 [n, 15].

    A row is x, y, w, h in pixels, the confidence in [0, 1], and five x and five y of the landmarks (`faces.Face`).
    """
    with _one_thread().limit(limits=1, user_api="blas"):
        return _detect(image)


def _detect(image: np.ndarray) -> np.ndarray:
    first, second, third = _networks()
    image = (image.astype(np.float32) - 127.5) / 128
    boxes = _proposals(first, image)  # rows of left, top, right, bottom, confidence
    for network, side, threshold in ((second, 24, THRESHOLDS[1]), (third, 48, THRESHOLDS[2])):
        if not len(boxes):
            return np.empty((0, 15))
        offsets, *landmarks, confidence = _on_patches(network, image, boxes, side)
        sizes = boxes[:, 2:4] - boxes[:, :2] + 1
        points = [found * np.repeat(sizes, 5, 1) + np.repeat(boxes[:, :2], 5, 1) - 1 for found in landmarks]
        boxes = np.concatenate(
            [boxes[:, :4] + offsets * np.tile(sizes, 2), confidence[:, None], *points], 1, dtype=np.float64
        )
        boxes = boxes[boxes[:, 4] > threshold]
        boxes = _distinct(_by_confidence(boxes), 0.7, smaller=bool(landmarks))
        boxes = boxes if landmarks else _squared(boxes)
    limits = np.array([image.shape[1], image.shape[0]] * 2) - 1
    boxes[:, :4] = np.clip(boxes[:, :4], 0, limits)
    boxes[:, 2:4] -= boxes[:, :2]
    return boxes


def _proposals(network: Network, image: np.ndarray) -> np.ndarray:
    """Returns square boxes of likely faces, [n, 5], from the first network on a pyramid of sizes."""
    height, width = image.shape[:2]
    count = round(-((np.log(min(height, width) / CELL) / np.log(FACTOR)) + 1))
    found = [np.empty((0, 5))]
    for scale in CELL / SMALLEST * FACTOR ** np.arange(count):
        h, w = int(height * scale), int(width * scale)
        small = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA)
        offsets, confidence = (output[0] for output in network(small[None]))
        rows, columns = np.nonzero(confidence > THRESHOLDS[0])
        corner = STRIDE * np.stack([columns, rows], 1)
        boxes = (
            np.concatenate([corner + 1, corner + CELL], 1) + (CELL - 1) * offsets[rows, columns]
        )  # pixels from 1 [S]
        boxes = np.concatenate([boxes / scale, confidence[rows, columns, None]], 1)
        found.append(_distinct(_by_confidence(boxes), 0.5))
    return _squared(_distinct(_by_confidence(np.concatenate(found)), 0.7))


def _by_confidence(boxes: np.ndarray) -> np.ndarray:
    return boxes[np.argsort(boxes[:, 4])[::-1]]


def _distinct(boxes: np.ndarray, most: float, *, smaller: bool = False) -> np.ndarray:
    """Drops boxes that overlap an earlier one by more than `most` of the union, or of the smaller box."""
    corner, end = boxes[:, None, :2], boxes[:, None, 2:4]
    both = np.prod(np.maximum(np.minimum(end, end[:, 0]) - np.maximum(corner, corner[:, 0]), 0), 2)
    area = np.prod(boxes[:, 2:4] - boxes[:, :2], 1)
    whole = np.minimum(area[:, None], area) if smaller else area[:, None] + area - both
    return boxes[~np.triu(both / whole > most, 1).any(0)]


def _squared(boxes: np.ndarray) -> np.ndarray:
    """Extends the shorter side of each box to the longer about the same centre."""
    sizes = boxes[:, 2:4] - boxes[:, :2]
    longest = sizes.max(1, keepdims=True)
    corner = boxes[:, :2] + sizes / 2 - longest / 2
    return np.concatenate([corner, corner + longest, boxes[:, 4:]], 1)


def _on_patches(network: Callable, image: np.ndarray, boxes: np.ndarray, side: int) -> list[np.ndarray]:
    parts = np.split(boxes, range(MOST_PATCHES, len(boxes), MOST_PATCHES))
    outputs = [network(_patches(image, part, side)) for part in parts]
    return [np.concatenate(of) for of in zip(*outputs, strict=True)]


def _patches(image: np.ndarray, boxes: np.ndarray, side: int) -> np.ndarray:
    """Resizes the boxes of `image` to [n, side, side, 3] by linear interpolation; 0 outside the image."""
    limits = np.array(image.shape[1::-1]) - 1.0
    share = limits / (limits + 1)  # TensorFlow's crop_and_resize expects boxes as fractions of the image [S]
    places = np.linspace(boxes[:, :2] * share, boxes[:, 2:4] * share, side, axis=1, dtype=np.float32)  # [n, side, xy]
    inside = (places >= 0) & (places <= limits)
    places = np.clip(places, 0, limits)
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, limits.astype(int))
    (x, y), (left, top), (right, bottom) = (np.moveaxis(each, 2, 0) for each in (places - low, low, high))
    x, y = (each.astype(np.float32)[..., None] for each in (x[:, None], y[:, :, None]))

    def rows(at: np.ndarray) -> np.ndarray:
        from_left, from_right = (image[at[:, :, None], column[:, None]] for column in (left, right))
        return from_left + (from_right - from_left) * x

    upper = rows(top)
    patches = upper + (rows(bottom) - upper) * y
    return patches * (inside[:, None, :, 0] & inside[:, :, None, 1])[..., None]


def _convolve(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Convolves [n, h, c, w] with [k, k, c, d] without padding; [n, h, d, w].

    The columns are last, so that whole rows of pixels are copied.
    """
    k = len(kernel)
    n, h, c, w = len(x), x.shape[1] - k + 1, x.shape[2], x.shape[3] - k + 1
    columns = np.empty((n, h, k, k, c, w), x.dtype)
    for i in range(k):
        for j in range(k):
            columns[:, :, i, j] = x[:, i : i + h, :, j : j + w]
    found = kernel.reshape(-1, kernel.shape[-1]).T @ columns.reshape(n, h, -1, w)
    found += bias[:, None]
    return found


def _prelu(x: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Applies PReLU, x + (slope - 1) min(x, 0), in place."""
    x += (slope - 1) * np.minimum(x, 0)
    return x


def _pool(x: np.ndarray, size: int, padded: bool) -> np.ndarray:
    """Takes the maximum of windows of `size` pixels of [n, h, c, w], two pixels apart.

    `padded` keeps windows that leave the image.
    """
    if padded:
        missing = [max((-(-length // 2) - 1) * 2 + size - length, 0) for length in x.shape[1::2]]
        rows, columns = ((pixels // 2, pixels - pixels // 2) for pixels in missing)
        x = np.pad(x, [(0, 0), rows, (0, 0), columns], constant_values=-np.inf)
    h, w = (2 * ((length - size) // 2) + 1 for length in x.shape[1::2])
    x = functools.reduce(np.maximum, (x[:, i : i + h : 2] for i in range(size)))
    return functools.reduce(np.maximum, (x[..., j : j + w : 2] for j in range(size)))
