"""Encoders between the camera and the face crop: JPEG, WebP, MPEG-4, screenshots and copies of messengers."""

import os
import tempfile

import cv2
import numpy as np

from input_pipeline.simulate.devices import optics

MEMORY = "/dev/shm"
SAMPLING = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
# Name -> share of the pictures; a chain of names is applied in order [C].
CHAINS = {
    ("jpeg",): 0.40,
    ("jpeg", "jpeg"): 0.12,
    ("webp",): 0.08,
    ("jpeg", "webp"): 0.05,
    ("copy",): 0.13,
    ("screenshot",): 0.06,
    ("video",): 0.08,
    ("video", "jpeg"): 0.04,
    (): 0.04,
}


def encoded(image: np.ndarray, rng) -> np.ndarray:
    """Passes a picture uint8 [h, w, 3] through a drawn chain of encoders; the shape stays."""
    chains = list(CHAINS)
    image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    for name in chains[rng.choice(len(chains), p=list(CHAINS.values()))]:
        image = STEPS[name](image, rng)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _as_jpeg(image, quality, sampling=SAMPLING[0]):
    flags = [cv2.IMWRITE_JPEG_QUALITY, int(quality), cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    return cv2.imdecode(cv2.imencode(".jpg", image, flags)[1], cv2.IMREAD_COLOR)


def _jpeg(image, rng):
    return _as_jpeg(image, rng.integers(40, 97), SAMPLING[int(rng.random() < 0.25)])


def _webp(image, rng):
    flags = [cv2.IMWRITE_WEBP_QUALITY, int(rng.integers(30, 95))]
    return cv2.imdecode(cv2.imencode(".webp", image, flags)[1], cv2.IMREAD_COLOR)


def _copy(image, rng):
    """A messenger's copy: smaller, at a low quality, and shown at the old size again."""
    height, width = image.shape[:2]
    share = rng.uniform(0.45, 1.0)
    small = optics.resized(image, max(24, int(share * height)), max(24, int(share * width)), cv2.INTER_AREA)
    return optics.resized(_as_jpeg(small, rng.integers(45, 85)), height, width, optics.draw_kernel(rng))


def _screenshot(image, rng):
    """Shown at another size and stored without loss."""
    height, width = image.shape[:2]
    share = rng.uniform(0.6, 1.5)
    other = optics.resized(image, int(share * height), int(share * width), optics.draw_kernel(rng))
    return optics.resized(other, height, width, optics.draw_kernel(rng))


def _video(image, rng):
    """A frame of MPEG-4 (part 2, by FFmpeg): the first, or one predicted from it; OpenCV derives the bit rate from fps.

    FFmpeg writes to a file, in memory where the system has such a folder.
    """
    height, width = image.shape[:2]
    even = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    frames, rate = int(rng.integers(1, 4)), float(rng.choice((5.0, 10.0, 15.0, 25.0, 30.0)))
    with tempfile.TemporaryDirectory(dir=MEMORY if os.path.isdir(MEMORY) else None) as folder:
        path = os.path.join(folder, "video.mp4")
        writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"mp4v"), rate, even.shape[1::-1])
        for _ in range(frames):
            writer.write(even)
        writer.release()
        reader = cv2.VideoCapture(path)
        out = [reader.read()[1] for _ in range(frames)][-1]
        reader.release()
    if out is None:
        raise RuntimeError("simulate.devices: OpenCV cannot read or write MPEG-4; install opencv-python-headless")
    return out[:height, :width]


# Name of a step in `CHAINS` -> (picture uint8 [h, w, 3], generator) -> picture of the same shape.
STEPS = {"jpeg": _jpeg, "webp": _webp, "copy": _copy, "screenshot": _screenshot, "video": _video}
