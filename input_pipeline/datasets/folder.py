"""A folder of the user's own images and videos, sorted into live and spoof."""

from pathlib import Path

from input_pipeline.schema import LIVE, Presentation
from input_pipeline.sources import media

EXPECTED_TREE = """\
RAW/                               or, with splits,  RAW/
  live/**/*.jpg (or .mp4, ...)                         train/{live,spoof}/**
  spoof/**/*.jpg                                       dev/{live,spoof}/**
  spoof/print/**/*.jpg   (species)                     test/{live,spoof}/**"""

SPLITS = ("train", "dev", "test")
SUFFIXES = media.IMAGE_SUFFIXES | media.VIDEO_SUFFIXES


def read(raw_dir: str, *, name: str = "", subject_level: int = 0, frames: int = media.FRAMES) -> list[Presentation]:
    """Every image and video below live/ and spoof/, in the order of the paths; each is its own presentation [C].

    The first folder below spoof/ names the species (print, replay, ...), 'attack' where there is none.
    Options: `name` is the domain (and sets two folders apart). `subject_level` says which folder names the subject,
    counted upwards from the file: 1 its own folder, 2 the one above; that folder is not taken for a species. With 0
    nobody knows the subject, and every file counts as one of its own. `frames` are taken of a video, evenly spaced.
    ValueError for a wrong option, or where live/ or spoof/ holds no images or videos.
    """
    media.check_frames("folder", frames)
    if not isinstance(subject_level, int) or subject_level < 0:
        raise ValueError(f"folder: expected a whole number subject_level >= 0, got subject_level={subject_level!r}")
    return [_presentation(raw_dir, *file, name, subject_level, frames) for file in _files(raw_dir)]


def _presentation(raw_dir, split, kind, path, name, subject_level, frames) -> Presentation:
    folders = list(path.relative_to(Path(raw_dir, split, kind)).parts[:-1])
    video = path.relative_to(raw_dir).as_posix()
    if subject_level > len(folders):
        raise ValueError(f"{path}: subject_level={subject_level}, but {len(folders)} folders lie below {kind}/")
    subject = folders.pop(-subject_level) if subject_level else video
    load, taken = media.loader(path, frames)
    return Presentation(
        path=video,
        dataset="folder",
        domain=name,
        subject=subject,
        video=video,
        species=LIVE if kind == "live" else (folders or ["attack"])[0],
        load=load,
        frames=taken,
        split=split,
    )


def _files(raw_dir: str) -> list[tuple[str, str, Path]]:
    """(split, live or spoof, path) of every image and video; hidden files, which Macs leave, are left out."""
    splits = [split for split in SPLITS if Path(raw_dir, split).is_dir()] or [""]
    files = [
        (split, kind, path)
        for split in splits
        for kind in ("live", "spoof")
        for path in sorted(Path(raw_dir, split, kind).rglob("*"))
        if path.suffix.lower() in SUFFIXES and path.name[0] != "."
    ]
    if {kind for _, kind, _ in files} != {"live", "spoof"}:
        raise ValueError(f"{raw_dir}: no images or videos below both live/ and spoof/; expected\n{EXPECTED_TREE}")
    return files
