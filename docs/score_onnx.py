"""Scores a face from an exported bundle with onnxruntime, numpy and pillow alone.

    python score_onnx.py BUNDLE IMAGE [x,y,w,h]

BUNDLE: a folder made by --mode=export --format=onnx. x,y,w,h: the face's box in pixels of the upright image; without
it the image is a crop already, framed as those of training (`crop` of bundle.json).
"""

import io
import json
import pathlib
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


def main(folder: str, path: str, box: str = "") -> None:
    """Prints P(live) and the decision."""
    bundle = json.loads(pathlib.Path(folder, "bundle.json").read_text(encoding="utf-8"))
    file = next(name for name in bundle["files"] if name.endswith(".onnx"))
    image, crop = ImageOps.exif_transpose(Image.open(path)).convert("RGB"), bundle["crop"]
    if box and crop["align"]:
        sys.exit("this model reads faces aligned by their landmarks: give it a crop of such a face, without a box")
    if box:
        image = square(image, [float(number) for number in box.split(",")], crop["scale"])
    stored = io.BytesIO()  # crops of training were JPEG files
    resize(image, crop["record_size"]).save(stored, "JPEG", quality=95, subsampling=0)
    pixels = np.asarray(resize(Image.open(stored), crop["image_size"]), np.float32) / 255
    session = onnxruntime.InferenceSession(pathlib.Path(folder, file))
    score = session.run(["score"], {bundle["input"]["name"]: pixels[None]})[0][0]
    print(f"{score:.6f} {'live' if score >= bundle['threshold']['value'] else 'attack'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
