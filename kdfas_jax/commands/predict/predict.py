"""Scores a user's images, videos, folders or webcam with a trained model: scores.csv has a row per face,
and one per video.

    python main.py --mode=predict --workdir=RUN --input=PATH[,PATH...] [--output=scores.csv] [--annotate=DIR]
                   [--reference=face.jpg]

Faces are detected, cropped and resized as in the run's training data; the run's threshold decides. With a
reference, a picture of a person, a run of two tasks also says which of the faces are that person's.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
import pandas as pd

from input_pipeline import tables
from input_pipeline.prepare import crops, faces
from input_pipeline.schema import Frame
from input_pipeline.select import protocols
from input_pipeline.sources import inputs, media, screen
from kdfas_jax import targets
from kdfas_jax.commands import folds
from kdfas_jax.commands.predict import annotated, videos
from kdfas_jax.commands.predict.result import COLUMNS, COMPARED, FLAGS, NO_FACE, NOT_COPIED, Predicted, Reference, text
from kdfas_jax.commands.predict.scorer import Model
from kdfas_jax.metrics.verification import cosine
from kdfas_jax.parallel import sharding
from kdfas_jax.report import explain, spreadsheet
from kdfas_jax.runs import files, origin, workdir
from kdfas_jax.training import step, teachers

PIXELS = 50_000_000  # of the frames held at once: 150 MB, where they are large photographs [C]


class Looked(NamedTuple):
    """A frame of an input and the faces found in it; no frame, and the `error`, where the input cannot be read.

    place: the number of the input. ended: whether this stands for the end of an input of several frames instead.
    """

    name: str
    frame: Frame | None
    error: str
    found: Sequence[faces.Face] = ()
    place: int = 0
    ended: bool = False


def predict(
    folder: str,
    paths: Sequence[str],
    output: str = "scores.csv",
    *,
    frames: int = media.FRAMES,
    batch: int = faces.BATCH,
    cropped: bool = False,
    annotate: str = "",
    reference: str = "",
) -> Predicted:
    """Scores all faces of the inputs `paths` with the run in `folder` and writes the CSV file `output`.

    frames: taken of a video. batch: images scored together. cropped: the images are face crops already, such as
    rendered ones; the box is the whole image. annotate: a folder for copies of the images with boxes and scores, ''
    for none. reference: an image of the person that faces are compared with, cut out as they are, '' for none.
    score is P(live), live at or above the threshold of RUN/eval/results.json. A frame without a face, an input that
    cannot be read, a frame that cannot be scored, and a copy that cannot be written is a row with its `error`, without
    a score. x, y, w, h are pixels of the upright frame. `flags`, the last column, says how a face is unlike those of
    training, joined by '+' (`crops.Recipe.flags`).
    An input of several frames has one more row after those of its frames, without a frame number and a box: the mean
    over the largest faces of its frames (`videos.row`) [C].
    Rows are in OUTPUT.partial-PID as soon as they are known, and stay there after an error or a kill; `output` appears,
    or replaces an older file, at the end, unless no face has a score. Each error is a line on stderr, too.
    similarity is the cosine of two embeddings, match 'yes' at or above the run's threshold for it, else 'no', accepted
    'yes' where a face is live and matches.
    ValueError where the run does not tell live from attack, consists of folds, or recognises nobody and there is a
    reference, and where that cannot be read or shows no face; FileNotFoundError where the run was not trained or
    evaluated; OSError, before anything is scored, where `output` or `annotate` cannot be written.
    """
    config = ml_collections.ConfigDict(workdir.read(folder)["config"])
    threshold = threshold_of(folder, config)
    if reference and not targets.get(config.data.target).recognises:
        known = _named(lambda target: target.detects and target.recognises)
        raise ValueError(
            f"--reference={reference}: {folder} has config.data.target={config.data.target!r} and recognises nobody; "
            f"expected a run of {known}"
        )
    found, pictures = inputs.find(paths, frames), inputs.find([reference], 1)  # before anything is written below them
    if annotate:
        annotated.check_folder(annotate)
    with files.growing(output) as add:
        recipe = crops.Recipe.of_config(config.data, cropped=cropped)
        mesh = sharding.make_mesh(config.mesh)
        score = crop_scorer(teachers.load(folder, mesh), mesh, targets.get(config.data.target).read, batch)
        judge = _Judge(recipe, score, threshold, annotate)
        rows, written = [], 0
        started = time.perf_counter()
        if reference:
            judge.enrol(reference, *pictures)
        # By map, as a loop's variable would keep large photographs while the next ones are decoded.
        for judged in map(judge, grouped(_frames(found), batch)):
            rows += judged
            for row in judged:
                if row["error"]:
                    screen.note(_note(row))
            if any("score" in row for row in rows[written:]) or written:
                add(tables.to_csv(spreadsheet.neutralised(_table(rows[written:], reference)), header=not written))
                written = len(rows)
        seconds = time.perf_counter() - started
    table = _table(rows, reference)
    return Predicted(
        table=table,
        threshold=threshold,
        reference=judge.reference,
        inputs=len(found),
        frames=judge.frames,
        seconds=seconds,
        detecting=judge.detecting,
        caution=origin.caution(workdir.evaluated(folder)),
    )


def _table(rows: list[dict], reference: str) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=COLUMNS + (COMPARED if reference else ()) + FLAGS)
    return table.astype({"frame": "Int64", "score": float})


def model(folder: str, batch: int = faces.BATCH, *, cropped: bool = False) -> Model:
    """Returns the Flax model of the evaluated run in `folder` for `scorer.Scorer`; raises as `predict` does."""
    config = ml_collections.ConfigDict(workdir.read(folder)["config"])
    threshold_of(folder, config)  # refuses what has none
    recipe = crops.Recipe.of_config(config.data, cropped=cropped)
    mesh = sharding.make_mesh(config.mesh)
    loaded = teachers.load(folder, mesh)
    score = crop_scorer(loaded, mesh, targets.get(config.data.target).read, batch)
    return Model(score, recipe, origin.card(workdir.evaluated(folder)), _attention(loaded))


def threshold_of(folder: str, config) -> dict[str, Any]:
    """What results.json says of the threshold of the run in `folder`, made by `config`; errors as of `predict`.

    It has `value` and `source`, and so has its `match`, where the run recognises people.
    """
    if not targets.get(config.data.target).detects:
        known = _named(lambda target: target.detects)
        raise ValueError(f"{folder} has config.data.target={config.data.target!r}; expected a run of {known}")
    names = protocols.folds(config.data.protocol)
    if len(names) > 1:
        raise ValueError(
            f"{folder} has {len(names)} folds, each with a model and a threshold; name one of them, such as "
            f"--workdir={folds.home(folder, names[0])}"
        )
    path = os.path.join(folder, "eval", "results.json")
    if not files.exists(path):
        raise FileNotFoundError(f"{path} does not exist; make it by: python main.py --mode=eval --workdir={folder}")
    return workdir.evaluated(folder)["threshold"]


def _named(fits: Callable[[targets.Target], bool]) -> str:
    """Returns the names of the targets that fit, joined by 'or'."""
    return " or ".join(repr(name) for name, target in targets.TARGETS.items() if fits(target))


def _attention(model: teachers.Teacher) -> Callable[[Sequence[np.ndarray]], Iterator[np.ndarray]]:
    """Returns attention(crops uint8 [s, s, 3]), which yields each one's heat map towards the likelier class."""

    @jax.jit
    def heat(variables, image: jax.Array) -> jax.Array:
        images = step.images_of({"image": image[None]})
        logits, _ = model.module.apply(variables, images)
        return explain.attention(model.module, variables, images, logits.argmax(-1))[0]

    return lambda crops: (np.asarray(heat(model.variables, image)) for image in crops)


def crop_scorer(model: teachers.Teacher, mesh, read: Callable, batch: int):
    """Returns score(crops uint8 [s, s, 3]), which yields the target's reading of each, P(live) first, [1] or [1 + d].

    Batches are padded, so that one size is compiled.
    """
    compiled = step.make_score(model.module, mesh, read)
    size = -(-batch // mesh.size) * mesh.size

    def score(crops: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        for start in range(0, len(crops), size):
            part = crops[start : start + size]
            images = np.zeros((size, model.image_size, model.image_size, 3), np.uint8)
            images[: len(part)] = part
            index = np.arange(size)
            batch = {"image": images, "index": index, "mask": (index < len(part)).astype(np.float32)}
            found, _, _ = jax.device_get(compiled(model.variables, sharding.place_batch(mesh, batch)))
            yield from found.reshape(size, -1)[: len(part)]

    return score


def _frames(found: Sequence[inputs.Input]) -> Iterator[Looked]:
    for place, source in enumerate(screen.bar(found, unit="input")):
        frames = 0
        for frame, error in inputs.frames_of(source):
            frames += frame is not None
            yield Looked(source.name, frame, error, place=place)
        if frames > 1:
            yield Looked(source.name, None, "", place=place, ended=True)


def grouped(stream: Iterable[Looked], most: int) -> Iterator[list[Looked]]:
    """Yields the frames of `stream` in order, `most` a group, or fewer as soon as a group has `PIXELS` pixels."""
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
    """judge(group) returns rows of the table. `recipe` makes the crops, `score` comes from `crop_scorer`, the other
    arguments from `predict`. `frames` counts the frames so far, `detecting` the seconds of face detection; `reference`
    is the enrolled person. Inputs come one after another."""

    def __init__(self, recipe: crops.Recipe, score, threshold: Mapping[str, Any], annotate: str):
        self._recipe, self._score, self._threshold, self._annotate = recipe, score, threshold, annotate
        self.frames, self.detecting, self.reference = 0, 0.0, None
        self._place, self._scores = -1, []  # of the input: its number, and the rows of its largest faces

    def enrol(self, path: str, picture: inputs.Input, *others: inputs.Input) -> None:
        """Compares from now on with the largest face [C] of the `picture` at `path`; ValueError where there is none, or
        where `others` are there, too."""
        (frame, error), *_ = inputs.frames_of(picture)
        found = next(self._find([frame.image])) if frame else []
        if others or not found:
            reason = f"a folder of {1 + len(others)} files" if others else error or NO_FACE
            raise ValueError(f"--reference={path}: {reason}; expected a picture of one face, a crop of it if --cropped")
        (read,) = self._score([self._recipe(frame.image, found[0])])
        self.reference = Reference(path, len(found), float(read[0]), read[1:])

    def __call__(self, group: Sequence[Looked]) -> list[dict]:
        rows = []
        for of, own in zip(group, self._rows(group), strict=True):
            rows += own + self._video(of, own)
            if self._annotate and of.frame:
                rows += self._copy(of, own)
            self.frames += of.frame is not None
        return rows

    def _video(self, of: Looked, own: list[dict]) -> list[dict]:
        """Returns the row of the video whose end `of` is, if a frame of it has a score; else keeps the frame's row."""
        if of.place != self._place:
            self._place, self._scores = of.place, []
        if of.ended:
            return [videos.row(self._scores, self._threshold)] if self._scores else []
        self._scores += [row for row in own[:1] if "score" in row]
        return []

    def _rows(self, group: Sequence[Looked]) -> list[list[dict]]:
        """Returns the rows of each picture of `group`; after a failure one by one, so that only one picture is lost."""
        try:
            return self._scored(group)
        except Exception as error:  # whatever a library raises, as for lack of memory
            reason = _reason(error)
        if len(group) == 1:
            return [[_failure(group[0], reason)]]
        return [self._rows([of])[0] for of in group]

    def _scored(self, group: Sequence[Looked]) -> list[list[dict]]:
        found = self._find([of.frame.image for of in group if of.frame])
        looked = [of._replace(found=next(found)) if of.frame else of for of in group]
        cut = [[self._recipe(of.frame.image, face) for face in of.found] for of in looked]
        read = iter(self._score([pixels for own in cut for pixels in own]))
        return [
            [self._row(of, face, pixels, next(read)) for face, pixels in zip(of.found, own, strict=True)]
            or ([] if of.ended else [_failure(of, of.error or NO_FACE)])
            for of, own in zip(looked, cut, strict=True)
        ]

    def _copy(self, of: Looked, rows: list[dict]) -> list[dict]:
        """Writes the annotated copy of a frame; returns no row, or a row with the reason why there is no copy."""
        try:
            annotated.write(self._annotate, self.frames, of.name, of.frame.image, rows)
        except Exception as error:
            return [_failure(of, f"{NOT_COPIED}: {_reason(error)}")]
        return []

    def _row(self, of: Looked, face: faces.Face, pixels: np.ndarray, read: np.ndarray) -> dict:
        box = {name: round(float(value), 1) for name, value in zip("xywh", face.box, strict=True)}
        score, embedding = float(read[0]), read[1:]
        live = score >= self._threshold["value"]
        decision = {"score": score, "decision": "live" if live else "attack", "error": ""}
        decision["flags"] = "+".join(self._recipe.flags(of.frame.image, face, pixels))
        row = {"input": text(of.name), "frame": of.frame.number, **box, **decision}
        if not self.reference:
            return row
        similarity = float(cosine(embedding[None], self.reference.embedding[None])[0])
        match = similarity >= self._threshold["match"]["value"]
        return {**row, "similarity": similarity, "match": _yes(match), "accepted": _yes(live and match)}

    def _find(self, images: list[np.ndarray]) -> Iterator[list[faces.Face]]:
        started = time.perf_counter()
        found = [[crops.whole(image)] for image in images] if self._recipe.cropped else faces.detect_all(images)
        self.detecting += time.perf_counter() - started
        return iter(found)


def _reason(error: Exception) -> str:
    """What `error` says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _failure(of: Looked, error: str) -> dict:
    return {
        "input": text(of.name),
        "frame": of.frame.number if of.frame else None,
        "decision": "",
        "error": text(error),
        "match": "",
        "accepted": "",
        "flags": "",
    }


def _note(row: Mapping[str, Any]) -> str:
    """The error of a row on one line; `frame` is 0 for a picture."""
    frame = f", frame {row['frame']}" if row["frame"] else ""
    return f"{row['input']}{frame}: {row['error']}"


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"
