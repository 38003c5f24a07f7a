"""Copies of pictures with the faces that were scored in them."""

import os
import re
import tempfile
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLOURS = {"live": (0, 150, 60), "attack": (215, 30, 30)}
MOST_SIDE = 65_500  # of a JPEG file, in pixels [S libjpeg]


def check_folder(folder: str) -> None:
    """Makes `folder` and the folders above it; OSError where no file can be written there."""
    try:
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"--annotate={folder}: cannot be written ({reason}); give another folder") from error


def write(folder: str, number: int, name: str, image: np.ndarray, rows: Sequence[dict]) -> None:
    """Writes FOLDER/<number>-<name>.jpg: a copy of `image` with the boxes, scores and decisions of `rows`.

    number: of the frame among all that were read. name: of the input; its last part goes into the file's name.
    image: RGB uint8 [h, w, 3]. rows: of the table that `predict` makes; rows with an error have no box. A face that is
    compared with a reference has the colour of live only where it is accepted.
    ValueError for an image of more than `MOST_SIDE` pixels a side; OSError where the file cannot be written. Neither
    leaves a part of a file.
    """
    picture = Image.fromarray(image)
    if max(picture.size) > MOST_SIDE:
        raise ValueError(f"{picture.width} x {picture.height} pixels; a JPEG file has at most {MOST_SIDE} a side")
    draw, line = ImageDraw.Draw(picture), max(2, min(picture.size) // 200)
    font = ImageFont.load_default(size=max(10, min(picture.size) // 25))
    for row in rows:
        if row["error"]:
            continue
        x, y, w, h = (row[name] for name in "xywh")
        colour, text = COLOURS[row["decision"]], f"{row['decision']} {row['score']:.3f}"
        if "match" in row:
            colour = COLOURS["live" if row["accepted"] == "yes" else "attack"]
            text += f"\n{'match' if row['match'] == 'yes' else 'no match'} {row['similarity']:.3f}"
        draw.rectangle((x, y, x + w, y + h), outline=colour, width=line)
        place = (x + line, y + line)
        draw.rectangle(draw.textbbox(place, text, font), fill=colour)
        draw.text(place, text, (255, 255, 255), font)
    path = os.path.join(folder, f"{number:06d}-{_plain(name)}.jpg")
    temporary = f"{path}.tmp{os.getpid()}"
    try:
        picture.save(temporary, format="JPEG", quality=90)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def _plain(name: str) -> str:
    """The last part of a path in letters that every file system takes."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", os.path.basename(name))[:100]
