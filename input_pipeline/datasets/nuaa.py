"""NUAA Photograph Imposter Database: 15 subjects, webcam, live faces and printed photographs.

Tan, Li, Liu, Jiang: Face Liveness Detection from a Single Image with Sparse Low Rank Bilinear Discriminative
Model, ECCV 2010. The reader takes the raw frames (640 x 480), not the cropped or normalised copies. [C] marks our own
choices.
"""

import functools
import re
from pathlib import Path

from input_pipeline.schema import LIVE, Presentation
from input_pipeline.sources import media

EXPECTED_TREE = """\
RAW/
  ClientRaw/0001/0001_00_00_01_0.jpg          live: subject_glasses_pose_session_frame
  ImposterRaw/0001/0001_00_00_01_0.jpg        photographs
  client_train_raw.txt   client_test_raw.txt  one SSSS/NAME.jpg (or SSSS\\NAME.jpg) a line
  imposter_train_raw.txt imposter_test_raw.txt"""

KINDS = {"client": ("ClientRaw", LIVE), "imposter": ("ImposterRaw", "print")}


def read(raw_dir: str) -> list[Presentation]:
    """Lists every frame of the official lists and every further image on disk (split ''), in a fixed order.

    A listed frame that is not on disk is included; its `load()` raises FileNotFoundError, so that it is counted.
    Each frame is one presentation [C]: the frames of a session differ in pose, light and distance, and the literature
    scores single images. `video` distinguishes equal file names of live and attack frames.
    Raises NotADirectoryError or FileNotFoundError for a wrong tree; ValueError, with file and line, for a wrong line.
    """
    return [_presentation(raw_dir, *frame) for frame in _frames(raw_dir)]


def _presentation(raw_dir, kind, file, split) -> Presentation:
    directory, species = KINDS[kind]
    path = Path(raw_dir, directory, file)
    fields = path.stem.split("_")
    return Presentation(
        path=f"{directory}/{file}",
        dataset="nuaa",
        subject=path.parent.name,
        video=f"{kind}/{path.stem}",
        species=species,
        load=functools.partial(media.image_frame, str(path)),
        split=split,
        session=fields[3] if len(fields) == 5 else "",
    )


def _frames(raw_dir: str) -> list[tuple[str, str, str]]:
    """Returns (kind, SSSS/NAME.jpg, split) of every frame, listed or on disk; the split is '', test or train."""
    frames = []
    for kind, (directory, _) in KINDS.items():
        root = Path(raw_dir, directory)
        if not root.is_dir():
            raise NotADirectoryError(f"NUAA: {root} is missing; expected\n{EXPECTED_TREE}")
        splits = {path.relative_to(root).as_posix(): "" for path in root.glob("*/[!.]*.jpg")}
        for split in ("test", "train"):  # train last, so that a frame in both lists is never tested on [C]
            splits.update(dict.fromkeys(_listed(Path(raw_dir, f"{kind}_{split}_raw.txt")), split))
        frames += [(kind, file, splits[file]) for file in sorted(splits)]
    return frames


def _listed(path: Path) -> list[str]:
    """Returns the frames of a list file, as SSSS/NAME.jpg."""
    if not path.is_file():
        raise FileNotFoundError(f"NUAA: the list {path} is missing; expected\n{EXPECTED_TREE}")
    lines = [line.strip().replace("\\", "/") for line in path.read_text(encoding="utf-8-sig").splitlines()]
    for number, line in enumerate(lines, 1):
        if line and not re.fullmatch(r"\d{4}/\w+\.jpg", line, re.ASCII):
            raise ValueError(
                f"{path}, line {number}: '{line}'; expected a frame such as 0001/0001_00_00_01_0.jpg: correct it"
            )
    return [line for line in lines if line]
