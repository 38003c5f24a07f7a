"""Checkpoints of a run. This is the only module that imports Orbax.

`checkpoints/STEP/{params,batch_stats,term_params,term_statistics,opt_state,ema,meta}` are separate items, so that
evaluation can restore the model's variables alone, on any number of devices. Where a run keeps an average of the
variables, `ema`, evaluation restores the average instead. Orbax does not write a tree without arrays (the statistics of
a model without batch norm), so such an item is left out. The last two checkpoints and the best one on dev are kept. An
interrupted save is never taken for a finished one.

Parameters that are not trained (`TrainState.frozen`, the tower below LoRA's adapters) are the same in every step. They
are written once, to checkpoints/base.safetensors, before the first save; the items of a step hold the other parameters,
and its `meta` the file's SHA-256, which every reader compares. A step of an older version holds all parameters.

When a save is finished, STEP/digests.sha256 records the SHA-256 of each of its files; every reader compares them first.
Training moves a damaged newest step to STEP.damaged and resumes from the previous step; every other command stops with
the name of the damaged file. A step without digests, written by an older version or by a process that was killed before
it wrote them, is read with a warning.
"""

import fnmatch
import logging
import os
from collections.abc import Callable, Collection
from concurrent import futures
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers as policies

from kdfas_jax.models.published import match as weights_match
from kdfas_jax.models.published import weights
from kdfas_jax.parallel import sharding
from kdfas_jax.runs import arrays, files, released, workdir
from kdfas_jax.training import digests
from kdfas_jax.training.step import TrainState, without

# Items that are fields of `TrainState`.
TREES = ("params", "batch_stats", "term_params", "term_statistics", "opt_state", "ema")
BASE = "base.safetensors"  # the parameters that are not trained, once for all steps
DELETED = "deleted"  # steps are moved here before they are removed: renaming is atomic, removing is not

logger = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one workdir, as a context manager that waits for unfinished saves."""

    def __init__(self, folder: str, *, writing: bool = True):
        """Opens FOLDER/checkpoints of the run in `folder`.

        writing: create the folder, remove what a killed save left, and move damaged newest steps aside.
        Raises ValueError, naming the damaged file, where no step is intact or a selection metric is damaged.
        """
        self.directory = os.path.join(files.absolute(folder), "checkpoints")
        self._base: str | None = None  # SHA-256 of BASE, as soon as this object has written or compared it
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
        self._digested: futures.Future | None = None  # digests of the last save, in process 0
        try:
            self._manager = ocp.CheckpointManager(self.directory, options=options, item_handlers=handlers)
        except ImportError as error:  # Orbax needs the package for gs:// only
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
        """Waits until every save and its digests are on disk."""
        self._manager.wait_until_finished()
        if self._digested:
            self._digested.result()

    def latest(self) -> int | None:
        """Returns the last saved step, None where nothing is saved."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """Returns the step with the best selection metric on dev, or the latest where no step has one."""
        return self._manager.best_step() or self.latest()

    def save(self, state: TrainState, selection: float | None, meta: dict) -> None:
        """Starts saving `state` in the background; `selection` is its selection metric on dev, higher is better."""
        step = int(state.step)
        if step == self.latest():
            return
        trees = _without({name: getattr(state, name) for name in TREES}, state.frozen)
        saved = {name: ocp.args.StandardSave(tree) for name, tree in trees.items() if jax.tree.leaves(tree)}
        if state.frozen:
            self._base = self._write_base(state) if self._base is None else self._base
            meta = {**meta, "base": self._base}
        items = ocp.args.Composite(**saved, meta=ocp.args.JsonSave(meta))
        metrics = None if selection is None else {"selection": float(selection), "step": step}
        self._manager.save(step, args=items, metrics=metrics, force=True)
        if self._digested:
            self._digested.result()  # digests of the previous save, which this one may remove
        if jax.process_index() == 0:
            self._digested = self._background.submit(self._finish, step)

    def _finish(self, step: int) -> None:
        """Writes the digests of `step` when it is on disk, and removes the steps that it replaced."""
        self._manager.wait_until_finished()
        digests.write(os.path.join(self.directory, str(step)))
        deleted = os.path.join(self.directory, DELETED)
        for name in files.names(deleted):  # the folder stays: the next save may be moving a step into it
            files.remove(os.path.join(deleted, name))

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """Restores the training state of `step` into the shapes and shardings of `abstract`.

        Raises ValueError for a damaged file or a checkpoint of another architecture.
        """
        base = self._check(step, abstract.variables)
        trees = self._restore(step, {name: getattr(abstract, name) for name in TREES}, base)
        # A jitted identity returns new arrays, as those that Orbax creates cannot always be donated.
        number = jax.device_put(jax.numpy.asarray(step, jax.numpy.int32), abstract.step.sharding)
        return jax.jit(lambda tree: tree)(TrainState(number, **trees, frozen=abstract.frozen))

    def restore_variables(self, step: int, abstract: dict[str, Any]) -> dict[str, Any]:
        """Restores the deployed variables of `step` (`TrainState.deployed`), {'params', 'batch_stats'}.

        They take the shapes and shardings of `abstract`, and are the averaged variables where the run keeps an average.
        Raises ValueError for a damaged file or a checkpoint of another architecture.
        """
        base = self._check(step, abstract)
        if not self._manager.item_metadata(step).get("ema"):
            return self._restore(step, abstract, base)
        return self._restore(step, {"ema": abstract}, base)["ema"]

    def meta(self, step: int) -> dict:
        """Returns the metadata saved with `step`; ValueError where they cannot be read."""
        try:
            return self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
        except ValueError as error:  # only for a step without digests; others were checked when opened
            path = os.path.join(self.directory, str(step))
            raise ValueError(f"{path}/meta is damaged ({error}); remove {path} to use another step") from error

    def _write_base(self, state: TrainState) -> str:
        """Writes the parameters of `state` that are not trained to BASE; returns its SHA-256, '' but in process 0."""
        flat = traverse_util.flatten_dict(state.params, sep="/")
        found = {name: sharding.on_host(flat[name]) for name in state.frozen}
        return arrays.write(os.path.join(self.directory, BASE), found) if jax.process_index() == 0 else ""

    def _read_base(self, step: int) -> dict[str, np.ndarray]:
        """Returns the parameters {name: array} that `step` does not hold, as they are not trained; {} where it has all.

        ValueError where BASE is missing, damaged or that of another run.
        """
        if not files.exists(os.path.join(self.directory, str(step), "meta")):
            return {}
        digest = self.meta(step).get("base")
        if digest is None:
            return {}
        try:
            found = arrays.read(os.path.join(self.directory, BASE), digest)
        except ValueError as error:
            again = f"remove {self.directory} and train again: {workdir.command(os.path.dirname(self.directory))}"
            raise ValueError(
                f"{error}, that of the frozen parameters of step {step}; copy it from where the run was trained, or "
                f"{again}"
            ) from error
        self._base = digest
        return found

    def _restore(self, step: int, abstract: dict[str, Any], base: dict[str, np.ndarray]) -> dict[str, Any]:
        """Restores the items of `step` that `abstract` names, in its layout; ValueError for a non-finite number.

        `base` are the parameters that the step does not hold.
        """
        trees = _without(abstract, base)
        saved = {name: ocp.args.StandardRestore(tree) for name, tree in trees.items() if jax.tree.leaves(tree)}
        restored = {**trees, **self._manager.restore(step, args=ocp.args.Composite(**saved))}
        weights.check_finite(restored, f"{self.directory}/{step}")
        return _with(restored, base, abstract)

    def _check(self, step: int, expected: dict[str, Any]) -> dict[str, np.ndarray]:
        """Returns the parameters that `step` does not hold, as `_read_base`.

        Raises ValueError for a damaged file, or with the first differing names and shapes of the architectures.
        """
        _raise(_on_first_process(lambda: _damage(os.path.join(self.directory, str(step)))))
        items = self._manager.item_metadata(step)
        found = {name: items[name].tree for name in expected if items.get(name)}
        if "params" not in found:
            raise FileNotFoundError(f"{self.directory}/{step} holds no params; is it a checkpoint of this project?")
        base = self._read_base(step)
        found["params"] = _joined(found["params"], base)
        if lines := weights_match.mismatch(expected, found):
            raise ValueError(
                f"{self.directory}/{step} is a checkpoint of another architecture than config.model:\n  "
                + "\n  ".join(lines[:8])
            )
        return base


def open_finished(folder: str) -> Checkpoints:
    """Opens the checkpoints of an existing run, read-only; FileNotFoundError where there are none."""
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


def deployed(folder: str, abstract: dict[str, Any]) -> tuple[int, int, dict[str, Any]]:
    """Returns (its step, the last step, variables) of the best checkpoint on dev of the finished run in `folder`.

    The deployed variables take the shapes and shardings of `abstract`, as in `Checkpoints.restore_variables`. A
    released model (`runs.released`) has them in model.safetensors. Raises as `open_finished` and `restore_variables`.
    """
    path = os.path.join(folder, released.WEIGHTS)
    if files.is_file(path):
        found = workdir.evaluated(folder)
        return found["step"], found["steps"]["trained"], _from_file(path, released.digest(folder), abstract)
    with open_finished(folder) as checkpoints:
        chosen = checkpoints.best()
        return chosen, checkpoints.latest(), checkpoints.restore_variables(chosen, abstract)


def _from_file(path: str, digest: str, abstract: dict[str, Any]) -> dict[str, Any]:
    """Returns the variables in the file `path`, named 'params/head/kernel'; ValueError where it is damaged."""
    try:
        found = traverse_util.unflatten_dict(arrays.read(path, digest), sep="/")
    except ValueError as error:
        raise ValueError(f"{error}, as in {released.BUNDLE}; install the package again") from error
    found = {name: found.get(name, {}) for name in abstract}
    if lines := weights_match.mismatch(abstract, found):
        raise ValueError(f"{path} is of another architecture than its config.json:\n  " + "\n  ".join(lines[:8]))
    return jax.device_put(found, jax.tree.map(lambda leaf: leaf.sharding, abstract))


def _without(trees: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The items `trees` of a step without the parameters of these `names`, which the average does not hold either."""
    found = {name: without(tree, names) if name == "params" else tree for name, tree in trees.items()}
    return {**found, "ema": _without(found["ema"], names)} if found.get("ema") else found


def _with(trees: dict[str, Any], base: dict[str, np.ndarray], layout: dict[str, Any]) -> dict[str, Any]:
    """The items `trees` of a step with the parameters `base`, in the shapes and shardings of `layout`."""
    found = dict(trees)
    if "params" in layout:
        places = traverse_util.flatten_dict(layout["params"], sep="/")
        of = {name: (leaf.astype(places[name].dtype), places[name].sharding) for name, leaf in base.items()}
        found["params"] = _joined(trees["params"], {name: jax.device_put(*leaf) for name, leaf in of.items()})
    return {**found, "ema": _with(found["ema"], base, layout["ema"])} if layout.get("ema") else found


def _joined(params: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """The nested `params` and the flat `base` as one nested tree."""
    return traverse_util.unflatten_dict(traverse_util.flatten_dict(params, sep="/") | base, sep="/")


def _rank(metrics) -> tuple[float, int]:
    return metrics["selection"], metrics["step"]  # ties go to the latest step


def _inspect(directory: str, writing: bool) -> str | None:
    """Returns the reason why the checkpoints in `directory` cannot be opened, None if they can.

    writing: first move damaged newest steps aside, and delete the rest of removed steps and of a killed write.
    """
    if writing:
        files.remove(os.path.join(directory, DELETED))
        for name in fnmatch.filter(files.names(directory), f"{BASE}.tmp*"):
            files.remove(os.path.join(directory, name))
        if complaint := _move_damaged_aside(directory):
            return complaint
    # Orbax reads the metrics of all steps when it opens the folder.
    complaints = (_damage(os.path.join(directory, str(step)), "metrics/") for step in _steps(directory))
    return next(filter(None, complaints), None)


def _move_damaged_aside(directory: str) -> str | None:
    """Renames damaged steps after the last intact one to STEP.damaged; returns an error message if none is intact."""
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
    """Returns an error message for a damaged step in `folder`, else None; warns where there are no digests."""
    if not below and not digests.exist(folder):
        logger.warning("%s has no %s: it is read without a check for damage", folder, digests.NAME)
    if problem := digests.problem(folder, below):
        return f"{problem}; remove {folder} to use another step of the run, or train it again"
    return None


def _steps(directory: str) -> list[int]:
    """Returns the finished steps in `directory`, in order; on object storage a file marks them."""
    found = [int(name) for name in files.names(directory) if name.isdigit()]
    if files.is_remote(directory):
        found = [step for step in found if files.exists(os.path.join(directory, str(step), "commit_success.txt"))]
    return sorted(found)


def _on_first_process(find: Callable[[], str | None]) -> str | None:
    """Calls `find` on process 0 and returns its result on every process."""
    if jax.process_count() == 1:
        return find()
    sent = ((find() or "") if jax.process_index() == 0 else "").encode()[:1000]
    received = multihost_utils.broadcast_one_to_all(np.frombuffer(sent.ljust(1000, b"\0"), np.uint8))
    return bytes(np.asarray(received)).rstrip(b"\0").decode(errors="replace") or None


def _raise(complaint: str | None) -> None:
    if complaint:
        raise ValueError(complaint)
