"""A folder of the user's own images, sorted into live and spoof."""

import functools
from collections.abc import Iterator
from pathlib import Path

from input_pipeline import datasets
from input_pipeline.schema import LIVE, Sample

EXPECTED_TREE = """\
RAW/                               or, with splits,  RAW/
  live/**/*.jpg                                        train/{live,spoof}/**
  spoof/**/*.jpg                                       dev/{live,spoof}/**
  spoof/print/**/*.jpg   (species)                     test/{live,spoof}/**"""

SPLITS = ("train", "dev", "test")


def read(raw_dir: str, name: str = "", subject_level: int = 0) -> Iterator[Sample]:
    """Every image below live/ and spoof/, in the order of the paths; each is its own presentation [C].

    The first folder below spoof/ names the species (print, replay, ...), 'attack' where there is none.
    `name` is the domain (and sets two folders apart). `subject_level` says which folder names the subject,
    counted upwards from the image: 1 its own folder, 2 the one above; that folder is not taken for a species.
    With 0 nobody knows the subject, and every image counts as one of its own.
    """
    for split, kind, path in _images(raw_dir):
        folders = list(path.relative_to(Path(raw_dir, split, kind)).parts[:-1])
        key = path.relative_to(raw_dir).as_posix()
        if subject_level > len(folders):
            raise ValueError(f"{path}: subject_level={subject_level}, but {len(folders)} folders lie below {kind}/")
        subject = folders.pop(-subject_level) if subject_level else key
        yield Sample(
            key=key,
            dataset="folder",
            domain=name,
            subject=subject,
            video=key,
            species=LIVE if kind == "live" else (folders or ["attack"])[0],
            load=functools.partial(datasets.load_image, path),
            split=split,
        )


def count(raw_dir: str, name: str = "", subject_level: int = 0) -> int:
    """How many samples `read` yields."""
    return len(_images(raw_dir))


def _images(raw_dir: str) -> list[tuple[str, str, Path]]:
    """(split, live or spoof, path) of every image; ValueError shows the expected tree where there is none."""
    splits = [split for split in SPLITS if Path(raw_dir, split).is_dir()] or [""]
    images = [
        (split, kind, path)
        for split in splits
        for kind in ("live", "spoof")
        for path in sorted(Path(raw_dir, split, kind).rglob("*"))
        if path.suffix.lower() in datasets.IMAGE_SUFFIXES
    ]
    if {kind for _, kind, _ in images} != {"live", "spoof"}:
        raise ValueError(f"{raw_dir}: no images below both live/ and spoof/; expected\n{EXPECTED_TREE}")
    return images
