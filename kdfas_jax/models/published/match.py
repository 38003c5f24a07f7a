"""How an imported parameter tree is held against the model's: differences by name, and the head that may stay fresh."""

import numpy as np
from flax import traverse_util


def mismatch(expected, found):
    """Readable differences of two parameter trees: a line for each name that is missing, unexpected or misshapen.

    Nested or flat mappings; leaves are shapes, or anything with a `shape`. Returns [] where the two agree.
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
    """Puts the model's fresh head into `found` where the file has none, or one of another class count.

    `found` and `expected` are {our name: array}, `theirs` {published name: array}; `head` is the name of the dense
    layer, the same in all three, and `beside` are names of layers that only serve the published head and go with it.
    Returns (found, {'head_replaced': whether the fresh head stayed, 'dropped': the published names left out for it}).
    """
    ours = (f"{head}/kernel", f"{head}/bias")
    if all(key in found and found[key].shape[-1] == expected[key].shape[-1] for key in ours):
        return found, {"head_replaced": False, "dropped": []}
    dropped = sorted(key for key in theirs if key.startswith((f"{head}.", f"{head}/", *beside)))
    kept = {key: value for key, value in found.items() if key not in (*ours, *dropped)}
    fresh = {key: np.asarray(expected[key], np.float32) for key in ours}
    return kept | fresh, {"head_replaced": True, "dropped": dropped}


def require_match(expected, found, reason):
    """Raises ValueError, `reason` and the first differing parameters, where {our name: array} are not the model's."""
    if lines := mismatch(expected, found):
        more = [f"... and {len(lines) - 8} more"] if len(lines) > 8 else []
        raise ValueError(f"{reason}:\n  " + "\n  ".join(lines[:8] + more))
