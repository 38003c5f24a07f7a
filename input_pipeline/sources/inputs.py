"""What a person wants scored: images, videos, folders of them, a webcam. What a file is its content says, not its name.

Nothing here stops at a file that cannot be read: it is an input with an error.
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
STRIDE = 5  # frames of a webcam from one that is taken to the next: a sixth of a second [C]
# How AVI, MP4 and QuickTime, Matroska and WebM begin [S, their specifications]. FFmpeg is shown nothing else: it opens
# play lists, too, and fetches what they name. HEIF has MP4's boxes, and holds a picture in tiles.
VIDEO = re.compile(
    rb"RIFF....AVI |....ftyp(?!avi[fs]|he[iv]|m[is]f1)|....(moov|mdat|wide|free|skip)|\x1aE\xdf\xa3", re.S
)


class Input(NamedTuple):
    """An image, a video or a webcam under the `name` it was asked for by; `load()` yields its frames as a
    `Presentation`'s does, and may raise anything: decoders of damaged files do."""

    name: str
    load: Callable[[], Iterator[Frame]]


def find(paths: Iterable[str], frames: int = media.FRAMES) -> list[Input]:
    """The inputs that `paths` name: files, webcams (`webcam:0`), and all files below folders, in the order of names.

    `frames` are taken of a video, evenly spaced. Links are followed, each folder is entered once, hidden files are
    left out [C]: Macs and cameras leave them. What is not there is an input that cannot be read.
    """
    return [found for path in paths for found in _below(path, frames)]


def frames_of(source: Input) -> Iterator[tuple[Frame | None, str]]:
    """(frame, '') for each frame of `source`; where it cannot be read, or not to its end, (None, why) at last."""
    try:
        for frame in source.load():
            yield frame, ""
    except Exception as error:  # whatever a decoder raises
        reason = str(error).removeprefix(f"{os.path.abspath(source.name)}: ").removeprefix(f"{source.name}: ")
        yield None, reason or type(error).__name__


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
        yield Input(path, functools.partial(_refuse, ValueError("the folder holds no file")))


def _first(folder: str, entered: set[str]) -> bool:
    """Whether `folder` was not `entered` before, by whatever link; it now is."""
    real = os.path.realpath(folder)
    is_first = real not in entered
    entered.add(real)
    return is_first


def _file_frames(path: str, frames: int) -> Iterator[Frame]:
    if not os.path.isfile(path):
        raise FileNotFoundError("no such file" if not os.path.exists(path) else "not a file of images or videos")
    with open(path, "rb") as file:
        is_video = VIDEO.match(file.read(16))
    yield from (media.video_frames if is_video else media.image_frames)(path, frames)


def _webcam_frames(name: str, frames: int) -> Iterator[Frame]:
    camera = name.removeprefix(WEBCAM)
    if not camera.isdecimal():
        raise ValueError("expected the number of a webcam, such as webcam:0")
    capture = cv2.VideoCapture(int(camera))
    try:
        for number in range(1, STRIDE * frames + 1):
            found, image = capture.read()
            if not found:
                raise ValueError(f"webcam {camera} gives no picture; is it there, and does no other program use it?")
            if number % STRIDE == 0:
                yield Frame(number, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    finally:
        capture.release()


def _refuse(error: Exception) -> Iterator[Frame]:
    raise error
