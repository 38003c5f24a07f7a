"""The golden pairs of tests/golden: parameters and images made again from their seeds (rule in golden/README.md)."""

import hashlib
import json
import math
import pathlib
import re

import numpy as np

GOLDEN = pathlib.Path(__file__).parent / "golden"


def load(name):
    """(spec, {output: array}) of the golden pair `name`."""
    return json.loads((GOLDEN / f"{name}.json").read_text()), dict(np.load(GOLDEN / f"{name}.npz"))


def golden_parameters(spec):
    """The seeded parameters of a golden pair, {published name: fp32 array}."""
    return {name: _parameter(name, shape, spec) for name, shape in spec["parameters"].items()}


def image(spec):
    """The seeded images of a golden pair, fp32 [b, h, w, 3] in [0, 1]."""
    shape = [int(size) for size in re.search(r"random\(\(([\d, ]+)\)", spec["input"])[1].split(",")]
    images = np.random.default_rng(spec["seed"]).random(shape, np.float32)
    return images.transpose(0, 2, 3, 1) if "as b c h w" in spec["input"] else images


def distance(ours, theirs):
    """||ours - theirs|| / ||theirs||; a golden pair agrees at 1e-4 or less."""
    assert np.shape(ours) == np.shape(theirs)
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


def _parameter(name, shape, spec):
    seed = hashlib.sha256(f"{spec['seed']}:{name}".encode()).digest()[:8]
    z = np.asarray(np.random.default_rng(int.from_bytes(seed, "big")).standard_normal(shape), np.float32)
    kind = name.replace("/", ".").rpartition(".")[2]
    if kind == "num_batches_tracked":
        return np.zeros_like(z)
    if kind == "running_mean":
        return np.float32(0.1) * z
    if kind == "running_var":
        return 1 + np.float32(0.1) * np.abs(z)
    if z.ndim >= 2:
        return np.float32(_std(spec["std"], shape)) * z
    if "prelu" in name:
        return np.float32(0.25) + np.float32(0.05) * z
    scales = kind in ("weight", "scale") or kind.startswith(("gamma", "lambda"))
    return 1 + np.float32(0.1) * z if scales else np.float32(0.02) * z


def _std(expression, shape):
    """The value of a golden file's `std`, an expression in `shape`."""
    return eval(expression, {"__builtins__": {}, "sqrt": math.sqrt, "prod": math.prod, "shape": shape})
