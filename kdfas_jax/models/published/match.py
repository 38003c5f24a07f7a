"""Comparison of imported parameters with the model's: differences by name, and the replacement of the head."""

import numpy as np
from flax import traverse_util


def mismatch(expected, found):
    """Compares two parameter trees; returns a line for each name that is missing, unexpected or of another shape.

    The trees are nested or flat mappings whose leaves are shapes or have a `shape`. Returns [] where the two agree.
    """
    expected, found = (traverse_util.flatten_dict(tree, sep="/") for tree in (expected, found))

    def shape(leaf):
        return tuple(getattr(leaf, "shape", leaf))

    lines = []
    for key in [*expected, *(key for key in found if key not in expected)]:
        if key not in found:
            lines.append(f"{key}: expected {shape(expected[key])}, missing")
        elif key not in expected:
            lines.append(f"{key}: unexpected, found {shape(found[key])}")
        elif shape(expected[key]) != shape(found[key]):
            lines.append(f"{key}: expected {shape(expected[key])}, found {shape(found[key])}")
    return lines


def replace_head(found, expected, theirs, head, beside=()):
    """Puts the model's fresh head into `found` where the file has none, or one with another number of classes.

    `found` and `expected` are {our name: array}, `theirs` is {published name: array}. `head` is the name of the dense
    layer in all three; `beside` are names of layers that only the published head uses and that are dropped with it.
    Returns (found, {'head_replaced': whether the fresh head is used, 'dropped': the published names left out for it}).
    """
    ours = (f"{head}/kernel", f"{head}/bias")
    if all(key in found and found[key].shape[-1] == expected[key].shape[-1] for key in ours):
        return found, {"head_replaced": False, "dropped": []}
    dropped = sorted(key for key in theirs if key.startswith((f"{head}.", f"{head}/", *beside)))
    kept = {key: value for key, value in found.items() if key not in (*ours, *dropped)}
    fresh = {key: np.asarray(expected[key], np.float32) for key in ours}
    return kept | fresh, {"head_replaced": True, "dropped": dropped}


def require_match(expected, found, reason):
    """Raises ValueError, with `reason` and the first differences, where `found` {name: array} do not fit `expected`."""
    if lines := mismatch(expected, found):
        more = [f"... and {len(lines) - 8} more"] if len(lines) > 8 else []
        raise ValueError(f"{reason}:\n  " + "\n  ".join(lines[:8] + more))
