"""The device mesh, and the (pattern, spec) rules that place arrays on it.

Axes: `data` shards the batch; `fsdp` shards the batch, the parameters, the gradients and the optimiser state; `tensor`
splits the work on one example by a transformer's heads and hidden units (Shoeybi et al., Megatron-LM, arXiv
1909.08053). The devices of one `tensor` group hold the same examples and belong to one host, which reads them once.
Axis types are Auto: the compiler inserts the collectives (Explicit axes refuse contractions over a sharded batch).
"""

import contextvars
import functools
import re
from collections import Counter
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

_PLATFORM: contextvars.ContextVar[str] = contextvars.ContextVar("platform", default="")

BATCH = ("data", "fsdp")
AXES = (*BATCH, "tensor")

# The first match decides. Arrays without a match are replicated, and so is a dimension whose size the axis does not
# divide. Specs apply to the last dimensions, so the stack of blocks [depth, ...] is never split.
# In a block, the expanding layers (qkv, fc1) are split by head or hidden unit on their output, and the contracting
# layers (out, fc2) on their input, so that attention and MLP each need one sum over `tensor`. Other kernels [in, out]
# are split along `in`. The class centres [k, d] of many identities are larger than the rest of a model: they are split
# by class, so that no device holds all logits.
RULES: tuple[tuple[str, tuple], ...] = (
    (r"blocks/qkv/kernel$", ("fsdp", None, "tensor", None)),
    (r"blocks/qkv/bias$", ("tensor", None)),
    (r"blocks/fc1/kernel$", ("fsdp", "tensor")),
    (r"blocks/fc1/bias$", ("tensor",)),
    (r"blocks/(out|fc2)/kernel$", ("tensor", "fsdp")),
    (r"(kernel|centres)$", ("fsdp", None)),
)


def make_mesh(axes: Mapping[str, int], devices=None) -> Mesh:
    """Returns a mesh with `axes` = {'data': n, 'fsdp': m, 'tensor': t} over `devices`, by default all.

    One size may be -1 and takes the remaining devices; an axis that is not named has size 1.
    Raises ValueError where the sizes do not multiply to the number of devices, or a `tensor` group spans hosts.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [axes.get(name, 1) for name in AXES]
    if -1 in sizes:
        known = int(np.prod([size for size in sizes if size != -1]))
        sizes[sizes.index(-1)] = max(1, len(devices) // known)
    if int(np.prod(sizes)) != len(devices):
        raise ValueError(f"config.mesh {dict(axes)} makes {int(np.prod(sizes))} devices; there are {len(devices)}")
    types = (AxisType.Auto,) * len(AXES)
    if sizes[-1] == 1:
        return jax.make_mesh(sizes, AXES, axis_types=types, devices=devices)
    hosts = Counter(device.process_index for device in devices)
    if any(count % sizes[-1] for count in hosts.values()):
        raise ValueError(
            f"config.mesh.tensor={sizes[-1]}: expected a divisor of the devices of every host, {min(hosts.values())}"
        )
    by_host = sorted(devices, key=lambda device: (device.process_index, device.id))
    return Mesh(np.reshape(np.array(by_host, dtype=object), sizes), AXES, axis_types=types)


def batch_parts(mesh: Mesh) -> int:
    """Returns the number of parts that a batch is split into; devices of one `tensor` group share a part."""
    return int(np.prod([mesh.shape[name] for name in BATCH]))


def check_batch(mesh: Mesh, sizes: Mapping[str, float]) -> None:
    """Raises ValueError where one of the batch sizes {config key: examples} cannot be split into equal parts."""
    parts = batch_parts(mesh)
    for key, size in sizes.items():
        if size < 1 or size % parts:
            shared = "the devices" if parts == mesh.size else "the devices but for config.mesh.tensor"
            raise ValueError(f"{key} makes {size:g} examples at once; expected a multiple of {parts}, {shared}")


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding that keeps a copy of the whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch(mesh: Mesh) -> NamedSharding:
    """Sharding that splits the first dimension over `data` and `fsdp`."""
    return NamedSharding(mesh, PartitionSpec(BATCH))


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
    return jax.lax.with_sharding_constraint(x, PartitionSpec(BATCH))


def tree(mesh: Mesh, shapes):
    """Returns a sharding for every leaf of `shapes` (parameters, optimiser state or a training state) by `RULES`."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: NamedSharding(mesh, _spec(mesh, path, leaf)), shapes)


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


def check_tensor(mesh: Mesh, placed) -> None:
    """Raises ValueError where `mesh` has a `tensor` axis and none of the parameters `placed` is split over it.

    Such a mesh repeats the work, and XLA (jax 0.10) then computes wrong gradients of depthwise convolutions: it adds
    them once per device of a group (tests/test_sharding.py tests what is allowed).
    """
    size = mesh.shape["tensor"]
    if size > 1 and not any("tensor" in leaf.spec for leaf in jax.tree.leaves(placed)):
        raise ValueError(
            f"config.mesh.tensor={size}: the model has no heads to split; expected 1, or a ViT whose heads it divides"
        )


def place_batch(mesh: Mesh, local: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Returns global arrays, split over the devices, from this host's rows of a batch."""
    sharding = batch(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in local.items()}
