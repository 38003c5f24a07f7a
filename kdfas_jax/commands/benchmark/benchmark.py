"""How fast a config runs on this machine, as ratios taken in one run: --mode=benchmark."""

import os
from collections.abc import Sequence
from typing import Any

import jax

from kdfas_jax.performance import pytorch_baseline, speed, step_rate
from kdfas_jax.training import validate

PARTS = ("step", "loop", "input")
WITH_DATA = ("loop", "input")  # these need TensorFlow and the config's data
ROUNDS, SECONDS = 5, 3.0  # what is compared takes turns of so many seconds (a step at least), so many times


def benchmark(config, parts: Sequence[str] = PARTS, baseline: str = "") -> dict[str, Any]:
    """Measures `parts` of `PARTS`, the step beside a `baseline` where there is one ('pytorch', 'pytorch_compile').

    -> {config, device, devices, cores, batch_size, image_size, dtype, and by part what `step_rate.measure`,
    `loop_rate.measure` and `input_rate.measure` return}. ValueError for an unknown part, or a config that
    the baseline cannot follow.
    """
    if not parts or not set(parts) <= set(PARTS):
        raise ValueError(f"--parts={','.join(parts)}: expected some of {', '.join(PARTS)}")
    if baseline and "step" not in parts:
        raise ValueError(f"--baseline={baseline} is held against the step: expected step in --parts={','.join(parts)}")
    validate.check(config)
    # What a first step costs is to be found, not what a cache of an earlier run left of it.
    jax.config.update("jax_enable_compilation_cache", False)
    if baseline:  # two processes are to share the accelerator's memory
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    spec = pytorch_baseline.spec(config, compiled=baseline == "pytorch_compile") if baseline else None
    device = jax.devices()[0]
    result = {
        "config": config.name,
        "device": f"{device.device_kind} ({device.platform})",
        "devices": jax.device_count(),
        "cores": speed.cores(),
        "batch_size": config.train.batch_size,
        "image_size": config.data.image_size,
        "dtype": config.model.get("dtype", "float32"),
    }
    turns = {"rounds": ROUNDS, "seconds": SECONDS}
    if {"step", "loop"} & set(parts):
        made = step_rate.Step(config)
        if "step" in parts:
            result["step"] = step_rate.measure(config, made, spec, **turns)
        if "loop" in parts:
            from kdfas_jax.commands.benchmark import loop_rate  # loads TensorFlow, which the step alone does not need

            result["loop"] = loop_rate.measure(config, made, **turns)
    if "input" in parts:
        from kdfas_jax.commands.benchmark import input_rate

        result["input"] = input_rate.measure(config)
    return result


def table(result: dict[str, Any]) -> str:
    """Returns `benchmark`'s result as text."""
    lines = [
        f"{result['config']}: batch {result['batch_size']}, {result['image_size']} px, {result['dtype']}, on "
        f"{result['devices']} x {result['device']}, {result['cores']} cores"
    ]
    if "step" in result:
        lines += step_rate.lines(result["step"])
    if "loop" in result:
        from kdfas_jax.commands.benchmark import loop_rate

        lines += loop_rate.lines(result["loop"])
    if "input" in result:
        from kdfas_jax.commands.benchmark import input_rate

        lines += input_rate.lines(result["input"])
    return "\n".join(lines)
