"""Image and video files: decoding, upright, and the choice of frames."""

import contextlib
import functools
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from input_pipeline.schema import Box, Frame

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".tif", ".tiff", ".webp"}
VIDEO_SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"}
FORMATS = (
    "BMP",
    "GIF",
    "JPEG",
    "PNG",
    "PPM",
    "TIFF",
    "WEBP",
)  # of Pillow: others run programs, or are rarely tested [C]
ANIMATED = ("GIF", "PNG", "WEBP")  # whose pages are a film; those of TIFF and of a phone's MPO are not
# Most pixels of the frames that are decoded of one file, up to the last that is taken: files of a few kB may unfold to
# hours of work. Two cores decode 0.3 billion a second of a GIF and 1 billion of a video. [C]
ANIMATION_PIXELS = 2_000_000_000  # 33 seconds of 1080p at 30 frames a second
VIDEO_PIXELS = 50_000_000_000  # 13 minutes of it
FRAMES = 8  # of a video, by default (EVALUATION: n a video, evenly spaced)
NEAR = 15  # a face stays near its annotated place for so many frames: half a second [C]


def load_image(path: str | Path) -> np.ndarray:
    """The image file at `path` as RGB uint8 [h, w, 3], turned upright as its EXIF orientation says.

    Pillow rather than OpenCV, which fills the missing part of a truncated file with grey and says nothing. The first
    frame of an animated one; 16 bits become the upper 8; transparency is left out [C].
    FileNotFoundError for an absent file; ValueError, naming the file, for a corrupt one, and, before it is decoded, for
    one of more pixels than Pillow takes for safe (89 million).
    """
    with _opened(path) as image:
        return _rgb(image)


def image_frames(path: str | Path, frames: int = FRAMES) -> Iterator[Frame]:
    """The one frame of an image file, or `frames` of an animated one, spaced as of a video [C].

    Errors are those of `load_image`, and ValueError, before anything is decoded, for more than `ANIMATION_PIXELS`.
    """
    with _opened(path) as image:
        wanted = evenly(image.n_frames if image.format in ANIMATED else 1, frames)
        _check_pixels(wanted, *image.size, ANIMATION_PIXELS)
        for number in wanted:
            image.seek(number)
            yield Frame(number, _rgb(image))


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """The image file, not yet decoded, closed in the end; what goes wrong meanwhile is an error as of `load_image`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path, formats=FORMATS)
        with image:
            yield image
    except FileNotFoundError:
        raise
    except UnidentifiedImageError as error:
        raise ValueError(f"{path}: not a readable image (of no format among {', '.join(FORMATS)})") from error
    except (
        OSError,
        SyntaxError,  # of a PNG
        ValueError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise ValueError(f"{path}: not a readable image ({error})") from error


def _rgb(image: Image.Image) -> np.ndarray:
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)  # which copies upright ones, too
    if image.mode in ("I", "F"):
        raise ValueError("32 bits a pixel do not say what is white; save it with 8 or 16")
    if image.mode.startswith("I;16"):  # which Pillow clips at 255
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns of a palette that goes to RGB at once
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _check_pixels(wanted: tuple[int, ...], width: float, height: float, most: int) -> None:
    """ValueError where the frames up to the last of `wanted`, in ascending order, have more than `most` pixels."""
    frames = wanted[-1] + 1
    if frames * width * height > most:
        raise ValueError(
            f"{frames} frames of {width:.0f} x {height:.0f} pixels would be decoded, {frames * width * height:.2g} "
            f"pixels; expected at most {most:.2g}: scale it down or cut it"
        )


def image_frame(path: str | Path, annotation: Callable[[], Box | None] | None = None) -> Iterator[Frame]:
    """The one frame of an image file; `annotation()` returns its face box, or None."""
    image = load_image(path)
    yield Frame(0, image, annotation() if annotation else None)


def video_frames(
    path: str | Path, frames: int = FRAMES, annotation: Callable[[], Mapping[int, Box]] | None = None
) -> Iterator[Frame]:
    """`frames` evenly spaced frames of a video (all of a shorter one), upright, in order.

    Frame numbers, from 0, are the centres of `frames` equal spans [C]: they keep clear of the ends, where the length
    in a file's header may exceed by a frame or two what can be decoded. The file is read forward, because OpenCV's
    seek may stop at a neighbouring frame. OpenCV turns frames as the file's metadata says.
    annotation: returns frame number -> face box; a frame gets the box of the nearest annotated frame within `NEAR`.
        A video that is turned gets none [C]: published boxes of such videos (six of MSU-MFSD) are in doubt whether
        they refer to the frame before or after it is turned.
    FileNotFoundError for an absent file. ValueError, naming file and frame, where a frame cannot be decoded; at once
    where the frames up to the last one that is taken have more than `VIDEO_PIXELS`.
    """
    path = os.path.abspath(path)  # FFmpeg takes what precedes a colon for a protocol
    if not os.path.exists(path):
        raise FileNotFoundError(path)
    if any("\ud800" <= letter <= "\udfff" for letter in path):  # OpenCV would crash
        raise ValueError(f"{path!r}: OpenCV opens no video whose name is not UTF-8; rename it")
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)  # named, else digits in a path pass for an image sequence
    try:
        length = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        wanted = evenly(length, frames)
        if not wanted:
            raise ValueError(f"{path}: cannot be opened as a video; copy it anew")
        width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        if width * height > Image.MAX_IMAGE_PIXELS:
            raise ValueError(f"{path}: its frames have more than {Image.MAX_IMAGE_PIXELS} pixels; scale it down")
        try:
            _check_pixels(wanted, width, height, VIDEO_PIXELS)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        turned = capture.get(cv2.CAP_PROP_ORIENTATION_META) % 360 != 0
        boxes = annotation() if annotation and not turned else {}
        for number in range(wanted[-1] + 1):
            found, image = capture.grab(), None
            if found and number in wanted:
                found, image = capture.retrieve()
            if not found:
                raise ValueError(
                    f"{path}: frame {number} of {length} cannot be decoded; the file is cut off: copy it anew"
                )
            if image is not None:
                yield Frame(number, cv2.cvtColor(image, cv2.COLOR_BGR2RGB), nearest(boxes, number))
    finally:
        capture.release()


def evenly(length: int, frames: int) -> tuple[int, ...]:
    """The numbers of `frames` evenly spaced frames of `length`, ascending; all of them where it has no more."""
    taken = max(0, min(frames, length))
    return tuple((2 * i + 1) * length // (2 * taken) for i in range(taken))


def nearest(boxes: Mapping[int, Box], number: int) -> Box | None:
    """The box of the annotated frame nearest to `number` (the earlier of two), None beyond `NEAR` frames."""
    if not boxes:
        return None
    annotated = min(boxes, key=lambda other: (abs(other - number), other))
    return boxes[annotated] if abs(annotated - number) <= NEAR else None


def loader(path: str | Path, frames: int = FRAMES) -> tuple[Callable[[], Iterator[Frame]], int]:
    """(`load`, the number of frames) of an image or a video file without annotation, by its suffix."""
    if Path(path).suffix.lower() in VIDEO_SUFFIXES:
        return functools.partial(video_frames, str(path), frames), frames
    return functools.partial(image_frame, str(path)), 1


def check_frames(name: str, frames: int) -> None:
    """ValueError unless the option `frames` of data set `name` is a whole number of at least one."""
    if not isinstance(frames, int) or isinstance(frames, bool) or frames < 1:
        raise ValueError(f"{name}: expected a whole number frames >= 1, got frames={frames!r}")
