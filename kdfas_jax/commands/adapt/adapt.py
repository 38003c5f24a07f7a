"""Adapts a run to a camera, from some thirty live pictures of it; attacks are simulated from them.

    python main.py --mode=adapt --input=LIVE_FOLDER [--workdir=RUN] [--output=NEWRUN] [--threshold_only]

The result is a run: half of each training batch are the camera's pictures and simulated attacks, half are the data of
the old run, so that it forgets nothing. The threshold is where the errors on held-out pictures of the camera and on dev
of the old data, which weigh alike, are equal; figures are of further pictures of the camera. [C] marks our own choices.
"""

import copy
import json
import logging
import os

import jax
import jax.numpy as jnp
import ml_collections

from input_pipeline import datasets
from input_pipeline.datasets import camera
from input_pipeline.prepare import crops, parts, prepare
from input_pipeline.select import protocols
from input_pipeline.stream import pipeline
from kdfas_jax import targets
from kdfas_jax.commands import evaluate, provenance, train
from kdfas_jax.commands.adapt import measured, pictures
from kdfas_jax.commands.predict import predict
from kdfas_jax.parallel import sharding
from kdfas_jax.runs import files, lock, released, workdir
from kdfas_jax.runs.results import Results
from kdfas_jax.training import step, teachers, validate
from kdfas_jax.training.checkpoint import Checkpoints

STEPS = 300
FRAMES = 30  # of a video
BATCH = 64  # at most [C]
PEAK = 0.25  # of the learning rate of the old run [C]
EMA = 0.98  # averages the last fifty steps or so [C]
PEOPLE = 160  # of simulated_wild that are rendered for the rehearsal, where the old run's records are not here [C]
CAMERA = camera.NAME

logger = logging.getLogger(__name__)


def adapt(
    folder: str, path: str, output: str, *, steps: int = STEPS, threshold_only: bool = False, frames: int = FRAMES
) -> Results:
    """Adapts the run in `folder` to the pictures in `path`; writes a run to `output` and returns its results.json.

    Args:
      folder: a finished run that detects attacks.
      path: live pictures of a camera, and real attacks below PATH/spoof/SPECIES, if there are any (`pictures.find`).
      output: the folder of the new run. The same call resumes a run that was stopped.
      steps: of training.
      threshold_only: keep the weights of the old run, and only set a new threshold.
      frames: taken of a video.

    results.json has `adapted` (`measured.facts`): counts of pictures, and the figures of the old run, of its weights at
    a new threshold, and of the new run. Raises ValueError or FileNotFoundError for a run that is not finished or has
    another target, for pictures as of `pictures.find`, and where `output` holds another run.
    """
    old = ml_collections.ConfigDict(workdir.read(folder)["config"])
    predict.threshold_of(folder, old)  # refuses what has none
    if old.data.target != "label":
        raise ValueError(f"{folder} has config.data.target={old.data.target!r}; expected a run of 'label'")
    teachers.check_finished("--workdir", folder)
    found = pictures.find(path, crops.Recipe.of_config(old.data), frames)
    if (people := len({of.person for of in found.live})) < pictures.PEOPLE:
        logger.warning(
            "warning: --input=%s has the live pictures of %d people, a folder each; expected %d or more: the new "
            "threshold may turn other people away, and the figures do not show it",
            path,
            people,
            pictures.PEOPLE,
        )
    with lock.held(output):
        raw = os.path.join(output, "raw", CAMERA)
        os.makedirs(os.path.dirname(raw), exist_ok=True)
        counts = pictures.write(found, raw, train=not threshold_only, seed=old.seed)
        logger.info("%s: %d live faces, %d pictures without a face; %s", path, len(found.live), found.without, counts)
        if threshold_only:
            config = _judged_alone(old, folder, output)
            _keep(config, folder, output)
        else:
            config = _trained(old, folder, output, steps)
            validate.check(config)
            train.fit(config, output, {})
        facts = measured.facts(folder, output, config)
        facts |= {"pictures": counts, "without_face": found.without, "threshold_only": threshold_only}
        files.write_atomically(os.path.join(output, evaluate.ADAPTED), json.dumps(facts, indent=2))
        return evaluate.evaluate(config, output)


def default_output(folder: str) -> str:
    """Returns the folder of the run that is adapted from the one in `folder`, where --output does not name one."""
    return "runs/released-adapted" if folder == released.FOLDER else f"{folder.rstrip('/')}-adapted"


def _judged_alone(old, folder: str, output: str) -> ml_collections.ConfigDict:
    """Returns the config of a run with the weights of the run in `folder`, on the camera's pictures alone."""
    config = copy.deepcopy(old)
    config.unlock()
    config.name = f"{old.name.removesuffix('_adapted')}_adapted"
    config.init = released.NAME if folder == released.FOLDER else files.absolute(folder)
    config.teachers, config.control = ml_collections.ConfigDict(), ""
    config.terms = {"ce": {"kind": "cross_entropy", "weight": 1.0, "smoothing": 0.1}}
    config.daa.classifier = ""
    config.data.update({"dataset": CAMERA, "protocol": "official", "truth": False, "views": 0, "dev_share": 0.0})
    config.data.update({"extra_sources": (), "train_species": (), "balance": "", "domain_by": "domain"})
    config.data.options, config.data.raw_dir = ml_collections.ConfigDict(), os.path.join(output, "raw", CAMERA)
    config.data.unlabelled.dataset = ""
    config.data.attack.update({"probability": 0.0, "recapture": 0.0})  # the attacks are made already
    config.train.epochs = 0.0  # nothing is to be trained: the run is finished as it is
    config.eval.threshold = "eer"  # of dev of the camera, whatever the old run decides by
    return config


def _trained(old, folder: str, output: str, steps: int) -> ml_collections.ConfigDict:
    """Returns the config of the training on the camera's pictures and, in the other half of a batch, on old data."""
    config, rehearsal = _judged_alone(old, folder, output), _rehearsal(old)
    config.data.update({"dataset": f"{CAMERA}+{rehearsal.dataset}", "options": rehearsal.options})
    config.data.update({"protocol": f"{protocols.CAMERA}{rehearsal.protocol}", "balance": "dataset+label"})
    config.data.update({name: rehearsal[name] for name in ("dev_share", "extra_sources", "train_species")})
    config.data.raw_dir = _linked(rehearsal, output)
    examples = pipeline.open_data(config.data, targets.LABEL).count("train")
    batch = min(old.train.batch_size, BATCH, examples)
    config.train.batch_size = batch
    config.train.epochs = config.train.eval_epochs = steps / (examples // batch)
    config.optim.update({"lr": PEAK * old.optim.lr, "warmup_epochs": config.train.epochs / 10, "ema": EMA})
    config.optim.every = ml_collections.ConfigDict()
    config.eval.threshold = "eer_sets"  # a camera's few pictures alone say little [C]
    return config


def _linked(rehearsal, output: str) -> str:
    """Returns the raw_dir of both sets; links the raw data of the old run into OUTPUT/raw, where it has any."""
    names = rehearsal.dataset.split("+")
    raw = [name for name in names if hasattr(datasets.get(name), "EXPECTED_TREE")]
    for name in raw if rehearsal.raw_dir else ():
        link = os.path.join(output, "raw", name)
        if not os.path.lexists(link):
            os.symlink(os.path.abspath(rehearsal.raw_dir.replace("{dataset}", name)), link)
    return os.path.join(output, "raw", "{dataset}")


def _rehearsal(old) -> ml_collections.ConfigDict:
    """Returns the config.data of what is rehearsed: the old run's, of fewer people where they would be rendered."""
    data = copy.deepcopy(old.data)
    data.unlock()
    data.truth = False
    data.dataset = "+".join(name for name in data.dataset.split("+") if name != CAMERA)
    data.protocol = data.protocol.removeprefix(protocols.CAMERA)
    if not data.dataset:
        raise ValueError(
            f"the run has the data of another camera alone, as --threshold_only was given; adapt --workdir={old.init}"
        )
    if data.dataset != "simulated_wild" or data.options.get("people", 0) <= PEOPLE:
        return data
    crop = parts.Crop(size=data.record_size, scale=data.scale, align=data.align)
    here = prepare.builder_dir(data.dataset, data.data_dir, crop, dict(data.options))
    if not files.exists(os.path.join(here, "metadata.csv")):
        data.options.people = PEOPLE
    return data


def _keep(config, folder: str, output: str) -> None:
    """Saves the weights of the run in `folder` as step 0 of the run `config` in `output`."""
    data, begun = pipeline.open_data(config.data, targets.LABEL), provenance.start(config, output)
    workdir.claim(config, output, data.fingerprint)
    provenance.record(output, [provenance.examples(data)], {}, begun)
    variables = teachers.load(folder, sharding.make_mesh(config.mesh)).variables
    state = step.TrainState(jnp.int32(0), **variables, term_params={}, opt_state={})
    with Checkpoints(output) as checkpoints:
        if checkpoints.latest() is None:
            checkpoints.save(jax.device_put(state), None, {"step": 0})
