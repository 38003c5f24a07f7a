"""Rehearses a config of configs/ at its full model and image sizes: two training steps, evaluation, prediction, export.

    ./launch/rehearse.sh                                 # every config, a line each
    python -m kdfas_jax.commands.rehearse kdfas_oulu FOLDER       # one of them; teachers/kdfas_oulu is a name, too

A demo at 64 px cannot show that a config works at 224 px with teachers at 112 and 128 px. Only what costs time is made
smaller: the data set becomes a few simulated pictures at the config's own record size, a batch becomes two pictures,
and the run two steps, on one device. The models, their teachers, the crops, the terms and the attack stay as they are.
"""

import importlib
import os
import sys

import cv2
import jax
import ml_collections
import numpy as np

from input_pipeline.prepare import records
from input_pipeline.stream import pipeline
from kdfas_jax import targets
from kdfas_jax.commands import train
from kdfas_jax.commands.export import export
from kdfas_jax.commands.export import formats as export_formats
from kdfas_jax.commands.predict import predict
from kdfas_jax.runs import identity

FOLDER = os.path.join(os.path.dirname(__file__), "..", "..", "configs")
SHARED = ("__init__", "common", "ablation")  # what several configs share, and studies of other configs
STEPS, BATCH = 2, 2
RECOGNITION = ("celeba", "identity", "simulated_identity")  # sets of faces without presentation attacks
PEOPLE = {"identities": 20, "pictures": 2}  # two people each are dev and test: enough for pairs
PRESENTATIONS = {"users": (1, 21, 36), "phones": (1,), "sessions": (1, 2, 3), "frames": 1}  # one user of each split
WILD, WILD_PEOPLE = "simulated_wild", 80  # ten groups of eight, the fewest that have all three splits
UNLABELLED = (56,)  # a user who is in none of these splits
DOMAINS = {
    "simulated": "simulated",
    "nuaa": "simulated-casia",
}  # data set -> simulated domain; a set that is not here has a domain of its name


def names() -> list[str]:
    """The configs to rehearse, sorted: 'dtda_demo', ..., 'teachers/domains', ..."""
    found = []
    for folder in ("", "teachers"):
        stems = (os.path.splitext(file) for file in os.listdir(os.path.join(FOLDER, folder)))
        found += [os.path.join(folder, stem) for stem, suffix in stems if suffix == ".py" and stem not in SHARED]
    return sorted(found)


def reduced(config, data_dir: str) -> ml_collections.ConfigDict:
    """A copy of `config`, and of its teachers' configs, that reads a few simulated pictures in `data_dir`."""
    config = ml_collections.ConfigDict(identity.plain(config))
    for teacher in config.teachers.values():
        teacher.config, teacher.checkpoint = reduced(teacher.config, data_dir), ""
    chosen = _simulated(config.data) | {"raw_dir": "", "data_dir": data_dir, "subjects": {}}
    config.data.options = ml_collections.ConfigDict()  # of another reader
    config.data.update(chosen)
    if config.data.unlabelled.dataset:
        options = PRESENTATIONS | {"size": config.data.record_size, "users": UNLABELLED}
        config.data.unlabelled.update({"dataset": "simulated", "raw_dir": ""})
        config.data.unlabelled.options = ml_collections.ConfigDict(options)
    config.train.batch_size, config.eval.batch_size = BATCH, BATCH
    config.mesh = {"data": -1, "fsdp": 1}
    config.optim.warmup_epochs = 0.0
    return config


def _simulated(data) -> dict:
    """The keys of `data` (config.data) that name the data, for simulated sets in place of those it reads."""
    if data.dataset == WILD:
        return {"options": {**data.options, "people": WILD_PEOPLE}}
    sets = data.dataset.split("+")
    attacked = [name for name in sets if name not in RECOGNITION]
    options = {"size": data.record_size}
    if len(attacked) < len(sets):
        options |= PEOPLE
    if attacked:
        domains = [DOMAINS.get(name, f"simulated-{name}") for name in attacked] if len(attacked) > 1 else ["simulated"]
        options |= PRESENTATIONS | {"domains": data.options.get("domains", domains)}
    kinds = ["simulated_identity"] * (len(attacked) < len(sets)) + ["simulated"] * bool(attacked)
    protocol = "official" if data.protocol == "subjects" else data.protocol.replace("-nuaa", "-casia")
    return {"dataset": "+".join(kinds), "options": options, "protocol": protocol}


def fit_to_data(config) -> None:
    """Sets the length of the run to `STEPS`, and the number of people to recognise to that of the reduced data.

    Changes `config` and its teachers' configs in place; the data are prepared where they are not.
    """
    for teacher in config.teachers.values():
        fit_to_data(teacher.config)
    target = targets.get(config.data.target)
    data = pipeline.open_data(config.data, target)
    config.train.epochs = STEPS / (data.count("train") // BATCH)
    config.train.eval_epochs = config.train.epochs
    if target.recognises:
        config.model.classes = len(target.classes(data))


def rehearse(name: str, folder: str) -> None:
    """Trains the teachers and the student of configs/NAME.py in `folder`, evaluates, predicts one picture and exports.

    A run that detects no attacks has no threshold, so it is neither predicted with nor exported. Raises whatever fails
    on the way; AssertionError where the picture gets no score.
    """
    module = importlib.import_module(f"configs.{name.replace('/', '.')}")
    config = reduced(module.get_config(), os.path.join(folder, "data"))
    fit_to_data(config)
    run = os.path.join(folder, name.replace("/", "-"))
    train.train(config, run)
    if targets.get(config.data.target).detects:
        picture = os.path.join(run, "picture.png")
        cv2.imwrite(picture, sample_picture(config.data)[..., ::-1])
        predicted = predict.predict(run, [picture], os.path.join(run, "scores.csv"), cropped=True)
        assert predicted.scored == 1, predicted.table["error"].tolist()
        export.export(run, formats(), os.path.join(run, "bundle"))


def formats() -> list[str]:
    """The formats that a rehearsal exports to: those in fp32 whose packages are installed.

    The parity of 8 bits is a difference of AUC, which means nothing on a handful of images.
    """
    return [name for name, of in export_formats.FORMATS.items() if not of.int8 and not export_formats.missing([name])]


def sample_picture(data) -> np.ndarray:
    """Returns the first test picture with a known label of `data` (config.data) as RGB uint8 [h, w, 3]."""
    opened = pipeline.open_data(data, targets.get(data.target))
    row = int(opened.rows("test", presentations=True)[0])
    (encoded,) = records.Reader(opened.files, opened.table).images([row])
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def main(argv: list[str]) -> None:
    """`--list` prints the names; NAME FOLDER rehearses one. Exit code 1 and the last line says why."""
    if argv == ["--list"]:
        print("\n".join(names()))
        return
    if len(argv) != 2 or argv[0] not in names():
        raise SystemExit(f"usage: python -m kdfas_jax.commands.rehearse NAME FOLDER, NAME one of {', '.join(names())}")
    jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/kdfas_jax/xla"))
    rehearse(*argv)


if __name__ == "__main__":
    main(sys.argv[1:])
