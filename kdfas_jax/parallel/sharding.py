"""The only mesh, and the (pattern, spec) rules that place arrays on it.

Axes: `data` carries the batch; `fsdp` carries the batch too and shards parameters, gradients and optimiser state;
`tensor` splits the work on one example, a transformer's heads and hidden units (Shoeybi et al., Megatron-LM, arXiv
1909.08053). Devices of one `tensor` group hold the same examples, and belong to one host, which reads them once.
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

# First match decides; what matches nothing is whole on every device, and so is a dimension that its axis does not
# divide. Specs are for the last dimensions, so the stack of blocks [depth, ...] is never split.
# In a block the layers that widen are split by head, or by hidden unit, and those that come back by what they read:
# one sum over `tensor` closes the attention, and one the MLP. Kernels [in, out] are nearly all of a model: any other is
# split along `in`. Class centres [k, d] of many identities are larger than the rest: they are split by class, so that
# no device holds all logits.
RULES: tuple[tuple[str, tuple], ...] = (
    (r"blocks/qkv/kernel$", ("fsdp", None, "tensor", None)),
    (r"blocks/qkv/bias$", ("tensor", None)),
    (r"blocks/fc1/kernel$", ("fsdp", "tensor")),
    (r"blocks/fc1/bias$", ("tensor",)),
    (r"blocks/(out|fc2)/kernel$", ("tensor", "fsdp")),
    (r"(kernel|centres)$", ("fsdp", None)),
)


def make_mesh(axes: Mapping[str, int], devices=None) -> Mesh:
    """A mesh of `axes` = {'data': n, 'fsdp': m, 'tensor': t} over all devices; one -1 takes what is left, one that is
    not named is 1.

    ValueError where the sizes do not multiply to the number of devices, or a `tensor` group spans hosts.
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
    """The number of parts that a batch is cut into: devices of one `tensor` group share theirs."""
    return int(np.prod([mesh.shape[name] for name in BATCH]))


def check_batch(mesh: Mesh, sizes: Mapping[str, float]) -> None:
    """ValueError where one of the batch sizes {key of the config: examples} cannot be cut into equal parts."""
    parts = batch_parts(mesh)
    for key, size in sizes.items():
        if size < 1 or size % parts:
            shared = "the devices" if parts == mesh.size else "the devices but for config.mesh.tensor"
            raise ValueError(f"{key} makes {size:g} examples at once; expected a multiple of {parts}, {shared}")


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch(mesh: Mesh) -> NamedSharding:
    """The first dimension over every device but those of one `tensor` group."""
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
    """Activations [b, ...], kept apart by example where a step runs on a mesh; as they are elsewhere.

    Where parameters are split over `fsdp` the compiler may else split the features too, and sum every layer over the
    devices: far more bytes than the parameters that it saves to gather.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(BATCH))


def tree(mesh: Mesh, shapes):
    """A sharding for every leaf of `shapes` (parameters, optimiser state, or a whole train state) by `RULES`."""
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
    """ValueError where `mesh` has a `tensor` axis, and none of the parameters `placed` is split over it.

    It would be a waste, and worse: XLA (jax 0.10) then adds the gradients of a depthwise convolution once a device of
    a group (tests/test_sharding.py holds what is allowed).
    """
    size = mesh.shape["tensor"]
    if size > 1 and not any("tensor" in leaf.spec for leaf in jax.tree.leaves(placed)):
        raise ValueError(
            f"config.mesh.tensor={size}: the model has nothing to split so; expected 1, or a ViT whose heads it divides"
        )


def place_batch(mesh: Mesh, local: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """This host's rows of a batch -> global arrays split over the devices."""
    sharding = batch(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in local.items()}
