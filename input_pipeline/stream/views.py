"""Views of a stored face crop that a stable decision should withstand: another box, camera setting or compression.

A view is a function of (crop, scale): RGB uint8 [s, s, 3] and the crop's side divided by that of the face box (column
`scale` of the records), which tells how far a shift of the box moves the crop. It returns an image of the same shape.

A record holds the crop and nothing around it. Where the moved box leaves the crop, the pixels at its edge are repeated
[C], as they are at the edge of a frame; a larger or shifted box therefore shows less of the surroundings than a new
crop of the frame would.
"""

import functools

import cv2
import numpy as np

from input_pipeline.stream import ops

BLUR = 0.01  # standard deviation of the Gaussian of view `blur`, as a share of the crop's side [C]


def moved(crop: np.ndarray, scale: float, *, size: float = 1.0, x: float = 0.0, y: float = 0.0) -> np.ndarray:
    """The crop of a face box of `size` times the side, shifted by `x` and `y` sides of the box, right and down."""
    side = len(crop)
    middle = (side - 1) / 2
    offset = [middle * (1 - size) + shift * side / scale for shift in (x, y)]
    to_crop = np.array([[size, 0, offset[0]], [0, size, offset[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(crop, to_crop, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def compressed(crop: np.ndarray, scale: float, *, quality: int) -> np.ndarray:
    """The crop as a JPEG file of a `quality` of 0 to 100 shows it."""
    encoded = cv2.imencode(".jpg", crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)


def exposed(crop: np.ndarray, scale: float, *, stops: float) -> np.ndarray:
    """The crop as taken with `stops` more light (`ops.expose`); highlights burn out."""
    return ops.expose(stops)(crop)


def blurred(crop: np.ndarray, scale: float) -> np.ndarray:
    """The crop under a Gaussian blur of `BLUR`."""
    return cv2.GaussianBlur(crop, (0, 0), BLUR * len(crop))


BOX = {
    "box_x0.8": functools.partial(moved, size=0.8),
    "box_x1.25": functools.partial(moved, size=1.25),
    "shift_left": functools.partial(moved, x=-0.1),
    "shift_right": functools.partial(moved, x=0.1),
    "shift_up": functools.partial(moved, y=-0.1),
    "shift_down": functools.partial(moved, y=0.1),
}
EXPOSURE = {
    "exposure_-1": functools.partial(exposed, stops=-1.0),
    "exposure_+1": functools.partial(exposed, stops=1.0),
}
VIEWS = {
    **BOX,
    **EXPOSURE,
    "jpeg_30": functools.partial(compressed, quality=30),
    "jpeg_95": functools.partial(compressed, quality=95),
    "blur": blurred,
}
TOGETHER = {"any_box": tuple(BOX), "any_box_or_exposure": (*BOX, *EXPOSURE)}  # views whose flips are counted as one
