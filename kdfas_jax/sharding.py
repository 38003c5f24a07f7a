"""The only mesh, and the (pattern, spec) rules that place arrays on it.

Axes: `data` carries the batch; `fsdp` carries the batch too and shards parameters, gradients and optimiser state.
Axis types are Auto: the compiler inserts the collectives (Explicit axes refuse contractions over a sharded batch).
"""

import re
from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

BATCH = ("data", "fsdp")

# First match decides; what matches nothing is whole on every device. Specs are for the last dimensions, so the stack
# of blocks [depth, ...] is never split. Kernels [in, out] are nearly all of a model: they are split along `in`.
# Class centres [k, d] of many identities are larger than the rest: they are split by class, so that no device holds all
# logits; a number of classes that `fsdp` does not divide leaves them whole.
RULES: tuple[tuple[str, tuple], ...] = ((r"(kernel|centres)$", ("fsdp", None)),)


def make_mesh(axes: Mapping[str, int], devices=None) -> Mesh:
    """A mesh of `axes` = {'data': n, 'fsdp': m} over all devices; one -1 takes what is left.

    ValueError where the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [axes[name] for name in BATCH]
    if -1 in sizes:
        known = int(np.prod([size for size in sizes if size != -1]))
        sizes[sizes.index(-1)] = max(1, len(devices) // known)
    if int(np.prod(sizes)) != len(devices):
        raise ValueError(f"config.mesh {dict(axes)} makes {int(np.prod(sizes))} devices; there are {len(devices)}")
    return jax.make_mesh(sizes, BATCH, axis_types=(AxisType.Auto,) * len(BATCH), devices=devices)


def check_batch(mesh: Mesh, sizes: Mapping[str, float]) -> None:
    """ValueError where one of the batch sizes {key of the config: examples} is no multiple of the number of devices."""
    for key, size in sizes.items():
        if size < 1 or size % mesh.size:
            raise ValueError(f"{key} makes {size:g} examples at once; expected a multiple of {mesh.size}, the devices")


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch(mesh: Mesh) -> NamedSharding:
    """The first dimension over every device."""
    return NamedSharding(mesh, PartitionSpec(BATCH))


def tree(mesh: Mesh, shapes):
    """A sharding for every leaf of `shapes` (parameters, optimiser state, or a whole train state) by `RULES`."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: NamedSharding(mesh, _spec(mesh, path, leaf)), shapes)


def _spec(mesh: Mesh, path, leaf) -> PartitionSpec:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    for pattern, axes in RULES:
        if re.search(pattern, name) and leaf.ndim >= len(axes):
            spec = [None] * (leaf.ndim - len(axes)) + list(axes)
            fits = all(
                axis is None or size % mesh.shape[axis] == 0 for axis, size in zip(spec, leaf.shape, strict=True)
            )
            return PartitionSpec(*spec) if fits else PartitionSpec()
    return PartitionSpec()


def place_batch(mesh: Mesh, local: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """This host's rows of a batch -> global arrays split over all devices."""
    sharding = batch(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in local.items()}
