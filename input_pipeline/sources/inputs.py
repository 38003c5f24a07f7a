"""Inputs to score: images, videos, folders of them, a webcam. The content of a file decides its type, not its name.

A file that cannot be read is an input with an error; it does not stop the others. [S] marks what a source states, [C]
our own choice.
"""

import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import cv2

from input_pipeline.schema import Frame
from input_pipeline.sources import media

WEBCAM = "webcam:"
STRIDE = 5  # every fifth frame of a webcam is taken: one in a sixth of a second [C]
# First bytes of AVI, MP4 and QuickTime, Matroska and WebM [S, their specifications]. FFmpeg gets no other files, as it
# would also open play lists and fetch the addresses in them. HEIF has MP4's boxes, but holds a still image in tiles.
VIDEO = re.compile(
    rb"RIFF....AVI |....ftyp(?!avi[fs]|he[iv]|m[is]f1)|....(moov|mdat|wide|free|skip)|\x1aE\xdf\xa3", re.S
)


class Input(NamedTuple):
    """An image, a video or a webcam, with the `name` by which it was given.

    `load()` yields its frames as `Presentation.load` does, and may raise any exception of a decoder.
    """

    name: str
    load: Callable[[], Iterator[Frame]]


def find(paths: Iterable[str], frames: int = media.FRAMES) -> list[Input]:
    """Returns the inputs for `paths`: files, webcams (`webcam:0`), and all files below folders, sorted by name.

    A video gives `frames` evenly spaced frames. Links are followed, each folder is entered once, and hidden files,
    which Macs and cameras leave, are skipped [C]. A path that does not exist is an input that cannot be read.
    """
    return [found for path in paths for found in _below(path, frames)]


def check(paths: Iterable[str]) -> None:
    """FileNotFoundError for the first of `paths` that does not exist; it opens none of them."""
    for path in paths:
        if not (path.startswith(WEBCAM) or os.path.lexists(path)):
            raise FileNotFoundError(f"{path} does not exist; expected images, videos, folders of them, or {WEBCAM}0")


def frames_of(source: Input) -> Iterator[tuple[Frame | None, str]]:
    """Yields (frame, '') for each frame of `source`, and a last (None, reason) where it cannot be read to its end."""
    try:
        for frame in source.load():
            yield frame, ""
    except Exception as error:  # decoders raise exceptions of many types
        reason = str(error).removeprefix(f"{os.path.abspath(source.name)}: ").removeprefix(f"{source.name}: ")
        yield None, reason or type(error).__name__


def is_video(path: str) -> bool:
    """Returns whether the file at `path` begins as a video does."""
    with open(path, "rb") as file:
        return bool(VIDEO.match(file.read(16)))


def _below(path: str, frames: int) -> Iterator[Input]:
    if path.startswith(WEBCAM):
        yield Input(path, functools.partial(_webcam_frames, path, frames))
        return
    if not os.path.isdir(path):
        yield Input(path, functools.partial(_file_frames, path, frames))
        return
    names, failures = [], []
    entered = {os.path.realpath(path)}
    for folder, folders, files in os.walk(path, onerror=failures.append, followlinks=True):
        folders[:] = [
            name for name in sorted(folders) if name[0] != "." and _first(os.path.join(folder, name), entered)
        ]
        names += [os.path.join(folder, name) for name in sorted(files) if name[0] != "."]
    yield from (Input(name, functools.partial(_file_frames, name, frames)) for name in names)
    yield from (Input(error.filename, functools.partial(_refuse, error)) for error in failures)
    if not names and not failures:
        yield Input(path, functools.partial(_refuse, ValueError("the folder contains no file")))


def _first(folder: str, entered: set[str]) -> bool:
    """Returns whether `folder` was not yet `entered`, by any link, and adds it to `entered`."""
    real = os.path.realpath(folder)
    is_first = real not in entered
    entered.add(real)
    return is_first


def _file_frames(path: str, frames: int) -> Iterator[Frame]:
    if not os.path.isfile(path):
        raise FileNotFoundError("no such file" if not os.path.exists(path) else "not a regular file")
    yield from (media.video_frames if is_video(path) else media.image_frames)(path, frames)


def _webcam_frames(name: str, frames: int) -> Iterator[Frame]:
    camera = name.removeprefix(WEBCAM)
    if not camera.isdecimal():
        raise ValueError("expected the number of a webcam, such as webcam:0")
    capture = cv2.VideoCapture(int(camera))
    try:
        for number in range(1, STRIDE * frames + 1):
            found, image = capture.read()
            if not found:
                raise ValueError(f"webcam {camera} gives no image; check that it exists and no other program uses it")
            if number % STRIDE == 0:
                yield Frame(number, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    finally:
        capture.release()


def _refuse(error: Exception) -> Iterator[Frame]:
    raise error
