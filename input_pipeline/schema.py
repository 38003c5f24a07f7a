"""What one example is, for every data set: the metadata that protocols, metrics and reports rely on.

A reader (`input_pipeline/datasets/NAME.py`) lists a raw data set as `Presentation`s; `prepare` loads their frames,
detects, crops and stores them; from then on an example is a row of the metadata table (`COLUMNS`) and an encoded
face crop.

Conventions: label 1 = bona fide (live), 0 = attack, -1 = nobody knows (faces collected for recognition); images RGB
uint8 [h, w, 3]; boxes `x, y, w, h` in pixels of the raw, upright frame, origin at the top left.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd

Box = tuple[float, float, float, float]  # x, y, width, height in pixels

LIVE = "live"  # the species of a bona fide presentation; every other species but UNKNOWN is an attack
UNKNOWN = ""

# The split of person n of a recognition set without splits, by n % 10: 80/10/10 by person [C].
PERSON_SPLITS = ("train",) * 8 + ("dev", "test")

# Column -> type, of the metadata table that lies beside the records (and of the records' features).
COLUMNS = {
    "dataset": str,  # registry name of the reader
    "domain": str,  # what cross-domain protocols leave out; the data set's name unless it has several
    "split": str,  # the data set's own split: train, dev, test, or '' where it has none
    "lists": str,  # what the set's own protocol lists say of the video: '1=train;3.2=dev' (`lists`), '' without any
    "subject": str,  # identity, unique within the data set
    "video": str,  # the presentation: scores of its frames are averaged; unique within the data set
    "frame": int,  # frame number within the video
    "species": str,  # LIVE or the PAI species: print, replay, print1, replay2, cut, mask, ...; '' unknown
    "label": int,  # 1 bona fide, 0 attack, -1 unknown
    "session": str,  # recording session, '' where unknown
    "sensor": str,  # capture device (OULU: phone 1-6; CASIA-FASD: low, normal, high), '' where unknown
    "medium": str,  # instrument: which printer or display ('1', 'ipad', 'a4'), '' for live or where unknown
    "light": str,  # illumination (Replay-Attack: controlled, adverse; CelebA-Spoof: normal, back, ...), or ''
    "environment": str,  # place (CelebA-Spoof: indoor, outdoor), or ''
    "support": str,  # how the instrument was held (Replay-Attack: fixed, hand), or ''
    "attributes": str,  # of the face, under CelebA's names: 'Male=1;Young=0' (`attributes`), '' where nobody says
    "found": bool,  # a face was found; without one there is no crop, and the video may be a non-response
    "detector": str,  # where the box came from: annotation, mtcnn, render
    "scale": float,  # crop side / longer side of the face box (of ArcFace's frame where the crop is aligned)
}


@dataclasses.dataclass(frozen=True)
class Frame:
    """One frame: its `number` within the video, RGB uint8 `image` [h, w, 3], upright, and the annotated face `box` as
    the data set has it, right or wrong, or None: then the detector finds the face."""

    number: int
    image: np.ndarray
    box: Box | None = None


@dataclasses.dataclass(frozen=True)
class Presentation:
    """One recording of one face or instrument: a video, or a single image.

    `load()` yields at most `frames` frames, in order. It raises FileNotFoundError for a file that the set's lists
    name but the copy lacks, and OSError or ValueError, naming the file, for a corrupt one; frames yielded before
    are kept. It is a `functools.partial` of a module's function, so that other processes can be handed it.
    """

    path: str  # relative to the raw directory; names it in messages
    dataset: str
    subject: str
    video: str
    species: str
    load: Callable[[], Iterable[Frame]]
    frames: int = 1
    split: str = ""
    lists: str = ""
    domain: str = ""  # '' means the data set's name
    session: str = ""
    sensor: str = ""
    medium: str = ""
    light: str = ""
    environment: str = ""
    support: str = ""
    attributes: str = ""
    cropped: bool = False  # its frames are face crops already (rendered ones): they are only resized

    @property
    def label(self) -> int:
        """1 for bona fide, 0 for an attack, -1 where nobody knows."""
        return -1 if self.species == UNKNOWN else int(self.species == LIVE)

    def columns(self) -> dict[str, str | int]:
        """Its columns of the metadata table: those that all its frames share."""
        shared = {name: getattr(self, name) for name in COLUMNS if hasattr(self, name)}
        return shared | {"domain": self.domain or self.dataset}


def table(presentations: Iterable[Presentation]) -> pd.DataFrame:
    """One row a presentation with its columns: what protocols need, before any video is opened."""
    return pd.DataFrame([presentation.columns() for presentation in presentations])


def lists(splits: Mapping[str, str]) -> str:
    """{protocol: split} of one video by the set's own list files, as the column `lists` holds it."""
    return _joined(splits)


def attributes(values: Mapping[str, int]) -> str:
    """{attribute: 0 or 1} of one face, as the column `attributes` holds it."""
    return _joined(values)


def _joined(values: Mapping[str, str | int]) -> str:
    return ";".join(f"{name}={value}" for name, value in sorted(values.items()))
