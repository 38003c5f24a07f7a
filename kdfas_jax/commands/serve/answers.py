"""What the endpoint answers: the JSON of a scored upload, and the schema that describes it."""

import base64
import functools
import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from input_pipeline.prepare import crops, faces
from input_pipeline.schema import Frame
from input_pipeline.sources import inputs, media
from kdfas_jax.commands.predict.scorer import Scorer, Seen
from kdfas_jax.commands.serve.limits import FILM_PIXELS, MOST_PIXELS, RefusedError


def score(scorer: Scorer, path: str, frames: int, explain: bool) -> dict[str, Any]:
    """Scores the upload in the file `path`; returns the answer of `schema`.

    frames: taken of a video. explain: whether faces carry the crop that the model read and its attention. Refuses what
    cannot be read; an upload that breaks off after some frames has an `error` beside them.
    """
    started = time.perf_counter()
    is_video = inputs.is_video(path)
    decode = (
        functools.partial(media.video_frames, pixels=FILM_PIXELS)
        if is_video
        else functools.partial(media.image_frames, pixels=FILM_PIXELS)
    )
    found, broken = [], ""
    for frame, error in inputs.frames_of(inputs.Input(path, lambda: _small(decode(path, frames)))):
        broken = error
        if frame:
            found.append(_frame(scorer, frame, explain))
    if broken and not found:
        raise RefusedError(422, "unreadable", broken)
    return {
        "kind": "video" if is_video else "image",
        "frames": found,
        "error": broken,
        "threshold": scorer.card["threshold"]["value"],
        "caution": scorer.card["trained_on"]["caution"],
        "seconds": round(time.perf_counter() - started, 4),
    }


def _small(frames: Iterator[Frame]) -> Iterator[Frame]:
    for frame in frames:
        height, width = frame.image.shape[:2]
        if height * width > MOST_PIXELS:
            raise ValueError(f"{width} x {height} pixels; expected at most {MOST_PIXELS / 1e6:.0f} million")
        yield frame


def _frame(scorer: Scorer, frame: Frame, explain: bool) -> dict[str, Any]:
    height, width = frame.image.shape[:2]
    if explain:
        scored = [_face(seen.face) | _pictures(seen) for seen in scorer.explained(frame.image)]
    else:
        scored = [_face(face) for face in scorer(frame.image)]
    return {"frame": frame.number, "width": width, "height": height, "faces": scored}


def _face(face) -> dict[str, Any]:
    return {
        "box": [round(float(value), 1) for value in face.box],
        "landmarks": np.round(face.landmarks.astype(float), 1).tolist() if np.isfinite(face.landmarks).all() else None,
        "confidence": round(face.confidence, 4),
        "score": face.score,
        "decision": face.decision,
        "flags": list(face.flags),
    }


def _pictures(seen: Seen) -> dict[str, str | None]:
    heat = seen.attention
    return {
        "crop": "data:image/jpeg;base64," + base64.b64encode(faces.encode(seen.crop)).decode(),
        "attention": None if heat is None else _png(heat),
    }


def _png(heat: np.ndarray) -> str:
    encoded = cv2.imencode(".png", np.round(255 * heat).astype(np.uint8))[1].tobytes()
    return "data:image/png;base64," + base64.b64encode(encoded).decode()


def _object(**properties) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


NUMBER, TEXT = {"type": "number"}, {"type": "string"}
LANDMARKS = {"type": ["array", "null"], "description": "x, y in pixels of left and right eye, nose, mouth corners"}
FACE = _object(
    box={"type": "array", "items": NUMBER, "description": "x, y, w, h in pixels of the upright picture"},
    landmarks=LANDMARKS,
    confidence={**NUMBER, "description": "of the face detector, 0 to 1"},
    score={**NUMBER, "description": "P(live), 0 to 1, not calibrated"},
    decision={"enum": ["live", "attack"], "description": "live from the threshold on"},
    flags={"type": "array", "items": {"enum": list(crops.FLAGS)}, "description": "how it is unlike training's faces"},
)
FACE["properties"] |= {
    "crop": {**TEXT, "description": "with ?explain=1: what the model read, a data URL"},
    "attention": {"type": ["string", "null"], "description": "with ?explain=1: a grey picture, null for a file model"},
}
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Answer of POST /api/score, whose body is a picture or a video",
    "oneOf": [
        _object(
            kind={"enum": ["image", "video"]},
            frames={
                "type": "array",
                "items": _object(
                    frame={"type": "integer", "description": "number in the video, 0 for an image"},
                    width={"type": "integer"},
                    height={"type": "integer"},
                    faces={"type": "array", "items": FACE, "description": "the largest first"},
                ),
            },
            error={**TEXT, "description": "why a video broke off after these frames, else empty"},
            threshold={**NUMBER, "description": "of the score"},
            caution={**TEXT, "description": "what to know of the model's training, may be empty"},
            seconds={**NUMBER, "description": "of decoding and scoring"},
        ),
        _object(error=_object(code=TEXT, message=TEXT)),
    ],
}
