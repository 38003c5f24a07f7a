"""Images a second that a config's student scores on this machine, the model alone: no data, no TensorFlow.

    python main.py --mode=speed --config=configs/dtda_ocim.py [--batch=1,32] [--config.model.dtype=float32]

Random weights: the speed does not depend on them. One line a batch size: the median of some rounds and their range.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from kdfas_jax import models
from kdfas_jax.training import step

ROUNDS, SECONDS = 5, 2.0  # a batch size is timed for so many seconds, so many times


def cores() -> int:
    """CPU cores that this process may use (`taskset` gives it fewer), where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def rate(run: Callable[[], Any], images: int, seconds: float) -> tuple[float, float]:
    """Returns images per second of `run`, which starts the work on `images` images, and CPU seconds per image.

    As in training, the next call is made while the device still works on the last one. The CPU time is that of all
    the process's threads: on a CPU shared with others it says more than the wall clock.
    """
    started, busy, count, last = time.perf_counter(), time.process_time(), 0, None
    while time.perf_counter() - started < seconds or not count:
        last, before = run(), last
        jax.block_until_ready(before)
        count += images
    jax.block_until_ready(last)
    return count / (time.perf_counter() - started), (time.process_time() - busy) / count


def spread(values: Iterable[float]) -> dict[str, float]:
    """{median, low, high} of the values of some rounds."""
    values = list(values)
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def forward(config, batch: int, *, rounds: int = ROUNDS, seconds: float = SECONDS) -> list[float]:
    """Images a second of the forward pass of `config.model` on `batch` uint8 images at a time, of each round.

    Images lie on the device already; compilation is not counted.
    """
    model, size = models.create(config.model), config.data.image_size
    variables = jax.jit(lambda: step.init_variables(model, size, 0))()
    images = jnp.zeros((batch, size, size, 3), jnp.uint8)
    score = jax.jit(lambda variables, images: model.apply(variables, step.images_of({"image": images}))[0])
    score(variables, images).block_until_ready()
    return [rate(lambda: score(variables, images).block_until_ready(), batch, seconds)[0] for _ in range(rounds)]


def lines(config, batches: Iterable[int]) -> Iterator[str]:
    """Yields the lines of `--mode=speed`: the model, the machine, then the rates of `forward` for each batch size."""
    device = jax.devices()[0]
    count = models.count(config.model, config.data.image_size)
    yield f"{config.model.to_dict()}, {count:,} parameters, {config.data.image_size} px"
    yield f"{device.device_kind} ({device.platform}), {cores()} cores"
    for batch in batches:
        rates = spread(forward(config, batch))
        yield f"batch {batch:4}: {rates['median']:8.1f} images/s ({rates['low']:.1f} to {rates['high']:.1f})"
