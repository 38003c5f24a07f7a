"""Batches made by plain Python functions, a piece of a batch a call, in the threads of tf.data."""

import os
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

PIECE = 32  # rows that one call reads, decodes and augments: even, as neighbours are mixed [C]
AHEAD = 2  # batches prepared while the device works


def batches(
    piece: Callable[[int, int, int], tuple[np.ndarray, np.ndarray, np.ndarray]],
    steps: tuple[int, int],
    batch_size: int,
    shard: tuple[int, int],
    second: str,
) -> Iterator[dict[str, np.ndarray]]:
    """This host's rows of the batches of steps[0] .. steps[1]; `shard` = (host, hosts).

    `piece(step, first, last)` makes the rows first .. last of a batch of all hosts: image uint8 [n, h, w, 3], what
    `second` names ('label' [n, k] or 'mask' [n], float32), index int64 [n]. What it raises is raised here.
    """
    host, hosts = shard
    rows = batch_size // hosts
    pieces = -(-rows // PIECE)
    failures: list[Exception] = []

    def make(number: np.int64) -> tuple[np.ndarray, ...]:
        step, part = divmod(int(number), pieces)
        first = host * rows + part * PIECE
        try:
            return piece(step, first, min(first + PIECE, (host + 1) * rows))
        except Exception as error:
            failures.append(error)  # TensorFlow passes on its text at most
            raise

    def named(number: tf.Tensor) -> dict[str, tf.Tensor]:
        image, other, index = tf.numpy_function(make, [number], (tf.uint8, tf.float32, tf.int64), stateful=False)
        image.set_shape((None, None, None, 3))
        other.set_shape((None, None) if second == "label" else (None,))
        index.set_shape((None,))
        return {"image": image, second: other, "index": index}

    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = os.cpu_count()
    numbers = tf.data.Dataset.range(steps[0] * pieces, steps[1] * pieces)
    stream = numbers.map(named, num_parallel_calls=tf.data.AUTOTUNE).rebatch(rows).prefetch(AHEAD)
    try:
        yield from stream.with_options(options).as_numpy_iterator()
    except tf.errors.OpError:
        if failures:
            raise failures[0] from None
        raise
