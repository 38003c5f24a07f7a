"""Compile the real train step for devices that are not here: memory, FLOPs and collectives before they are paid for."""

import copy
import logging
import re
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies

from kdfas_jax import models, optim, perturb, sharding, step, teachers
from kdfas_jax.objective import TRAINING, Objective

logger = logging.getLogger(__name__)

START = 8  # examples a device that a search for the largest batch begins with

# HBM of one device, GiB, by the device kind that the TPU compiler reports (cloud.google.com/tpu/docs).
MEMORY_GIB = {
    "TPU v4": 32,
    "TPU v5 lite": 16,
    "TPU v5e": 16,
    "TPU v5": 95,
    "TPU v5p": 95,
    "TPU v6 lite": 32,
    "TPU v6e": 32,
}
BYTES = {"f64": 8, "f32": 4, "s32": 4, "u32": 4, "bf16": 2, "f16": 2, "s8": 1, "u8": 1, "pred": 1}
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


def plan(config, topology: str) -> dict:
    """The plan of `config`'s train step on `topology` ('cpu:8', 'v5e:16x16'), see DESIGN's contract for its keys.

    A batch that the devices cannot share evenly is planned as the next larger one that they can; training refuses it.
    For cpu:N the process must have been given N devices. ValueError names a topology that the compiler refuses.
    """
    devices = _devices(topology)
    mesh = sharding.make_mesh(config.mesh, devices)
    config = _with_batch(config, -(-config.train.batch_size // (mesh.size * config.optim.accumulate)), mesh)
    lowered, model, frozen, state = lower(config, mesh)
    compiled = lowered.compile()
    memory = compiled.memory_analysis()
    image_size, batch_size = config.data.image_size, config.train.batch_size
    analytic = batch_size * analytic_flops(config, model, frozen)
    flops = step_flops(config, mesh, compiled, (model, *frozen.values()))
    limit = _memory_bytes(devices[0])
    return {
        "config": config.name,
        "topology": topology,
        "devices": len(devices),
        "batch_size": batch_size,
        "params": {
            "student": models.count(config.model, image_size),
            "teachers": {
                name: models.count(config.teachers[name].config.model, config.teachers[name].config.data.image_size)
                for name in frozen
            },
        },
        "per_device": {
            "argument_bytes": memory.argument_size_in_bytes,
            "temp_bytes": memory.temp_size_in_bytes,
            "flops": flops,
        },
        "analytic_flops": analytic,
        "flops_ratio": flops * len(devices) / analytic,
        "collectives": collectives(compiled.as_text()),
        "gradient_bytes": sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.trained)),
        "fits": memory.argument_size_in_bytes + memory.temp_size_in_bytes <= limit,
    }


def largest_batch(config, topology: str) -> dict:
    """The largest batch of `config` that fits the memory of a device of `topology`, to within a sixteenth.

    -> {config, topology, per_device: examples at a time, batch_size, bytes: of a device at it, limit_bytes, tried:
    {examples a device: bytes}}.
    Memory grows almost linearly with the batch, so that a straight line through two batches says where to look, and few
    are compiled. ValueError where not one example fits, or the devices have no memory of their own (cpu:N).
    """
    devices = _devices(topology)
    limit = _memory_bytes(devices[0])
    if limit == float("inf"):
        raise ValueError(
            f"--sweep_batch: --topology={topology} has no memory of its own; expected a TPU's, as v5e:16x16"
        )
    mesh = sharding.make_mesh(config.mesh, devices)
    tried: dict[int, int] = {}

    def needed(per_device: int) -> int:
        if per_device not in tried:
            memory = lower(_with_batch(config, per_device, mesh), mesh)[0].compile().memory_analysis()
            tried[per_device] = memory.argument_size_in_bytes + memory.temp_size_in_bytes
            logger.info("%d examples a device: %.2f GiB", per_device, tried[per_device] / 2**30)
        return tried[per_device]

    low = _largest(needed, limit)
    return {
        "config": config.name,
        "topology": topology,
        "per_device": low,
        "batch_size": low * mesh.size * config.optim.accumulate,
        "bytes": needed(low),
        "limit_bytes": limit,
        "tried": dict(sorted(tried.items())),
    }


def _with_batch(config, per_device: int, mesh):
    """A copy of `config` whose batch gives every device so many examples at a time."""
    own = copy.deepcopy(config)
    own.train.batch_size = per_device * mesh.size * config.optim.accumulate
    return own


def _largest(needed: Callable[[int], int], limit: float) -> int:
    """A batch that fits where one larger by a sixteenth does not, of those of which `needed` says what they need."""
    low, high = 0, START
    while needed(high) <= limit:
        low, high = high, 2 * high
    while high - low > max(1, low // 16):
        if low:
            slope = (needed(high) - needed(low)) / (high - low)
            guess = low + int((limit - needed(low)) / max(slope, 1))
        else:
            guess = high // 2
        middle = min(max(guess, low + 1), high - 1)
        low, high = (middle, high) if needed(middle) <= limit else (low, middle)
    if not low:
        raise ValueError(f"not one example fits: it needs {needed(1) / 2**30:.1f} of {limit / 2**30:.0f} GiB")
    return low


def analytic_flops(config, model, frozen) -> float:
    """FLOPs of a step for one image: three forwards of student and terms, one of each teacher, and the attack's own."""
    sizes = {name: config.teachers[name].config.data.image_size for name in frozen}
    forward = {name: models.flops(module, sizes[name]) for name, module in frozen.items()}
    attacked = sum(perturb.flops(forward[name], config.daa.steps) for name in perturb.classifiers(config))
    objective, size = Objective(config.terms, config.teachers), config.data.image_size
    taught = {name: step.outputs(frozen[name], sizes[name]) for name in objective.teachers}
    own = objective.flops(step.outputs(model, size), taught)
    return TRAINING * models.flops(model, size) + sum(forward[name] for name in taught) + attacked + own


def lower(config, mesh, *, unroll: bool = False):
    """The step lowered for `mesh` from shapes alone -> (lowered, student, {name: teacher} in use, state), modules.

    `unroll` lays the layers out one by one, and the batch's parts as one, whatever the config says.
    """
    objective = Objective(config.terms, config.teachers)
    model = models.create(config.model)
    used = dict.fromkeys((*perturb.classifiers(config), *objective.teachers))
    frozen = {name: models.create(config.teachers[name].config.model) for name in used}
    if unroll:
        model, frozen = _unrolled(model), {name: _unrolled(module) for name, module in frozen.items()}
    # The schedule's length changes no FLOP: any will do.
    schedule = optim.schedule(config.optim, steps=10_000, steps_per_epoch=1, batch_size=config.train.batch_size)
    optimiser = optim.make(config.optim, schedule)
    size = config.data.image_size
    sizes = {name: config.teachers[name].config.data.image_size for name in frozen}
    taught = {name: step.outputs(frozen[name], sizes[name]) for name in objective.teachers}
    state = jax.eval_shape(lambda: step.init(model, size, optimiser, config.seed, objective, taught))
    placed = sharding.tree(mesh, state)
    abstract = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), state, placed)
    variables = {name: _frozen(module, sizes[name], mesh) for name, module in frozen.items()}
    b, rows = config.train.batch_size, sharding.batch(mesh)
    logits = step.outputs(model, size).get("logits", jnp.zeros((1, 0)))  # a face model may have none, and no labels
    batch = {
        "image": jax.ShapeDtypeStruct((b, size, size, 3), jnp.uint8, sharding=rows),
        "label": jax.ShapeDtypeStruct((b, logits.shape[-1]), jnp.float32, sharding=rows),
        "domain": jax.ShapeDtypeStruct((b,), jnp.int32, sharding=rows),
        "identity": jax.ShapeDtypeStruct((b,), jnp.int32, sharding=rows),
    }
    readers = {name: step.reader(module, sizes[name]) for name, module in frozen.items()}
    attack = perturb.make(config, readers, unroll=unroll)
    parts = 1 if unroll else config.optim.accumulate
    train_step = step.make(model, objective, readers, optimiser, config.seed, attack, accumulate=parts)
    return step.compiled(train_step, mesh, state).lower(abstract, variables, batch), model, frozen, state


def _unrolled(module):
    """`module` with its layers laid out one by one; only a module that can loop over them has the field."""
    return module.clone(unroll=True) if hasattr(module, "unroll") else module


def _frozen(module, image_size: int, mesh):
    """A teacher's abstract variables, with the parameters in the dtype that `teachers.load` casts them to."""
    variables, dtype = teachers.abstract_variables(module, image_size, mesh), jnp.dtype(module.dtype)
    cast = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, dtype, sharding=a.sharding), variables["params"])
    return {**variables, "params": cast}


def collectives(hlo: str) -> dict[str, int]:
    """Bytes that one device receives from each kind of collective in a compiled module's text, by result shape.

    A collective inside a loop is counted once: unroll the layers for a true sum.
    """
    total: Counter[str] = Counter()
    for shapes, kind in re.findall(rf"= (.+?) ({'|'.join(COLLECTIVES)})(?:-start)?\(", hlo):
        for dtype, dims in re.findall(r"(\w+)\[([\d,]*)\]", shapes):
            total[kind] += BYTES.get(dtype, 4) * int(np.prod([int(d) for d in dims.split(",") if d]))
    return dict(total)


def step_flops(config, mesh, compiled, modules) -> float:
    """FLOPs of one device, as the compiler counts them; a scanned body is counted once, so all are unrolled."""
    looped = (perturb.classifiers(config) and not config.daa.unroll) or config.optim.accumulate > 1
    if all(module == _unrolled(module) for module in modules) and not looped:
        return float(compiled.cost_analysis()["flops"])
    # Counted before the compiler splits it: by the CPU's, as the TPU's counts only what it has compiled.
    one = sharding.make_mesh({"data": 1, "fsdp": 1}, jax.devices("cpu")[:1])
    return float(lower(config, one, unroll=True)[0].cost_analysis()["flops"]) / mesh.size


def _devices(topology: str):
    platform, _, shape = topology.partition(":")
    if platform == "cpu":
        if len(jax.devices()) != int(shape):
            raise ValueError(f"--topology={topology}: this process has {len(jax.devices())} devices")
        return jax.devices()
    try:
        return topologies.get_topology_desc(topology_name=topology, platform="tpu").devices
    except Exception as error:
        raise ValueError(
            f"--topology={topology!r}: {error}. Expected cpu:N, or a TPU slice as v5e:16x16 with the TPU compiler "
            "installed: pip install -r requirements-tpu.txt"
        ) from error


def _memory_bytes(device) -> float:
    if device.platform == "cpu":
        return float("inf")  # host memory is shared: no limit of one device
    return MEMORY_GIB[device.device_kind] * 2**30


def table(result: dict) -> str:
    """The plan as lines for a person."""
    gib = SimpleNamespace(**{name: result["per_device"][f"{name}_bytes"] / 2**30 for name in ("argument", "temp")})
    moved = ", ".join(f"{kind} {size / 2**20:.1f} MiB" for kind, size in result["collectives"].items()) or "none"
    gradients, all_moved = result["gradient_bytes"], sum(result["collectives"].values())
    lines = [
        f"{result['config']} on {result['topology']}: {result['devices']} devices, batch {result['batch_size']}",
        f"parameters       student {result['params']['student']:,}, teachers {result['params']['teachers']}",
        f"per device       arguments {gib.argument:.2f}, temporaries {gib.temp:.2f} GiB, fits: {result['fits']}",
        f"FLOPs            {result['per_device']['flops']:.4g} a device and step, "
        f"{result['flops_ratio']:.4f} x the analytic minimum",
        f"collectives      {moved}",
    ]
    if all_moved > gradients:
        lines.append(
            f"note             a device receives {all_moved / gradients:.2f} times the gradients' "
            f"{gradients / 2**20:.1f} MiB a step: parameters split over fsdp are gathered, and terms that see the "
            "whole batch add theirs; a smaller config.mesh.fsdp moves less and needs more memory"
        )
    return "\n".join(lines)


def sweep_table(result: dict) -> str:
    """`largest_batch`'s result as lines for a person."""
    tried = "\n".join(
        f"{examples:6} examples a device {size / 2**30:8.2f} GiB" for examples, size in result["tried"].items()
    )
    return (
        f"{result['config']} on {result['topology']}: at most {result['per_device']} examples a device, "
        f"{result['batch_size']} a step, fit into {result['limit_bytes'] / 2**30:.0f} GiB\n{tried}"
    )
