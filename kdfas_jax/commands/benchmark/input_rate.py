"""The input pipeline of a config alone, against bare decoding, as ratios taken in one run."""

import itertools
import os
import time
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from input_pipeline.prepare import faces, records
from input_pipeline.select.examples import Data
from input_pipeline.sources import imports
from input_pipeline.stream import ops, pipeline
from input_pipeline.stream.pieces import AHEAD, PIECE
from kdfas_jax import targets

ROUNDS, SECONDS = 5, 3.0  # each stream is timed for so many seconds, in turn with the others, so many times
DECODED = 1024  # images that bare decoding takes turns with
SMALL = 8  # px of pictures whose pixels cost next to nothing
ROWS = 100_000  # of a test stream: a set that is smaller is gone through again


def measure(config) -> dict:
    """Images a second that JPEG decoding alone, the test stream and the training stream deliver on this machine.

    -> {cores, workers, image_bytes, images_per_second: {decode, test, train}, ratio: {test, train} (to decoding, the
    median of `ROUNDS` ratios), ratio_range, milliseconds: CPU time of one image of the training stream by stage
    (`_stages`)}. With `config.data.workers` the training stream is also timed with threads, as `threads`. ValueError
    where the training examples do not fill a batch.
    """
    target, batch = targets.get(config.data.target), config.train.batch_size
    data = pipeline.open_data(config.data, target)
    if (examples := data.count("train")) < batch:
        raise ValueError(f"config.train.batch_size={batch}: only {examples} training examples")
    encoded = records.Reader(data.files, data.table).images(data.rows("train")[:DECODED])
    many = np.resize(data.rows("train"), ROWS)  # over and over, so that the test stream lasts
    threads = config.data.copy_and_resolve_references()
    threads.workers = 0

    def train(settings) -> Iterator[dict[str, np.ndarray]]:
        options = {"batch_size": batch, "seed": config.seed, "start": 0, "steps": ROWS // batch}
        return pipeline.train_batches(data, settings, target, **options)

    streams = {
        "decode": lambda: _decoding(encoded, batch),
        "test": lambda: pipeline.test_batches(data, many, config.data, batch_size=batch, shard=(0, 1)),
        "train": lambda: train(config.data),
    } | ({"threads": lambda: train(threads)} if config.data.workers else {})
    rounds = pd.DataFrame([{name: rate_of(make(), batch) for name, make in streams.items()} for _ in range(ROUNDS)])
    ratios = rounds.drop(columns="decode").div(rounds["decode"], axis=0)
    return {
        "cores": os.cpu_count(),
        "workers": config.data.workers,
        "image_bytes": int(np.mean([len(image) for image in encoded])),
        "images_per_second": rounds.median().round().to_dict(),
        "ratio": ratios.median().round(3).to_dict(),
        "ratio_range": {name: [round(ratios[name].min(), 3), round(ratios[name].max(), 3)] for name in ratios},
        "milliseconds": _stages(data, config, encoded),
    }


def lines(result: dict) -> list[str]:
    """Returns `measure`'s result as lines of text."""
    rates, ratios = result["images_per_second"], result["ratio"]
    makers = f"{result['workers']} worker processes" if result["workers"] else "threads"
    shown = [f"input             crops of {result['image_bytes']} bytes, {result['cores']} cores, train by {makers}"]
    for name, rate in rates.items():
        ratio = f"  {ratios[name]:.3f} of decoding" if name in ratios else ""
        shown.append(f"  {name:16}{rate:9.0f} images/s{ratio}")
    *stages, (_, python) = result["milliseconds"].items()
    shown.append("  one training image, ms of CPU time: " + ", ".join(f"{name} {value:.3f}" for name, value in stages))
    limit = f"no number of threads exceeds {1e3 / python:.0f} images/s"
    return [*shown, f"  Python's part of it, on a picture of {SMALL} px, {python:.3f}: {limit}"]


def _decoding(encoded: list[bytes], batch: int) -> Iterator[dict[str, np.ndarray]]:
    """Nothing but `tf.io.decode_jpeg` on all cores."""
    tf = imports.tensorflow()
    images = tf.data.Dataset.from_tensor_slices(encoded).repeat()
    images = images.map(lambda image: tf.io.decode_jpeg(image, channels=3), num_parallel_calls=tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.threading.private_threadpool_size = os.cpu_count()
    yield from ({"image": image} for image in images.batch(batch).with_options(options).as_numpy_iterator())


def rate_of(stream: Iterable[dict[str, np.ndarray]], batch: int) -> float:
    """Returns the images a second that `stream` yields in batches of `batch`, over `SECONDS`.

    The first 2 `AHEAD` batches, which fill the buffers, are not counted.
    """
    batches = iter(stream)
    for _ in itertools.islice(batches, 2 * AHEAD):
        pass
    started, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < SECONDS:
        next(batches)
        count += batch
    return count / elapsed


def _stages(data: Data, config, encoded: list[bytes]) -> dict[str, float]:
    """Milliseconds of CPU time that an image takes in each stage of the training stream.

    `python` is the time of decoding and augmentation where there are hardly any pixels: Python's own work, during which
    a thread holds Python's lock. One thread holds it at a time, so the inverse bounds the rate of all threads.
    """
    reader, augmentation = records.Reader(data.files, data.table), ops.Augmentation(config.data.augment)
    rows = data.rows("train")[: len(encoded)]
    images = [faces.decode(image, config.data.image_size) for image in encoded]
    pieces, small = np.stack(images[:PIECE]), [faces.encode(faces.resize(image, SMALL)) for image in images]
    labels = targets.get(config.data.target).labels(data)(rows[: len(pieces)])

    def per_image(work, count: int) -> float:
        started = time.process_time()
        work()
        return round(1e3 * (time.process_time() - started) / count, 3)

    def seen(encoded: list[bytes], size: int) -> None:
        for n, image in enumerate(encoded):
            augmentation.view(faces.decode(image, size), ops.generator(0, n))

    return {
        "read": per_image(lambda: reader.images(rows), len(rows)),
        "decode": per_image(lambda: [faces.decode(x, config.data.image_size) for x in encoded], len(encoded)),
        "augment": per_image(
            lambda: [augmentation.view(x, ops.generator(0, n)) for n, x in enumerate(images)], len(images)
        ),
        "mix": per_image(
            lambda: [augmentation.mix(pieces, labels, ops.generator(0, n)) for n in range(64)], 64 * len(pieces)
        ),
        "python": per_image(lambda: seen(small, SMALL), len(small)),
    }
