"""Framing: which part of the scene falls on the sensor and into the face crop, and the truth maps of that part.

Coordinates q are in face boxes around the middle of the face's box, x to the right and y down. A detector's box is
shifted and scaled a little, and the camera is rolled; both alike for live faces and attacks.
"""

import dataclasses
import functools

import cv2
import numpy as np

from input_pipeline.simulate.devices import optics

FULL = 2.7  # face boxes that a scene spans
TRUTH = 16  # side of a truth map
REACH = 1.0  # depth of a truth map on either side of the face plane, in face boxes
BOX_METRES = 0.2  # a face box of a real head, in metres
PADDING = 12  # most pixels of the sensor around the crop, which give the encoder's blocks any phase
LARGEST = 400  # most simulated pixels along a side of the crop
SMALLEST = 40


@dataclasses.dataclass(frozen=True)
class Frame:
    """The part of a sensor that a crop needs.

    Fields:
      side: pixels along a side of the crop.
      pads: further pixels at the left, top, right and bottom.
      margin: side of the crop in face boxes.
      shift: middle of the crop, q.
      roll: of the camera, radians.
      share: simulated pixels per pixel of the sensor, at most 1.
    """

    side: int
    pads: tuple[int, int, int, int]
    margin: float
    shift: tuple[float, float]
    roll: float
    share: float

    @property
    def face(self) -> float:
        """Simulated pixels per face box."""
        return self.side / self.margin

    @functools.cached_property
    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates q of each pixel: x, y float32 [h, w]."""
        left, top, right, bottom = self.pads
        x = (np.arange(-left, self.side + right, dtype=np.float32) + 0.5) / self.face - 0.5 * self.margin
        y = (np.arange(-top, self.side + bottom, dtype=np.float32) + 0.5)[:, None] / self.face - 0.5 * self.margin
        c, s = np.float32(np.cos(self.roll)), np.float32(np.sin(self.roll))
        return c * x - s * y + np.float32(self.shift[0]), s * x + c * y + np.float32(self.shift[1])

    def cropped(self, image: np.ndarray) -> np.ndarray:
        """Cuts the crop out of an image of this part of the sensor."""
        left, top = self.pads[:2]
        return image[top : top + self.side, left : left + self.side]


def draw_frame(rng, face: float, margin: tuple[float, float], size: int) -> Frame:
    """Draws a frame for a face that spans `face` pixels of the sensor, for a crop of `size` pixels in the end."""
    scale = optics.log_uniform(rng, *margin) * optics.log_uniform(rng, 0.85, 1.2)
    scale = float(np.clip(scale, 0.85, FULL))
    room = 0.5 * (FULL - scale)
    shift = np.clip(rng.normal(0.0, 0.04, 2) * scale, -room, room)
    wanted = face * scale
    side = int(np.clip(min(wanted, 2.2 * size), SMALLEST, LARGEST))
    pads = tuple(int(a) for a in rng.integers(0, PADDING + 1, 4))
    roll = float(np.clip(rng.normal(0.0, 0.07), -0.25, 0.25))
    return Frame(side, pads, scale, (float(shift[0]), float(shift[1])), roll, float(min(1.0, side / wanted)))


def place(box) -> tuple[float, float, float]:
    """Returns the middle x, y of a face box and its longer side, in pixels."""
    x, y, width, height = (float(a) for a in box)
    return x + 0.5 * width, y + 0.5 * height, max(width, height)


def sampled(image: np.ndarray, x: np.ndarray, y: np.ndarray, scale: float) -> np.ndarray:
    """Samples an image at pixel positions x, y [h, w]; `scale`: pixels of the result per pixel of the image."""
    if scale < 1.0:
        image = optics.blur(image, 0.5 * np.sqrt(1.0 / scale**2 - 1.0))
    kernel = cv2.INTER_CUBIC if scale > 1.15 else cv2.INTER_LINEAR
    x, y = (np.asarray(a - 0.5, np.float32) for a in (x, y))
    out = cv2.remap(np.asarray(image, np.float32), x, y, kernel, borderMode=cv2.BORDER_REPLICATE)
    return np.maximum(out, 0.0) if kernel == cv2.INTER_CUBIC else out


def seen(light: np.ndarray, box, frame: Frame) -> np.ndarray:
    """Samples a scene's map [s, s] or [s, s, 3] at the pixels of a frame."""
    x, y, side = place(box)
    u, v = frame.grid
    return sampled(light, x + side * u, y + side * v, frame.face / side)


def with_detail(light: np.ndarray, scale: float, rng) -> np.ndarray:
    """Adds texture finer than the renderer's pixels, in proportion to the light; `scale` as in `sampled`."""
    if scale < 0.8:
        return light
    grain = optics.noise(rng, *light.shape[:2])[..., 0]
    fine = optics.blur(grain, 0.5 * scale)
    fine = fine - optics.blur(fine, 1.2 * scale)
    return light * (1.0 + 0.05 * np.clip(fine, -1.5, 1.5))[..., None]


def truth(depth: np.ndarray, instrument: np.ndarray, frame: Frame) -> np.ndarray:
    """Returns the truth map uint8 [TRUTH, TRUTH, 3] of a crop.

    depth: height above the face plane towards the camera in face boxes, [h, w] of the frame: 255 in channel 0 is REACH
    before the face, 0 is REACH behind it or further, and 127 or 128 the face plane. instrument: share of the pixel that
    an instrument covers; channel 1. Channel 2 is the share of the outline of the instrument.
    """
    near = np.clip(0.5 + 0.5 / REACH * depth, 0.0, 1.0).astype(np.float32)
    width = max(3, frame.side // 24) | 1
    edge = cv2.morphologyEx(instrument, cv2.MORPH_GRADIENT, np.ones((width, width), np.uint8))
    maps = frame.cropped(np.stack([near, instrument, edge], -1).astype(np.float32))
    small = cv2.resize(np.ascontiguousarray(maps), (TRUTH, TRUTH), interpolation=cv2.INTER_AREA)
    return np.round(255.0 * np.clip(small, 0.0, 1.0)).astype(np.uint8)


def finished(picture: np.ndarray, frame: Frame, size: int, rng) -> np.ndarray:
    """Cuts the crop out of the camera's picture uint8 and resizes it to `size`, in one step or in two."""
    crop = np.ascontiguousarray(frame.cropped(picture))
    if rng.random() < 0.25:
        between = int(np.clip(size * optics.log_uniform(rng, 0.7, 1.6), 32, LARGEST))
        crop = optics.resized(crop, between, between, optics.draw_kernel(rng))
    return optics.resized(crop, size, size, optics.draw_kernel(rng))
