"""The training loop: (evaluate on dev, save, next batch, step, log)*."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from kdfas_jax.parallel import preemption, sharding
from kdfas_jax.training import step
from kdfas_jax.training.checkpoint import Checkpoints
from kdfas_jax.training.experiment import Experiment
from kdfas_jax.training.journal import Journal
from kdfas_jax.training.step import TrainState


class Surroundings(NamedTuple):
    """What the loop reports to, and what it asks.

    judge: state -> figures of dev, with 'selection', by which checkpoints are ranked; {} where there is no dev set.
    every: steps between two evaluations. stopping: step -> whether the run must save and leave now.
    """

    checkpoints: Checkpoints
    journal: Journal
    judge: Callable[[TrainState], dict[str, float]]
    every: int
    stopping: Callable[[int], bool]


def run(
    experiment: Experiment,
    mesh,
    state: TrainState,
    teachers: Mapping[str, Any],
    batches: Iterator[Mapping[str, np.ndarray]],
    around: Surroundings,
) -> None:
    """Trains from `state` up to the last step of `experiment`, where it saves the last checkpoint.

    teachers: {name: variables}. batches: this host's rows of the batch of each step from the state's on, with `index`.
    The process ends where `around.stopping` says so, after a checkpoint. NonFiniteLossError (`journal`) for a NaN.
    """
    checkpoints, journal, judge, every, stopping = around
    train_step = step.compiled(experiment, mesh, state)
    start, steps, seed = int(state.step), experiment.steps, np.uint32(experiment.seed)
    for number in range(start, steps + 1):
        due = number == steps or (number % every == 0 and number > start)
        stop = number < steps and stopping(number)
        if due or stop:
            journal.settle()
            dev = judge(state) if due else {}
            if dev:
                journal.dev(number, dev)
            checkpoints.save(state, dev.get("selection"), {"step": number, **journal.keep()})
        if stop:
            checkpoints.wait()
            where = checkpoints.directory
            preemption.leave(f"saved step {number} of {steps} in {where}; the same command continues from there")
        if number == steps:
            return
        local = dict(next(batches))
        index = local.pop("index")
        state, metrics = train_step(state, teachers, sharding.place_batch(mesh, local), seed)
        journal.step(number, metrics, index)
