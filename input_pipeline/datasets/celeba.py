"""CelebA: 202,599 photographs of 10,177 celebrities, aligned by their eyes, with forty attributes of each face.

Liu, Luo, Wang, Tang: Deep Learning Face Attributes in the Wild, ICCV 2015. Nobody says whether they are bona fide.
"""

import functools
from collections.abc import Iterator
from pathlib import Path

from input_pipeline import schema
from input_pipeline.schema import UNKNOWN, Frame, Presentation
from input_pipeline.sources import media

EXPECTED_TREE = """\
RAW/
  img_align_celeba/000001.jpg   178 x 218 px; may lie in Img/
  list_attr_celeba.txt          their number, the names of the attributes, then 000001.jpg -1 1 ...; may lie in Anno/
  list_eval_partition.txt       000001.jpg 0 (train), 1 (dev) or 2 (test); may lie in Eval/
  identity_CelebA.txt           000001.jpg 2880; may lie in Anno/ or be absent"""

SPLITS = {"0": "train", "1": "dev", "2": "test"}
VALUES = {"-1": 0, "1": 1}
WIDTH = 178  # of an aligned image, the shorter side


def read(raw_dir: str, *, crop: int = WIDTH) -> list[Presentation]:
    """Every image of the list of attributes, in its order; no image is opened.

    Each is its own presentation: label -1, `attributes` all that the list says, split the official one; the subject is
    the person's number, the image's own name where there is no list of identities.
    Option: `crop` is the side in pixels of the square cut from the image's centre, which is its face crop. 178, the
    image's whole width, is StarGAN's [S, its implementation, which then resizes to 128].
    A listed image that is not on disk raises FileNotFoundError when it is loaded. ValueError, naming file and line,
    for a wrong tree, list or option.
    """
    if not isinstance(crop, int) or not 0 < crop <= WIDTH:
        raise ValueError(f"celeba: expected a whole number crop in 1..{WIDTH}, got crop={crop!r}")
    images = _find(raw_dir, "img_align_celeba", "Img")
    attributes = _read_attributes(_find(raw_dir, "list_attr_celeba.txt", "Anno"))
    splits = _read_pairs(_find(raw_dir, "list_eval_partition.txt", "Eval"))
    identities = _find(raw_dir, "identity_CelebA.txt", "Anno", needed=False)
    people = _read_pairs(identities) if identities else {}
    if wrong := next((image for image in attributes if splits.get(image) not in SPLITS), None):
        raise ValueError(
            f"{raw_dir}: list_eval_partition.txt says {splits.get(wrong, 'nothing')} of {wrong}; expected 0, 1 or 2: "
            "copy the list anew"
        )
    return [
        Presentation(
            path=image,
            dataset="celeba",
            subject=people.get(image, image),
            video=image,
            species=UNKNOWN,
            load=functools.partial(centre_frame, str(images / image), crop),
            split=SPLITS[splits[image]],
            attributes=said,
            cropped=True,
        )
        for image, said in attributes.items()
    ]


def centre_frame(path: str, crop: int) -> Iterator[Frame]:
    """The one frame of an image file, cut to the square of side `crop` at its centre; errors as of `media.load_image`.

    ValueError, naming the file, where the image is smaller.
    """
    image = media.load_image(path)
    height, width = image.shape[:2]
    if min(height, width) < crop:
        raise ValueError(f"{path}: {width}x{height} px; expected 178x218, as img_align_celeba has: copy it anew")
    top, left = (height - crop) // 2, (width - crop) // 2
    yield Frame(0, image[top : top + crop, left : left + crop])


def _find(raw_dir: str, name: str, folder: str, *, needed: bool = True) -> Path | None:
    """RAW/name or RAW/folder/name; where neither is there, None or, if it is `needed`, ValueError."""
    found = next((path for path in (Path(raw_dir, name), Path(raw_dir, folder, name)) if path.exists()), None)
    if needed and not found:
        raise ValueError(f"CelebA: no {name} in {raw_dir} or {Path(raw_dir, folder)}; expected\n{EXPECTED_TREE}")
    return found


def _read_attributes(path: Path) -> dict[str, str]:
    """Image -> the column `attributes`."""
    lines = path.read_text().splitlines()
    count, names = [*lines, "", ""][:2]
    names, images = names.split(), lines[2:]
    if not count.strip().isdecimal() or int(count) != len(images):
        raise ValueError(f"{path}, line 1: expected the number of images, {len(images)}, got '{count}'; copy it anew")
    found = {}
    for number, line in enumerate(images, start=3):
        image, *values = line.split() or [""]
        if len(values) != len(names) or not set(values) <= set(VALUES):
            raise ValueError(
                f"{path}, line {number}: expected an image and {len(names)} of -1 and 1, got '{line}'; copy it anew"
            )
        found[image] = schema.attributes(dict(zip(names, (VALUES[value] for value in values), strict=True)))
    return found


def _read_pairs(path: Path) -> dict[str, str]:
    """Image -> the word beside it."""
    pairs = [line.split() for line in path.read_text().splitlines()]
    if wrong := next((number for number, pair in enumerate(pairs, start=1) if len(pair) != 2), None):
        raise ValueError(f"{path}, line {wrong}: expected an image and a number; copy it anew")
    return dict(pairs)
