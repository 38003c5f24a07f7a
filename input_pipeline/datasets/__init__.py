"""The registry of readers, one module a data set: `datasets.get("nuaa").read(raw_dir)`.

A reader has
    read(raw_dir, **options) -> Iterator[Sample]   lazily: a frame is loaded only by `Sample.load()`
    count(raw_dir, **options) -> int               how many samples `read` yields, cheaply
    EXPECTED_TREE: str                             the raw layout, for error messages
A reader without EXPECTED_TREE needs no raw data (the rendered faces): `read(**options)`, `count(**options)`.
A sample whose `load()` raises FileNotFoundError is a frame that the data set's lists name but the copy lacks.
"""

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image, ImageOps

# Name -> module, imported on first use: the renderer brings JAX along, videos OpenCV.
READERS = {
    "folder": "input_pipeline.datasets.folder",
    "nuaa": "input_pipeline.datasets.nuaa",
    "oulu": "input_pipeline.datasets.oulu",
    "simulated": "input_pipeline.datasets.simulated",
}

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".tif", ".tiff", ".webp"}


def get(name: str) -> ModuleType:
    """The reader registered under `name`; ValueError lists the known names for another one."""
    if name not in READERS:
        raise ValueError(f"unknown data set '{name}'; known: {', '.join(sorted(READERS))}")
    return importlib.import_module(READERS[name])


def check(reader: ModuleType, name: str, raw_dir: str, options: Mapping) -> None:
    """Raises, with what would mend it, where `reader` cannot read `raw_dir` with these options.

    ValueError for an unknown option, NotADirectoryError for a raw directory that is missing or not given.
    """
    known = [p.name for p in inspect.signature(reader.read).parameters.values() if p.kind is not p.VAR_KEYWORD]
    known = [option for option in known if option != "raw_dir"]
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"data set '{name}' has no option {unknown}; known: {', '.join(known) or 'none'}")
    tree = getattr(reader, "EXPECTED_TREE", "")
    if tree and not (raw_dir and Path(raw_dir).is_dir()):
        given = f"no such directory: {raw_dir}" if raw_dir else "no raw directory was given"
        raise NotADirectoryError(
            f"data set '{name}': {given}. It must look like\n{tree}\nThen run: "
            f"python -m input_pipeline.prepare --dataset={name} --raw_dir=RAW"
        )


def sources(raw_dir: str, options: Mapping) -> dict:
    """The keyword arguments of `read` and `count`: the options, and the raw directory where there is one."""
    return {"raw_dir": raw_dir, **options} if raw_dir else dict(options)


def load_image(path: str | Path) -> np.ndarray:
    """The image file at `path` as RGB uint8 [h, w, 3], turned upright as its EXIF orientation says.

    Pillow rather than OpenCV, which fills the missing part of a truncated file with grey and says nothing.
    FileNotFoundError for an absent file; ValueError, naming the file, for a corrupt one.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # PNG: SyntaxError
        raise ValueError(f"{path}: not a readable image ({error})") from error
