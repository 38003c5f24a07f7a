"""The schema of an example, common to all data sets: the metadata that protocols, metrics and reports use.

A reader (`input_pipeline/datasets/NAME.py`) lists a raw data set as `Presentation`s; `prepare` loads their frames,
detects, crops and stores the faces; afterwards an example is a row of the metadata table (`COLUMNS`) and an encoded
face crop.

Conventions: label 1 = bona fide (live), 0 = attack, -1 = unknown (faces collected for recognition); images RGB uint8
[h, w, 3]; boxes `x, y, w, h` in pixels of the raw, upright frame, with the origin at the top left. [C] marks our own
choices.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import numpy as np

Box = tuple[float, float, float, float]  # x, y, width, height in pixels

LIVE = "live"  # the species of a bona fide presentation; every other species but UNKNOWN is an attack
UNKNOWN = ""

# Split of person n of a recognition set without splits, by n % 10: 80/10/10 by person [C].
PERSON_SPLITS = ("train",) * 8 + ("dev", "test")

# Column -> type, for the metadata table of the records and for the features of a record.
COLUMNS = {
    "dataset": str,  # registry name of the reader
    "domain": str,  # the unit that cross-domain protocols leave out; the data set's name unless it has several
    "split": str,  # the official split of the data set: train, dev, test, or '' where it has none
    "lists": str,  # the video's splits by official protocol lists: '1=train;3.2=dev' (`lists`), '' without lists
    "subject": str,  # identity, unique within the data set
    "video": str,  # the presentation: scores of its frames are averaged; unique within the data set
    "frame": int,  # frame number within the video
    "species": str,  # LIVE or the species of the attack instrument: print, replay, print1, cut, mask, ...; '' unknown
    "label": int,  # 1 bona fide, 0 attack, -1 unknown
    "session": str,  # recording session, '' where unknown
    "sensor": str,  # capture device (OULU: phone 1-6; CASIA-FASD: low, normal, high), '' where unknown
    "medium": str,  # printer or display of the instrument ('1', 'ipad', 'a4'), '' for live or where unknown
    "light": str,  # illumination (Replay-Attack: controlled, adverse; CelebA-Spoof: normal, back, ...), or ''
    "environment": str,  # place (CelebA-Spoof: indoor, outdoor), or ''
    "support": str,  # how the instrument was held (Replay-Attack: fixed, hand), or ''
    "attributes": str,  # CelebA's attributes of the face: 'Male=1;Young=0' (`attributes`), '' where unknown
    "found": bool,  # whether a face was found; without one there is no crop, and the video may be a non-response
    "detector": str,  # source of the box: annotation, mtcnn, render
    "scale": float,  # crop side / longer side of the face box (of ArcFace's frame for an aligned crop)
}


@dataclasses.dataclass(frozen=True)
class Frame:
    """One frame of a video.

    Fields:
      number: its number within the video.
      image: RGB uint8 [h, w, 3], upright.
      box: the annotated face box, unchecked, or None; without a box the detector searches for the face.
      truth: of a rendered frame, depth, instrument and its outline as uint8 [16, 16, 3], aligned with the image
        (`simulate.devices.framing.truth`); None where they are unknown.
    """

    number: int
    image: np.ndarray
    box: Box | None = None
    truth: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Presentation:
    """One recording of one face or attack instrument: a video, or a single image.

    `load()` yields at most `frames` frames, in order. It raises FileNotFoundError for a file that the set's lists
    name but the copy lacks, and OSError or ValueError, with the file, for a corrupt one; frames yielded before are
    kept. It is a `functools.partial` of a module's function, so that it can be pickled for other processes.
    """

    path: str  # relative to the raw directory; used in messages
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
    cropped: bool = False  # whether its frames are face crops already (rendered ones), which are only resized
    truth: bool = False  # whether each of its frames has a truth map

    @property
    def label(self) -> int:
        """1 for bona fide, 0 for an attack, -1 where it is unknown."""
        return -1 if self.species == UNKNOWN else int(self.species == LIVE)

    def columns(self) -> dict[str, str | int]:
        """Returns the columns of the metadata table that all its frames share."""
        shared = {name: getattr(self, name) for name in COLUMNS if hasattr(self, name)}
        return shared | {"domain": self.domain or self.dataset}


def lists(splits: Mapping[str, str]) -> str:
    """Encodes {protocol: split}, from the official lists of a video, for the column `lists`."""
    return _joined(splits)


def attributes(values: Mapping[str, int]) -> str:
    """Encodes {attribute: 0 or 1} of a face for the column `attributes`."""
    return _joined(values)


def attribute_values(text: str) -> dict[str, str]:
    """Returns {attribute: value} of the text of the column `attributes`: 'Male=1;Young=0' -> {'Male': '1', ...}."""
    return dict(part.split("=", 1) for part in text.split(";") if part)


def _joined(values: Mapping[str, str | int]) -> str:
    return ";".join(f"{name}={value}" for name, value in sorted(values.items()))
