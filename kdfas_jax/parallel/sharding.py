"""The device mesh, and the (pattern, spec) rules that place arrays on it.

Axes: `data` shards the batch; `fsdp` shards the batch, the parameters, the gradients and the optimiser state.
Axis types are Auto: the compiler inserts the collectives (Explicit axes refuse contractions over a sharded batch).
"""

import contextvars
import functools
import re
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

_PLATFORM: contextvars.ContextVar[str] = contextvars.ContextVar("platform", default="")

AXES = ("data", "fsdp")

# The first match decides. Arrays without a match are replicated, and so is a dimension whose size the axis does not
# divide. Specs apply to the last dimensions, so the stack of blocks [depth, ...] is never split.
# Kernels [in, out] are split along `in`, and those of a block's contracting layers (out, fc2) along `out`. The
# class centres [k, d] of many identities are larger than the rest of a model: they are split by class, so that no
# device holds all logits.
RULES: tuple[tuple[str, tuple], ...] = (
    (r"blocks/qkv/kernel$", ("fsdp", None, None, None)),
    (r"blocks/(out|fc2)/kernel$", (None, "fsdp")),
    (r"(kernel|centres)$", ("fsdp", None)),
)


def make_mesh(axes: Mapping[str, int], devices=None) -> Mesh:
    """Returns a mesh with `axes` = {'data': n, 'fsdp': m} over `devices`, by default all.

    One size may be -1 and takes the remaining devices; an axis that is not named has size 1.
    Raises ValueError where the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [axes.get(name, 1) for name in AXES]
    if -1 in sizes:
        known = int(np.prod([size for size in sizes if size != -1]))
        sizes[sizes.index(-1)] = max(1, len(devices) // known)
    if int(np.prod(sizes)) != len(devices):
        raise ValueError(f"config.mesh {dict(axes)} makes {int(np.prod(sizes))} devices; there are {len(devices)}")
    return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def check_batch(mesh: Mesh, sizes: Mapping[str, float]) -> None:
    """Raises ValueError where one of the batch sizes {config key: examples} cannot be split into equal parts."""
    for key, size in sizes.items():
        if size < 1 or size % mesh.size:
            raise ValueError(
                f"{key} makes {size:g} examples at once; expected a multiple of {mesh.size}, the number of devices"
            )


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding that keeps a copy of the whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch(mesh: Mesh) -> NamedSharding:
    """Sharding that splits the first dimension over `data` and `fsdp`."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def on(mesh: Mesh, function: Callable) -> Callable:
    """Returns `function`, within which `by_example` and `platform` know the mesh that it is traced for."""

    @functools.wraps(function)
    def placed(*arguments):
        token = _PLATFORM.set(mesh.devices.flat[0].platform)
        try:
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                return function(*arguments)
        finally:
            _PLATFORM.reset(token)

    return placed


def platform() -> str:
    """The platform that the function being traced will run on: 'cpu', 'gpu' or 'tpu'.

    It is that of the mesh within a function of `on`, and of JAX's default device elsewhere. A plan traces on a CPU what
    a TPU will run.
    """
    return _PLATFORM.get() or jax.default_backend()


def by_example(x: jax.Array) -> jax.Array:
    """Constrains activations [b, ...] to the batch sharding; returns them unchanged outside a mesh.

    Without the constraint the compiler may split the features of parameters that `fsdp` shards, and sum every layer's
    output over the devices, which moves far more bytes than gathering the parameters.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(AXES))


def tree(mesh: Mesh, shapes):
    """Returns a sharding for every leaf of `shapes` (parameters, optimiser state or a training state) by `RULES`."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: NamedSharding(mesh, _spec(mesh, path, leaf)), shapes)


def on_host(array: jax.Array) -> np.ndarray:
    """Returns the whole `array` in every process, which all of them must ask for."""
    if array.is_fully_addressable:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def _spec(mesh: Mesh, path, leaf) -> PartitionSpec:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    for pattern, axes in RULES:
        if re.search(pattern, name) and leaf.ndim >= len(axes):
            whole = [None] * (leaf.ndim - len(axes))
            sizes = leaf.shape[len(whole) :]
            split = [
                axis if axis and not size % mesh.shape[axis] else None for axis, size in zip(axes, sizes, strict=True)
            ]
            return PartitionSpec(*whole, *split)
    return PartitionSpec()


def place_batch(mesh: Mesh, local: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Returns global arrays, split over the devices, from this host's rows of a batch, which may be nested."""
    sharding = batch(mesh)
    return jax.tree.map(lambda array: jax.make_array_from_process_local_data(sharding, array), dict(local))
