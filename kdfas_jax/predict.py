"""A trained model on a person's own images, videos, folders or webcam -> scores.csv, a row a face.

    python main.py --mode=predict --workdir=RUN --input=PATH[,PATH...] [--output=scores.csv] [--annotate=DIR]

Faces are found, cut out and resized as those that the run was trained on; the decision is by its own threshold.
"""

import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
import pandas as pd
import tqdm
from PIL import Image, ImageDraw, ImageFont

from input_pipeline import faces, inputs, media, ops, protocols
from input_pipeline.schema import Frame
from kdfas_jax import folds, sharding, step, teachers, workdir

COLUMNS = ("input", "frame", "x", "y", "w", "h", "score", "decision", "error")
NO_FACE = "no face found"
PIXELS = 50_000_000  # of the frames held at once: 150 MB, where they are large photographs [C]
COLOURS = {"live": (0, 150, 60), "attack": (215, 30, 30)}


class Looked(NamedTuple):
    """A frame of an input and the faces found in it; no frame, and the `error`, where the input cannot be read."""

    name: str
    frame: Frame | None
    error: str
    found: Sequence[faces.Face] = ()


class Predicted(NamedTuple):
    """What was found: `table` has `COLUMNS`, `threshold` came from `source`, `inputs` were read in `seconds`, of which
    `detecting` seconds went into finding faces; `frames` of them could be read."""

    table: pd.DataFrame
    threshold: float
    source: str
    inputs: int
    frames: int
    seconds: float
    detecting: float

    @property
    def scored(self) -> int:
        """How many faces have a score."""
        return int(self.table["score"].notna().sum())

    def summary(self) -> str:
        """Two lines for the screen."""
        decisions, errors = self.table["decision"], self.table["error"]
        without = int((errors == NO_FACE).sum())
        return (
            f"{self.scored} faces in {self.inputs} inputs: {(decisions == 'live').sum()} live, "
            f"{(decisions == 'attack').sum()} attack at the threshold {self.threshold:.4f} ({self.source}); "
            f"{without} images or frames without a face, {(errors != '').sum() - without} unreadable inputs\n"
            f"{self.frames / self.seconds:.1f} images a second end to end, "
            f"{self.detecting / self.seconds:.0%} of the time face detection"
        )


def predict(
    folder: str,
    paths: Sequence[str],
    output: str = "scores.csv",
    *,
    frames: int = media.FRAMES,
    batch: int = faces.BATCH,
    cropped: bool = False,
    annotate: str = "",
) -> Predicted:
    """Scores all faces of the inputs `paths` with the run in `folder` and writes the CSV file `output`.

    frames: taken of a video. batch: images looked at together. cropped: the images are face crops already, such as
    rendered ones; the box is the whole image. annotate: a folder for copies of the images with boxes and scores, ''
    for none.
    score is P(live), live at or above the threshold of RUN/eval/results.json. A frame without a face, or an input that
    cannot be read, is a row with its `error`, without a score. x, y, w, h are pixels of the upright frame.
    ValueError where the run does not tell live from attack, or consists of folds; FileNotFoundError where it was not
    trained or evaluated.
    """
    config = ml_collections.ConfigDict(workdir.read(folder)["config"])
    threshold, source = threshold_of(folder, config)
    judge = _Judge(config.data, _scorer(folder, config, batch), threshold, cropped, annotate)
    found = inputs.find(paths, frames)
    started = time.perf_counter()
    # By map, as a loop's variable would keep large photographs while the next ones are decoded.
    rows = [row for judged in map(judge, _groups(_frames(found), batch)) for row in judged]
    seconds = time.perf_counter() - started
    table = pd.DataFrame(rows, columns=COLUMNS).astype({"frame": "Int64", "score": float})
    workdir.write_atomically(output, table.to_csv(index=False))
    return Predicted(table, threshold, source, len(found), judge.frames, seconds, judge.detecting)


def threshold_of(folder: str, config) -> tuple[float, str]:
    """The threshold of the run in `folder`, made by `config`, and where it is from; errors as of `predict`."""
    if config.data.target != "label":
        raise ValueError(f"{folder} has config.data.target={config.data.target!r}; expected a run of 'label'")
    names = protocols.folds(config.data.protocol)
    if len(names) > 1:
        raise ValueError(
            f"{folder} has {len(names)} folds, each with its own model and threshold; name one of them, such as "
            f"--workdir={folds.home(folder, names[0])}"
        )
    path = os.path.join(folder, "eval", "results.json")
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path} does not exist; make it by: python main.py --mode=eval --workdir={folder}")
    with open(path, encoding="utf-8") as file:
        threshold = json.load(file)["threshold"]
    return threshold["value"], threshold["source"]


def _scorer(folder: str, config, batch: int):
    """-> score(crops uint8 [s, s, 3]) -> P(live) of each; batches are padded, so that one size is compiled."""
    mesh = sharding.make_mesh(config.mesh)
    model = teachers.load(folder, mesh)
    compiled = step.make_score(model.module, mesh)
    size = -(-batch // mesh.size) * mesh.size

    def score(crops: Sequence[np.ndarray]) -> Iterator[float]:
        for start in range(0, len(crops), size):
            part = crops[start : start + size]
            images = np.zeros((size, model.image_size, model.image_size, 3), np.uint8)
            images[: len(part)] = part
            index = np.arange(size)
            batch = {"image": images, "index": index, "mask": (index < len(part)).astype(np.float32)}
            scores, _, _ = jax.device_get(compiled(model.variables, sharding.place_batch(mesh, batch)))
            yield from scores[: len(part)].tolist()

    return score


def _frames(found: Sequence[inputs.Input]) -> Iterator[Looked]:
    for source in tqdm.tqdm(found, unit="input", dynamic_ncols=True):
        for frame, error in inputs.frames_of(source):
            yield Looked(source.name, frame, error)


def _groups(stream: Iterable[Looked], most: int) -> Iterator[list[Looked]]:
    """Consecutive ones, `most` together, or as soon as they have `PIXELS`."""
    group, pixels = [], 0
    for of in stream:
        group.append(of)
        pixels += of.frame.image.shape[0] * of.frame.image.shape[1] if of.frame else 0
        if len(group) == most or pixels >= PIXELS:
            yield group
            group, pixels = [], 0
    if group:
        yield group


class _Judge:
    """judge(group) -> rows of the table. `config` is the run's config.data, `score` made by `_scorer`; the others are
    those of `predict`. `frames` were seen so far, `detecting` seconds spent in the search for faces."""

    def __init__(self, config, score, threshold: float, cropped: bool, annotate: str):
        self._config, self._score, self._threshold = config, score, threshold
        self._cropped, self._annotate = cropped, annotate
        self.frames, self.detecting = 0, 0.0

    def __call__(self, group: Sequence[Looked]) -> list[dict]:
        found = self._find([of.frame.image for of in group if of.frame])
        looked = [of._replace(found=next(found)) if of.frame else of for of in group]
        scores = iter(self._score([self._crop(of.frame.image, face) for of in looked for face in of.found]))
        rows = []
        for of in looked:
            own = [_row(of, face, next(scores), self._threshold) for face in of.found] or [_failure(of)]
            if self._annotate and of.frame:
                path = os.path.join(self._annotate, f"{self.frames:06d}-{_plain(of.name)}.jpg")
                _annotate(path, of.frame.image, own)
            self.frames += of.frame is not None
            rows += own
        return rows

    def _find(self, images: list[np.ndarray]) -> Iterator[list[faces.Face]]:
        started = time.perf_counter()
        found = [[_whole(image)] for image in images] if self._cropped else faces.detect_all(images)
        self.detecting += time.perf_counter() - started
        return iter(found)

    def _crop(self, image: np.ndarray, face: faces.Face) -> np.ndarray:
        """The crop as those of training were made, which were JPEG files, too."""
        size, config = self._config.record_size, self._config
        if self._cropped:
            crop = faces.resize(image, size)
        else:
            crop = faces.cut(image, face, scale=config.scale, size=size, aligned=config.align)
        return ops.decode(faces.encode(crop), config.image_size)


def _whole(image: np.ndarray) -> faces.Face:
    height, width = image.shape[:2]
    return faces.Face((0, 0, width, height), np.full((5, 2), np.nan, np.float32), 1.0)


def _row(of: Looked, face: faces.Face, score: float, threshold: float) -> dict:
    box = {name: round(float(value), 1) for name, value in zip("xywh", face.box, strict=True)}
    decision = "live" if score >= threshold else "attack"
    return {"input": _text(of.name), "frame": of.frame.number, **box, "score": score, "decision": decision, "error": ""}


def _failure(of: Looked) -> dict:
    error = of.error or NO_FACE
    return {
        "input": _text(of.name),
        "frame": of.frame.number if of.frame else None,
        "decision": "",
        "error": _text(error),
    }


def _text(text: str) -> str:
    """`text` with the bytes that are no UTF-8, which names of files may have, written out: \\xe9."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _plain(name: str) -> str:
    """The last part of a path in letters that every file system takes."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", os.path.basename(name))[:100]


def _annotate(path: str, image: np.ndarray, rows: Sequence[dict]) -> None:
    """Writes a copy of an image with the boxes, scores and decisions of `rows`."""
    picture = Image.fromarray(image)
    draw, line = ImageDraw.Draw(picture), max(2, min(picture.size) // 200)
    font = ImageFont.load_default(size=max(10, min(picture.size) // 25))
    for row in rows:
        if row["error"]:
            continue
        x, y, w, h = (row[name] for name in "xywh")
        colour, text = COLOURS[row["decision"]], f"{row['decision']} {row['score']:.3f}"
        draw.rectangle((x, y, x + w, y + h), outline=colour, width=line)
        place = (x + line, y + line)
        draw.rectangle(draw.textbbox(place, text, font), fill=colour)
        draw.text(place, text, (255, 255, 255), font)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    picture.save(f"{path}.tmp{os.getpid()}", format="JPEG", quality=90)
    os.replace(f"{path}.tmp{os.getpid()}", path)
