"""Image and video files: decoding in upright orientation, and the choice of frames. [C] marks our own choices."""

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
# Formats that Pillow may open [C]: its other decoders run programs or are rarely tested.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
ANIMATED = ("GIF", "PNG", "WEBP")  # formats whose pages are frames of a film, unlike the pages of TIFF and MPO
# Limits on the pixels decoded from one file, up to the last frame taken [C]: a file of a few kB may take hours to
# decode. Two cores decode 0.3 billion pixels a second of a GIF and 1 billion of a video.
ANIMATION_PIXELS = 2_000_000_000  # 33 seconds of 1080p at 30 frames a second
VIDEO_PIXELS = 50_000_000_000  # 13 minutes of 1080p at 30 frames a second
FRAMES = 8  # evenly spaced frames per video, by default
NEAR = 15  # frames, half a second, for which a face is assumed to stay near its annotated box [C]


def load_image(path: str | Path) -> np.ndarray:
    """Decodes the image file at `path` to RGB uint8 [h, w, 3], upright by its EXIF orientation.

    An animated image gives its first frame, 16-bit images the upper 8 bits; transparency is dropped [C]. The decoder is
    Pillow, because OpenCV fills the missing part of a truncated file with grey without an error.
    Raises FileNotFoundError for a missing file, and ValueError, with its name, for a corrupt file or, before decoding,
    for an image with more pixels than Pillow considers safe (89 million).
    """
    with _opened(path) as image:
        return rgb(image)


def image_frames(path: str | Path, frames: int = FRAMES, pixels: int = 0) -> Iterator[Frame]:
    """Yields the frame of an image file, or `frames` frames of an animated image, spaced as in a video [C].

    Raises as `load_image` does, and ValueError, before decoding, for more than `pixels` (`ANIMATION_PIXELS` if 0).
    """
    with _opened(path) as image:
        wanted = evenly(image.n_frames if image.format in ANIMATED else 1, frames)
        _check_pixels(wanted, *image.size, pixels or ANIMATION_PIXELS)
        for number in wanted:
            image.seek(number)
            yield Frame(number, rgb(image))


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """Opens an image file without decoding it; errors of Pillow, also in the body, are raised as in `load_image`."""
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
        SyntaxError,  # Pillow's PNG decoder
        ValueError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise ValueError(f"{path}: not a readable image ({error})") from error


def rgb(image: Image.Image) -> np.ndarray:
    """Converts an opened image to RGB uint8 [h, w, 3], as `load_image` does; ValueError for 32 bits a channel."""
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)  # would also copy an upright image
    if image.mode in ("I", "F"):
        raise ValueError("images with 32 bits a channel have no defined white level; save it with 8 or 16 bits")
    if image.mode.startswith("I;16"):  # Pillow's conversion would clip at 255
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns where a palette is converted to RGB directly
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _check_pixels(wanted: tuple[int, ...], width: float, height: float, most: int) -> None:
    """Raises ValueError where the frames up to the last of `wanted` (ascending) have more than `most` pixels."""
    frames = wanted[-1] + 1
    if frames * width * height > most:
        raise ValueError(
            f"{frames} frames of {width:.0f} x {height:.0f} pixels would be decoded, {frames * width * height:.2g} "
            f"pixels; expected at most {most:.2g}: scale it down or shorten it"
        )


def image_frame(path: str | Path, annotation: Callable[[], Box | None] | None = None) -> Iterator[Frame]:
    """Yields the frame of an image file; `annotation()` returns its face box, or None."""
    image = load_image(path)
    yield Frame(0, image, annotation() if annotation else None)


def video_frames(
    path: str | Path,
    frames: int = FRAMES,
    annotation: Callable[[], Mapping[int, Box]] | None = None,
    pixels: int = 0,
) -> Iterator[Frame]:
    """Yields `frames` evenly spaced frames of a video, upright and in order; all frames of a shorter video.

    Frame numbers, from 0, are the centres of `frames` equal spans [C]. They avoid the end of the file, whose header may
    count a frame or two more than can be decoded. The file is read forward, because OpenCV's seek may stop at a
    neighbouring frame. OpenCV rotates the frames by the file's metadata.

    annotation: returns {frame number: face box}; a frame gets the box of the nearest annotated frame within `NEAR`.
        A rotated video gets none [C]: for published boxes of such videos (six of MSU-MFSD) it is not known whether they
        refer to the frame before or after the rotation.
    Raises FileNotFoundError for a missing file; ValueError, with the file and frame, where a frame cannot be decoded,
    and, before decoding, where the frames up to the last one taken have more than `pixels`
    (`VIDEO_PIXELS` if 0).
    """
    path = os.path.abspath(path)  # FFmpeg would read text before a colon as a protocol
    if not os.path.exists(path):
        raise FileNotFoundError(path)
    if any("\ud800" <= letter <= "\udfff" for letter in path):  # OpenCV would crash
        raise ValueError(f"{path!r}: OpenCV opens no video whose name is not UTF-8; rename it")
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)  # other backends read digits in a path as an image sequence
    try:
        length = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        wanted = evenly(length, frames)
        if not wanted:
            raise ValueError(f"{path}: cannot be opened as a video; copy it again")
        width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        if width * height > Image.MAX_IMAGE_PIXELS:
            raise ValueError(f"{path}: its frames have more than {Image.MAX_IMAGE_PIXELS} pixels; scale it down")
        try:
            _check_pixels(wanted, width, height, pixels or VIDEO_PIXELS)
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
                    f"{path}: frame {number} of {length} cannot be decoded; the file is truncated: copy it again"
                )
            if image is not None:
                yield Frame(number, cv2.cvtColor(image, cv2.COLOR_BGR2RGB), nearest(boxes, number))
    finally:
        capture.release()


def evenly(length: int, frames: int) -> tuple[int, ...]:
    """Returns the numbers of `frames` evenly spaced frames out of `length`, ascending; all where there are no more."""
    taken = max(0, min(frames, length))
    return tuple((2 * i + 1) * length // (2 * taken) for i in range(taken))


def nearest(boxes: Mapping[int, Box], number: int) -> Box | None:
    """Returns the box of the annotated frame nearest to `number` (the earlier of two), None beyond `NEAR` frames."""
    if not boxes:
        return None
    annotated = min(boxes, key=lambda other: (abs(other - number), other))
    return boxes[annotated] if abs(annotated - number) <= NEAR else None


def loader(path: str | Path, frames: int = FRAMES) -> tuple[Callable[[], Iterator[Frame]], int]:
    """Returns (`load`, number of frames) for an image or video file without annotation, by its suffix."""
    if Path(path).suffix.lower() in VIDEO_SUFFIXES:
        return functools.partial(video_frames, str(path), frames), frames
    return functools.partial(image_frame, str(path)), 1


def check_frames(name: str, frames: int) -> None:
    """Raises ValueError unless the option `frames` of data set `name` is a whole number of at least one."""
    if not isinstance(frames, int) or isinstance(frames, bool) or frames < 1:
        raise ValueError(f"{name}: frames={frames!r}; expected a whole number, 1 or more")
