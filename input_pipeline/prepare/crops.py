"""The one crop: from a picture and a face to the pixels that a model reads, for training, scoring and deployment.

`Recipe` is the whole procedure; `Recipe.describe` writes it into bundle.json, and `Recipe.described` reads it there.
Imports neither TensorFlow nor JAX. [C] marks our own choices.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from input_pipeline.prepare import faces

VERSION = 1  # of the procedure; bundles without a version have this one
# Limits of the flags [C]. DARK, BRIGHT: mean luma of the crop, of 255. BLURRED: variance of the Laplacian of the luma
# of the crop at SHARPNESS_SIDE pixels, divided by the variance of the luma, which the contrast does not change.
DARK, BRIGHT = 40, 215
BLURRED, SHARPNESS_SIDE = 0.02, 64
# The flags of `Recipe.flags`, in words.
FLAGS = {
    "small": "the face has fewer pixels than the model reads",
    "edge": "the crop leaves the picture",
    "blurred": "the face is blurred",
    "dark": "the face is dark",
    "bright": "the face is overexposed",
    "oblong": "the picture is no face crop, as it is far from square",
}
OBLONG = 1.25  # longer / shorter side of a picture that is given as a crop; crops are square, and CelebA's 1.22


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the pixels of a model's input are made from a picture and a detected face.

    Fields:
      scale: side of the crop / longer side of the face box, or / ArcFace's frame if `align`.
      align: whether the landmarks are fitted to ArcFace's template.
      record_size: side in pixels at which the crop is stored as a JPEG file.
      image_size: side in pixels of the model's input.
      cropped: whether pictures are face crops already, which are only resized.
    """

    scale: float
    align: bool
    record_size: int
    image_size: int
    cropped: bool = False

    def __call__(self, image: np.ndarray, face: faces.Face) -> np.ndarray:
        """Returns the model's input for `face` in RGB uint8 [h, w, 3]: uint8 [image_size, image_size, 3].

        It includes the JPEG file that crops of training were stored as. ValueError as in `faces.clamp`.
        """
        if self.cropped:
            crop = faces.resize(image, self.record_size)
        else:
            crop = faces.cut(image, face, scale=self.scale, size=self.record_size, aligned=self.align)
        return faces.decode(faces.encode(crop), self.image_size)

    def flags(self, image: np.ndarray, face: faces.Face, pixels: np.ndarray) -> tuple[str, ...]:
        """Returns how `face` in `image`, cropped to `pixels`, is unlike the faces of training; () where it is not.

        'small': the face has fewer pixels than the model's input, so the crop was enlarged. 'edge': the crop leaves
        the frame. 'blurred', 'dark', 'bright': beyond the limits of this module. 'oblong': a picture that is given as a
        face crop is too far from square to be one. `FLAGS` has them in words.
        """
        side, leaves = self._extent(image, face)
        luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        fine = faces.resize(luma, SHARPNESS_SIDE).astype(np.float64)
        sharpness = cv2.Laplacian(fine, cv2.CV_64F).var() / max(fine.var(), 1)
        found = {
            "small": side < self.image_size,
            "edge": leaves,
            "blurred": sharpness < BLURRED,
            "dark": luma.mean() < DARK,
            "bright": luma.mean() > BRIGHT,
            "oblong": self.cropped and max(image.shape[:2]) > OBLONG * min(image.shape[:2]),
        }
        return tuple(name for name, is_so in found.items() if is_so)

    def _extent(self, image: np.ndarray, face: faces.Face) -> tuple[float, bool]:
        """Returns the side of the crop in pixels of the frame, and whether it leaves the frame."""
        height, width = image.shape[:2]
        if self.cropped:
            return max(height, width), False
        if not self.align:
            left, top, side = faces.square(face.box, height, width, self.scale)
            return side, left < 0 or top < 0 or left + side > width or top + side > height
        a, b, c, d = faces.similarity(face.landmarks, self.scale, self.record_size)
        turn = np.array([[a, -b], [b, a]])
        corners = self.record_size * np.array([(0, 0), (0, 1), (1, 0), (1, 1)]) - (c, d)
        x, y = np.linalg.solve(turn, corners.T)
        leaves = min(x.min(), y.min()) < 0 or x.max() > width or y.max() > height
        return self.record_size / float(np.hypot(a, b)), bool(leaves)

    def describe(self) -> dict[str, Any]:
        """Returns all that another program needs to make the same pixels, for bundle.json."""
        return {
            "version": VERSION,
            "scale": self.scale,
            "align": self.align,
            "record_size": self.record_size,
            "image_size": self.image_size,
            "detector": {
                "name": "MTCNN, weights of the Python package mtcnn 1.0.0",
                "picture": "upright RGB; resized to each of shorter_sides in turn, until a face is found",
                "shorter_sides": list(faces.SHORTER_SIDES),
                "least_confidence": faces.CONFIDENCE,
                "box": "x, y, w, h in pixels of the picture, clipped to it; half of it must be inside",
            },
            "steps": self._steps(),
            "resize": {"library": "OpenCV", "fewer_pixels": "INTER_AREA", "more_pixels": "INTER_CUBIC"},
            "jpeg": {"quality": faces.JPEG_QUALITY, "chroma": "4:4:4"},
        }

    def _steps(self) -> list[str]:
        if self.align:
            template = ", ".join(f"({x:g}, {y:g})" for x, y in faces.TEMPLATE)
            cut = [
                f"t: the template of left eye, right eye, nose, left and right mouth corner: {template}",
                f"target = ((t - {faces.TEMPLATE_SIDE / 2:g}) / (scale * {faces.TEMPLATE_SIDE}) + 0.5) * record_size",
                "fit the landmarks to target by a similarity transform of least squares",
                "while the transform shrinks by more than 2: halve the picture (cv2.pyrDown) and double the transform",
                "cv2.warpAffine to record_size x record_size, INTER_LINEAR, BORDER_REPLICATE",
            ]
        else:
            cut = [
                "side = max(1, round(scale * max(w, h))); halves are rounded to the even number",
                "left = round(x + w / 2 - side / 2), top = round(y + h / 2 - side / 2)",
                "along each axis of n pixels: if side <= n, move the square inside, min(max(left, 0), n - side); else "
                "leave it and repeat the edge pixels (BORDER_REPLICATE)",
                "resize the square to record_size x record_size",
            ]
        return [*cut, "encode as JPEG and decode it again", "resize to image_size x image_size", "divide by 255"]

    @classmethod
    def described(cls, crop: Mapping[str, Any], *, cropped: bool = False) -> "Recipe":
        """Returns the recipe in the section `crop` of a bundle.json; ValueError for an unknown version."""
        if (version := crop.get("version", 1)) != VERSION:
            raise ValueError(
                f"bundle.json has version {version!r} of the crop; expected {VERSION}: update this package, or export"
            )
        return cls(crop["scale"], crop["align"], crop["record_size"], crop["image_size"], cropped)

    @classmethod
    def of_config(cls, config, *, cropped: bool = False) -> "Recipe":
        """Returns the recipe of a run; `config` is its config.data."""
        return cls(config.scale, config.align, config.record_size, config.image_size, cropped)


def whole(image: np.ndarray) -> faces.Face:
    """Returns the whole image as a face, without landmarks."""
    height, width = image.shape[:2]
    return faces.Face((0.0, 0.0, float(width), float(height)), np.full((5, 2), np.nan, np.float32), 1.0)
