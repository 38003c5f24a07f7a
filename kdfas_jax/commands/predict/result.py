"""What a prediction returns: the table of faces, and its summary for the screen."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

COLUMNS = ("input", "frame", "x", "y", "w", "h", "score", "decision", "error")
COMPARED = ("similarity", "match", "accepted")  # with a reference
FLAGS = ("flags",)  # the last column; a new column must not move those before it
NO_FACE = "no face found"
NOT_COPIED = "annotated copy not written"


class Reference(NamedTuple):
    """Whom faces are compared with: the largest of the `faces` in the picture `path`, its P(live) `score` and its
    `embedding` [d]."""

    path: str
    faces: int
    score: float
    embedding: np.ndarray


class Predicted(NamedTuple):
    """What was found: `table` has `COLUMNS`, and `COMPARED` where there was a `reference`, decided at the run's
    `threshold`; `inputs` were read in `seconds`, of which `detecting` seconds went into finding faces; `frames` of them
    could be read; `caution` is one sentence on what the run was trained on, or empty."""

    table: pd.DataFrame
    threshold: Mapping[str, Any]
    reference: Reference | None
    inputs: int
    frames: int
    seconds: float
    detecting: float
    caution: str = ""

    @property
    def scored(self) -> int:
        """How many faces have a score."""
        return int(self._faces["score"].notna().sum())

    @property
    def _faces(self) -> pd.DataFrame:
        """The table without the rows of whole videos, which have a score and no frame."""
        return self.table[~self._whole]

    @property
    def _whole(self) -> pd.Series:
        return self.table["frame"].isna() & self.table["score"].notna()

    def summary(self) -> str:
        """Lines for the screen: counts and speed, then the reference, flagged faces and a caution if any."""
        decisions, errors = self._faces["decision"], self._faces["error"]
        without, uncopied = (errors == NO_FACE).sum(), errors.str.startswith(NOT_COPIED).sum()
        lines = [
            f"{self.scored} faces in {self.inputs} inputs: {(decisions == 'live').sum()} live, "
            f"{(decisions == 'attack').sum()} attack at the threshold {_at(self.threshold)}; "
            f"{without} images or frames without a face, {(errors != '').sum() - without - uncopied} unreadable inputs"
            + (f", {uncopied} annotated copies not written" if uncopied else ""),
            f"{self.frames / self.seconds:.1f} images a second end to end, "
            f"{self.detecting / self.seconds:.0%} of the time face detection",
        ]
        return "\n".join([*lines, *self._videos(), *self._compared(), *self._cautions()])

    def _videos(self) -> Iterator[str]:
        of_videos = self.table["decision"][self._whole]
        if len(of_videos):
            live = (of_videos == "live").sum()
            yield f"{len(of_videos)} videos, by the mean of their frames: {live} live, {len(of_videos) - live} attack"

    def _cautions(self) -> Iterator[str]:
        flagged = (self._faces["flags"] != "").sum()
        if flagged:
            yield f"{flagged} faces are unlike those of training, and their scores less reliable: see the column flags"
        oblong = self._faces["flags"].str.contains("oblong").sum()
        if oblong:
            yield f"warning: {oblong} pictures are far from square, so probably no face crops: leave --cropped out"
        if self.caution:
            yield f"caution: {self.caution}"

    def _compared(self) -> Iterator[str]:
        if not self.reference:
            return
        path, number, score, _ = self.reference
        match, accepted = ((self._faces[name] == "yes").sum() for name in ("match", "accepted"))
        yield (
            f"{match} match the reference at the cosine {_at(self.threshold['match'])}; "
            f"accepted (live and matching): {accepted}"
        )
        largest = f", the largest of {number} faces" if number > 1 else ""
        warning = "; warning: it looks like an attack, take another" if score < self.threshold["value"] else ""
        yield f"reference {text(path)}{largest}: P(live) {score:.4f}{warning}"


def _at(threshold: Mapping[str, Any]) -> str:
    return f"{threshold['value']:.4f} ({threshold['source']})"


def text(name: str) -> str:
    """Returns `name` with bytes that are not UTF-8, which names of files may have, written out: \\xe9."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
