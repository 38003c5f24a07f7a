"""CelebA: 202,599 photographs of 10,177 celebrities, aligned by their eyes, with forty attributes of each face.

Liu, Luo, Wang, Tang: Deep Learning Face Attributes in the Wild, ICCV 2015. There is no live/attack label. [S] marks
what a source states.
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
WIDTH = 178  # shorter side of an aligned image, in pixels


def read(raw_dir: str, *, crop: int = WIDTH) -> list[Presentation]:
    """Lists every image of the list of attributes, in its order, without opening any.

    Each image is one presentation with label -1, all attributes of the list and the official split. The subject is the
    person's number, or the name of the image where there is no list of identities.
    Option: `crop` is the side in pixels of the square at the image's centre, which becomes the face crop. 178, the
    whole width, is StarGAN's value [S, its implementation, which then resizes to 128].
    A listed image that is not on disk raises FileNotFoundError when it is loaded. Raises ValueError, with file and
    line, for a wrong tree, list or option.
    """
    if not isinstance(crop, int) or not 0 < crop <= WIDTH:
        raise ValueError(f"celeba: crop={crop!r}; expected a whole number in 1..{WIDTH}")
    images = _find(raw_dir, "img_align_celeba", "Img")
    attributes = _read_attributes(_find(raw_dir, "list_attr_celeba.txt", "Anno"))
    splits = _read_pairs(_find(raw_dir, "list_eval_partition.txt", "Eval"))
    identities = _find(raw_dir, "identity_CelebA.txt", "Anno", needed=False)
    people = _read_pairs(identities) if identities else {}
    if wrong := next((image for image in attributes if splits.get(image) not in SPLITS), None):
        raise ValueError(
            f"{raw_dir}: list_eval_partition.txt says {splits.get(wrong, 'nothing')} of {wrong}; expected 0, 1 or 2: "
            "copy the list again"
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
            attributes=column,
            cropped=True,
        )
        for image, column in attributes.items()
    ]


def centre_frame(path: str, crop: int) -> Iterator[Frame]:
    """Yields the frame of an image file, cropped to the square of side `crop` at its centre.

    Raises as `media.load_image` does, and ValueError, with the file, where the image is smaller.
    """
    image = media.load_image(path)
    height, width = image.shape[:2]
    if min(height, width) < crop:
        raise ValueError(f"{path}: {width}x{height} px; expected 178x218, as in img_align_celeba: copy it again")
    top, left = (height - crop) // 2, (width - crop) // 2
    yield Frame(0, image[top : top + crop, left : left + crop])


def _find(raw_dir: str, name: str, folder: str, *, needed: bool = True) -> Path | None:
    """Returns RAW/name or RAW/folder/name; where neither exists, None or, if `needed`, raises ValueError."""
    found = next((path for path in (Path(raw_dir, name), Path(raw_dir, folder, name)) if path.exists()), None)
    if needed and not found:
        raise ValueError(f"CelebA: no {name} in {raw_dir} or {Path(raw_dir, folder)}; expected\n{EXPECTED_TREE}")
    return found


def _read_attributes(path: Path) -> dict[str, str]:
    """Returns {image: value of the column `attributes`}."""
    lines = path.read_text().splitlines()
    count, names = [*lines, "", ""][:2]
    names, images = names.split(), lines[2:]
    if not count.strip().isdecimal() or int(count) != len(images):
        raise ValueError(f"{path}, line 1: '{count}'; expected the number of images, {len(images)}: copy it again")
    found = {}
    for number, line in enumerate(images, start=3):
        image, *values = line.split() or [""]
        if len(values) != len(names) or not set(values) <= set(VALUES):
            raise ValueError(
                f"{path}, line {number}: '{line}'; expected an image and {len(names)} values -1 or 1: copy it again"
            )
        found[image] = schema.attributes(dict(zip(names, (VALUES[value] for value in values), strict=True)))
    return found


def _read_pairs(path: Path) -> dict[str, str]:
    """Returns {image: the word after it} of a list."""
    pairs = [line.split() for line in path.read_text().splitlines()]
    if wrong := next((number for number, pair in enumerate(pairs, start=1) if len(pair) != 2), None):
        raise ValueError(f"{path}, line {wrong}: expected an image and a number; copy it again")
    return dict(pairs)
