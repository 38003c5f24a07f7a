"""Finished records: a TFDS data set of face crops, with its metadata as a table.

BUILDER_DIR/face_crops-records.tfrecord-*   one record a frame: `image` (JPEG), the columns of `schema.COLUMNS`, `bbox`
                                            float32 [4] and `landmarks` float32 [5, 2] (pixels of the raw frame; NaN
                                            where unknown)
BUILDER_DIR/metadata.csv                    one row a record, in the same order, and where its bytes lie
BUILDER_DIR/raw_files.json.gz               names, sizes and times of the raw files, where there are any (`raw`)
BUILDER_DIR/summary.json, summary.txt       what was read, found, skipped; the digests of the files here but the records
BUILDER_DIR/{dataset_info,features}.json    TFDS's own: `tfds.builder_from_directory(BUILDER_DIR)` reads the records
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
import weakref
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from etils import epath

from input_pipeline import schema

NAME, SPLIT, VERSION = "face_crops", "records", "1.1.0"  # of the layout: a new column makes new records
HEADER, FOOTER = 12, 4  # bytes around the data of a TFRecord: its length and checksums
PLACE = {"file": int, "offset": int, "length": int, "crc32": int}  # where a record's data lies, and its checksum
TABLE_TYPES = schema.COLUMNS | PLACE
METADATA, SUMMARY, RAW_FILES = "metadata.csv", "summary.json", "raw_files.json.gz"
LATER = ("raw", "missing", "sha256", "seal")  # in the summary, but not in those of earlier versions
COPIES = 16  # record files copied from object storage at the same time [C]
PIECE = 1 << 24  # bytes of one at once


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Finished records. `table` has one row a record, in the order of `files` and of the records within them.

    table: the columns of `schema.COLUMNS`; `file` (position in `files`), `offset`, `length` and `crc32` of the
        serialised example. Row number = number of the record.
    fingerprint: SHA-256 (hex) of metadata.csv; it changes with any frame, box, label or setting.
    missing: a row for every file that was absent, or corrupt in whole or in part, with the columns of
        `schema.COLUMNS` and `reason`, 'absent' or 'corrupt'; None where records of an earlier version do not say.
    raw: digest of the raw files' listing (`raw.digest`), '' where there is none.
    """

    builder_dir: str
    files: list[str]
    table: pd.DataFrame
    fingerprint: str
    missing: pd.DataFrame | None = None
    raw: str = ""


def file_name(number: int, count: int) -> str:
    """The name of record file `number` of `count`, as TFDS expects it."""
    return f"{NAME}-{SPLIT}.tfrecord-{number:05d}-of-{count:05d}"


def is_remote(path: str | os.PathLike) -> bool:
    """Whether `path` is on object storage: gs://BUCKET/..."""
    return "://" in os.fspath(path)


def load(directory: epath.Path, raw_dir: str = "") -> Prepared | None:
    """The finished records in `directory`, or None where there is no such folder.

    ValueError where they were made from another `raw_dir`, or are damaged: the table, the summary and the other
    metadata are compared with their digests, record files counted; the records are checked when they are read.
    """
    if not (directory.is_dir() and any(directory.iterdir())):
        return None
    summary = read_summary(directory)
    made_from = summary["raw_dir"]
    if raw_dir and made_from != str(Path(raw_dir).resolve()):
        raise ValueError(
            f"the records in {directory} were made from {made_from}, not from {raw_dir}: "
            f"delete that directory to prepare them anew, or choose another --data_dir"
        )
    metadata = (directory / METADATA).read_bytes()
    table = pd.read_csv(io.BytesIO(metadata), dtype=TABLE_TYPES, keep_default_na=False)
    files = sorted(str(path) for path in directory.iterdir() if ".tfrecord-" in path.name)
    if len(files) != summary["files"]:
        raise ValueError(
            f"{directory}: {len(files)} of its {summary['files']} record files are there; delete it and prepare again"
        )
    fingerprint = hashlib.sha256(metadata).hexdigest()
    return Prepared(str(directory), files, table, fingerprint, _missing(summary), summary.get("raw", ""))


def read_summary(directory: epath.Path) -> dict:
    """The content of summary.json, once all files whose digests it holds have been compared with them.

    ValueError, naming the file and what to delete, for a missing or damaged one. Records of an earlier version have no
    digests: a line on standard error says so, once a process.
    """
    try:
        text = (directory / SUMMARY).read_bytes().decode()
        summary = json.loads(text)
    except FileNotFoundError:
        raise _damaged(directory, SUMMARY, "missing") from None
    except ValueError:
        raise _damaged(directory, SUMMARY) from None
    if not any(name in summary for name in LATER):
        _say_that_it_is_earlier(str(directory))
        return summary
    if text != _sealed(summary):
        raise _damaged(directory, SUMMARY)
    for name, digest in summary["sha256"].items():
        if not (directory / name).is_file():
            raise _damaged(directory, name, "missing")
        if hashlib.sha256((directory / name).read_bytes()).hexdigest() != digest:
            raise _damaged(directory, name)
    return summary


def write_summary(directory: Path, summary: Mapping) -> None:
    """Writes summary.json, with its own digest and those of the files beside it but the records."""
    beside = sorted(path for path in directory.iterdir() if path.is_file() and path.name != SUMMARY)
    digests = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in beside if ".tfrecord-" not in path.name
    }
    write_atomically(directory / SUMMARY, _sealed({**summary, "sha256": digests}).encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file that is seen whole or not at all, even after a loss of power."""
    unfinished = path.with_name(f"{path.name}.tmp")
    unfinished.write_bytes(content)
    rename(unfinished, path)


def rename(unfinished: Path, path: Path) -> None:
    """Renames a file once its content is on the disk, and waits until the new name is."""
    sync(unfinished)
    os.replace(unfinished, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sealed(summary: Mapping) -> str:
    """The text of summary.json: the summary and, last, the digest of all of it."""
    body = {name: value for name, value in summary.items() if name != "seal"}
    seal = hashlib.sha256(json.dumps(body).encode()).hexdigest()
    return json.dumps(body | {"seal": seal}, indent=1) + "\n"


def _damaged(directory: epath.Path, name: str, how: str = "damaged") -> ValueError:
    return ValueError(
        f"{directory / name} is {how}, so that nobody can tell whether the records are whole: delete {directory} and "
        f"prepare again"
    )


@functools.cache
def _say_that_it_is_earlier(directory: str) -> None:
    print(
        f"the records in {directory} were made by an earlier version: changed raw files and damage cannot be noticed; "
        f"delete that directory to prepare them anew",
        file=sys.stderr,
    )


def _missing(summary: Mapping) -> pd.DataFrame | None:
    """`Prepared.missing`. The summary leaves out what is empty."""
    if "missing" not in summary and summary["absent_files"] + summary["corrupt_files"]:
        return None
    empty = {name: kind() for name, kind in schema.COLUMNS.items()} | {"reason": ""}
    rows = [empty | row for row in summary.get("missing", ())]
    return pd.DataFrame(rows, columns=list(empty)).astype(schema.COLUMNS)


@functools.cache
def features():
    """The features of a record, as TFDS names them."""
    import tensorflow_datasets as tfds  # TensorFlow: seconds, and who only wants the table needs none of it

    types = {int: np.int64, str: np.str_, bool: np.bool_, float: np.float32}
    columns = {name: types[kind] for name, kind in schema.COLUMNS.items()}
    return tfds.features.FeaturesDict(
        columns
        | {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "bbox": tfds.features.Tensor(shape=(4,), dtype=np.float32),
            "landmarks": tfds.features.Tensor(shape=(5, 2), dtype=np.float32),
        }
    )


class Writer:
    """Writes one record file: `place = writer.write(record)`, in a `with` block; the same records, the same bytes."""

    def __init__(self, path: Path):
        import tensorflow as tf
        import tensorflow_datasets as tfds

        self._writer, self._end = tf.io.TFRecordWriter(str(path)), 0
        self._serializer = tfds.core.example_serializer.ExampleSerializer(features().get_serialized_info())

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *exception) -> None:
        self._writer.close()

    def write(self, record: dict) -> dict[str, int]:
        """Appends a dict of the features -> offset, length and CRC-32 of its serialised data in the file."""
        example = self._serializer.get_tf_example(features().encode_example(record))
        data = example.SerializeToString(deterministic=True)
        self._writer.write(data)
        offset, self._end = self._end + HEADER, self._end + HEADER + len(data) + FOOTER
        return {"offset": offset, "length": len(data), "crc32": zlib.crc32(data)}


def write_tfds_metadata(directory: Path, lengths: Sequence[int]) -> None:
    """dataset_info.json and features.json for the record files of `directory`, of `lengths` records each."""
    import tensorflow_datasets as tfds

    template = tfds.core.ShardedFileTemplate(
        data_dir=directory, dataset_name=NAME, split=SPLIT, filetype_suffix="tfrecord"
    )
    size = sum(path.stat().st_size for path in directory.glob("*.tfrecord-*"))
    split = tfds.core.SplitInfo(name=SPLIT, shard_lengths=list(lengths), num_bytes=size, filename_template=template)
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        features=features(),
        split_infos=[split],
        version=VERSION,
        check_data=False,
        disable_shuffling=True,
    )


class Reader:
    """Random access to the serialised examples of `files`, by the rows of their `table`. Threads may share it.

    Files on object storage are copied first, once a process: a record at a time, in the order of a shuffle, each would
    be a request, and bring tens of megabytes with it.
    """

    def __init__(self, files: Sequence[str], table: pd.DataFrame):
        self._files = files
        self._file, self._offset, self._length, self._crc32 = (table[name].to_numpy() for name in PLACE)
        with concurrent.futures.ThreadPoolExecutor(COPIES) as pool:
            self._descriptors = list(pool.map(_open, files))
        weakref.finalize(self, lambda descriptors: [os.close(d) for d in descriptors], self._descriptors)

    def images(self, rows: Iterable[int]) -> list[bytes]:
        """The encoded images of these rows. ValueError, naming file and place, for a damaged record."""
        import tensorflow as tf

        examples = (tf.train.Example.FromString(self.read(row)) for row in rows)
        return [example.features.feature["image"].bytes_list.value[0] for example in examples]

    def read(self, row: int) -> bytes:
        """The serialised example of a row; errors as of `images`."""
        data = os.pread(self._descriptors[self._file[row]], self._length[row], self._offset[row])
        if zlib.crc32(data) != self._crc32[row]:
            path = self._files[self._file[row]]
            raise ValueError(
                f"{path}: the record at byte {self._offset[row]} is damaged; "
                f"delete {os.path.dirname(path)} and prepare again"
            )
        return data


def _open(path: str) -> int:
    """A descriptor of a record file, or of its copy."""
    return os.dup(_copy(path)) if is_remote(path) else os.open(path, os.O_RDONLY)


@functools.cache
def _copy(path: str) -> int:
    """A descriptor of a copy of a file on object storage. It has no name, so that it goes with the process."""
    with tempfile.TemporaryFile() as copy, epath.Path(path).open("rb") as file:
        shutil.copyfileobj(file, copy, PIECE)
        copy.flush()
        return os.dup(copy.fileno())
