"""Checkpoints of a run: the only import of Orbax.

`checkpoints/STEP/{params,batch_stats,term_params,opt_state,ema,meta}`: apart, so that evaluation restores the model's
variables alone, on any number of devices. Where there is an average of the variables, `ema`, evaluation takes it in
their place. A tree without arrays (the statistics of a model without batch norm) is left out: Orbax writes none. Kept:
the last two, and the best one on dev. A save that is cut off never looks finished.

When a step is finished, the SHA-256 of each of its files is noted in STEP/digests.sha256, and compared before the step
is read. Training moves a damaged newest step to STEP.damaged and goes on from the step before; everything else stops
with the name of the damaged file. A step without digests, made by an older version or in a process that was killed
between the two, is read with a warning.
"""

import logging
import os
from collections.abc import Callable
from concurrent import futures
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers as policies

from kdfas_jax.models.published import match as weights_match
from kdfas_jax.models.published import weights
from kdfas_jax.runs import files
from kdfas_jax.training import digests
from kdfas_jax.training.step import TrainState

TREES = ("params", "batch_stats", "term_params", "opt_state", "ema")  # its items that are fields of `TrainState`
DELETED = "deleted"  # a folder of removed steps: renaming is atomic, removing is not

logger = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one workdir; a context manager that waits for unfinished saves."""

    def __init__(self, folder: str, *, writing: bool = True):
        """Opens FOLDER/checkpoints of the run in `folder`; `writing` makes it and removes what a killed save left.

        `writing` also moves damaged newest steps aside. ValueError names the damaged file where no step is intact, or
        where the figure by which a step is chosen is damaged.
        """
        self.directory = os.path.join(files.absolute(folder), "checkpoints")
        _raise(_on_first_process(lambda: _inspect(self.directory, writing)))
        best = policies.BestN(get_metric_fn=_rank, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(2), best]),
            todelete_subdir=None if files.is_remote(folder) else DELETED,
            cleanup_tmp_directories=writing,
            create=writing,
            best_fn=_rank,
        )
        handlers = {
            **{name: ocp.StandardCheckpointHandler() for name in TREES},
            "meta": ocp.JsonCheckpointHandler(),
        }
        self._background = futures.ThreadPoolExecutor(1, "digests")
        self._digested: futures.Future | None = None  # of the last save, in process 0
        try:
            self._manager = ocp.CheckpointManager(self.directory, options=options, item_handlers=handlers)
        except ImportError as error:  # Orbax wants it on gs:// alone
            raise ImportError(f"Orbax cannot open {self.directory}: pip install -r requirements-gcs.txt") from error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.wait()
        finally:
            self._manager.close()
            self._background.shutdown()
        if self._digested:
            files.remove(os.path.join(self.directory, DELETED))

    def wait(self) -> None:
        """Returns when every save is on disk, with its digests."""
        self._manager.wait_until_finished()
        if self._digested:
            self._digested.result()

    def latest(self) -> int | None:
        """The last saved step, None where nothing is saved."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """The step with the best selection figure on dev; the latest where none has one."""
        return self._manager.best_step() or self.latest()

    def save(self, state: TrainState, selection: float | None, meta: dict) -> None:
        """Starts saving `state`, in the background. `selection`: the dev figure to choose by, higher is better."""
        step = int(state.step)
        if step == self.latest():
            return
        trees = {name: getattr(state, name) for name in TREES}
        saved = {name: ocp.args.StandardSave(tree) for name, tree in trees.items() if jax.tree.leaves(tree)}
        items = ocp.args.Composite(**saved, meta=ocp.args.JsonSave(meta))
        metrics = None if selection is None else {"selection": float(selection), "step": step}
        self._manager.save(step, args=items, metrics=metrics, force=True)
        if self._digested:
            self._digested.result()  # of the save before, which the next one may remove
        if jax.process_index() == 0:
            self._digested = self._background.submit(self._finish, step)

    def _finish(self, step: int) -> None:
        """Writes the digests of `step` when it is on disk, and removes the steps that it replaced."""
        self._manager.wait_until_finished()
        digests.write(os.path.join(self.directory, str(step)))
        deleted = os.path.join(self.directory, DELETED)
        for name in files.names(deleted):  # not the folder itself, to which the next save may be moving a step
            files.remove(os.path.join(deleted, name))

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """The whole state of `step`, laid out as `abstract` (shapes with today's shardings).

        ValueError where a file of it is damaged, or it is of another architecture.
        """
        self._check(step, abstract.variables)
        trees = self._restore(step, {name: getattr(abstract, name) for name in TREES})
        # A jitted identity: arrays that Orbax made cannot always be donated.
        number = jax.device_put(jax.numpy.asarray(step, jax.numpy.int32), abstract.step.sharding)
        return jax.jit(lambda tree: tree)(TrainState(number, **trees))

    def restore_variables(self, step: int, abstract: dict[str, Any]) -> dict[str, Any]:
        """The deployed variables of `step` (`TrainState.deployed`), {'params', 'batch_stats'}, laid out as `abstract`.

        They are the averaged variables where the run kept an average. ValueError where a file of the step is damaged,
        or it is of another architecture.
        """
        self._check(step, abstract)
        if not self._manager.item_metadata(step).get("ema"):
            return self._restore(step, abstract)
        return self._restore(step, {"ema": abstract})["ema"]

    def meta(self, step: int) -> dict:
        """What was noted beside the parameters of `step`; ValueError where it cannot be read."""
        try:
            return self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
        except ValueError as error:  # of a step without digests, else it was found damaged before
            path = os.path.join(self.directory, str(step))
            raise ValueError(f"{path}/meta is damaged ({error}); remove {path} to use another step") from error

    def _restore(self, step: int, abstract: dict[str, Any]) -> dict[str, Any]:
        """The items of `step` named by `abstract`, laid out as there; ValueError where a number is not finite."""
        saved = {name: ocp.args.StandardRestore(tree) for name, tree in abstract.items() if jax.tree.leaves(tree)}
        restored = {**abstract, **self._manager.restore(step, args=ocp.args.Composite(**saved))}
        weights.check_finite(restored, f"{self.directory}/{step}")
        return restored

    def _check(self, step: int, expected: dict[str, Any]) -> None:
        """ValueError with the damaged file, or the first differing names and shapes of another architecture."""
        _raise(_on_first_process(lambda: _damage(os.path.join(self.directory, str(step)))))
        items = self._manager.item_metadata(step)
        found = {name: items[name].tree for name in expected if items.get(name)}
        if "params" not in found:
            raise FileNotFoundError(f"{self.directory}/{step} holds no params; is it a checkpoint of this project?")
        if lines := weights_match.mismatch(expected, found):
            raise ValueError(
                f"{self.directory}/{step} is a checkpoint of another architecture than config.model:\n  "
                + "\n  ".join(lines[:8])
            )


def open_finished(folder: str) -> Checkpoints:
    """The checkpoints of an existing run, read-only; FileNotFoundError where there are none."""
    directory = os.path.join(folder, "checkpoints")
    if not files.exists(directory):
        raise FileNotFoundError(
            f"{directory} does not exist; expected a run made by: python main.py --workdir={folder}"
        )
    checkpoints = Checkpoints(folder, writing=False)
    if checkpoints.latest() is None:
        checkpoints.__exit__()
        raise FileNotFoundError(f"{directory} holds no finished checkpoint; run: python main.py --workdir={folder}")
    return checkpoints


def _rank(metrics) -> tuple[float, int]:
    return metrics["selection"], metrics["step"]  # of equally good ones, the latest


def _inspect(directory: str, writing: bool) -> str | None:
    """What keeps the checkpoints in `directory` from being opened, None if nothing does.

    writing: damaged newest steps are moved aside, and what is left of removed ones is deleted.
    """
    if writing:
        files.remove(os.path.join(directory, DELETED))
        if complaint := _move_damaged_aside(directory):
            return complaint
    # Orbax reads the figures of all steps at once, to choose by them.
    complaints = (_damage(os.path.join(directory, str(step)), "metrics/") for step in _steps(directory))
    return next(filter(None, complaints), None)


def _move_damaged_aside(directory: str) -> str | None:
    """Renames damaged steps after the last intact one to STEP.damaged; says what is wrong where none is intact."""
    damaged = {}
    for step in reversed(_steps(directory)):
        problem = digests.problem(os.path.join(directory, str(step)))
        if problem is None:
            break
        damaged[step] = problem
    else:
        if damaged:
            first = next(iter(damaged.values()))
            return f"{first}; no other step is intact: remove {directory} to train from the start"
    for step, problem in damaged.items():
        aside = os.path.join(directory, f"{step}.damaged")
        logger.warning("%s; continuing without this step, which is kept as %s", problem, aside)
        files.move(os.path.join(directory, str(step)), aside)
    return None


def _damage(folder: str, below: str = "") -> str | None:
    """What is wrong with the step in `folder`, and what to do; a warning where it cannot be known."""
    if not below and not digests.exist(folder):
        logger.warning("%s has no %s: it is read without a check for damage", folder, digests.NAME)
    if problem := digests.problem(folder, below):
        return f"{problem}; remove {folder} to use another step of the run, or train it again"
    return None


def _steps(directory: str) -> list[int]:
    """The finished steps in `directory`, in order; object storage marks them by a file."""
    found = [int(name) for name in files.names(directory) if name.isdigit()]
    if files.is_remote(directory):
        found = [step for step in found if files.exists(os.path.join(directory, str(step), "commit_success.txt"))]
    return sorted(found)


def _on_first_process(find: Callable[[], str | None]) -> str | None:
    """What `find` returns on process 0, on every process."""
    if jax.process_count() == 1:
        return find()
    said = ((find() or "") if jax.process_index() == 0 else "").encode()[:1000]
    told = multihost_utils.broadcast_one_to_all(np.frombuffer(said.ljust(1000, b"\0"), np.uint8))
    return bytes(np.asarray(told)).rstrip(b"\0").decode(errors="replace") or None


def _raise(complaint: str | None) -> None:
    if complaint:
        raise ValueError(complaint)
