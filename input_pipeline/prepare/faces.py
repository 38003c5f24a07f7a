"""Face detection by MTCNN (`mtcnn`), and the square face crop that is the input of every model.

Imports neither TensorFlow nor JAX. [C] marks our own choices.
"""

import collections
import contextlib
import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from input_pipeline.prepare import mtcnn
from input_pipeline.schema import Box

# MTCNN spends its time on an image pyramid that starts at the frame's resolution: on two cores a 640 x 480 frame takes
# 92 ms at full size and 16 ms with the shorter side at 160. The package's smallest face is 20 px, so 160 finds faces
# of 1/8 of the shorter side; the few frames without such a face are searched again at 480 (1/24). [C]
SHORTER_SIDES = (160, 480)
CONFIDENCE = 0.9  # threshold of the last network; the package's default, 0.8, accepts patterned cloth [C]
BATCH = 16  # frames per call; larger batches were not faster
# Largest number of pixels of a resized batch, 16 frames of 16:9 at 480; its pyramid takes some 200 bytes a pixel [C].
PIXELS = 7_000_000
MOST_ASPECT = 8  # largest ratio of the longer to the shorter side of a frame that is searched

# Positions of the five landmarks in a face of 112 x 112 pixels, as ArcFace's recognisers expect (insightface).
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
TEMPLATE_SIDE = 112
JPEG_QUALITY = 95


@dataclasses.dataclass(frozen=True)
class Face:
    """A detected face.

    Fields:
      box: the face box in pixels, inside the frame.
      landmarks: float32 [5, 2], x and y in pixels of the left eye, right eye, nose, left and right mouth corner, left
        and right as seen in the image.
      confidence: confidence of the detector in [0, 1].
    """

    box: Box
    landmarks: np.ndarray
    confidence: float


def detect(images: Sequence[np.ndarray]) -> list[Face | None]:
    """Returns the largest confident face of each RGB uint8 image [h, w, 3], or None.

    The largest, not the most confident face [C]: the person at the camera is closer than bystanders and portraits.
    """
    return [next(iter(found), None) for found in detect_all(images)]


def detect_all(images: Sequence[np.ndarray]) -> list[list[Face]]:
    """Returns the confident faces of each RGB uint8 image [h, w, 3], the largest first.

    Faces smaller than 1/8 of the shorter side are searched only where there is no larger face. An image with an aspect
    ratio above `MOST_ASPECT` is not searched [C], because resizing its shorter side would make it very large.
    """
    faces: list[list[Face]] = [[] for _ in images]
    for side in SHORTER_SIDES:
        by_shape = collections.defaultdict(list)  # the package pads unequal images and returns wrong offsets for them
        for i, image in enumerate(images):
            if not faces[i] and max(image.shape[:2]) <= MOST_ASPECT * min(image.shape[:2]):
                by_shape[image.shape].append(i)
        for shape, same in by_shape.items():
            height, width = _shape_at(side, *shape[:2])
            most = min(BATCH, max(1, PIXELS // (height * width)))
            for start in range(0, len(same), most):
                batch = same[start : start + most]
                for i, found in zip(batch, detect_at([images[i] for i in batch], side), strict=True):
                    faces[i] = found
    return faces


def detect_at(images: list[np.ndarray], side: int) -> list[list[Face]]:
    """Returns the confident faces of each RGB uint8 image [h, w, 3], the largest first, in pixels of the image.

    The images have one shape, and are searched with their shorter side resized to `side` pixels.
    """
    zoom = side / min(images[0].shape[:2])
    h, w = _shape_at(side, *images[0].shape[:2])
    faces: list[list[Face]] = [[] for _ in images]
    for image, own in zip(images, faces, strict=True):
        rows = mtcnn.detect(_resize(image, w, h))
        rows = rows[rows[:, 4] >= CONFIDENCE]
        for row in rows[np.argsort(-rows[:, 2] * rows[:, 3], kind="stable")]:
            landmarks = (row[5:].reshape(2, 5).T / zoom).astype(np.float32)
            with contextlib.suppress(ValueError):  # skips boxes that lie mostly outside the frame
                own.append(Face(clamp(tuple(row[:4] / zoom), *image.shape[:2]), landmarks, float(row[4])))
    return faces


def _shape_at(side: int, height: int, width: int) -> tuple[int, int]:
    """Returns height and width of a frame after resizing its shorter side to `side`."""
    zoom = side / min(height, width)
    return max(1, round(height * zoom)), max(1, round(width * zoom))


def clamp(box: Box, height: int, width: int) -> Box:
    """Clips `box` to a frame of `height` x `width` pixels.

    Raises ValueError for a box that is not finite, has no area, or lies less than half inside the frame [C]: such
    boxes (empty, negative, oversized) occur in published data sets and contain no face.
    """
    x, y, w, h = (float(v) for v in box)
    if not (np.isfinite((x, y, w, h)).all() and w > 0 and h > 0):
        raise ValueError(f"face box {(x, y, w, h)} is empty, negative or not finite")
    left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))
    if max(right - left, 0) * max(bottom - top, 0) < w * h / 2:
        raise ValueError(f"face box {(x, y, w, h)} lies mostly outside its frame of {width} x {height} pixels")
    return left, top, right - left, bottom - top


def crop(image: np.ndarray, box: Box, scale: float = 1.3, size: int = 224) -> np.ndarray:
    """Crops the square around `box`, `scale` times its longer side, from uint8 [h, w, 3] to uint8 [size, size, 3].

    The box is clipped to the frame first and raises ValueError as in `clamp`. A square that leaves the frame is moved
    inside it; edge pixels are repeated only where it is larger than the frame [C]. Padding would show how the face was
    framed and so, in many data sets, whether it is live (in NUAA the square leaves the frame in 22 % of the prints and
    2 % of the live frames).
    """
    height, width = image.shape[:2]
    left, top, side = square(box, height, width, scale)
    left, top = _inside(left, side, width), _inside(top, side, height)
    right, bottom = left + side, top + side
    inside = image[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    margins = max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0)
    return resize(cv2.copyMakeBorder(inside, *margins, cv2.BORDER_REPLICATE), size)


def square(box: Box, height: int, width: int, scale: float) -> tuple[int, int, int]:
    """Returns left, top and side, in pixels, of the square around `box` before it is moved inside the frame.

    Halves are rounded to the even number. Raises ValueError as in `clamp`.
    """
    x, y, w, h = clamp(box, height, width)
    side = max(1, round(scale * max(w, h)))
    return round(x + w / 2 - side / 2), round(y + h / 2 - side / 2), side


def align(image: np.ndarray, landmarks: np.ndarray, scale: float = 1.3, size: int = 224) -> np.ndarray:
    """Aligns a face: a similarity transform fits its landmarks [5, 2] to ArcFace's template; uint8 [size, size, 3].

    The transform is the least-squares fit; edge pixels of the frame are repeated. The crop shows `scale` times
    ArcFace's frame about the same centre; recognisers are trained with 1.
    """
    a, b, c, d = similarity(landmarks, scale, size)
    while np.hypot(a, b) < 0.5:  # a linear filter would skip pixels
        image, a, b = cv2.pyrDown(image), 2 * a, 2 * b
    return cv2.warpAffine(
        image, np.array([[a, -b, c], [b, a, d]]), (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def similarity(landmarks: np.ndarray, scale: float, size: int) -> np.ndarray:
    """Returns a, b, c, d of x' = a x - b y + c, y' = b x + a y + d, from pixels of the frame to those of the crop."""
    target = ((TEMPLATE - TEMPLATE_SIDE / 2) / (scale * TEMPLATE_SIDE) + 0.5) * size
    x, y = landmarks.astype(np.float64).T
    one, zero = np.ones(5), np.zeros(5)
    equations = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    return np.linalg.lstsq(equations, target.T.ravel(), rcond=None)[0]


def cut(image: np.ndarray, face: Face, *, scale: float, size: int, aligned: bool) -> np.ndarray:
    """Returns the crop of a detected face as uint8 [size, size, 3], by `align` if `aligned`, else by `crop`."""
    return align(image, face.landmarks, scale, size) if aligned else crop(image, face.box, scale, size)


def _inside(begin: int, side: int, limit: int) -> int:
    """Moves a span of `side` that starts at `begin` into 0..limit where it fits; returns its start."""
    return min(max(begin, 0), limit - side) if side <= limit else begin


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes uint8 [h, w, 3] to [size, size, 3], by area averaging to shrink and cubic interpolation to enlarge."""
    return _resize(image, size, size)


def _resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    if image.shape[:2] == (height, width):
        return image
    shrinks = width * height < image.shape[0] * image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def encode(image: np.ndarray) -> bytes:
    """Encodes RGB uint8 [h, w, 3] as JPEG with quality 95 and full chroma resolution, which preserves moire [C]."""
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        JPEG_QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    return cv2.imencode(".jpg", image[..., ::-1], options)[1].tobytes()


def encode_map(values: np.ndarray) -> bytes:
    """Encodes uint8 [h, w, 3] as PNG, without loss."""
    return cv2.imencode(".png", values[..., ::-1])[1].tobytes()


def decode_map(encoded: bytes) -> np.ndarray:
    """The inverse of `encode_map`."""
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)


def decode(encoded: bytes, size: int) -> np.ndarray:
    """Decodes the JPEG bytes of a square crop to RGB uint8 [size, size, 3] (`resize`); ValueError for no JPEG."""
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ValueError("not a JPEG image")
    return resize(image, size)
