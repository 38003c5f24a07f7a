"""A trained model for programs: `Scorer(BUNDLE)(picture)` finds the faces of a picture and decides about each.

`Scorer()` opens the model that the package ships (`runs.released`).

    from kdfas_jax import Scorer
    for face in Scorer("runs/kdfas/export")("photo.jpg"):
        print(face.box, face.score, face.decision, face.flags)

A bundle of --mode=export --format=onnx runs with onnxruntime, NumPy, OpenCV and Pillow; neither JAX nor TensorFlow is
imported. Faces are found and cut out by the code of --mode=predict.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from input_pipeline.prepare import crops, faces
from input_pipeline.sources import media
from kdfas_jax.runs import origin, released

Picture = np.ndarray | Image.Image | str | os.PathLike
Detector = Callable[[Sequence[np.ndarray]], list[list[faces.Face]]]


class ScoredFace(NamedTuple):
    """A face and the decision about it.

    Fields:
      box: x, y, w, h in pixels of the upright picture.
      landmarks: float32 [5, 2], as in `faces.Face`.
      confidence: confidence of the detector in [0, 1].
      score: P(live) in [0, 1], not calibrated.
      decision: 'live' at or above the threshold of the run, else 'attack'.
      flags: how the face is unlike those of training (`crops.Recipe.flags`).
      embedding: float32 [d] of length 1 for a model that recognises, else None.
    """

    box: faces.Box
    landmarks: np.ndarray
    confidence: float
    score: float
    decision: str
    flags: tuple[str, ...]
    embedding: np.ndarray | None


class Seen(NamedTuple):
    """What the model saw of a face: the `crop` that it read, uint8 [s, s, 3], and its `attention`, float [s, s] in
    [0, 1] (`report.explain`), or None where the model is a file that gives none."""

    face: ScoredFace
    crop: np.ndarray
    attention: np.ndarray | None


class Model(NamedTuple):
    """What a scorer needs of a run.

    Fields:
      score: maps crops, a list of uint8 [s, s, 3], to an iterator of P(live) and the embedding, float [1] or [1 + d].
      recipe: how the crops are made.
      card: what the run was trained on, its threshold and its figures (`origin.card`).
      attention: maps such crops to an iterator of heat maps, float [s, s] in [0, 1]; None where there are none.
    """

    score: Callable[[Sequence[np.ndarray]], Iterator[np.ndarray]]
    recipe: crops.Recipe
    card: Mapping[str, Any]
    attention: Callable[[Sequence[np.ndarray]], Iterator[np.ndarray]] | None = None

    @property
    def threshold(self) -> float:
        """The score from which a face is live."""
        return self.card["threshold"]["value"]


class Scorer:
    """Scores the faces of pictures: `scorer(picture)` returns a list of `ScoredFace`, the largest face first.

    A picture is an RGB uint8 array [h, w, 3], a Pillow image, or the path of an image file; a list of pictures gives a
    list of such lists. Raises ValueError or OSError for what is no picture.
    """

    def __init__(
        self,
        bundle: str | os.PathLike | Model | None = None,
        *,
        detector: str | os.PathLike = "mtcnn",
        cropped: bool = False,
    ):
        """Opens a bundle; warns where its model was trained on simulated faces only.

        Args:
          bundle: folder written by --mode=export with the format onnx (or a `Model`); by default the released model.
          detector: 'mtcnn', which runs are trained with, or the path of the model file of OpenCV's YuNet, whose boxes
            differ from those of training.
          cropped: whether pictures are face crops already, such as rendered ones.

        Raises FileNotFoundError where there is no bundle or detector, ModuleNotFoundError without onnxruntime, and
        ValueError where the bundle has no ONNX file, or one that is not the exported one.
        """
        bundle = released.folder() if bundle is None else bundle
        self._model = bundle if isinstance(bundle, Model) else _bundled(Path(bundle), cropped)
        self._detect = _detector(detector)
        if caution := self._model.card["trained_on"]["caution"]:
            warnings.warn(caution, stacklevel=3 if isinstance(bundle, Model) else 2)

    @classmethod
    def from_run(
        cls, run: str, *, detector: str | os.PathLike = "mtcnn", cropped: bool = False, batch: int = faces.BATCH
    ) -> "Scorer":
        """Opens the evaluated run in the folder `run` with its Flax model, as --mode=predict does; imports JAX.

        `batch` crops are scored at once; the others are as in `Scorer`. Raises as `predict.predict` does.
        """
        from kdfas_jax.commands.predict import predict  # imports JAX

        return cls(predict.model(run, batch, cropped=cropped), detector=detector)

    @property
    def card(self) -> Mapping[str, Any]:
        """What the run was trained on, what its threshold rests on, and its figures (`origin.card`)."""
        return self._model.card

    @property
    def explains(self) -> bool:
        """Whether `explained` gives attention maps: a Flax model does, an exported file does not."""
        return self._model.attention is not None

    def __call__(self, pictures: Picture | Sequence[Picture]) -> list[ScoredFace] | list[list[ScoredFace]]:
        """Scores one picture, or each of a list of pictures."""
        if not isinstance(pictures, list | tuple):
            return self([pictures])[0]
        scored = []
        for start in range(0, len(pictures), faces.BATCH):
            images = [_decoded(picture) for picture in pictures[start : start + faces.BATCH]]
            scored += [[face for face, _ in own] for own in self._scored(images)]
        return scored

    def explained(self, picture: Picture) -> list[Seen]:
        """Scores one picture, and returns with each face what the model saw of it."""
        ((*scored,),) = self._scored([_decoded(picture)])
        cut = [pixels for _, pixels in scored]
        heats = self._model.attention(cut) if self.explains else iter([None] * len(cut))
        return [Seen(face, pixels, next(heats)) for face, pixels in scored]

    def _scored(self, images: list[np.ndarray]) -> list[list[tuple[ScoredFace, np.ndarray]]]:
        """Returns, for each image, its scored faces, each with the crop that the model read."""
        recipe = self._model.recipe
        found = [[crops.whole(image)] for image in images] if recipe.cropped else self._detect(images)
        cut = [[recipe(image, face) for face in own] for image, own in zip(images, found, strict=True)]
        read = self._model.score([pixels for own in cut for pixels in own])
        return [
            [(self._judged(image, face, pixels, next(read)), pixels) for face, pixels in zip(own, own_cut, strict=True)]
            for image, own, own_cut in zip(images, found, cut, strict=True)
        ]

    def _judged(self, image: np.ndarray, face: faces.Face, pixels: np.ndarray, read: np.ndarray) -> ScoredFace:
        score = float(read[0])
        decision = "live" if score >= self._model.threshold else "attack"
        flags = self._model.recipe.flags(image, face, pixels)
        embedding = np.asarray(read[1:]) if len(read) > 1 else None
        found = {"box": face.box, "landmarks": face.landmarks, "confidence": face.confidence}
        return ScoredFace(**found, score=score, decision=decision, flags=flags, embedding=embedding)


def _detector(name: str | os.PathLike) -> Detector:
    if name == "mtcnn":
        return faces.detect_all
    from input_pipeline.prepare import yunet

    return yunet.YuNet(os.fspath(name))


def _decoded(picture: Picture) -> np.ndarray:
    if isinstance(picture, str | os.PathLike):
        return media.load_image(picture)
    if isinstance(picture, Image.Image):
        return media.rgb(picture)
    if not isinstance(picture, np.ndarray):
        found = type(picture).__name__
    elif picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        found = f"{picture.dtype} {picture.shape}"
    else:
        return picture
    raise ValueError(
        f"a picture of type {found}; expected an RGB uint8 array [h, w, 3], a Pillow image or a path (a grey or RGBA "
        "array: PIL.Image.fromarray)"
    )


def _bundled(folder: Path, cropped: bool) -> Model:
    path = folder / "bundle.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; make it by: python main.py --mode=export --workdir=RUN --format=onnx "
            f"--output={folder}"
        )
    bundle = json.loads(path.read_text(encoding="utf-8"))
    name = next((name for name in bundle["files"] if name.endswith(".onnx")), None)
    if name is None:
        raise ValueError(f"{folder}: no ONNX file in bundle.json; export the run with --format=onnx")
    content = (folder / name).read_bytes()
    if hashlib.sha256(content).hexdigest() != bundle["files"][name]["sha256"]:
        raise ValueError(f"{folder / name}: its SHA-256 differs from bundle.json; export the run again")
    recipe = crops.Recipe.described(bundle["crop"], cropped=cropped)
    return Model(_onnx(content, bundle), recipe, origin.card_of_bundle(bundle))


def _onnx(content: bytes, bundle: dict) -> Callable[[Sequence[np.ndarray]], Iterator[np.ndarray]]:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("a bundle runs on onnxruntime: pip install onnxruntime") from error
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [name for name in ("score", "embedding") if name in bundle["outputs"]]

    def score(images: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        # The file takes one image a call [C]: with any number its graph took 1.4 times as long for one image, and saved
        # 0.3 ms an image of 32, where the detector takes 12 ms.
        for image in images:
            outputs = session.run(names, {bundle["input"]["name"]: image[None].astype(np.float32) / 255})
            yield np.concatenate([output.reshape(-1) for output in outputs])

    return score
