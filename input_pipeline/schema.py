"""What one example is, for every data set: the metadata that protocols, metrics and reports rely on.

A reader (`input_pipeline/datasets/NAME.py`) turns a raw data set into `Sample`s; `prepare` detects, crops and
stores them; from then on an example is a row of the metadata table (`COLUMNS`) and an encoded face crop.

Conventions: label 1 = bona fide (live), 0 = attack; images RGB uint8 [h, w, 3]; boxes `x, y, w, h` in pixels of
the raw frame, origin at the top left.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

LIVE = "live"  # the species of a bona fide presentation; every other species is an attack

# Column -> type, of the metadata table that lies beside the records (and of the records' features).
COLUMNS = {
    "index": int,  # position in the table; the record carries it too
    "dataset": str,  # registry name of the reader
    "domain": str,  # what cross-domain protocols leave out; the data set's name unless it has several
    "split": str,  # the data set's own split: train, dev, test, or '' where it has none
    "subject": str,  # identity, unique within the data set
    "video": str,  # the presentation: scores of its frames are averaged; unique within the data set
    "frame": int,  # frame number within the video
    "species": str,  # LIVE or the PAI species: print, replay, print1, replay2, cut, mask, ...
    "label": int,  # 1 bona fide, 0 attack
    "session": str,  # recording session, '' where unknown
    "sensor": str,  # capture device (OULU: phone 1-6), '' where unknown
    "medium": str,  # instrument: which printer or display ('1', '2'), '' for live or where unknown
    "found": bool,  # a face was found; without one there is no crop, and the video may be a non-response
    "detector": str,  # where the box came from: annotation, mtcnn, render
    "scale": float,  # crop side / longer side of the face box
}


@dataclasses.dataclass(frozen=True)
class Sample:
    """One frame of a raw data set, before detection and cropping.

    `load()` returns the RGB uint8 frame [h, w, 3] and raises OSError or ValueError for a corrupt file. `box` is
    the annotated face box (x, y, w, h), or None: then the detector finds it. `cropped` marks a frame that is
    already a face crop (a rendered one): it is only resized.
    """

    key: str  # unique within the data set; names the file or frame in messages
    dataset: str
    subject: str
    video: str
    species: str
    load: Callable[[], np.ndarray]
    frame: int = 0
    split: str = ""
    domain: str = ""  # '' means the data set's name
    session: str = ""
    sensor: str = ""
    medium: str = ""
    box: tuple[float, float, float, float] | None = None
    cropped: bool = False

    @property
    def label(self) -> int:
        """1 for bona fide, 0 for an attack."""
        return int(self.species == LIVE)
