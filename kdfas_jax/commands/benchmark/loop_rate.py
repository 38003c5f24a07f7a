"""The whole loop of a config, with input, logging, dev evaluations and checkpoints, against its bare step.

`train.fit` itself runs, on the config's data, into a temporary folder, with random teachers. Its three evaluations and
saves are equally far apart; compilation falls into the windows that are left out. When things happened is read from
the run's own TensorBoard events, and how long a save held the loop up from the events that Orbax reports.
"""

import contextlib
import itertools
import logging
import os
import statistics
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from input_pipeline.stream import pipeline
from kdfas_jax import targets
from kdfas_jax.commands import train
from kdfas_jax.performance import speed
from kdfas_jax.performance.step_rate import Step
from kdfas_jax.runs import workdir
from kdfas_jax.training import experiment, step
from kdfas_jax.training.checkpoint import Checkpoints
from kdfas_jax.training.journal import LOG_STEPS

SECONDS = 90.0  # about what the loop is given, beside compiling and evaluating
SAVES = 3
WAITING = "/jax/checkpoint/write/wait_for_prev_duration_secs"  # Orbax: a save waits for the previous one
BLOCKING = "/jax/checkpoint/write/async/blocking_duration_secs"  # ... and does this before it goes to the background


def measure(config, made: Step, *, rounds: int, seconds: float) -> dict[str, Any]:
    """The loop's speed, and that of the bare step `made` in rounds before and after it.

    -> {steps (of the run), step (images a second of the bare step), between (of the loop between two evaluations),
    evaluation_seconds (a dev evaluation with its save), blocked_seconds (of it and of others, by a save), and, at the
    config's own distance of evaluations (`every` steps): images_per_second, ratio (to the bare step), blocked_share}.
    """
    before = [speed.rate(made.run, made.batch_size, seconds)[0] for _ in range(rounds)]
    apart = max(1, round(SECONDS * statistics.median(before) / made.batch_size / SAVES / LOG_STEPS)) + 1
    with tempfile.TemporaryDirectory() as folder:
        run, every = _shortened(config, steps=SAVES * apart * LOG_STEPS)
        homes = _random_teachers(run, folder)
        with _saves() as blocked, _quiet():
            train.fit(run, os.path.join(folder, "run"), homes)
        moments = _moments(os.path.join(folder, "run"))
    between, evaluation = timing(moments, apart)
    bare = before + [speed.rate(made.run, made.batch_size, seconds)[0] for _ in range(rounds)]
    period = every * statistics.median(between) / LOG_STEPS + evaluation
    found = every * made.batch_size / period
    return {
        "steps": SAVES * apart * LOG_STEPS,
        "step": speed.spread(bare),
        "between": speed.spread(LOG_STEPS * made.batch_size / window for window in between),
        "evaluation_seconds": evaluation,
        "blocked_seconds": speed.spread(blocked),
        "every": every,
        "images_per_second": found,
        "ratio": found / statistics.median(bare),
        "blocked_share": statistics.median(blocked) / period,
    }


def lines(result: dict[str, Any]) -> list[str]:
    """Returns `measure`'s result as lines of text."""
    between, bare = result["between"], result["step"]
    return [
        f"loop              {result['images_per_second']:9.2f} images/s  {result['ratio']:.3f} of the bare step's "
        f"{bare['median']:.2f} ({bare['low']:.2f} to {bare['high']:.2f}), evaluated every {result['every']} steps",
        f"  between those   {between['median']:9.2f} images/s  ({between['low']:.2f} to {between['high']:.2f})",
        f"  an evaluation   {result['evaluation_seconds']:9.2f} s, of which its save blocks "
        f"{result['blocked_seconds']['median']:.3f} s, {100 * result['blocked_share']:.3f} % of the loop's time",
    ]


def _shortened(config, steps: int) -> tuple[ConfigDict, int]:
    """Returns `config` cut to `steps` with `SAVES` evaluations, and the steps between evaluations before the cut."""
    per_epoch = (
        pipeline.open_data(config.data, targets.get(config.data.target)).count("train") // config.train.batch_size
    )
    run = ConfigDict(config.to_dict())
    if per_epoch:  # else `train.fit` says what is wrong
        run.train.epochs, run.train.eval_epochs = steps / per_epoch, steps / SAVES / per_epoch
    run.optim.warmup_epochs = 0.0
    return run, max(1, round(config.train.eval_epochs * per_epoch))


def _random_teachers(config, folder: str) -> dict[str, str]:
    """Writes a finished run of random weights for every teacher that `config` reads; returns {teacher: folder}."""
    homes = {}
    for name in experiment.used(config):
        teacher, homes[name] = config.teachers[name].config, os.path.join(folder, name)
        workdir.claim(teacher, homes[name], fingerprint="")
        variables = step.init_variables(*experiment.frozen(teacher), 0)
        state = step.TrainState(jnp.zeros((), jnp.int32), **variables, term_params={}, opt_state={})
        with Checkpoints(homes[name]) as checkpoints:
            checkpoints.save(state, 0.0, {"step": 0})
    return homes


@contextlib.contextmanager
def _saves() -> Iterator[list[float]]:
    """Gathers the seconds for which each save within the block holds its caller up."""
    found, waited = [], 0.0

    def listen(event: str, seconds: float, **_):
        nonlocal waited
        if event == WAITING:
            waited = seconds
        if event == BLOCKING:
            found.append(waited + seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def _moments(folder: str) -> list[float]:
    """When the run in `folder` wrote its losses down, one every `LOG_STEPS` steps: seconds."""
    events = EventAccumulator(folder, size_guidance={"tensors": 0}).Reload()
    return [event.wall_time for event in events.Tensors("loss")]


def timing(moments: list[float], apart: int) -> tuple[list[float], float]:
    """Returns the seconds of each window of `LOG_STEPS` steps without an evaluation, and the seconds of an evaluation.

    moments: when each window ended, in seconds. apart: windows from one evaluation to the next; each `apart`-th window
    begins with one. The step is compiled before the first window, the score in the first evaluation, so the second
    evaluation counts.
    """
    windows = [after - moment for moment, after in itertools.pairwise(moments)]
    between = [seconds for number, seconds in enumerate(windows, 1) if number % apart]
    return between, max(0.0, windows[2 * apart - 1] - statistics.median(between))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress lines of a run that nobody asked for."""
    logger = logging.getLogger("kdfas_jax")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
