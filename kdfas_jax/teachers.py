"""Teachers: frozen models with named outputs, from finished runs of this same trainer.

`config.teachers.NAME = {config, checkpoint}`: the whole config of the teacher, and a finished run's folder if there
is one already. Without it the teacher lives beside the student, at TEACHERS/<its config's name>-<digest>, so that
every student of the same teacher finds the same one.
"""

import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from kdfas_jax import checkpoint, models, sharding, step, workdir


class Teacher(NamedTuple):
    """A frozen model: `module.apply({"params": params}, images)` -> (logits, named outputs)."""

    module: Any
    params: Any


def home(config, student_workdir: str) -> str:
    """The folder of the teacher `config` = {config, checkpoint} of the student in `student_workdir`."""
    if config.checkpoint:
        return config.checkpoint
    parent = os.path.dirname(os.path.abspath(student_workdir))
    return os.path.join(parent, "teachers", f"{config.config.name}-{workdir.digest(config.config)}")


def finished(folder: str) -> bool:
    """Whether the run in `folder` has been trained and evaluated."""
    return os.path.exists(os.path.join(folder, "eval", "results.json"))


def load(folder: str, mesh) -> Teacher:
    """The run's parameters at its best step on dev, cast once to the dtype that the model computes in."""
    config = ml_collections.ConfigDict(workdir.read(folder)["config"])
    module = models.create(config.model)
    with checkpoint.open_finished(folder) as checkpoints:
        params = checkpoints.restore_params(checkpoints.best(), abstract_params(module, config.data.image_size, mesh))
    return Teacher(module, jax.tree.map(lambda leaf: leaf.astype(jnp.dtype(module.dtype)), params))


def abstract_params(module, image_size: int, mesh):
    """Shapes and shardings of a model's parameters on `mesh`, without making them."""
    shapes = jax.eval_shape(lambda: step.init_params(module, image_size, 0))
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        sharding.tree(mesh, shapes),
    )
