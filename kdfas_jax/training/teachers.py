"""Teachers: frozen models with named outputs, from finished runs of this same trainer.

`config.teachers.NAME = {config, checkpoint, allow_overlap}`: the whole config of the teacher; a finished run's folder
or a file of published weights if there is one already; and whether the teacher may have seen what the student is judged
on (`provenance.check`). Without a checkpoint the teacher lives beside the student, at TEACHERS/<its config's
name>-<digest>, so that every student of the same teacher finds the same one.
"""

import os
import shlex
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from kdfas_jax import models
from kdfas_jax.models.published import weights
from kdfas_jax.parallel import sharding
from kdfas_jax.runs import files, workdir
from kdfas_jax.training import checkpoint, step
from kdfas_jax.training.experiment import Frozen


class Teacher(NamedTuple):
    """A frozen model: `module.apply(variables, images)` gives (logits, named outputs) of images of `image_size` px.

    `step` is the step of the checkpoint that was loaded, `trained` the run's last step; None for published weights.
    """

    module: Any
    variables: Any
    image_size: int
    step: int | None = None
    trained: int | None = None

    @property
    def frozen(self) -> Frozen:
        """The network by which it teaches, without its variables."""
        return Frozen(models.teaching(self.module), self.image_size)


def home(config, student_workdir: str) -> str:
    """Where the teacher `config` = {config, checkpoint} of the student in `student_workdir` is: a folder or a file."""
    if config.checkpoint:
        return config.checkpoint
    parent = os.path.dirname(files.absolute(student_workdir))
    return workdir.find(os.path.join(parent, "teachers"), config.config)


def finished(home: str) -> bool:
    """Whether the teacher at `home` can be used: published weights, or a run that was trained to the last step of its
    config and evaluated after that."""
    return files.is_file(home) or bool(workdir.evaluated(home).get("finished"))


def check_finished(key: str, home: str) -> None:
    """ValueError with the command that completes the run at `home`, given as `key`, where it is not finished.

    key: 'config.teachers.spoof.checkpoint' or 'config.init'. FileNotFoundError where there is no run.
    """
    if finished(home):
        return
    evaluated, command = workdir.evaluated(home), workdir.command(home)
    reason = "it has not been evaluated"
    if "finished" in evaluated:
        reason = "it stopped before its last step"
        if "steps" in evaluated:
            reason = f"it stopped at step {evaluated['steps']['trained']} of {evaluated['steps']['total']}"
    elif evaluated:
        reason = "its results.json does not say whether it was trained to its last step"
        command = shlex.join(["python", "main.py", "--mode=eval", f"--workdir={home}"])
    raise ValueError(f"{key}={home} is not a finished run: {reason}; complete it with: {command}")


def load(home: str, mesh, config=None) -> Teacher:
    """Loads the model at `home`: a run at its best step on dev, or published weights for the model of `config`.

    Whatever scores images loads a run by this function, with fp32 parameters as they were trained: in bf16, too, heads
    and norms compute in fp32, and a rounded head decides some faces otherwise. ValueError or FileNotFoundError says
    what a run or a file lacks.
    """
    published = files.is_file(home)
    if not published:
        config = ml_collections.ConfigDict(workdir.read(home)["config"])
    module = models.create(config.model)
    abstract = abstract_variables(module, config.data.image_size, mesh)
    if published:
        fresh = jax.jit(lambda: step.init_variables(module, config.data.image_size, 0))()
        with files.local(home) as path:
            found, _ = weights.load(path, module, fresh)
        variables = jax.device_put(found, jax.tree.map(lambda leaf: leaf.sharding, abstract))
        return Teacher(module, variables, config.data.image_size)
    chosen, trained, variables = checkpoint.deployed(home, abstract)
    return Teacher(module, variables, config.data.image_size, chosen, trained)


def rounded(teacher: Teacher) -> dict[str, Any]:
    """The variables of `teacher` as a training step keeps them: parameters in the dtype that the model computes in.

    This halves the memory of a bf16 teacher. Running statistics stay fp32, as batch norm computes with them.
    """
    dtype = jnp.dtype(teacher.module.dtype)
    return {**teacher.variables, "params": jax.tree.map(lambda leaf: leaf.astype(dtype), teacher.variables["params"])}


def parameters(config, names: Iterable[str] | None = None) -> dict[str, Any]:
    """Counts the parameters of the student of `config` and of its teachers `names` (all of them by default).

    Returns {'student': n, 'teachers': {name: n}, 'training_only': the same two keys}: the parameters that are deployed,
    and apart from them the ones that only training uses (`models.parameters`). Each model is counted at the image size
    of its config, as layers that span the last feature map have parameters for one size only.
    """
    chosen = config.teachers if names is None else names
    taught = {name: config.teachers[name].config for name in chosen}
    student = models.parameters(config.model, config.data.image_size)
    found = {name: models.parameters(teacher.model, teacher.data.image_size) for name, teacher in taught.items()}
    deployed, training_only = (
        {"student": getattr(student, kind), "teachers": {name: getattr(of, kind) for name, of in found.items()}}
        for kind in models.Parameters._fields
    )
    return {**deployed, "training_only": training_only}


def abstract_variables(module, image_size: int, mesh):
    """Shapes and shardings of a model's variables on `mesh`, without making them."""
    shapes = jax.eval_shape(lambda: step.init_variables(module, image_size, 0))
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        sharding.tree(mesh, shapes),
    )
