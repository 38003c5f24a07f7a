"""A whole training run: the teachers that are missing, the student, and the evaluation of its best checkpoint."""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np
from clu import parameter_overview

from input_pipeline.select import protocols
from input_pipeline.select.examples import Data
from input_pipeline.stream import pipeline
from kdfas_jax import targets
from kdfas_jax.commands import evaluate, folds, provenance
from kdfas_jax.metrics import amounts
from kdfas_jax.objective.weighted_sum import Objective
from kdfas_jax.parallel import preemption, sharding
from kdfas_jax.runs import files, lock, workdir
from kdfas_jax.runs.results import Results
from kdfas_jax.training import experiment, initial, loop, outputs, step, teachers, validate
from kdfas_jax.training.checkpoint import Checkpoints
from kdfas_jax.training.experiment import Experiment
from kdfas_jax.training.journal import Journal

logger = logging.getLogger(__name__)


def train(config, folder: str) -> Results:
    """Trains the teachers that are not finished, then the student; evaluates it and returns its results.json.

    A protocol of several folds trains all of them (`folds`). The same call on the same folder resumes where it stopped,
    to bit-identical parameters on CPU. `lock.LockedError` where another command works on the folder; a teacher that
    another command is training is waited for.
    """
    validate.check(config)
    with lock.held(folder):
        return _train(config, folder)


def _train(config, folder: str) -> Results:
    names = protocols.folds(config.data.protocol)
    homes = {name: teachers.home(config.teachers[name], folder) for name in experiment.used(config)}
    given = {name: home for name, home in homes.items() if config.teachers[name].checkpoint}
    for fold in names:  # before hours are spent on the others
        run = folds.config_of(config, fold)
        provenance.check(run, homes_of_fold(given, fold))
        provenance.start(run, folds.home(folder, fold) if len(names) > 1 else folder)
    for name, home in homes.items():
        if not config.teachers[name].checkpoint:
            _train_teacher(name, config.teachers[name].config, home)
    if len(names) > 1:
        return _train_folds(config, folder, homes, names)
    homes = homes_of_fold(homes, names[0])
    fit(config, folder, homes, provenance.check(config, homes))
    return evaluate.evaluate(config, folder)


def _train_teacher(name: str, config, home: str) -> None:
    """Trains the teacher `name` of `config` in `home`, unless it is finished there.

    ValueError where the teacher there has seen other data than `config` names today: its home's name does not tell data
    of different folders apart.
    """
    with lock.held(home, wait=True):
        if not teachers.finished(home):
            logger.info("teacher %s: training it first, in %s", name, home)
            _train(config, home)
            return
    try:
        data = pipeline.gather(config.data)
    except FileNotFoundError:  # neither records nor raw data are here: nothing to compare
        return
    evaluate.check_data(home, data.fingerprint)


def _train_folds(config, folder: str, homes: Mapping[str, str], names: tuple[str, ...]) -> Results:
    """Trains and evaluates the folds that are not finished, each with the same fold of the teachers."""
    runs = {name: folds.config_of(config, name) for name in names}
    fingerprint = pipeline.open_data(runs[names[0]].data, targets.get(config.data.target)).fingerprint
    workdir.claim(config, folder, fingerprint)
    results = []
    for name, run in runs.items():
        home = folds.home(folder, name)
        found = workdir.results(run, home)
        if found is None:
            logger.info("fold %s, in %s", name, home)
            of_fold = homes_of_fold(homes, name)
            with lock.held(home):
                fit(run, home, of_fold, provenance.check(run, of_fold))
                found = evaluate.evaluate(run, home)
        else:
            evaluate.check_data(home, fingerprint)
        results.append(found)
    return folds.write(config, folder, results)


def homes_of_fold(homes: Mapping[str, str], fold: str) -> dict[str, str]:
    """Returns {teacher: folder of its run} for `fold`, from the folders `homes` of the whole protocol.

    The folder is that of the teacher's run of `fold`, or the whole folder where the teacher was trained without folds.
    """
    own = {name: folds.home(home, fold) for name, home in homes.items()}
    return {name: own[name] if files.exists(own[name]) else home for name, home in homes.items()}


def fit(config, folder: str, homes: Mapping[str, str], taught: Mapping | None = None) -> None:
    """Trains up to the last checkpoint, without an evaluation; SIGTERM saves and leaves.

    homes: teacher -> its run's folder; taught: the facts that `provenance.check` found about them, which the run
    records. NonFiniteLossError (journal) for a NaN; ValueError for a batch larger than the training set, or a model
    with another number of classes than the target has.
    """
    target = targets.get(config.data.target)
    data, begun = pipeline.open_data(config.data, target), provenance.start(config, folder)
    if Objective(config.terms, config.teachers).teachers:
        data = pipeline.with_unlabelled(data, config.data)
    workdir.claim(config, folder, data.fingerprint)
    provenance.record(folder, [provenance.examples(data)], taught or {}, begun)
    mesh = sharding.make_mesh(config.mesh)
    made = experiment.of_config(config, data.count("train"))
    sizes = {"config.train.batch_size": made.batch_size / made.accumulate}
    sharding.check_batch(mesh, sizes | {"config.eval.batch_size": config.eval.batch_size})
    target.check_classes(data, made.model.classes)
    with preemption.watch() as stopping, Checkpoints(folder) as checkpoints:
        if checkpoints.latest() == made.steps:
            return
        if target.detects:
            _report_amounts(data, made.steps)
        loaded = {name: teachers.load(home, mesh, config.teachers[name].config) for name, home in homes.items()}
        made = dataclasses.replace(made, teachers={name: of.frozen for name, of in loaded.items()})
        check_domains(config, data, made)
        state = _restore(config, checkpoints, made, mesh)
        variables = {name: teachers.rounded(of) for name, of in loaded.items()}
        stored = {
            name: outputs.Stored(name, made.teachers[name], variables.pop(name), shown(data, config), config, mesh)
            for name in made.stored
        }
        del loaded  # and with it the unrounded parameters
        judge = _judge(config, data, made, mesh)
        start, per_epoch = int(state.step), data.count("train") // made.batch_size
        kept = checkpoints.meta(start) if start else {}
        with Journal(folder, made, start=start, kept=kept) as journal:
            every = max(1, round(config.train.eval_epochs * per_epoch))
            around = loop.Surroundings(checkpoints, journal, judge, every, stopping)
            batches = _batches(config, data, made, start)
            batches = outputs.added(batches, stored, start, per_epoch, config.data.views)
            loop.run(made, mesh, state, variables, batches, around)


def _report_amounts(data: Data, steps: int) -> None:
    """Logs how much data and how many steps the run has, and warns where that is too little."""
    for role in protocols.SPLITS:
        logger.info("%s", amounts.described(data.table, role))
    for warning in amounts.warnings(data.table, steps):
        logger.warning("warning: %s", warning)


def _batches(config, data: Data, made: Experiment, start: int) -> Iterator[dict[str, np.ndarray]]:
    """This host's training batches from step `start` on."""
    return pipeline.train_batches(
        data,
        config.data,
        targets.get(config.data.target),
        batch_size=made.batch_size,
        seed=config.seed,
        start=start,
        steps=made.steps,
        shard=(jax.process_index(), jax.process_count()),
    )


def shown(data: Data, config) -> outputs.Shown:
    """The training and unlabelled images of `data`, as a teacher sees them whose outputs are stored."""
    rows = np.sort(np.concatenate([data.rows(role) for role in ("train", "unlabelled")]))

    def batches(view: int) -> Iterator[dict[str, np.ndarray]]:
        options = {"batch_size": config.eval.batch_size, "shard": (jax.process_index(), jax.process_count())}
        return pipeline.test_batches(data, rows, config.data, seen=pipeline.training_view(config.data, view), **options)

    return outputs.Shown(data, rows, batches)


def _judge(config, data: Data, made: Experiment, mesh) -> Callable[[step.TrainState], dict[str, float]]:
    """Returns a function from a state to the dev figures by which checkpoints are ranked; {} without a dev set."""
    target = targets.get(config.data.target)
    score = step.make_score(made.model, mesh, target.read)

    def judge(state: step.TrainState) -> dict[str, float]:
        if not data.count("dev"):
            return {}
        return target.selection(evaluate.score_role(score, state.deployed, data, "dev", config, mesh))

    return judge


def check_domains(config, data: Data, made: Experiment) -> None:
    """Raises ValueError where E_d or a domain adversary has another number of classes than `data` has domains."""
    for name in made.attack.teachers if made.attack else ():
        key = f"config.teachers.{name}.config.model.classes"
        targets.DOMAIN.check_classes(data, made.teachers[name].module.classes, key)
    for name, term in config.terms.items():
        if term.weight and "domains" in term:
            if config.data.target != "label":
                raise ValueError(f"config.terms.{name} reads domains: expected config.data.target='label'")
            targets.DOMAIN.check_classes(data, term.domains, f"config.terms.{name}.domains")


def _restore(config, checkpoints: Checkpoints, made: Experiment, mesh) -> step.TrainState:
    """The latest saved state, or a fresh one, which begins at `config.init` where that is set; on `mesh`."""
    shapes = jax.eval_shape(lambda: step.init(made))
    shardings = sharding.tree(mesh, shapes)
    latest = checkpoints.latest()
    if latest is not None:
        logger.info("resuming at step %d of %d in %s", latest, made.steps, checkpoints.directory)
        abstract = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), shapes, shardings)
        return checkpoints.restore(latest, abstract)
    state = jax.jit(lambda seed: step.init(made, seed), out_shardings=shardings)(np.uint32(made.seed))
    if config.init:
        fresh = jax.jit(lambda: step.init(made).variables)()  # the variables of `state` may lie on other hosts
        variables, described = initial.load(config, made.model, fresh, mesh)
        logger.info("starting from %s: %s", config.init, described)
        state = state.replace(**jax.device_put(variables, shardings.variables)).averaged_from_here(made.ema)
    logger.info("%s", parameter_overview.get_parameter_overview(state.params, include_stats=False))
    return state
