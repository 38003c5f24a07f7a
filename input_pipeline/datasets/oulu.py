"""OULU-NPU: 55 subjects, front cameras of six phones, live faces, prints by two printers, replays on two displays.

Boulkenafet, Komulainen, Li, Feng, Hadid: OULU-NPU: A Mobile Face Presentation Attack Database with Real-World
Variations, FG 2017. Videos of 1080 x 1920 pixels and about five seconds.
"""

import functools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from input_pipeline.schema import LIVE, Sample

EXPECTED_TREE = """\
RAW/
  Train_files/1_1_01_1.avi   phone_session_user_access, or its anonymised name (02C48.avi)
  Train_files/1_1_01_1.txt   eyes: frame,x_right_eye,y_right_eye,x_left_eye,y_left_eye (may be absent)
  Dev_files/...
  Test_files/..."""

SPLITS = {"train": "Train_files", "dev": "Dev_files", "test": "Test_files"}
SPECIES = {1: LIVE, 2: "print1", 3: "print2", 4: "replay1", 5: "replay2"}  # by access

# The face box in distances between the eye centres [C]: MTCNN's proportions, so that annotated and detected crops
# look alike. EYE_LEVEL is where in the box the eyes lie, as a share of its height from the top.
BOX_WIDTH, BOX_HEIGHT, EYE_LEVEL = 2.2, 2.8, 0.4

Eyes = tuple[float, float, float, float]  # x, y of the right eye, x, y of the left eye, in pixels


class Name(NamedTuple):
    """What a file name says: phone 1-6, session 1-3, user 1-55, access 1-5 (1 live, 2-3 print, 4-5 replay)."""

    phone: int
    session: int
    user: int
    access: int

    def __str__(self) -> str:
        return f"{self.phone}_{self.session}_{self.user:02d}_{self.access}"


def parse_stem(stem: str) -> Name:
    """The fields of a file name without its suffix, in either form; ValueError for any other name.

    `P_S_UU_A`; or, in the anonymised test release, the decimal number whose digits are phone, access, session and
    user, in hexadecimal: '02C48' = 11336 is phone 1, access 1, session 3, user 36.
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
            f"1_3_36_1, or the hexadecimal of phone, access, session, user such as 02C48; move the file elsewhere"
        )
    return name


def read(raw_dir: str, *, frames: int = 8) -> Iterator[Sample]:
    """`frames` evenly spaced frames of every video, or all of a shorter one, in the order of splits, names, numbers.

    The numbers, from 0, are the centres of `frames` equal spans [C]: they keep clear of the ends, where the length in
    a file's header may exceed by a frame or two what can be decoded. `box` comes from the eyes in the
    annotated frame nearest to the sample's, and is None where no usable line exists. `load()` decodes all chosen
    frames of its video in one pass and keeps those of the last video only, so load in order.
    ValueError for a wrong tree, name or option. A damaged video is yielded too: `load()` raises ValueError for each
    frame that is not there.
    """
    for split, path, name in _videos(raw_dir, frames):
        numbers, eyes = _frame_numbers(path, frames), read_eyes(path.with_suffix(".txt"))
        species = SPECIES[name.access]
        for number in numbers:
            yield Sample(
                key=f"{SPLITS[split]}/{path.name}/{number}",
                dataset="oulu",
                subject=f"{name.user:02d}",
                video=str(name),
                species=species,
                load=functools.partial(_load, str(path), numbers, number),
                frame=number,
                split=split,
                session=str(name.session),
                sensor=str(name.phone),
                medium="" if species == LIVE else species[-1],
                box=_box_at(number, eyes),
            )


def count(raw_dir: str, *, frames: int = 8) -> int:
    """How many samples `read` yields; it opens every video for its length, but decodes none."""
    return sum(len(_frame_numbers(path, frames)) for _, path, _ in _videos(raw_dir, frames))


def read_eyes(path: Path) -> dict[int, Eyes]:
    """Frame number -> eye centres, of the usable lines of an annotation file; empty where there is no file.

    Published copies mark frames without a face by zeros; such lines, and those that are not five numbers, are left
    out.
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


def face_box(eyes: Eyes) -> tuple[float, float, float, float]:
    """The upright face box (x, y, w, h), in pixels, around two eye centres; it may reach beyond the frame."""
    right_x, right_y, left_x, left_y = eyes
    distance = math.hypot(left_x - right_x, left_y - right_y)
    width, height = BOX_WIDTH * distance, BOX_HEIGHT * distance
    return (right_x + left_x - width) / 2, (right_y + left_y) / 2 - EYE_LEVEL * height, width, height


def _box_at(number: int, eyes: dict[int, Eyes]) -> tuple[float, float, float, float] | None:
    """The face box in the annotated frame nearest to `number`, the earlier of two; None where there is none."""
    if not eyes:
        return None
    return face_box(eyes[min(eyes, key=lambda annotated: (abs(annotated - number), annotated))])


def _videos(raw_dir: str, frames: int) -> list[tuple[str, Path, Name]]:
    """(split, path, name) of every video; an error shows the expected tree where there is none."""
    if not isinstance(frames, int) or frames < 1:
        raise ValueError(f"oulu: expected a whole number frames >= 1, got frames={frames!r}")
    videos: dict[Name, tuple[str, Path, Name]] = {}
    for split, folder in SPLITS.items():
        root = Path(raw_dir, folder)
        if not root.is_dir():
            raise NotADirectoryError(f"OULU-NPU: {root} is missing; expected\n{EXPECTED_TREE}")
        paths = sorted(path for path in root.iterdir() if path.suffix.lower() == ".avi")
        if not paths:
            raise ValueError(f"OULU-NPU: no .avi files in {root}; expected\n{EXPECTED_TREE}")
        for path in paths:
            try:
                name = parse_stem(path.stem)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
            if name in videos:
                raise ValueError(f"{path} and {videos[name][1]} are both video {name}: remove one of them")
            videos[name] = split, path, name
    return list(videos.values())


def _frame_numbers(path: Path, frames: int) -> tuple[int, ...]:
    """The frames to take of a video, ascending. One that cannot be opened counts as if it had just as many [C]."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    length = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    if length < 1:
        return tuple(range(frames))
    taken = min(frames, length)
    return tuple((2 * i + 1) * length // (2 * taken) for i in range(taken))


def _load(path: str, numbers: tuple[int, ...], number: int) -> np.ndarray:
    frame = _decode(path, numbers).get(number)
    if frame is None:
        raise ValueError(f"{path}: frame {number} cannot be decoded; the file is cut off or damaged, copy it anew")
    return frame


@functools.lru_cache(maxsize=1)  # eight frames of 1080 x 1920 are 50 MB
def _decode(path: str, numbers: tuple[int, ...]) -> dict[int, np.ndarray]:
    """Number -> RGB uint8 frame [h, w, 3], of those `numbers` that can be decoded.

    It reads forward, because OpenCV's seek may stop at a neighbouring frame. Frames come out upright: OpenCV follows
    the rotation in the file's metadata by default (CAP_PROP_ORIENTATION_AUTO).
    """
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)  # named, else digits in a path pass for an image sequence
    decoded = {}
    for number in range(numbers[-1] + 1):
        if not capture.grab():
            break
        if number in numbers:
            found, frame = capture.retrieve()
            if found:
                decoded[number] = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    capture.release()
    return decoded
