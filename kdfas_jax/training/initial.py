"""The variables that a run starts from where `config.init` names some: published weights, or a finished run."""

import pathlib
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import traverse_util

from kdfas_jax import models
from kdfas_jax.models import fine_tuning, vit
from kdfas_jax.models.published import weights
from kdfas_jax.parallel import sharding
from kdfas_jax.runs import files, released, workdir
from kdfas_jax.training import checkpoint, step

TAKEN = 0.5  # least share of the parameters that a run must provide [C]; a new head takes a smaller share
NAMED = 6  # leaves that the log names
# Options that change what a model computes without changing the shape of a parameter.
COMPUTED = ("gelu", "norm_eps", "mean", "std")


def load(config, model, fresh, mesh) -> tuple[dict[str, Any], str]:
    """Returns (variables, description): `fresh` with what `config.init` provides, as host arrays.

    Args:
      config: the whole config. `config.init` is a file of published weights or the folder of a finished run, whose
        deployed variables are taken: those of its best checkpoint on dev, averaged where the run keeps an average.
        'released' names the model that the package ships.
      model, fresh: the model and its initialised variables, {'params', 'batch_stats'}.
      mesh: the devices on which checkpoints are read.

    The description says which leaves were taken. Raises FileNotFoundError or ValueError as `weights.load` does for a
    file, and for a run that has no checkpoint, computes something else with equal parameters, or provides less than
    half of the parameters, because its architecture is another one.
    """
    if published(config.init):
        with files.local(config.init) as path:
            variables, facts = weights.load(path, model, fresh)
        return variables, str(facts)
    return _from_run(config, fresh, mesh)


def published(init: str) -> bool:
    """Returns whether `init` (config.init) is a file of published weights, and not the folder of a run."""
    return files.is_file(init) or pathlib.PurePath(init).suffix in weights.SUFFIXES


def _from_run(config, fresh, mesh) -> tuple[dict[str, Any], str]:
    home = released.home(config.init)
    theirs = ml_collections.ConfigDict(workdir.read(home)["config"])
    for name in COMPUTED:
        found, here = (getattr(models.create(of), name, None) for of in (theirs.model, config.model))
        if found != here:
            raise ValueError(
                f"config.model.{name}={here!r}, but config.init={config.init} was trained with {found!r}; set "
                f"--config.model.{name}={found}"
            )
    number, found = _deployed(home, theirs, mesh)
    if vit.lora_of(theirs.model.get("lora")) != vit.lora_of(
        config.model.get("lora")
    ):  # other adapters than ours, which start afresh
        _, found = fine_tuning.merge(theirs.model, found)
    ours, found = (traverse_util.flatten_dict(tree, sep="/") for tree in (fresh, found))
    fits = [name for name, leaf in ours.items() if name in found and found[name].shape == leaf.shape]
    taken = {name: np.asarray(found[name], ours[name].dtype) for name in fits}
    described = (
        f"step {number}, {len(taken)} of {len(ours)} leaves taken; not in it or of another shape, therefore fresh: "
        f"{_names(ours, taken)}; of no use here: {_names(found, taken)}"
    )
    share = sum(leaf.size for leaf in taken.values()) / sum(leaf.size for leaf in ours.values())
    if share < TAKEN:
        raise ValueError(
            f"config.init={config.init} is a run of another architecture than config.model: it provides {share:.0%} of "
            f"the parameters, expected {TAKEN:.0%} or more ({described}); give config.model its options"
        )
    return traverse_util.unflatten_dict({**jax.device_get(ours), **taken}, sep="/") | _empty(fresh), described


def _deployed(home: str, config, mesh) -> tuple[int, dict[str, Any]]:
    """Returns (step, deployed variables as host arrays) of the run in `home`, at its best checkpoint."""
    module = models.create(config.model)
    shapes = jax.eval_shape(lambda: step.init_variables(module, config.data.image_size, 0))
    everywhere = sharding.replicated(mesh)  # so that each host can read all of it
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere), shapes)
    chosen, _, variables = checkpoint.deployed(home, abstract)
    return chosen, jax.device_get(variables)


def _empty(variables: dict[str, Any]) -> dict[str, Any]:
    """Returns the collections without leaves, which a flat mapping loses."""
    return {name: tree for name, tree in variables.items() if not jax.tree.leaves(tree)}


def _names(leaves, taken) -> str:
    left = [f"{name} {tuple(leaf.shape)}" for name, leaf in sorted(leaves.items()) if name not in taken]
    return ", ".join(left[:NAMED] + [f"and {len(left) - NAMED} more"] * (len(left) > NAMED)) or "none"
