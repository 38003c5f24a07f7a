"""OULU-NPU: 55 subjects, front cameras of six phones, live faces, prints by two printers, replays on two displays.

Boulkenafet, Komulainen, Li, Feng, Hadid: OULU-NPU: A Mobile Face Presentation Attack Database with Real-World
Variations, FG 2017. Videos of 1080 x 1920 pixels and about five seconds. [C] marks our own choices.
"""

import collections
import functools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from input_pipeline import schema
from input_pipeline.schema import LIVE, Box, Presentation
from input_pipeline.sources import annotations, media

EXPECTED_TREE = """\
RAW/
  Train_files/1_1_01_1.avi   phone_session_user_access, or its anonymised name (02C48.avi)
  Train_files/1_1_01_1.txt   eyes: frame,x_right_eye,y_right_eye,x_left_eye,y_left_eye (may be absent)
  Dev_files/...
  Test_files/...
  Protocols/Protocol_1/Train.txt   lines such as +1,1_1_01_1 and -1,1_1_01_2 (Protocols may be absent)
  Protocols/Protocol_3/Train_1.txt"""

SPLITS = {"train": "Train_files", "dev": "Dev_files", "test": "Test_files"}
SPECIES = {1: LIVE, 2: "print1", 3: "print2", 4: "replay1", 5: "replay2"}  # by access
PROTOCOLS = ("1", "2", *(f"{number}.{phone}" for number in (3, 4) for phone in range(1, 7)))

# The face box in units of the distance between the eye centres [C], with MTCNN's proportions, so that annotated and
# detected crops look alike. EYE_LEVEL is the height of the eyes, as a share of the box's height from the top.
BOX_WIDTH, BOX_HEIGHT, EYE_LEVEL = 2.2, 2.8, 0.4

Eyes = tuple[float, float, float, float]  # x, y of the right eye, x, y of the left eye, in pixels


class Name(NamedTuple):
    """The fields of a file name: phone 1-6, session 1-3, user 1-55, access 1-5 (1 live, 2-3 print, 4-5 replay)."""

    phone: int
    session: int
    user: int
    access: int

    def __str__(self) -> str:
        return f"{self.phone}_{self.session}_{self.user:02d}_{self.access}"


def parse_stem(stem: str) -> Name:
    """Parses a file name without its suffix, in either of two forms; ValueError for any other name.

    The forms are `P_S_UU_A` and, in the anonymised test release, the hexadecimal of the decimal number with the digits
    of phone, access, session and user: '02C48' = 11336 is phone 1, access 1, session 3, user 36.
    """
    plain = re.fullmatch(r"(\d)_(\d)_(\d\d)_(\d)", stem, re.ASCII)
    if plain:
        name = Name(*map(int, plain.groups()))
    elif re.fullmatch(r"[0-9A-Fa-f]{4,5}", stem):
        digits = f"{int(stem, 16):05d}"
        name = Name(phone=int(digits[:-4]), access=int(digits[-4]), session=int(digits[-3]), user=int(digits[-2:]))
    else:
        name = Name(0, 0, 0, 0)
    if not (1 <= name.phone <= 6 and 1 <= name.session <= 3 and 1 <= name.user <= 55 and name.access in SPECIES):
        raise ValueError(
            f"'{stem}' is no OULU-NPU video: expected phone_session_user_access (1-6, 1-3, 01-55, 1-5) such as "
            f"1_3_36_1, or the hexadecimal of phone, access, session, user such as 02C48; move the file away"
        )
    return name


def read(raw_dir: str, *, frames: int = media.FRAMES) -> list[Presentation]:
    """Lists every video on disk or in a protocol's list, in the order of train, dev, test and of the file names.

    Each gives `frames` evenly spaced frames, with boxes from the annotated eyes. A listed video that is not on disk
    raises FileNotFoundError when it is loaded, so that it is counted. The column `lists` holds the protocols' splits.
    Raises NotADirectoryError, ValueError or FileNotFoundError for a wrong tree, name, list or option.
    """
    media.check_frames("oulu", frames)
    listed = lists_of(raw_dir)
    videos = [
        (split, path, _name(path))
        for split, folder in SPLITS.items()
        for path in annotations.videos("OULU-NPU", raw_dir, [folder], (".avi",), EXPECTED_TREE)
    ]
    for name in listed.keys() - {name for *_, name in videos}:
        split = next(iter(listed[name].values()))  # every protocol has a user in the same split
        videos.append((split, Path(raw_dir, SPLITS[split], f"{name}.avi"), name))
    videos.sort(key=lambda video: (list(SPLITS).index(video[0]), video[1]))
    return annotations.unique(
        "OULU-NPU", (_presentation(raw_dir, *video, listed.get(video[-1], {}), frames) for video in videos)
    )


def lists_of(raw_dir: str) -> dict[Name, dict[str, str]]:
    """Reads the list files in Protocols: {video: {protocol: split}}, empty without that folder.

    Protocols are named '1', '2', '3.1' .. '4.6'; their files are Protocol_1/Train.txt, Protocol_3/Train_1.txt, ...
    Raises FileNotFoundError where a protocol has some but not all of its three lists, or the folder has no lists;
    ValueError, with file and line, for a malformed line, a line that contradicts the video's name, or a video in two
    splits of a protocol.
    """
    lists: dict[Name, dict[str, str]] = collections.defaultdict(dict)
    for protocol in PROTOCOLS:
        for split, path in _list_files(raw_dir, protocol).items():
            for number, name in _read_list(path):
                if lists[name].setdefault(protocol, split) != split:
                    raise ValueError(
                        f"{path}, line {number}: {name} is also in the {lists[name][protocol]} list of protocol "
                        f"{protocol}; remove one of the two lines"
                    )
    if not lists and (root := Path(raw_dir, "Protocols")).exists():
        raise FileNotFoundError(f"OULU-NPU: no video lists in {root}; remove it, or expected\n{EXPECTED_TREE}")
    return dict(lists)


def read_eyes(path: Path) -> dict[int, Eyes]:
    """Reads {frame number: eye centres} from the usable lines of an annotation file; {} where there is no file.

    Published copies mark frames without a face by zeros; such lines, and lines that are not five numbers, are skipped.
    """
    eyes = {}
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else ():
        frame, *fields = line.split(",")
        try:
            number, centres = int(frame), tuple(float(field) for field in fields)
        except ValueError:
            continue
        if len(centres) == 4 and all(0 < value < math.inf for value in centres) and centres[:2] != centres[2:]:
            eyes[number] = centres
    return eyes


def face_box(eyes: Eyes) -> Box:
    """Returns the upright face box (x, y, w, h), in pixels, for two eye centres; it may exceed the frame."""
    right_x, right_y, left_x, left_y = eyes
    distance = math.hypot(left_x - right_x, left_y - right_y)
    width, height = BOX_WIDTH * distance, BOX_HEIGHT * distance
    return (right_x + left_x - width) / 2, (right_y + left_y) / 2 - EYE_LEVEL * height, width, height


def _name(path: Path) -> Name:
    try:
        return parse_stem(path.stem)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _presentation(raw_dir, split, path, name, lists, frames) -> Presentation:
    species = SPECIES[name.access]
    boxes = functools.partial(_boxes, path.with_suffix(".txt"))
    return Presentation(
        path=path.relative_to(raw_dir).as_posix(),
        dataset="oulu",
        subject=f"{name.user:02d}",
        video=str(name),
        species=species,
        load=functools.partial(media.video_frames, str(path), frames, boxes),
        frames=frames,
        split=split,
        lists=schema.lists(lists),
        session=str(name.session),
        sensor=str(name.phone),
        medium="" if species == LIVE else species[-1],
    )


def _boxes(path: Path) -> dict[int, Box]:
    return {number: face_box(eyes) for number, eyes in read_eyes(path).items()}


def _list_files(raw_dir: str, protocol: str) -> dict[str, Path]:
    """Returns {split: list file} of a protocol; {} where it has none."""
    number, _, fold = protocol.partition(".")
    root = Path(raw_dir, "Protocols", f"Protocol_{number}")
    paths = {split: root / f"{split.capitalize()}{fold and f'_{fold}'}.txt" for split in SPLITS}
    missing = [str(path) for path in paths.values() if not path.is_file()]
    if len(missing) == len(paths):
        return {}
    if missing:
        raise FileNotFoundError(f"OULU-NPU: the list {missing[0]} is missing; protocol {protocol} needs all three")
    return paths


def _read_list(path: Path) -> Iterator[tuple[int, Name]]:
    """Yields (line number, video) of a list file."""
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        entry = re.fullmatch(r"(\+?1|-[12]),\s*(\w+)(?:\.avi)?", line.strip(), re.ASCII)
        if not entry:
            raise ValueError(f"{where}: '{line}'; expected a line such as +1,1_1_01_1 or -1,1_1_01_2: correct it")
        try:
            name = parse_stem(entry[2])
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if (name.access == 1) == entry[1].startswith("-"):
            raise ValueError(f"{where}: '{line}' contradicts access {name.access} ({SPECIES[name.access]}); correct it")
        yield number, name
