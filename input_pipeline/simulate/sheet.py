"""Writes the contact sheet docs/faces.jpg, 64 live faces and 64 attacks.

python -m input_pipeline.simulate.sheet [path]
"""

import sys

import cv2
import numpy as np

from input_pipeline.simulate.scene import render

SIDE, TILE, GAP, QUALITY = 8, 96, 12, 85
RENDERED = 192  # rendered at twice the side of a tile, and then averaged


def sheet() -> np.ndarray:
    """Renders live faces on the left and attacks on the right (columns: two printers, two displays, twice), uint8."""
    users = np.arange(SIDE * SIDE) % 55 + 1
    phones, sessions = users % 6 + 1, users % 3 + 1

    def block(accesses):
        pictures = render(users, phones, sessions, accesses, size=RENDERED)
        tiles = np.stack([cv2.resize(picture, (TILE, TILE), interpolation=cv2.INTER_AREA) for picture in pictures])
        return tiles.reshape(SIDE, SIDE, TILE, TILE, 3).swapaxes(1, 2).reshape(SIDE * TILE, SIDE * TILE, 3)

    live, attacks = block(1), block(np.arange(SIDE * SIDE) % 4 + 2)
    return np.concatenate([live, np.full((SIDE * TILE, GAP, 3), 255, np.uint8), attacks], 1)


if __name__ == "__main__":
    path = sys.argv[1] if len(sys.argv) > 1 else "docs/faces.jpg"
    cv2.imwrite(path, sheet()[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
