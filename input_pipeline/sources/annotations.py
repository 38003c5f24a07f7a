"""What a video set says of its videos: in the names of their files, and in face files beside them."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from input_pipeline.schema import Box, Presentation


def videos(name: str, raw_dir: str, folders: Iterable[str], suffixes: Sequence[str], tree: str) -> list[Path]:
    """The files of these `suffixes` (lower case, any case on disk) below each of `folders`, in the order of the paths.

    Hidden files are left out: archives packed on a Mac hold a `._NAME.mov` beside each video.
    NotADirectoryError for a missing folder and ValueError for one without videos, both showing the expected `tree`.
    """
    found = []
    for root in (Path(raw_dir, folder) for folder in folders):
        if not root.is_dir():
            raise NotADirectoryError(f"{name}: {root} is missing; expected\n{tree}")
        paths = [path for path in root.rglob("*") if path.suffix.lower() in suffixes and path.name[0] != "."]
        if not paths:
            raise ValueError(f"{name}: no {' or '.join(suffixes)} files in {root}; expected\n{tree}")
        found += sorted(paths)
    return found


def fields(name: str, raw_dir: str, path: Path, patterns: Sequence[str], example: str) -> dict[str, str | None]:
    """The named groups of the first of `patterns` that fits the path below `raw_dir`, without its suffix.

    ValueError, naming the file and an `example`, where none does.
    """
    stem = path.relative_to(raw_dir).with_suffix("").as_posix()
    for pattern in patterns:
        if match := re.fullmatch(pattern, stem, re.ASCII):
            return match.groupdict()
    raise ValueError(f"{path} is no {name} video: expected a name such as {example}; rename it or move it elsewhere")


def unique(name: str, presentations: Iterable[Presentation]) -> list[Presentation]:
    """The presentations as a list; ValueError, naming both files, where two are the same video."""
    first: dict[str, Presentation] = {}
    for presentation in presentations:
        other = first.setdefault(presentation.video, presentation)
        if other is not presentation:
            raise ValueError(
                f"{name}: {other.path} and {presentation.path} are both video {presentation.video}: remove one of them"
            )
    return list(first.values())


def read_boxes(path: Path, *, numbered: bool = True, corners: bool = False) -> dict[int, Box]:
    """Frame number -> face box of a `.face` file, one line a frame, spaces or commas between the numbers.

    numbered: a line begins with its frame's number; else frame 0 is the first line. corners: `left top right bottom`
    instead of `x y w h`; both in pixels. What follows in a line (eyes) is not read.
    Lines of zeros mean that there is no face; they, and lines that are no such numbers (a header, the end of a file
    that was cut off), are left out [C]: the detector looks there, if no neighbour has a box. Other boxes come as they
    are, right or wrong. No file: no boxes.
    """
    boxes: dict[int, Box] = {}
    for number, line in enumerate(path.read_text(errors="replace").splitlines() if path.is_file() else ()):
        tokens = line.replace(",", " ").split()
        try:
            frame = int(tokens.pop(0)) if numbered else number
            x, y, width, height = map(float, tokens[:4])
        except (IndexError, ValueError):
            continue
        if any((x, y, width, height)):
            boxes[frame] = (x, y, width - x, height - y) if corners else (x, y, width, height)
    return boxes
