"""A folder of your own images and videos, sorted into live and spoof. [C] marks our own choices."""

from pathlib import Path

from input_pipeline.schema import LIVE, Presentation
from input_pipeline.sources import media

EXPECTED_TREE = """\
RAW/                               or, with splits,  RAW/
  live/**/*.jpg (or .mp4, ...)                         train/{live,spoof}/**
  spoof/**/*.jpg                                       dev/{live,spoof}/**
  spoof/print/**/*.jpg   (species)                     test/{live,spoof}/**"""

ANY_RAW_DIR = True
SPLITS = ("train", "dev", "test")
SUFFIXES = media.IMAGE_SUFFIXES | media.VIDEO_SUFFIXES


def read(raw_dir: str, *, name: str = "", subject_level: int = 0, frames: int = media.FRAMES) -> list[Presentation]:
    """Lists every image and video below live/ and spoof/, sorted by path; each is one presentation [C].

    The first folder below spoof/ names the species (print, replay, ...); without one it is 'attack'.
    Options:
      name: the domain; it distinguishes several folders.
      subject_level: the folder that names the subject, counted upwards from the file: 1 for the folder of the file, 2
        for its parent; that folder does not name a species. With 0 subjects are unknown, and each file counts as
        another subject.
      frames: number of evenly spaced frames of a video.
    Raises ValueError for a wrong option, or where live/ or spoof/ holds no images or videos.
    """
    media.check_frames("folder", frames)
    if not isinstance(subject_level, int) or subject_level < 0:
        raise ValueError(f"folder: subject_level={subject_level!r}; expected a whole number, 0 or more")
    options = {"name": name, "subject_level": subject_level, "frames": frames}
    return [_presentation(raw_dir, *file, **options) for file in _files(raw_dir)]


def _presentation(raw_dir, split, kind, path, *, name, subject_level, frames) -> Presentation:
    folders = list(path.relative_to(Path(raw_dir, split, kind)).parts[:-1])
    video = path.relative_to(raw_dir).as_posix()
    if subject_level > len(folders):
        raise ValueError(f"{path}: subject_level={subject_level}, but it lies {len(folders)} folders below {kind}/")
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
    """Returns (split, live or spoof, path) of every image and video, except hidden files, which Macs leave."""
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
