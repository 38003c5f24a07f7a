"""A training run as data: the model, the frozen teachers, the objective and the optimiser that a config asks for.

Training, plan, benchmark and tests all ask one `Experiment` for their parts, so that they mean the same step. Nothing
but shapes is computed here.
"""

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

from kdfas_jax import models
from kdfas_jax.models import fine_tuning
from kdfas_jax.models.records import TRUTH_SIDE, Batch, Outputs
from kdfas_jax.objective import perturb
from kdfas_jax.objective.weighted_sum import TRAINING, Objective
from kdfas_jax.parallel import sharding
from kdfas_jax.training import optim


class Frozen(NamedTuple):
    """A teacher's network without its variables; it reads images of `image_size` px."""

    module: Any
    image_size: int

    def read(self, variables: Mapping[str, Any], images: jax.Array):
        """Returns what the network returns, (first output, named outputs), for images [b, s, s, 3] of any side."""
        shape = (len(images), self.image_size, self.image_size, 3)
        resized = images if images.shape == shape else jax.image.resize(images, shape, "linear")
        return self.module.apply(variables, resized)

    def outputs(self) -> Outputs:
        """Shapes of the named outputs for one image."""
        return outputs(self.module, self.image_size)


def outputs(model, image_size: int) -> Outputs:
    """Shapes of a model's named outputs for one image of `image_size` px."""
    images = jnp.zeros((1, image_size, image_size, 3))
    return jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), images)[0][1])


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What is trained.

    model, image_size: the student and the side, in pixels, of the images that it reads.
    objective, optimiser, seed: the loss; the optax transformation; the seed of parameters and steps (`seed_of`).
    teachers: name -> network, of the terms and of the attack.
    stored: the teachers whose outputs come with the batch (`outputs`), so that a step does not run them.
    attack: what becomes of the images before student and teachers see them; None for nothing.
    steps: the length of the run, for terms whose strength follows its progress.
    accumulate: gradient-accumulation steps a batch.
    ema: decay of the averaged parameters; 0 keeps none.
    freeze_blocks: number of the first blocks that are not trained.
    batch_size: examples of a global batch.
    schedule: step -> learning rate, for logs.
    """

    model: Any
    image_size: int
    objective: Objective
    optimiser: optax.GradientTransformation
    seed: int
    teachers: Mapping[str, Frozen] = dataclasses.field(default_factory=dict)
    stored: tuple[str, ...] = ()
    attack: perturb.Attack | None = None
    steps: int = 1
    accumulate: int = 1
    ema: float = 0.0
    freeze_blocks: int = 0
    batch_size: int = 1
    schedule: optax.Schedule | None = None

    def frozen(self, params) -> tuple[str, ...]:
        """Names of the student's parameters that are not trained (`fine_tuning.frozen`)."""
        return fine_tuning.frozen(self.model, traverse_util.flatten_dict(params, sep="/"), self.freeze_blocks)

    def outputs(self) -> Outputs:
        """Shapes of the student's named outputs for one image."""
        return outputs(self.model, self.image_size)

    def taught(self) -> dict[str, Outputs]:
        """Shapes of the named outputs of the teachers that the objective reads."""
        return {name: self.teachers[name].outputs() for name in self.objective.teachers}

    def batch(self, mesh) -> Batch:
        """Shapes and shardings of a batch on `mesh`, with every column that a term could read."""
        b, rows, logits = self.batch_size, sharding.batch(mesh), self.outputs().get("logits")
        classes = logits.shape[-1] if logits is not None else 0  # a face model may have no logits, and then no labels
        shapes = {
            "image": ((b, self.image_size, self.image_size, 3), jnp.uint8),
            "label": ((b, classes), jnp.float32),
            "domain": ((b,), jnp.int32),
            "identity": ((b,), jnp.int32),
            "truth": ((b, TRUTH_SIDE, TRUTH_SIDE, 3), jnp.uint8),
        }
        return Batch(**{name: jax.ShapeDtypeStruct(shape, of, sharding=rows) for name, (shape, of) in shapes.items()})

    def flops(self) -> float:
        """FLOPs of a step for one image: three forwards of student and terms, one of each teacher, and the attack's.

        What is not trained needs less (`fine_tuning.untrained_flops`).
        """
        forward = {name: models.flops(of.module, of.image_size) for name, of in self.teachers.items()}
        if self.attack and not self.attack.teachers:
            forward[self.attack.classifier] = models.flops(self.model, self.image_size)
        attacked = self.attack.flops(forward[self.attack.classifier]) if self.attack else 0.0
        taught = self.taught()
        own = self.objective.flops(self.outputs(), taught)
        student = TRAINING * models.flops(self.model, self.image_size, train=True)
        student -= fine_tuning.untrained_flops(self.model, self.image_size, self.freeze_blocks)
        run = sum(forward[name] for name in taught if name not in self.stored)
        return student + run + attacked + own

    @property
    def looped(self) -> bool:
        """Whether a compiler sees layers or parts of the batch as a loop, whose body it counts once."""
        modules = (self.model, *(of.module for of in self.teachers.values()))
        return self.accumulate > 1 or any(module != _unrolled(module) for module in modules)

    def unrolled(self) -> "Experiment":
        """The same experiment with layers side by side and the batch in one part, so that a compiler counts all."""
        teachers = {name: of._replace(module=_unrolled(of.module)) for name, of in self.teachers.items()}
        return dataclasses.replace(self, model=_unrolled(self.model), teachers=teachers, accumulate=1)


def of_config(config, examples: int | None = None) -> Experiment:
    """The experiment of a whole config with `examples` training examples; None for a plan, where no length matters.

    ValueError as of the parts' own checks: unknown models, kinds, options; a batch larger than the training set.
    """
    batch_size = config.train.batch_size
    examples = 10_000 * batch_size if examples is None else examples
    per_epoch = examples // batch_size
    if not per_epoch:
        raise ValueError(f"config.train.batch_size={batch_size}: only {examples} training examples")
    steps = optim.total_steps(config.train, examples)
    schedule = optim.schedule(config.optim, steps=steps, steps_per_epoch=per_epoch, batch_size=batch_size)
    objective, attack = Objective(config.terms, config.teachers), perturb.of_config(config)
    return Experiment(
        model=models.create(config.model),
        image_size=config.data.image_size,
        objective=objective,
        optimiser=optim.make(config.optim, schedule),
        seed=seed_of(config),
        teachers={name: frozen(config.teachers[name].config) for name in used(config)},
        stored=tuple(name for name in used(config) if config.teachers[name].cache),
        attack=attack,
        steps=steps,
        accumulate=config.optim.accumulate,
        ema=config.optim.ema,
        freeze_blocks=config.optim.freeze_blocks,
        batch_size=batch_size,
        schedule=schedule,
    )


def used(config) -> tuple[str, ...]:
    """Returns the names of the teachers that a step of `config` reads: the attack's and the terms'."""
    attack = perturb.of_config(config)
    own = attack.teachers if attack else ()
    return tuple(dict.fromkeys((*own, *Objective(config.terms, config.teachers).teachers)))


def frozen(config) -> Frozen:
    """The network of a teacher's whole config."""
    return Frozen(models.teaching(models.create(config.model)), config.data.image_size)


def seed_of(config) -> int:
    """The seed of a run's random numbers, 32 bits: a pure function of `config.seed` and of the run's role [C].

    The role is the config's name, its target and the names of its teachers. A student, its teachers and the domain
    classifier of one `config.seed` therefore begin with different parameters even where their architectures agree; the
    variants of an ablation, which change only what is computed, begin with the same ones.
    """
    role = (config.seed, config.name, config.data.target, *sorted(config.teachers))
    return zlib.crc32("\n".join(map(str, role)).encode())


def _unrolled(module):
    """`module` with its layers laid out one by one; only a module that can loop over them has the field."""
    return module.clone(unroll=True) if hasattr(module, "unroll") else module
