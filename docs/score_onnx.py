"""Scores a face from an exported bundle with onnxruntime, numpy and pillow alone.

    python score_onnx.py BUNDLE IMAGE [x,y,w,h] [REFERENCE [x,y,w,h]]

BUNDLE: a folder made by --mode=export --format=onnx. x,y,w,h: the face's box in pixels of the upright image; without
it the image is a crop already, framed as those of training (`crop` of bundle.json). REFERENCE: a picture of the person
that the face is compared with, where the model has an embedding.
"""

import io
import json
import pathlib
import re
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def square(image: Image.Image, box: list[float], scale: float) -> Image.Image:
    """The square around a box, `scale` times its longer side, moved inside the frame; beyond it edges are repeated."""
    x, y, w, h = box
    side = max(1, round(scale * max(w, h)))
    corner = [round(middle - side / 2) for middle in (x + w / 2, y + h / 2)]
    corner = [min(max(c, 0), n - side) if side <= n else c for c, n in zip(corner, image.size, strict=True)]
    columns, rows = (np.clip(np.arange(c, c + side), 0, n - 1) for c, n in zip(corner, image.size, strict=True))
    return Image.fromarray(np.asarray(image)[rows][:, columns])


def resize(image: Image.Image, size: int) -> Image.Image:
    """Area average when shrinking, cubic when enlarging."""
    return image.resize((size, size), Image.Resampling.BOX if size < image.width else Image.Resampling.BICUBIC)


def pixels(path: str, box: str, crop: dict) -> np.ndarray:
    """What the model reads of the face in the `box` of an image file: float32 [1, s, s, 3]."""
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    if box and crop["align"]:
        sys.exit("this model reads faces aligned by their landmarks: give it a crop of such a face, without a box")
    if box:
        image = square(image, [float(number) for number in box.split(",")], crop["scale"])
    stored = io.BytesIO()  # crops of training were JPEG files
    resize(image, crop["record_size"]).save(stored, "JPEG", quality=95, subsampling=0)
    return np.asarray(resize(Image.open(stored), crop["image_size"]), np.float32)[None] / 255


def main(folder: str, *arguments: str) -> None:
    """Prints P(live) and the decision; with a reference also the cosine, whether it matches, and is accepted."""
    bundle = json.loads(pathlib.Path(folder, "bundle.json").read_text(encoding="utf-8"))
    file = next(name for name in bundle["files"] if name.endswith(".onnx"))
    session, outputs = onnxruntime.InferenceSession(pathlib.Path(folder, file)), list(bundle["outputs"])
    pictures = []  # [path, box] of the face and of the reference
    for argument in arguments:
        if re.fullmatch(r"(-?[\d.]+,){3}-?[\d.]+", argument):
            pictures[-1][1] = argument
        else:
            pictures.append([argument, ""])
    if len(pictures) > 1 and "embedding" not in outputs:
        sys.exit("this model has no embedding: it cannot compare with a reference")
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
    main(*sys.argv[1:])
