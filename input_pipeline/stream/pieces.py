"""Batches made by plain Python functions, a piece of a batch a call, in the threads of tf.data."""

import atexit
import os
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from input_pipeline.sources import imports

tf = imports.tensorflow()

PIECE = 32  # rows that one call reads, decodes and augments: even, as neighbours are mixed [C]
AHEAD = 2  # batches prepared while the device works


def batches(
    piece: Callable[[int, int, int], dict[str, np.ndarray]],
    empty: Mapping[str, np.ndarray],
    steps: tuple[int, int],
    batch_size: int,
    shard: tuple[int, int],
    *,
    calls: int = 0,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields this host's rows of the batches of steps[0] .. steps[1]; `shard` = (host, hosts).

    `piece(step, first, last)` makes the rows first .. last of a batch of all hosts, {name: array [n, ...]}, in a thread
    of tf.data, up to `AHEAD` batches before they are read. `empty` is a piece without rows: its names, types and
    shapes hold for all pieces. `calls` pieces are made at once, or with 0 as many as tf.data finds best. What `piece`
    raises is raised here.
    """
    host, hosts = shard
    rows = batch_size // hosts
    pieces = -(-rows // PIECE)
    failures: list[Exception] = []

    def make(number: np.int64) -> tuple[np.ndarray, ...]:
        step, part = divmod(int(number), pieces)
        first = host * rows + part * PIECE
        try:
            made = piece(step, first, min(first + PIECE, (host + 1) * rows))
            return tuple(made[name] for name in empty)
        except Exception as error:
            failures.append(error)  # TensorFlow passes on its text at most
            raise

    def named(number: tf.Tensor) -> dict[str, tf.Tensor]:
        found = tf.numpy_function(make, [number], [array.dtype for array in empty.values()], stateful=False)
        for tensor, array in zip(found, empty.values(), strict=True):
            tensor.set_shape((None, *array.shape[1:]))
        return dict(zip(empty, found, strict=True))

    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = os.cpu_count()
    numbers = tf.data.Dataset.range(steps[0] * pieces, steps[1] * pieces)
    stream = numbers.map(named, num_parallel_calls=calls or tf.data.AUTOTUNE).rebatch(rows).prefetch(AHEAD)
    iterators = [stream.with_options(options).as_numpy_iterator()]

    def stop() -> None:
        iterators.clear()  # TensorFlow waits for the pieces that workers are at

    atexit.register(stop)  # workers that need the interpreter after its end abort the process
    try:
        while True:
            try:
                batch = next(iterators[0])
            except StopIteration:
                return
            except tf.errors.OpError:
                if failures:
                    raise failures[0] from None
                raise
            yield batch
    finally:
        if iterators:  # else the process ends, and `stop` was called
            stop()
            atexit.unregister(stop)
