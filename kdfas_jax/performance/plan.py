"""Compile the real train step for devices that are not here: memory, FLOPs and collectives before they are paid for."""

import copy
import logging
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from kdfas_jax.parallel import sharding
from kdfas_jax.performance import collectives
from kdfas_jax.training import experiment, step, teachers, validate
from kdfas_jax.training.experiment import Experiment, Frozen

logger = logging.getLogger(__name__)

SEED = jax.ShapeDtypeStruct((), jnp.uint32)
START = 8  # examples a device that a search for the largest batch begins with

UTILISATION = 0.4  # share of the peak that images a second are promised at: what large ViTs are said to reach [C]


class Chip(NamedTuple):
    """What a plan knows of one device."""

    memory_gib: int  # HBM of one device
    peak: float  # FLOP/s in bf16


# By the device kind that the TPU compiler reports (cloud.google.com/tpu/docs).
CHIPS = {
    "TPU v4": Chip(32, 275e12),
    "TPU v5 lite": Chip(16, 197e12),
    "TPU v5": Chip(95, 459e12),
    "TPU v6 lite": Chip(32, 918e12),
}
MEGACORE = ("v4", "v5p")  # two cores a chip, which jax uses as one device


def plan(config, topology: str) -> dict:
    """The plan of `config`'s train step on `topology` ('cpu:8', 'v5e:16x16').

    A batch that the devices cannot share evenly is planned as the next larger one that they can; training refuses it.
    For cpu:N the process must have been given N devices. ValueError names a topology that the compiler refuses.
    """
    validate.check(config)
    devices = _devices(topology)
    mesh = sharding.make_mesh(config.mesh, devices)
    config = _with_batch(config, -(-config.train.batch_size // (mesh.size * config.optim.accumulate)), mesh)
    lowered, made, state = of_config(config, mesh)
    limit, peak = memory_of(devices[0]), _peak(devices[0])
    compiled, arguments, temporaries = compile_step(lowered, limit)
    batch_size = config.train.batch_size
    analytic = batch_size * made.flops()
    flops = step_flops(made, mesh, compiled)
    fits = compiled is not None and arguments + temporaries <= limit
    return {
        "config": config.name,
        "topology": topology,
        "devices": len(devices),
        "mesh": dict(mesh.shape),
        "batch_size": batch_size,
        "params": teachers.parameters(config, made.teachers),
        "per_device": {"argument_bytes": arguments, "temp_bytes": temporaries, "flops": flops},
        "analytic_flops": analytic,
        "flops_ratio": flops * len(devices) / analytic,
        "collectives": collectives.received(compiled.as_text()) if compiled else {},
        "gradient_bytes": sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.trained)),
        "fits": fits,
        "expected": {
            "utilisation": UTILISATION,
            "images_per_s": batch_size * UTILISATION * peak / flops if peak and fits else None,
        },
    }


def largest_batch(config, topology: str) -> dict:
    """The largest batch of `config` that fits the memory of a device of `topology`, to within a sixteenth.

    -> {config, topology, per_device: examples at a time, batch_size, bytes: of a device at it, limit_bytes, tried:
    {examples a device: bytes}}.
    Memory grows almost linearly with the batch, so that a straight line through two batches says where to look, and few
    are compiled. ValueError where not one example fits, or the devices share the host's memory (cpu:N).
    """
    validate.check(config)
    devices = _devices(topology)
    limit = memory_of(devices[0])
    if limit == float("inf"):
        raise ValueError(f"--sweep_batch: --topology={topology} shares the host's memory; expected a TPU, as v5e:16x16")
    mesh = sharding.make_mesh(config.mesh, devices)
    tried: dict[int, int] = {}

    def needed(per_device: int) -> int:
        if per_device not in tried:
            _, arguments, temporaries = compile_step(of_config(_with_batch(config, per_device, mesh), mesh).step, limit)
            tried[per_device] = (arguments or 0) + temporaries
            logger.info("%d examples a device: %.2f GiB", per_device, tried[per_device] / 2**30)
        return tried[per_device]

    low = largest_fitting(needed, limit)
    return {
        "config": config.name,
        "topology": topology,
        "per_device": low,
        "batch_size": _with_batch(config, low, mesh).train.batch_size,
        "bytes": needed(low),
        "limit_bytes": limit,
        "tried": dict(sorted(tried.items())),
    }


def compile_step(lowered, limit: float):
    """Returns the compiled step, and the bytes of its arguments and temporaries on a device.

    Where the compiler finds no room there is neither a step nor its arguments, None and None, and the temporaries are
    what it says that it would need: more than `limit` in any case. JaxRuntimeError where it fails for another reason.
    """
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        needed = re.search(r"([\d.]+)G", str(error))
        return None, None, max(int(float(needed[1]) * 2**30) if needed else 0, limit + 1)
    memory = compiled.memory_analysis()
    return compiled, memory.argument_size_in_bytes, memory.temp_size_in_bytes


def _with_batch(config, per_device: int, mesh):
    """A copy of `config` whose batch gives every device so many examples at a time."""
    own = copy.deepcopy(config)
    own.train.batch_size = per_device * mesh.size * config.optim.accumulate
    return own


def largest_fitting(needed: Callable[[int], int], limit: float) -> int:
    """Returns a batch that fits where one larger by a sixteenth does not.

    needed: maps a batch, in examples a device, to its bytes. limit: bytes of a device. ValueError where not one example
    fits.
    """
    low, high, guess = 0, None, START  # `low` fits; `high`, where there is one, does not
    while high is None or high - low > max(1, low // 16):
        size = max(guess, low + max(1, low // 16)) if high is None else min(max(guess, low + 1), high - 1)
        before = low
        low, high = (size, high) if needed(size) <= limit else (low, size)
        other = high or before
        if low and other:
            slope = (needed(other) - needed(low)) / (other - low)
            guess = low + int((limit - needed(low)) / max(slope, 1))
        else:
            guess = 2 * low or high // 2
    if not low:
        raise ValueError(f"not one example fits: it needs {needed(1) / 2**30:.1f} of {limit / 2**30:.0f} GiB")
    return low


class Lowered(NamedTuple):
    """The step of `experiment`, lowered for a mesh from shapes alone, and the shapes of its `state`."""

    step: Any
    experiment: Experiment
    state: Any


def of_config(config, mesh) -> Lowered:
    """The training step of a whole config, lowered for `mesh`."""
    return lower(experiment.of_config(config), mesh)


def lower(made: Experiment, mesh) -> Lowered:
    """Lowers the training step of the experiment `made` for `mesh`; nothing is computed."""
    state = jax.eval_shape(lambda: step.init(made))
    placed = sharding.tree(mesh, state)
    abstract = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), state, placed)
    variables = {name: _frozen(of, mesh) for name, of in made.teachers.items()}
    return Lowered(step.compiled(made, mesh, state).lower(abstract, variables, made.batch(mesh), SEED), made, state)


def _frozen(of: Frozen, mesh):
    """A teacher's abstract variables, with the parameters in the dtype that `teachers.rounded` casts them to."""
    variables, dtype = teachers.abstract_variables(of.module, of.image_size, mesh), jnp.dtype(of.module.dtype)
    cast = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, dtype, sharding=a.sharding), variables["params"])
    return {**variables, "params": cast}


def step_flops(made: Experiment, mesh, compiled) -> float:
    """FLOPs of a step on one device of `mesh`, as the compiler counts them.

    A loop's body is counted once, so the step of an experiment with loops is counted with all of them unrolled. The
    compiler of a GPU leaves out the products that it hands to a library, so its count is not used.
    """
    platform = mesh.devices.flat[0].platform
    complete = platform == "cpu" or (platform == "tpu" and not made.attack)  # only the CPU's has no loop of the attack
    if compiled and not made.looped and complete:
        return float(compiled.cost_analysis()["flops"])
    # Counted before the compiler splits it: by the CPU's, as the TPU's counts only what it has compiled.
    one = sharding.make_mesh({"data": 1, "fsdp": 1}, jax.devices("cpu")[:1])
    return float(lower(made.unrolled(), one).step.cost_analysis()["flops"]) / mesh.size


def _devices(topology: str):
    platform, _, shape = topology.partition(":")
    if platform == "cpu":
        if len(jax.devices()) != int(shape):
            raise ValueError(f"--topology={topology}: this process has {len(jax.devices())} devices")
        return jax.devices()
    try:
        cores = {"chip_config_name": "megacore"} if platform in MEGACORE else {}
        devices = topologies.get_topology_desc(topology_name=topology, platform="tpu", **cores).devices
    except Exception as error:
        raise ValueError(
            f"--topology={topology!r}: {error}. Expected cpu:N, or a TPU slice as v5e:16x16 with the TPU compiler "
            "installed: pip install -r requirements-tpu.txt"
        ) from error
    if devices[0].device_kind not in CHIPS:
        raise ValueError(f"--topology={topology}: a {devices[0].device_kind}; a plan knows {', '.join(CHIPS)}")
    return devices


def memory_of(device) -> float:
    """Returns the bytes of memory of a device; infinity for a CPU device."""
    if device.platform == "cpu":
        return float("inf")  # host memory is shared: no limit of one device
    return CHIPS[device.device_kind].memory_gib * 2**30


def _peak(device) -> float | None:
    """FLOP/s in bf16; None of a host, which says little of what is planned on it."""
    return None if device.platform == "cpu" else CHIPS[device.device_kind].peak


def table(result: dict) -> str:
    """The plan as lines for a person."""
    arguments, temporaries = (result["per_device"][f"{name}_bytes"] for name in ("argument", "temp"))
    memory = f"temporaries of {temporaries / 2**30:.2f} GiB, for which the compiler finds no room"
    if arguments is not None:
        memory = f"arguments {arguments / 2**30:.2f}, temporaries {temporaries / 2**30:.2f} GiB"
    moved = ", ".join(f"{kind} {size / 2**20:.1f} MiB" for kind, size in result["collectives"].items()) or "none"
    gradients, all_moved = result["gradient_bytes"], sum(result["collectives"].values())
    lines = [
        f"{result['config']} on {result['topology']}: {result['devices']} devices, batch {result['batch_size']}",
        f"parameters       student {result['params']['student']:,}, teachers {result['params']['teachers']}",
        f"per device       {memory}, fits: {result['fits']}",
        f"FLOPs            {result['per_device']['flops']:.4g} a device and step, "
        f"{result['flops_ratio']:.4f} x the analytic minimum",
        f"collectives      {moved}",
    ]
    if result["expected"]["images_per_s"]:
        utilisation, rate = result["expected"]["utilisation"], result["expected"]["images_per_s"]
        lines.append(f"expected         {rate:,.0f} images/s at {utilisation:.0%} of the chips' peak; not measured")
    if all_moved > gradients:
        lines.append(
            f"note             a device receives {all_moved / gradients:.2f} times the gradients' "
            f"{gradients / 2**20:.1f} MiB a step: {_why_more(result['mesh'])}"
        )
    return "\n".join(lines)


def _why_more(mesh: dict[str, int]) -> str:
    """What else than gradients moves on `mesh` {axis: devices}, and what would lessen it."""
    split = ["parameters split over fsdp are gathered"] if mesh["fsdp"] > 1 else []
    advice = "; a smaller config.mesh.fsdp moves less and needs more memory" if mesh["fsdp"] > 1 else ""
    return ", ".join([*split, "terms that see the whole batch add theirs"]) + advice


def sweep_table(result: dict) -> str:
    """`largest_batch`'s result as lines for a person."""
    tried = "\n".join(
        f"{examples:6} examples a device {size / 2**30:8.2f} GiB" for examples, size in result["tried"].items()
    )
    return (
        f"{result['config']} on {result['topology']}: at most {result['per_device']} examples a device, "
        f"{result['batch_size']} a step, fit into {result['limit_bytes'] / 2**30:.0f} GiB\n{tried}"
    )
