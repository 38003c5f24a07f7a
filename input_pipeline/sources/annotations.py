"""Metadata of video data sets: in the names of the videos, and in face files beside them. [C] marks our own choices."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from input_pipeline.schema import Box, Presentation


def videos(name: str, raw_dir: str, folders: Iterable[str], suffixes: Sequence[str], tree: str) -> list[Path]:
    """Lists the files with these `suffixes` (lower case; any case on disk) below `folders`, sorted by path.

    Hidden files are left out: archives packed on a Mac hold a `._NAME.mov` beside each video.
    Raises NotADirectoryError for a missing folder and ValueError for one without videos; both show the expected `tree`.
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
    """Returns the named groups of the first of `patterns` that matches the path below `raw_dir` without its suffix.

    Raises ValueError, with the file and an `example`, where none matches.
    """
    stem = path.relative_to(raw_dir).with_suffix("").as_posix()
    for pattern in patterns:
        if match := re.fullmatch(pattern, stem, re.ASCII):
            return match.groupdict()
    raise ValueError(f"{path} is no {name} video: expected a name such as {example}; rename or move the file")


def unique(name: str, presentations: Iterable[Presentation]) -> list[Presentation]:
    """Returns the presentations as a list; raises ValueError, with both files, where two are the same video."""
    first: dict[str, Presentation] = {}
    for presentation in presentations:
        other = first.setdefault(presentation.video, presentation)
        if other is not presentation:
            raise ValueError(
                f"{name}: {other.path} and {presentation.path} are both video {presentation.video}: remove one of them"
            )
    return list(first.values())


def read_boxes(path: Path, *, numbered: bool = True, corners: bool = False) -> dict[int, Box]:
    """Reads a `.face` file with one line per frame and spaces or commas between the numbers: {frame number: face box}.

    Args:
      path: the file; where it does not exist, there are no boxes.
      numbered: whether a line begins with the number of its frame; otherwise the first line is frame 0.
      corners: whether a box is `left top right bottom` instead of `x y w h`, in pixels.

    Further numbers of a line (eyes) are ignored. Lines of zeros mean that there is no face. They, and lines without
    numbers (a header, the end of a truncated file), are left out [C], and the detector searches these frames unless a
    neighbouring frame has a box. Boxes are not checked.
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
