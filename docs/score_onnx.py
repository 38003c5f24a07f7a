"""Scores a face from an exported bundle with onnxruntime, numpy, opencv and pillow alone.

    python score_onnx.py BUNDLE IMAGE [x,y,w,h] [REFERENCE [x,y,w,h]]

BUNDLE: a folder written by --mode=export --format=onnx. x,y,w,h: the face box in pixels of the upright image; without
it the image is treated as a face crop, framed as in training (`crop` of bundle.json). REFERENCE: an image of the person
with whom the face is compared, if the model has an embedding.

This file can be copied on its own: it makes the pixels of `crop` in bundle.json with OpenCV, as training did. Where the
package is installed, `from kdfas_jax import Scorer` also finds the faces.
"""

import hashlib
import json
import pathlib
import re
import sys
import warnings

import cv2
import numpy as np
from PIL import Image, ImageOps

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # others make Pillow run programs such as Ghostscript
BOX = re.compile(r"(-?[\d.]+,){3}-?[\d.]+")


def read(folder: str) -> tuple[dict, bytes]:
    """Reads bundle.json and its first ONNX file; ValueError where the file is not the exported one."""
    bundle = json.loads(pathlib.Path(folder, "bundle.json").read_text(encoding="utf-8"))
    name = next((name for name in bundle["files"] if name.endswith(".onnx")), None)
    if name is None:
        raise ValueError(f"{folder}: no ONNX file in bundle.json; export the run with --format=onnx")
    model = pathlib.Path(folder, name).read_bytes()
    if hashlib.sha256(model).hexdigest() != bundle["files"][name]["sha256"]:
        raise ValueError(f"{folder}/{name}: its SHA-256 differs from bundle.json; export the run again")
    return bundle, model


def decode(path: str) -> np.ndarray:
    """Decodes an image file to upright RGB uint8 [h, w, 3], as --mode=predict does: the first frame, 8 of 16 bits.

    Raises OSError or ValueError for a file in none of `FORMATS` or with more than 89 million pixels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=FORMATS) as file:
                image = ImageOps.exif_transpose(file)  # a copy, decoded
        except (OSError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ValueError(f"{path}: {error}") from error
    if image.mode in ("I", "F"):
        raise ValueError(f"{path}: 32 bits a channel have no defined white level; save it with 8 or 16 bits")
    if image.mode.startswith("I;16"):  # Pillow's conversion would clip at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns where a palette is converted to RGB directly
    return np.asarray(image.convert("RGB"))


def square(image: np.ndarray, box: list[float], scale: float) -> np.ndarray:
    """Crops the square around a box, `scale` times its longer side, moved inside the frame or else edge-padded.

    Raises ValueError for a box of which more than half is outside the frame.
    """
    limits = image.shape[1], image.shape[0]
    (x, y), (w, h) = box[:2], box[2:]
    ends = [min(start + length, float(n)) for start, length, n in zip((x, y), (w, h), limits, strict=True)]
    x, y = max(x, 0.0), max(y, 0.0)
    inside = max(ends[0] - x, 0) * max(ends[1] - y, 0)
    if not (w > 0 and h > 0 and inside >= w * h / 2):
        raise ValueError(f"face box {box} is empty or mostly outside its image of {limits[0]} x {limits[1]} pixels")
    w, h = ends[0] - x, ends[1] - y
    side = max(1, round(scale * max(w, h)))
    corner = [round(middle - side / 2) for middle in (x + w / 2, y + h / 2)]
    corner = [min(max(c, 0), n - side) if side <= n else c for c, n in zip(corner, limits, strict=True)]
    columns, rows = (np.clip(np.arange(c, c + side), 0, n - 1) for c, n in zip(corner, limits, strict=True))
    return image[rows][:, columns]


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes by area averaging to fewer pixels and by cubic interpolation to more."""
    if image.shape[:2] == (size, size):
        return image
    shrinks = size * size < image.shape[0] * image.shape[1]
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def pixels(path: str, box: str, crop: dict) -> np.ndarray:
    """Returns the model's input, float32 [1, s, s, 3], for the face in the `box` of an image file."""
    if crop.get("version", 1) != 1:
        raise ValueError(f"this script makes version 1 of the crop, and bundle.json has version {crop['version']}")
    if box and crop["align"]:
        raise ValueError("this model reads faces aligned by landmarks: give it a crop of such a face, without a box")
    image = decode(path)
    if box:
        image = square(image, [float(number) for number in box.split(",")], crop["scale"])
    options = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    # Crops of training were JPEG files.
    stored = cv2.imencode(".jpg", resize(image, crop["record_size"])[..., ::-1], options)[1]
    image = cv2.imdecode(stored, cv2.IMREAD_COLOR)[..., ::-1]
    return resize(np.ascontiguousarray(image), crop["image_size"]).astype(np.float32)[None] / 255


def main(*arguments: str) -> None:
    """Prints P(live) and the decision; with a reference also the cosine, the match and the acceptance."""
    pictures = []  # [path, box] of the face and of the reference
    for argument in arguments[1:]:
        if BOX.fullmatch(argument) and pictures:
            pictures[-1][1] = argument
        elif not BOX.fullmatch(argument) and argument[:1] != "-":
            pictures.append([argument, ""])
        else:
            sys.exit(__doc__)
    if len(pictures) not in (1, 2):
        sys.exit(__doc__)
    import onnxruntime

    bundle, model = read(arguments[0])
    session, outputs = onnxruntime.InferenceSession(model), list(bundle["outputs"])
    if len(pictures) > 1 and "embedding" not in outputs:
        raise ValueError("this model has no embedding: it cannot compare with a reference")
    inputs = ({bundle["input"]["name"]: pixels(*picture, bundle["crop"])} for picture in pictures)
    face, *reference = (dict(zip(outputs, session.run(outputs, each), strict=True)) for each in inputs)
    live = face["score"][0] >= bundle["threshold"]["value"]
    print(f"{face['score'][0]:.6f} {'live' if live else 'attack'}")
    for person in reference:
        cosine = face["embedding"][0] @ person["embedding"][0]
        match = cosine >= bundle["threshold"]["match"]["value"]
        accepted = live and match
        print(f"{cosine:.6f} {'match' if match else 'no match'}: {'accepted' if accepted else 'rejected'}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (OSError, ValueError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")
