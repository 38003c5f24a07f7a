"""The loop: restore -> (evaluate on dev, save, next batch, step, log)*, then the evaluation of the best checkpoint."""

import logging
from collections.abc import Callable, Mapping

import jax
from clu import parameter_overview

from input_pipeline.select import protocols
from input_pipeline.select.examples import Data
from input_pipeline.stream import pipeline
from kdfas_jax import models, targets
from kdfas_jax.commands import evaluate, folds, provenance
from kdfas_jax.models.published import weights
from kdfas_jax.objective import perturb
from kdfas_jax.objective.weighted_sum import Objective
from kdfas_jax.parallel import preemption, sharding
from kdfas_jax.runs import lock, workdir
from kdfas_jax.training import optim, step, teachers, validate
from kdfas_jax.training.checkpoint import Checkpoints
from kdfas_jax.training.journal import Journal

logger = logging.getLogger(__name__)


def train(config, folder: str) -> dict:
    """Trains the teachers that are not finished, then the student, and evaluates it -> results.json's content.

    A protocol of several folds trains all of them (`folds`). The same call on the same folder resumes where it stopped,
    to bit-identical parameters on CPU. `lock.LockedError` where another command works on the folder; a teacher that
    another command is training is waited for.
    """
    validate.check(config)
    with lock.held(folder):
        return _train(config, folder)


def _train(config, folder: str) -> dict:
    objective = Objective(config.terms, config.teachers)
    names = protocols.folds(config.data.protocol)
    used = dict.fromkeys((*perturb.classifiers(config), *objective.teachers))
    homes = {name: teachers.home(config.teachers[name], folder) for name in used}
    given = {name: home for name, home in homes.items() if config.teachers[name].checkpoint}
    for fold in names:  # before hours are spent on the others
        provenance.check(folds.config_of(config, fold), _of_fold(given, fold))
    for name, home in homes.items():
        if not config.teachers[name].checkpoint:
            _train_teacher(name, config.teachers[name].config, home)
    if len(names) > 1:
        return _train_folds(config, folder, objective, homes, names)
    homes = _of_fold(homes, names[0])
    fit(config, folder, objective, homes, provenance.check(config, homes))
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


def _train_folds(config, folder: str, objective: Objective, homes: Mapping[str, str], names: tuple[str, ...]) -> dict:
    """Trains and evaluates the folds that are not finished, each with its own fold of the teachers."""
    runs = {name: folds.config_of(config, name) for name in names}
    fingerprint = pipeline.open_data(runs[names[0]].data, targets.get(config.data.target)).fingerprint
    workdir.claim(config, folder, fingerprint)
    results = []
    for name, run in runs.items():
        home = folds.home(folder, name)
        found = workdir.results(run, home)
        if found is None:
            logger.info("fold %s, in %s", name, home)
            of_fold = _of_fold(homes, name)
            with lock.held(home):
                fit(run, home, objective, of_fold, provenance.check(run, of_fold))
                found = evaluate.evaluate(run, home)
        else:
            evaluate.check_data(home, fingerprint)
        results.append(found)
    return folds.write(config, folder, results)


def _of_fold(homes: Mapping[str, str], fold: str) -> dict[str, str]:
    """The teachers' runs for `fold`: the teacher's own fold, or the whole of one that was trained without folds."""
    own = {name: folds.home(home, fold) for name, home in homes.items()}
    return {name: own[name] if workdir.exists(own[name]) else home for name, home in homes.items()}


def fit(config, folder: str, objective: Objective, homes: Mapping[str, str], taught: Mapping | None = None) -> None:
    """The loop alone, up to the last checkpoint; SIGTERM saves and leaves.

    homes: teacher -> its run's folder; taught: the facts that `provenance.check` found of them, which the run records.
    NonFiniteLossError (journal) for a NaN; ValueError for a batch larger than the training set, or a model with
    another number of classes than the target has.
    """
    target = targets.get(config.data.target)
    data = pipeline.open_data(config.data, target)
    workdir.claim(config, folder, data.fingerprint)
    provenance.record(folder, [provenance.examples(data)], taught or {})
    mesh = sharding.make_mesh(config.mesh)
    batch_size = config.train.batch_size
    per_epoch = data.count("train") // batch_size
    if not per_epoch:
        raise ValueError(f"config.train.batch_size={batch_size}: only {data.count('train')} training examples")
    sizes = {"config.train.batch_size": batch_size / config.optim.accumulate}
    sharding.check_batch(mesh, sizes | {"config.eval.batch_size": config.eval.batch_size})
    steps = optim.total_steps(config.train, data.count("train"))
    schedule = optim.schedule(config.optim, steps=steps, steps_per_epoch=per_epoch, batch_size=batch_size)
    optimiser = optim.make(config.optim, schedule)
    model, seed = models.create(config.model), step.seed_of(config)
    target.check_classes(data, model.classes)

    with preemption.watch() as stopping, Checkpoints(folder) as checkpoints:
        if checkpoints.latest() == steps:
            return
        frozen = {name: teachers.load(home, mesh, config.teachers[name].config) for name, home in homes.items()}
        _check_domains(config, data, frozen)
        taught = {name: step.outputs(frozen[name].module, frozen[name].image_size) for name in objective.teachers}

        def create():
            ema = config.optim.ema
            return step.init(model, config.data.image_size, optimiser, seed, objective, taught, ema=ema)

        state = _restore(config, checkpoints, model, create, mesh, steps)
        start = int(state.step)
        readers = {name: step.reader(teacher.module, teacher.image_size) for name, teacher in frozen.items()}
        frozen_variables = {name: teachers.rounded(teacher) for name, teacher in frozen.items()}
        del frozen  # and with it the unrounded parameters
        attack = perturb.make(config, readers)
        parts = config.optim.accumulate
        made = step.make(model, objective, readers, optimiser, seed, attack, steps, parts, ema=config.optim.ema)
        train_step = step.compiled(made, mesh, state)
        score = step.make_score(model, mesh, target.read)
        batches = pipeline.train_batches(
            data,
            config.data,
            target,
            batch_size=batch_size,
            seed=config.seed,
            start=start,
            steps=steps,
            shard=(jax.process_index(), jax.process_count()),
        )
        every = max(1, round(config.train.eval_epochs * per_epoch))
        kept = checkpoints.meta(start) if start else {}
        journal = Journal(folder, start=start, steps=steps, batch_size=batch_size, schedule=schedule, kept=kept)
        with journal:
            for number in range(start, steps + 1):
                due = number == steps or (number % every == 0 and number > start)
                stop = number < steps and stopping(number)
                if due or stop:
                    journal.settle()
                    dev = {}
                    if due and data.count("dev"):
                        dev = target.selection(evaluate.score_role(score, state.deployed, data, "dev", config, mesh))
                        journal.dev(number, dev)
                    checkpoints.save(state, dev.get("selection"), {"step": number, **journal.keep()})
                if stop:
                    checkpoints.wait()
                    preemption.leave(f"saved step {number} of {steps} in {folder}; the same command goes on from there")
                if number == steps:
                    return
                local = next(batches)
                index = local.pop("index")
                state, metrics = train_step(state, frozen_variables, sharding.place_batch(mesh, local))
                journal.step(number, metrics, index)


def _check_domains(config, data: Data, frozen: Mapping[str, teachers.Teacher]) -> None:
    """ValueError where E_d or a domain adversary tells apart another number of domains than are trained on."""
    for name in perturb.classifiers(config):
        key = f"config.teachers.{name}.config.model.classes"
        targets.DOMAIN.check_classes(data, frozen[name].module.classes, key)
    for name, term in config.terms.items():
        if term.weight and "domains" in term:
            if config.data.target != "label":
                raise ValueError(f"config.terms.{name} reads domains: expected config.data.target='label'")
            targets.DOMAIN.check_classes(data, term.domains, f"config.terms.{name}.domains")


def _restore(config, checkpoints: Checkpoints, model, create: Callable[[], step.TrainState], mesh, steps: int):
    """The latest saved state, or the one before step 0 that `create` makes, laid out on `mesh`."""
    shapes = jax.eval_shape(create)
    shardings = sharding.tree(mesh, shapes)
    latest = checkpoints.latest()
    if latest is not None:
        logger.info("going on from step %d of %d in %s", latest, steps, checkpoints.directory)
        abstract = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), shapes, shardings)
        return checkpoints.restore(latest, abstract)
    state = jax.jit(create, out_shardings=shardings)()
    if config.init:
        fresh = jax.jit(lambda: create().variables)()  # those of `state` may lie on other hosts
        with workdir.local(config.init) as path:
            variables, facts = weights.load(path, model, fresh)
        logger.info("starting from %s: %s", config.init, facts)
        state = state.replace(**jax.device_put(variables, shardings.variables)).averaged_from_here(config.optim.ema)
    logger.info("%s", parameter_overview.get_parameter_overview(state.params, include_stats=False))
    return state
