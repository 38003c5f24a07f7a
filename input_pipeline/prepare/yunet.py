"""OpenCV's detector YuNet, for users who have its model file; no run is trained on its boxes.

Wu, Peng, Yu: YuNet: A Tiny Millisecond-level Face Detector, Machine Intelligence Research 2023. [C] marks our own
choices.
"""

import contextlib
import os
from collections.abc import Sequence

import cv2
import numpy as np

from input_pipeline.prepare import faces


class YuNet:
    """A detector like `faces.detect_all`: images -> the confident faces of each, the largest first."""

    def __init__(self, path: str):
        """`path`: the ONNX file of OpenCV's model zoo, such as face_detection_yunet_2023mar.onnx."""
        if not os.path.isfile(path):
            raise FileNotFoundError(f"{path} does not exist; expected the model file of YuNet, from OpenCV's model zoo")
        self._network = cv2.FaceDetectorYN.create(path, "", (0, 0), faces.CONFIDENCE)

    def __call__(self, images: Sequence[np.ndarray]) -> list[list[faces.Face]]:
        """Returns the confident faces of each RGB uint8 image [h, w, 3], the largest first."""
        return [self._detect(image) for image in images]

    def _detect(self, image: np.ndarray) -> list[faces.Face]:
        height, width = image.shape[:2]
        self._network.setInputSize((width, height))
        _, rows = self._network.detect(np.ascontiguousarray(image[..., ::-1]))
        found = []
        for row in () if rows is None else rows:  # x, y, w, h, x and y of five landmarks, confidence
            with contextlib.suppress(ValueError):  # skips boxes that lie mostly outside the frame
                box = faces.clamp(tuple(row[:4]), height, width)
                found.append(faces.Face(box, row[4:14].reshape(5, 2).astype(np.float32), float(row[14])))
        return sorted(found, key=lambda face: -face.box[2] * face.box[3])
