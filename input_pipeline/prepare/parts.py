"""Parts of a data set: some presentations whose faces are detected, cropped and written to one record file.

A part depends only on the raw data, so that any worker, in any order, writes the same bytes. A finished part, which has
a note next to it, is never written again. [C] marks our own choices.
"""

import collections
import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from input_pipeline.prepare import faces, records
from input_pipeline.schema import Frame, Presentation

FRAMES = 512  # frames per part: 10 MB of records at 224 pixels, the most that a killed preparation repeats [C]
MOST_FILES = 256  # parts per data set, about; larger sets get larger parts [C]
NO_FACE = faces.encode(np.zeros((8, 8, 3), np.uint8))  # image of a record without a face
UNKNOWN_LANDMARKS = np.full((5, 2), np.nan, np.float32)
COUNTS = ("frames", "faces_not_found", "corrupt_files", "absent_files", "boxes_clamped", "boxes_unusable")


@dataclasses.dataclass(frozen=True)
class Crop:
    """Settings of the face crops.

    Fields:
      size: side of the crop in pixels.
      scale: crop side / longer side of the face box, or of ArcFace's frame if `align`.
      boxes: 'annotation' (MTCNN where the data set has none) or 'mtcnn'.
      align: whether MTCNN's five landmarks are aligned to ArcFace's template.
    """

    size: int = 224
    scale: float = 1.3
    boxes: str = "annotation"
    align: bool = False

    def __post_init__(self):
        if self.size < 1 or self.scale <= 0:
            raise ValueError(f"size and scale must be positive, got size={self.size}, scale={self.scale}")
        if self.boxes not in ("annotation", "mtcnn"):
            raise ValueError(f"boxes must be 'annotation' or 'mtcnn', got '{self.boxes}'")


@dataclasses.dataclass(frozen=True)
class Part:
    """Presentations to be written to the record file `path`; the file `note`, written last, marks it as finished."""

    presentations: tuple[Presentation, ...]
    crop: Crop
    path: Path
    note: Path

    @property
    def frames(self) -> int:
        """The expected number of frames."""
        return sum(presentation.frames for presentation in self.presentations)

    @property
    def truth(self) -> bool:
        """Whether its records have truth maps, as those of its data set do."""
        return self.presentations[0].truth

    @property
    def finished(self) -> bool:
        """Whether its records are complete."""
        return self.note.exists()

    def read_note(self) -> dict:
        """Reads the note of a finished part.

        rows: rows of the metadata table. counts: {name of `COUNTS`: count}. corrupt: error messages. missing: for every
        presentation whose file is absent or corrupt, its non-empty columns and the `reason`.
        """
        return json.loads(self.note.read_text())


def split(presentations: Sequence[Presentation]) -> list[tuple[Presentation, ...]]:
    """Splits presentations into consecutive parts of about `FRAMES` frames, or more where `MOST_FILES` would not do."""
    per_part = max(FRAMES, sum(p.frames for p in presentations) / MOST_FILES)
    ends = itertools.accumulate(p.frames for p in presentations)
    groups = itertools.groupby(zip(presentations, ends, strict=True), key=lambda pair: int((pair[1] - 1) // per_part))
    return [tuple(presentation for presentation, _ in group) for _, group in groups]


def write(part: Part) -> None:
    """Writes the records and the note of a part, both atomically."""
    counts, corrupt, missing, rows = collections.Counter(dict.fromkeys(COUNTS, 0)), [], [], []
    unfinished = part.path.with_name(f"{part.path.name}.tmp")
    with records.Writer(unfinished, part.truth) as writer:
        frames = _frames(part.presentations, counts, corrupt, missing)
        while batch := list(itertools.islice(frames, faces.BATCH)):
            for columns, features in _crops(batch, part.crop, counts):
                rows.append(columns | writer.write(columns | features))
    records.rename(unfinished, part.path)
    note = {"rows": rows, "counts": counts | {"frames": len(rows)}, "corrupt": corrupt, "missing": missing}
    records.write_atomically(part.note, json.dumps(note).encode())


def _frames(
    presentations: Iterable[Presentation], counts: collections.Counter, corrupt: list[str], missing: list[dict]
) -> Iterator[tuple[Presentation, Frame]]:
    def note(presentation: Presentation, reason: str) -> None:
        counts[f"{reason}_files"] += 1
        missing.append({name: value for name, value in presentation.columns().items() if value} | {"reason": reason})

    for presentation in presentations:
        try:
            for frame in presentation.load():
                yield presentation, frame
        except FileNotFoundError:
            note(presentation, "absent")
        except (OSError, ValueError) as error:
            note(presentation, "corrupt")
            corrupt.append(f"{presentation.path}: {error}")


def _crops(
    batch: list[tuple[Presentation, Frame]], crop: Crop, counts: collections.Counter
) -> Iterator[tuple[dict, dict]]:
    """Yields (columns, other features) of every frame of a batch."""
    boxes = [_annotated(frame, crop, counts) for _, frame in batch]
    searched = [frame.image for (p, frame), box in zip(batch, boxes, strict=True) if box is None and not p.cropped]
    detected = iter(faces.detect(searched))
    for (presentation, frame), box in zip(batch, boxes, strict=True):
        columns = presentation.columns() | {"frame": frame.number, "found": True, "scale": crop.scale}
        landmarks = UNKNOWN_LANDMARKS
        if presentation.cropped:
            height, width = frame.image.shape[:2]
            box, image = (0, 0, width, height), faces.resize(frame.image, crop.size)
            columns |= {"detector": "render", "scale": 1.0}
        elif box is not None:
            image = faces.crop(frame.image, box, crop.scale, crop.size)
            columns |= {"detector": "annotation"}
        else:
            face = next(detected)
            columns |= {"detector": "mtcnn", "found": face is not None}
            box, landmarks = (face.box, face.landmarks) if face else ((0, 0, 0, 0), UNKNOWN_LANDMARKS)
            counts["faces_not_found"] += face is None
            shape = {"scale": crop.scale, "size": crop.size, "aligned": crop.align}
            image = faces.cut(frame.image, face, **shape) if face else None
        encoded = NO_FACE if image is None else faces.encode(image)
        features = {"image": encoded, "bbox": np.asarray(box, np.float32), "landmarks": landmarks}
        yield columns, features | ({"truth": faces.encode_map(frame.truth)} if presentation.truth else {})


def _annotated(frame: Frame, crop: Crop, counts: collections.Counter) -> faces.Box | None:
    """Returns the annotated box, clipped to the frame, or None where the detector has to search."""
    if frame.box is None or crop.align or crop.boxes == "mtcnn":
        return None
    try:
        box = faces.clamp(frame.box, *frame.image.shape[:2])
    except ValueError:
        counts["boxes_unusable"] += 1
        return None
    counts["boxes_clamped"] += box != tuple(frame.box)
    return box
