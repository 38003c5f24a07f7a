"""CelebA-Spoof: live photographs of celebrities from the web, and ten kinds of attacks with them; single images.

Zhang, Yin, Li, Yin, Yan, Shao, Liu: CelebA-Spoof: Large-Scale Face Anti-Spoofing Dataset with Rich Annotations, ECCV
2020. Of the paper's 625,537 images 561,575 are public; the authors keep the rest for challenges. [C] marks our own
choices.
"""

import functools
import itertools
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from input_pipeline import schema
from input_pipeline.schema import LIVE, Box, Frame, Presentation
from input_pipeline.sources import media

EXPECTED_TREE = """\
RAW/
  Data/train/123/live/000001.jpg      subject/live or spoof/image (.jpg or .png)
  Data/train/123/live/000001_BB.txt   x y w h score, of the image squeezed to 224 x 224 (may be absent)
  Data/test/...
  metas/intra_test/train_label.json   image -> 44 integers (metas may be absent)
  metas/intra_test/test_label.json
  metas/protocol2/test_on_high_quality_device/train_label.json"""

SPLITS = ("train", "test")
PATTERN = re.compile(r"Data/(train|test)/([^/]+)/(live|spoof)/[^/]+\.(?:jpg|png)")
BOX_SPACE = 224  # side of the square to which boxes refer, for images of any size

INTEGERS = 44  # values per image in a list; the first 40 are CelebA's attributes of the face
TYPES = (  # value 40 -> species, medium
    ("attack", ""),
    ("print", "photo"),
    ("print", "poster"),
    ("print", "a4"),
    ("cut", "face_mask"),
    ("cut", "upper_body_mask"),
    ("cut", "region_mask"),
    ("replay", "pc"),
    ("replay", "pad"),
    ("replay", "phone"),
    ("mask", "3d_mask"),
)
LIGHTS = ("", "normal", "strong", "back", "dark")  # value 41
ENVIRONMENTS = ("", "indoor", "outdoor")  # value 42


class Facts(NamedTuple):
    """The metadata of an image in a list."""

    species: str
    medium: str = ""
    light: str = ""
    environment: str = ""


# The last four values -> facts. Value 43, 1 for an attack, decides the label, and not the type, which is 0 for live.
FACTS = {
    (kind, light, place, attack): Facts(*(TYPES[kind] if attack else (LIVE, "")), LIGHTS[light], ENVIRONMENTS[place])
    for kind, light, place, attack in itertools.product(
        range(len(TYPES)), range(len(LIGHTS)), range(len(ENVIRONMENTS)), (0, 1)
    )
}


def read(raw_dir: str) -> list[Presentation]:
    """Lists every image on disk or in a list, sorted by path, without opening image and box files.

    Each image is one presentation; the subject is its folder, the split Data/train or Data/test. A protocol is named by
    the folder of its lists below metas: 'intra_test', 'protocol2.test_on_high_quality_device'; the column `lists` holds
    the split under each. A listed image that is not on disk raises FileNotFoundError when it is loaded.
    The lists decide whether an image is live, not its folder [C]: 2,022 images of the release lie in folders named
    live, are attacks by the lists, and show attacks where users looked (issue 29 of its repository). For an image in
    no list the folder decides; the species of such an attack is 'attack'.
    Raises NotADirectoryError or ValueError for a wrong tree or list.
    """
    facts, splits = _read_lists(Path(raw_dir, "metas"))
    images = sorted({*_on_disk(raw_dir), *facts})
    if not images:
        raise ValueError(f"CelebA-Spoof: no .jpg or .png files in {Path(raw_dir, 'Data')}; expected\n{EXPECTED_TREE}")
    return [_presentation(raw_dir, image, facts.get(image), splits.get(image, {})) for image in images]


def image_frame(path: str) -> Iterator[Frame]:
    """Yields the frame of an image file with the box of its box file; raises as `media.load_image` does."""
    image = media.load_image(path)
    height, width = image.shape[:2]
    yield Frame(0, image, read_box(Path(path).with_name(f"{Path(path).stem}_BB.txt"), height, width))


def read_box(path: Path, height: int, width: int) -> Box | None:
    """Reads the box of a `_BB.txt` file, unchecked, in pixels of its image of `height` x `width`; None without a file.

    An empty file, as there is one in the release, or a file without numbers gives NaNs, which preparation counts.
    """
    if not path.is_file():
        return None
    try:
        x, y, w, h = map(float, path.read_text(errors="replace").split()[:4])
    except ValueError:
        return (math.nan,) * 4
    across, down = width / BOX_SPACE, height / BOX_SPACE
    return x * across, y * down, w * across, h * down


def _presentation(raw_dir: str, image: str, facts: Facts | None, splits: Mapping[str, str]) -> Presentation:
    split, subject, kind = PATTERN.fullmatch(image).groups()
    facts = facts or Facts(LIVE if kind == "live" else "attack")
    return Presentation(
        path=image,
        dataset="celeba_spoof",
        subject=subject,
        video=image.removeprefix("Data/"),
        load=functools.partial(image_frame, os.path.join(raw_dir, image)),
        split=split,
        lists=schema.lists(splits),
        **facts._asdict(),
    )


def _on_disk(raw_dir: str) -> Iterator[str]:
    """Yields every image, such as 'Data/train/123/live/000001.jpg', except hidden files, which Macs leave."""
    for split in SPLITS:
        root = Path(raw_dir, "Data", split)
        if not root.is_dir():
            raise NotADirectoryError(f"CelebA-Spoof: {root} is missing; expected\n{EXPECTED_TREE}")
        for folder in itertools.chain(root.glob("*/live"), root.glob("*/spoof")):
            below = folder.relative_to(raw_dir).as_posix()
            names = (f"{below}/{name}" for name in os.listdir(folder) if name[0] != ".")
            yield from filter(PATTERN.fullmatch, names)


def _read_lists(metas: Path) -> tuple[dict[str, Facts], dict[str, dict[str, str]]]:
    """Returns (image -> facts, image -> {protocol: split}) of all lists; the first list of an image gives its facts."""
    facts: dict[str, Facts] = {}
    splits: dict[str, dict[str, str]] = {}
    for split in SPLITS:
        for path in sorted(metas.rglob(f"{split}_label.json")):
            protocol = path.parent.relative_to(metas).as_posix().replace("/", ".")
            for image, found in _read_list(path).items():
                known = facts.setdefault(image, found)
                if (known.species == LIVE) != (found.species == LIVE):
                    raise ValueError(
                        f"{path}: {image} is {found.species} here, {known.species} in another list; correct one of them"
                    )
                if splits.setdefault(image, {}).setdefault(protocol, split) != split:
                    raise ValueError(
                        f"{path}: {image} is also in train_label.json of this folder; remove it from one of them"
                    )
    return facts, splits


def _read_list(path: Path) -> dict[str, Facts]:
    """Reads a list, image -> facts; ValueError, with file and image, where it is not in the release's format."""
    try:
        listed = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: not readable as JSON ({error}); copy it again") from error
    if not isinstance(listed, dict):
        raise ValueError(f"{path}: expected one JSON object, from images to {INTEGERS} integers; copy it again")
    return {image: _parse(image, integers, path) for image, integers in listed.items()}


def _parse(image: str, integers: object, path: Path) -> Facts:
    if not PATTERN.fullmatch(image):
        raise ValueError(f"{path}: '{image}' is no image such as Data/train/123/live/000001.jpg; correct it")
    last = tuple(integers[40:]) if isinstance(integers, list) and len(integers) == INTEGERS else ()
    if last not in FACTS:
        raise ValueError(
            f"{path}: {image}: {integers}; expected {INTEGERS} integers, the last four a spoof type 0-10, a light 0-4, "
            "an environment 0-2, and 0 (live) or 1: correct it"
        )
    return FACTS[last]
