"""Streams of batches from prepared records, on tf.data.

Training: an endless-looking stream that is a pure function of (seed, step): it is rebuilt from the seed and skips to
any step without decoding what came before. Test: every example once, padded and masked so that every host runs the
same number of steps. A host decodes only its own rows of each global batch.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tensorflow as tf

from input_pipeline import ops, prepare, protocols

ROLES = ("train", "dev", "test")
CLASSES = 2  # column 0 attack, column 1 bona fide
SHUFFLE_BUFFER = 16_384  # encoded examples: about 300 MB at 20 kB a crop, the whole of most sets of this field


class Data(NamedTuple):
    """A prepared data set under a protocol: `table` is its metadata with a column `role` (train, dev, test or '')."""

    prepared: prepare.Prepared
    table: pd.DataFrame

    @property
    def fingerprint(self) -> str:
        """Hash of every example's metadata and image."""
        return self.prepared.fingerprint

    def count(self, role: str) -> int:
        """Examples of a role that have a face."""
        return int(self.has_face(role).sum())

    @property
    def threshold_role(self) -> str:
        """Where the threshold comes from: dev, or train where the protocol has no dev."""
        return "dev" if self.count("dev") else "train"

    def non_responses(self, role: str) -> int:
        """Videos of a role in which no frame has a face: they get no score, and are reported."""
        rows = self.table[self.table["role"] == role]
        return int((~rows.groupby("video")["found"].any()).sum())

    def has_face(self, role: str) -> np.ndarray:
        """Which rows of the table have a role and a face, bool [n]."""
        return ((self.table["role"] == role) & self.table["found"]).to_numpy()


def open_data(config) -> Data:
    """The data set of `config` (config.data) under its protocol, prepared first where its raw data is at hand.

    FileNotFoundError with the expected tree and the command where it is not; ValueError where the protocol selects
    nothing to train on or to test.
    """
    settings = {
        "data_dir": config.data_dir,
        "size": config.record_size,
        "scale": config.scale,
        "options": dict(config.options),
    }
    prepared = prepare.prepare(config.dataset, raw_dir=config.raw_dir, **settings)
    roles = protocols.assign(prepared.table, config.protocol, dict(config.subjects))
    data = Data(prepared, prepared.table.assign(role=roles))
    for role in ("train", "test"):
        if not data.count(role):
            raise ValueError(
                f"config.data.protocol={config.protocol!r} selects no {role} example with a face from "
                f"{prepared.builder_dir} ({len(prepared.table)} examples)"
            )
    return data


def train_batches(
    data: Data, config, *, batch_size: int, seed: int, start: int, steps: int, shard: tuple[int, int] = (0, 1)
) -> Iterator[dict[str, np.ndarray]]:
    """Steps `start` .. `steps` of the training stream; `shard` = (host, hosts).

    Yields this host's rows: image uint8 [b, h, w, 3], label float32 [b, 2] (soft where mixed), index int64 [b]. Every
    epoch is a new order of the training examples, its remainder dropped. Mixup pairs rows of one host.
    """
    host, hosts = shard
    per_epoch = data.count("train") // batch_size
    first, skipped = divmod(start, per_epoch)
    labels = tf.constant(data.table["label"].to_numpy(), tf.int32)
    augmentation = ops.Augmentation(config.augment)

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        examples = _encoded(data, "train", order_seed=tf.stack([tf.cast(seed, tf.int64), epoch]))
        examples = examples.shuffle(SHUFFLE_BUFFER, seed=seed * 1_000_003 + epoch, reshuffle_each_iteration=False)
        return examples.take(per_epoch * batch_size).map(lambda example: (epoch, example))

    def view(epoch: tf.Tensor, example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        image = ops.decode(example["image"], config.image_size)
        image = augmentation.view(image, ops.example_key(seed, epoch, example["index"]))
        return {
            "image": image,
            "label": tf.one_hot(tf.gather(labels, example["index"]), CLASSES),
            "index": example["index"],
        }

    def finish(number: tf.Tensor, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        key = ops.example_key(seed, tf.constant(-1, tf.int64), number * hosts + host)
        image, label = augmentation.mix(batch["image"], batch["label"], key)
        return batch | {"image": ops.to_uint8(image), "label": label}

    epochs = tf.data.Dataset.range(first, -(-steps // per_epoch))
    stream = epochs.flat_map(one_epoch).skip(skipped * batch_size).take((steps - start) * batch_size)
    stream = stream.shard(hosts, host).map(view, num_parallel_calls=tf.data.AUTOTUNE)
    stream = stream.batch(batch_size // hosts, drop_remainder=True).enumerate(start).map(finish)
    return _iterate(stream, data)


def test_batches(
    data: Data, role: str, config, *, batch_size: int, shard: tuple[int, int]
) -> Iterator[dict[str, np.ndarray]]:
    """Every example of a role that has a face, once, without augmentation; `shard` = (host, hosts).

    Yields image uint8 [b, h, w, 3], index int64 [b] and mask float32 [b]: 0 marks a row that only pads.
    """
    host, hosts = shard
    rows = batch_size // hosts
    steps = -(-data.count(role) // batch_size)

    def view(example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        image = ops.to_uint8(ops.decode(example["image"], config.image_size))
        return {"image": image, "index": example["index"], "mask": tf.constant(1.0)}

    padding = tf.data.Dataset.from_tensors(
        {
            "image": np.zeros((config.image_size, config.image_size, 3), np.uint8),
            "index": np.int64(0),
            "mask": np.float32(0),
        }
    ).repeat()
    stream = _encoded(data, role).shard(hosts, host).map(view, num_parallel_calls=tf.data.AUTOTUNE)
    return _iterate(stream.concatenate(padding).take(steps * rows).batch(rows), data)


def _encoded(data: Data, role: str, order_seed: tf.Tensor | None = None) -> tf.data.Dataset:
    """The role's records, still encoded; the files in a drawn order where `order_seed` [2] is given."""
    files = tf.constant(list(data.prepared.files))
    if order_seed is not None:
        files = tf.random.experimental.stateless_shuffle(files, order_seed)
    wanted = tf.constant(data.has_face(role))
    records = tf.data.Dataset.from_tensor_slices(files).interleave(
        tf.data.TFRecordDataset, cycle_length=8, block_length=16, num_parallel_calls=2, deterministic=True
    )
    examples = records.map(data.prepared.parse, num_parallel_calls=2)
    return examples.filter(lambda example: tf.gather(wanted, example["index"]))


def _iterate(stream: tf.data.Dataset, data: Data) -> Iterator[dict[str, Any]]:
    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = os.cpu_count()
    try:
        yield from stream.prefetch(4).with_options(options).as_numpy_iterator()
    except (tf.errors.InvalidArgumentError, tf.errors.DataLossError) as error:
        raise ValueError(f"{prepare.describe_corruption(data.prepared)}: {error.message.splitlines()[0]}") from error
