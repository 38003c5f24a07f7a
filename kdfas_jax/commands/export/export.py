"""A trained model as files that run without this project, and a bundle.json that says how to use them.

    python main.py --mode=export --workdir=RUN --format=stablehlo,tflite,onnx[,onnx_int8] [--output=DIR]

Each file is run on crops of the run's own data, and kept only where it agrees with the model.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import jax
import ml_collections
import numpy as np
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from input_pipeline.prepare import crops as cropping
from input_pipeline.prepare import faces, records
from input_pipeline.select.examples import Data
from input_pipeline.stream import pipeline
from kdfas_jax import models, targets
from kdfas_jax.commands import evaluate
from kdfas_jax.commands.export import formats as export_formats
from kdfas_jax.commands.export.formats import FORMATS, Run
from kdfas_jax.commands.predict import predict
from kdfas_jax.metrics.verification import cosine
from kdfas_jax.models import fine_tuning
from kdfas_jax.parallel import sharding
from kdfas_jax.report import runs as report_runs
from kdfas_jax.runs import files, identity, origin, workdir
from kdfas_jax.training import experiment, teachers

CROPS, CROPS_INT8 = 200, 1000  # most crops that a file is compared on; an AUC needs more [C]
PICTURES = 20  # most pictures in which the detector searches, to compare what follows [C]
TOLERANCE, TOLERANCE_INT8 = 1e-4, 0.005  # of logits, score and embedding in fp32; of the AUC
ROUNDS = 50  # of which the latency is the median
BUNDLE = "bundle.json"
# What the models of a name are built with to be written, where they compute the same in another way than usual.
EXPORTED = {"mobilefacenet": {"native": True}}
ACCEPT = (
    "who it is, of length 1; accept where the dot product with the reference's embedding >= threshold.match.value "
    "and score >= threshold.value"
)
PACKAGES = "jax", "tensorflow-cpu", "jax2onnx", "onnx", "onnxruntime", "ai-edge-litert"


class Crops(NamedTuple):
    """What files are judged on: `images` fp32 [n, s, s, 3], `labels` [n], and the model's own `logits` [n, 2].

    Its embeddings [n, d], too, of length 1, where it recognises.
    """

    images: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    embedding: np.ndarray | None = None


class Pictures(NamedTuple):
    """Faces as they are scored from pictures: detected, cropped and resized.

    cropped: fp32 [n, s, s, 3], cropped as --mode=predict does. described: the same faces, cropped as bundle.json says.
    """

    cropped: np.ndarray
    described: np.ndarray


def export(folder: str, formats: Sequence[str], output: str) -> dict:
    """Writes the run in `folder`, at its best step on dev, to the folder `output`; returns the content of bundle.json.

    formats: names of `export_formats.FORMATS`. The model computes in fp32 whatever it was trained in; one of two tasks
    gives embeddings, too.
    ValueError where a file does not agree with the model, for a run that does not tell live from attack or consists of
    folds, and where `output` is on object storage or holds other things than a bundle; FileNotFoundError where the run
    was not evaluated or its data are not there. After an error `output` is as it was.
    """
    config = ml_collections.ConfigDict(workdir.read(folder)["config"])
    formats = list(dict.fromkeys(formats))
    export_formats.check(formats)
    _check_output(output)
    predict.threshold_of(folder, config)  # refuses what has none
    results = report_runs.read(folder).results
    data = evaluate.open_data(config, folder)
    role = targets.get(config.data.target).scored_roles(data)[0]  # that the threshold is from
    with jax.default_device(jax.devices("cpu")[0]):
        config.model, variables = fine_tuning.merge(config.model, variables_of(folder, config))
        bundle = describe(config, results, role)
        temporary = f"{output.rstrip('/')}.tmp{os.getpid()}"
        os.makedirs(temporary)
        try:
            crops = functools.partial(crops_of, data, role, config.data)
            pictures = _pictures(data, role, config.data, json.loads(json.dumps(bundle["crop"])))
            threshold = results["threshold"]["value"]
            bundle["files"] = _write(config, variables, formats, (crops, pictures), threshold, temporary)
            with open(os.path.join(temporary, BUNDLE), "w", encoding="utf-8") as file:
                json.dump(bundle, file, indent=2)
            shutil.rmtree(output, ignore_errors=True)
            os.replace(temporary, output)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return bundle


def table(bundle: dict) -> str:
    """The files of a bundle for the screen, in Markdown."""
    lines = [
        "| format | file | MB | logits differ by | scores of pictures differ by | decided alike | AUC, of fp32 "
        "| embedding cosine | ms, one thread |",
        "|---" * 9 + "|",
    ]
    for name, entry in bundle["files"].items():
        parity = entry["parity"]
        auc = f"{parity['auc']:.4f}, {parity['auc_fp32']:.4f}" if "auc" in parity else ""
        cells = [entry["format"], name, f"{entry['bytes'] / 1e6:.2f}", f"{parity['logits']:.1e}"]
        cells.append(f"{parity['picture']:.1e}" if "picture" in parity else "")
        alike = f"{parity['cosine']:.4f}" if "cosine" in parity else ""
        cells += [f"{parity['decisions']:.1%}", auc, alike, f"{entry['latency_ms']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _check_output(output: str) -> None:
    """ValueError where the folder `output` holds what `export` did not write, or is on object storage."""
    if files.is_remote(output):
        raise ValueError(f"{output} is on object storage; expected a folder of this machine: give --output=DIR")
    if not os.path.lexists(output):
        return
    there, own = set(os.listdir(output)) if os.path.isdir(output) else {output}, {BUNDLE}
    if BUNDLE in there:
        with open(os.path.join(output, BUNDLE), encoding="utf-8") as file:
            own |= set(json.load(file)["files"])
    if foreign := sorted(there - own):
        raise ValueError(f"{output} holds {foreign[0]}, which is no part of a bundle; give another --output")


def variables_of(folder: str, config) -> dict:
    """Returns the variables of the run in `folder` at its best step on dev, as fp32 NumPy arrays."""
    return jax.device_get(teachers.load(folder, sharding.make_mesh(config.mesh)).variables)


def _write(
    config, variables, formats: Sequence[str], judged: tuple[Callable, Pictures], threshold: float, folder: str
) -> dict[str, dict]:
    """Writes each format into `folder`; returns {file: its entry in the bundle}. ValueError where parity fails.

    judged: crops(most) -> at most so many images and labels, as of `crops_of`; and `_pictures`.
    """
    fields, size = {**config.model, "dtype": "float32"}, config.data.image_size
    recognises = targets.get(config.data.target).recognises
    exported = models.create({**fields, **EXPORTED.get(config.model.name, {})})
    network = export_formats.trace(exported, variables, size, recognises=recognises)
    model = jax.jit(export_formats.forward(models.create(fields), recognises=recognises))
    placed, references, (crops, pictures) = jax.device_put(variables), {}, judged
    for int8 in {FORMATS[name].int8 for name in formats}:
        images, labels = crops(CROPS_INT8 if int8 else CROPS)
        outputs = zip(*(jax.device_get(model(placed, image[None])) for image in images), strict=True)
        references[int8] = Crops(images, labels, *map(np.concatenate, outputs))
    seen = [expit(np.diff(model(placed, image[None])[0], axis=1).item()) for image in pictures.cropped]
    files = {}
    for name in formats:
        of = FORMATS[name]
        path, reference = os.path.join(folder, of.file), references[of.int8]
        of.write(network, path, reference.images[:: -(-len(reference.images) // CROPS)])  # at most CROPS of them
        run = of.load(path)
        parity = measured_parity(run, reference, threshold, int8=of.int8)
        if seen:
            found = [float(run(image[None])[0][0]) for image in pictures.described]
            parity |= {"pictures": len(seen), "picture": float(np.abs(np.subtract(found, seen)).max())}
        check_parity(name, parity)
        files[of.file] = {
            "format": name,
            "batch": of.batch,
            "shape": [of.batch, size, size, 3],
            "bytes": os.path.getsize(path),
            "sha256": sha256(path),
            "parity": parity,
            "latency_ms": _latency(run, reference.images[:1]),
        }
    return files


def crops_of(data: Data, role: str, config, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns at most `most` crops of `role` with known liveness, evenly spaced: fp32 [n, s, s, 3], and labels [n]."""
    rows = data.rows(role, presentations=True)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)]
    batch = next(pipeline.test_batches(data, rows, config, batch_size=len(rows), shard=(0, 1)))
    return np.asarray(batch["image"], np.float32) / 255, data.table["label"].to_numpy()[batch["index"]]


def _pictures(data: Data, role: str, config, described: dict) -> Pictures:
    """Faces of `role` in pictures, cropped by `config` (config.data) and by what bundle.json says of the crop.

    Records hold crops, not pictures, so each is put into a frame of twice its size whose border repeats its edge [C].
    Where the detector finds no face, as in drawn ones, the box is the crop's middle; a recipe that aligns needs a face.
    """
    rows = data.rows(role, presentations=True)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), PICTURES)).astype(int)]
    recipes = cropping.Recipe.of_config(config), cropping.Recipe.described(described)
    border = config.record_size // 2
    inputs = []
    for encoded in records.Reader(data.files, data.table).images(rows):
        crop = faces.decode(encoded, config.record_size)
        picture = cv2.copyMakeBorder(crop, border, border, border, border, cv2.BORDER_REPLICATE)
        (face,) = faces.detect([picture])
        if face is None and not config.align:
            side = config.record_size / config.scale
            start = len(picture) / 2 - side / 2
            face = cropping.whole(picture)
            face = dataclasses.replace(cropping.whole(picture), box=(start, start, side, side))
        if face:
            inputs.append([recipe(picture, face) for recipe in recipes])
    size = config.image_size
    cropped, described = np.array(inputs, np.float32).reshape(-1, 2, size, size, 3).swapaxes(0, 1) / 255
    return Pictures(cropped, described)


def measured_parity(run: Run, crops: Crops, threshold: float, *, int8: bool) -> dict:
    """Returns how the outputs of a file compare with the model's.

    tolerance: the largest allowed difference, or difference of the AUC. logits, score, embedding: the largest
    difference. cosine: the smallest of a file's embedding and the model's.
    decisions: the share of crops decided alike at the threshold. `_write` adds `picture`, the largest difference of the
    scores of `pictures` pictures, each found, cropped and scored by the bundle and by --mode=predict.
    """
    outputs = zip(*(run(image[None]) for image in crops.images), strict=True)
    scores, logits, *embedding = map(np.concatenate, outputs)
    expected = expit(crops.logits[:, 1] - crops.logits[:, 0])
    parity = {
        "crops": len(scores),
        "logits": float(np.abs(logits - crops.logits).max()),
        "score": float(np.abs(scores - expected).max()),
        "decisions": float(((scores >= threshold) == (expected >= threshold)).mean()),
    }
    for found in embedding:
        parity["embedding"] = float(np.abs(found - crops.embedding).max())
        parity["cosine"] = float(cosine(found, crops.embedding).min())
    if not int8:
        return {**parity, "tolerance": TOLERANCE}
    auc, auc_fp32 = (float(roc_auc_score(crops.labels, each)) for each in (scores, expected))
    return {**parity, "auc": auc, "auc_fp32": auc_fp32, "tolerance": TOLERANCE_INT8}


def check_parity(name: str, parity: dict) -> None:
    """Raises ValueError where the `parity` of the format `name` exceeds its tolerance, or is NaN.

    parity: as `measured_parity` returns it. The AUC is compared where it is there, else each output.
    """
    if "auc" in parity:
        differences = {"AUC": abs(parity["auc"] - parity["auc_fp32"])}
    else:
        differences = {key: value for key, value in parity.items() if key in (*export_formats.OUTPUTS, "picture")}
    for figure, difference in differences.items():
        if not difference <= parity["tolerance"]:
            raise ValueError(
                f"--format={name}: its {figure} and the model's are {difference:.2g} apart on {parity['crops']} crops; "
                f"expected at most {parity['tolerance']:g}. Nothing was written; leave this format out"
            )


def _latency(run: Run, image: np.ndarray) -> float:
    """Median milliseconds of one image."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        run(image)
        seconds.append(time.perf_counter() - started)
    return 1e3 * statistics.median(seconds)


def sha256(path: str) -> str:
    """Returns the SHA-256 of the file `path` in hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(config, results: dict, role: str) -> dict:
    """Returns the content of bundle.json without its files.

    config, results: the run's config, and the content of its results.json. role: the split whose crops the files are
    compared on.
    """
    size, data = config.data.image_size, config.data
    counted = models.parameters(config.model, size)
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    outputs = {
        "score": {"shape": ["batch"], "meaning": "P(live), not calibrated; live at or above threshold.value"},
        "logits": {"shape": ["batch", 2], "meaning": "attack, live"},
    }
    if targets.get(config.data.target).recognises:
        length = experiment.outputs(models.create(config.model), size)["embedding"].shape[-1]
        outputs["embedding"] = {"shape": ["batch", length], "meaning": ACCEPT}
    return {
        "run": {"name": config.name, **{key: results.get(key) for key in ("step", "finished", "protocol")}},
        "model": {
            **identity.plain(config.model),
            "dtype": "float32",
            "parameters": counted.deployed,
            "training_only_parameters": counted.training_only,  # in none of the files
        },
        "input": {
            "name": export_formats.INPUT,
            "dtype": "float32",
            "shape": ["batch", size, size, 3],  # `shape` of each file says how many images it takes
            "colour": "RGB",
            "range": [0, 1],
            "normalisation": "inside the model",
        },
        "outputs": outputs,
        "labels": {"attack": 0, "live": 1},
        "crop": cropping.Recipe.of_config(data).describe(),
        "trained_on": origin.trained_on(data),
        "threshold": results["threshold"],
        "figures": origin.figures(results),
        "parity_on": f"crops of {role} of {data.dataset}, against the Flax model in fp32",
        "machine": {"platform": platform.platform(), "cores": os.cpu_count(), "threads": 1, "packages": versions},
    }
