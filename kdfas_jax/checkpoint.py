"""Checkpoints of a run: the only import of Orbax.

`checkpoints/STEP/{params,batch_stats,term_params,opt_state,meta}`: apart, so that evaluation restores the model's
variables alone, on any number of devices. A tree without arrays (the statistics of a model without batch norm) is left
out: Orbax writes none. Kept: the latest, and the best one on dev. A save that is cut off never looks finished.
"""

import os
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from kdfas_jax import workdir
from kdfas_jax.models import weights, weights_match
from kdfas_jax.step import TrainState

TREES = ("params", "batch_stats", "term_params", "opt_state")  # its items that are fields of `TrainState`


class Checkpoints:
    """The checkpoints of one workdir; a context manager that waits for unfinished saves."""

    def __init__(self, folder: str, *, writing: bool = True):
        """Opens FOLDER/checkpoints of the run in `folder`; `writing` makes it and removes what a killed save left."""
        best = policies.BestN(get_metric_fn=_rank, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(1), best]),
            cleanup_tmp_directories=writing,
            create=writing,
            best_fn=_rank,
        )
        handlers = {
            **{name: ocp.StandardCheckpointHandler() for name in TREES},
            "meta": ocp.JsonCheckpointHandler(),
        }
        self.directory = os.path.join(workdir.absolute(folder), "checkpoints")
        try:
            self._manager = ocp.CheckpointManager(self.directory, options=options, item_handlers=handlers)
        except ImportError as error:  # Orbax wants it on gs:// alone
            raise ImportError(f"Orbax cannot open {self.directory}: pip install -r requirements-gcs.txt") from error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._manager.close()

    def wait(self) -> None:
        """Returns when every save is on disk."""
        self._manager.wait_until_finished()

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

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """The whole state of `step`, laid out as `abstract` (shapes with today's shardings)."""
        self._check(step, abstract.variables)
        trees = self._restore(step, {name: getattr(abstract, name) for name in TREES})
        # A jitted identity: arrays that Orbax made cannot always be donated.
        number = jax.device_put(jax.numpy.asarray(step, jax.numpy.int32), abstract.step.sharding)
        return jax.jit(lambda tree: tree)(TrainState(number, **trees))

    def restore_variables(self, step: int, abstract: dict[str, Any]) -> dict[str, Any]:
        """The model's variables of `step` alone, {'params', 'batch_stats'}, laid out as `abstract`."""
        self._check(step, abstract)
        return self._restore(step, abstract)

    def meta(self, step: int) -> dict:
        """What was noted beside the parameters of `step`."""
        return self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]

    def _restore(self, step: int, abstract: dict[str, Any]) -> dict[str, Any]:
        """The items of `step` named by `abstract`, laid out as there; ValueError where a number is not finite."""
        saved = {name: ocp.args.StandardRestore(tree) for name, tree in abstract.items() if jax.tree.leaves(tree)}
        restored = {**abstract, **self._manager.restore(step, args=ocp.args.Composite(**saved))}
        weights.check_finite(restored, f"{self.directory}/{step}")
        return restored

    def _check(self, step: int, expected: dict[str, Any]) -> None:
        """ValueError with the first differing names and shapes where `step` holds another architecture."""
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
    if not workdir.exists(directory):
        raise FileNotFoundError(
            f"{directory} does not exist; expected a run made by: python main.py --workdir={folder}"
        )
    checkpoints = Checkpoints(folder, writing=False)
    if checkpoints.latest() is None:
        raise FileNotFoundError(f"{directory} holds no finished checkpoint; run: python main.py --workdir={folder}")
    return checkpoints


def _rank(metrics) -> tuple[float, int]:
    return metrics["selection"], metrics["step"]  # of equally good ones, the latest
