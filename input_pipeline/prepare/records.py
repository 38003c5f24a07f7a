"""Finished records: a TFDS data set of face crops, with its metadata as a table.

BUILDER_DIR/face_crops-records.tfrecord-*   one record per frame: `image` (JPEG), the columns of `schema.COLUMNS`,
                                            `bbox` float32 [4] and `landmarks` float32 [5, 2] (pixels of the raw frame;
                                            NaN where unknown)
BUILDER_DIR/metadata.csv                    one row per record, in the same order, and the position of its bytes
BUILDER_DIR/raw_files.json.gz               names, sizes and times of the raw files, where there are any (`raw`)
BUILDER_DIR/summary.json, summary.txt       counts of what was read, found and skipped; digests of the files but records
BUILDER_DIR/{dataset_info,features}.json    metadata of TFDS, for `tfds.builder_from_directory(BUILDER_DIR)`
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
from multiprocessing import reduction
from pathlib import Path

import numpy as np
import pandas as pd
from etils import epath

from input_pipeline import schema
from input_pipeline.sources import imports

NAME, SPLIT, VERSION = "face_crops", "records", "1.1.0"  # the version of the layout: a new column needs a new one
HEADER, FOOTER = 12, 4  # bytes before and after the data of a TFRecord: length and checksums
PLACE = {"file": int, "offset": int, "length": int, "crc32": int}  # position of a record's data, and its checksum
TABLE_TYPES = schema.COLUMNS | PLACE
METADATA, SUMMARY, RAW_FILES = "metadata.csv", "summary.json", "raw_files.json.gz"
LATER = ("raw", "missing", "sha256", "seal")  # keys that summaries of earlier versions lack
COPIES = 16  # record files copied from object storage at the same time
PIECE = 1 << 24  # bytes copied at once


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Finished records.

    Fields:
      builder_dir: their folder.
      files: the record files.
      table: one row per record, in the order of `files` and of the records within them: the columns of
        `schema.COLUMNS`; `file` (position in `files`), `offset`, `length` and `crc32` of the serialised example.
      fingerprint: SHA-256 (hex) of metadata.csv; it changes with any frame, box, label or setting.
      missing: a row for every absent, corrupt or partly corrupt file, with the columns of `schema.COLUMNS` and
        `reason`, 'absent' or 'corrupt'; None where records of an earlier version do not record them.
      raw: digest of the raw files' listing (`raw.digest`), '' where there is none.
    """

    builder_dir: str
    files: list[str]
    table: pd.DataFrame
    fingerprint: str
    missing: pd.DataFrame | None = None
    raw: str = ""


def file_name(number: int, count: int) -> str:
    """Returns the name of record file `number` of `count`, as TFDS expects it."""
    return f"{NAME}-{SPLIT}.tfrecord-{number:05d}-of-{count:05d}"


def is_remote(path: str | os.PathLike) -> bool:
    """Returns whether `path` is on object storage: gs://BUCKET/..."""
    return "://" in os.fspath(path)


def load(directory: epath.Path, raw_dir: str = "") -> Prepared | None:
    """Loads the finished records in `directory`; None where there is no such folder.

    Raises ValueError where they were made from another `raw_dir` or are damaged. The table, the summary and the other
    metadata are compared with their digests, and record files are counted; each record is checked when it is read.
    """
    if not (directory.is_dir() and any(directory.iterdir())):
        return None
    summary = read_summary(directory)
    made_from = summary["raw_dir"]
    if raw_dir and made_from != str(Path(raw_dir).resolve()):
        raise ValueError(
            f"the records in {directory} were made from {made_from}, not from {raw_dir}: "
            f"delete that directory to prepare them again, or choose another --data_dir"
        )
    metadata = (directory / METADATA).read_bytes()
    table = pd.read_csv(io.BytesIO(metadata), dtype=TABLE_TYPES, keep_default_na=False)
    files = sorted(str(path) for path in directory.iterdir() if ".tfrecord-" in path.name)
    if len(files) != summary["files"]:
        raise ValueError(
            f"{directory}: only {len(files)} of its {summary['files']} record files exist; delete it and prepare again"
        )
    fingerprint = hashlib.sha256(metadata).hexdigest()
    return Prepared(str(directory), files, table, fingerprint, _missing(summary), summary.get("raw", ""))


def read_summary(directory: epath.Path) -> dict:
    """Reads summary.json and compares the files beside it with the digests in it.

    Raises ValueError, with the file and what to delete, for a missing or damaged file. Records of an earlier version
    have no digests, which a line on standard error reports once per process.
    """
    try:
        text = (directory / SUMMARY).read_bytes().decode()
        summary = json.loads(text)
    except FileNotFoundError:
        raise _damaged(directory, SUMMARY, "missing") from None
    except ValueError:
        raise _damaged(directory, SUMMARY) from None
    if not any(name in summary for name in LATER):
        _warn_of_earlier_version(str(directory))
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
    """Writes summary.json with a digest of itself and of all other files in its folder except the records."""
    beside = sorted(path for path in directory.iterdir() if path.is_file() and path.name != SUMMARY)
    digests = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in beside if ".tfrecord-" not in path.name
    }
    write_atomically(directory / SUMMARY, _sealed({**summary, "sha256": digests}).encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file that exists completely or not at all, even after a power failure."""
    unfinished = path.with_name(f"{path.name}.tmp")
    unfinished.write_bytes(content)
    rename(unfinished, path)


def rename(unfinished: Path, path: Path) -> None:
    """Renames a file after its content is on disk, and waits until the new name is on disk, too."""
    sync(unfinished)
    os.replace(unfinished, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Waits until a file, or the entries of a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sealed(summary: Mapping) -> str:
    """Returns the text of summary.json: the summary and, last, its digest."""
    body = {name: value for name, value in summary.items() if name != "seal"}
    seal = hashlib.sha256(json.dumps(body).encode()).hexdigest()
    return json.dumps(body | {"seal": seal}, indent=1) + "\n"


def _damaged(directory: epath.Path, name: str, how: str = "damaged") -> ValueError:
    return ValueError(
        f"{directory / name} is {how}, so the records cannot be checked for completeness: delete {directory} and "
        f"prepare again"
    )


@functools.cache
def _warn_of_earlier_version(directory: str) -> None:
    print(
        f"the records in {directory} were made by an earlier version: changed raw files and damage cannot be detected; "
        f"delete that directory to prepare them again",
        file=sys.stderr,
    )


def _missing(summary: Mapping) -> pd.DataFrame | None:
    """Returns `Prepared.missing` with all columns; the summary omits empty values."""
    if "missing" not in summary and summary["absent_files"] + summary["corrupt_files"]:
        return None
    empty = {name: kind() for name, kind in schema.COLUMNS.items()} | {"reason": ""}
    rows = [empty | row for row in summary.get("missing", ())]
    return pd.DataFrame(rows, columns=list(empty)).astype(schema.COLUMNS)


@functools.cache
def features(truth: bool = False):
    """Returns the TFDS features of a record; `truth` maps are in it where the data set renders them."""
    tfds = imports.tensorflow_datasets()
    types = {int: np.int64, str: np.str_, bool: np.bool_, float: np.float32}
    columns = {name: types[kind] for name, kind in schema.COLUMNS.items()}
    return tfds.features.FeaturesDict(
        columns
        | {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "bbox": tfds.features.Tensor(shape=(4,), dtype=np.float32),
            "landmarks": tfds.features.Tensor(shape=(5, 2), dtype=np.float32),
        }
        | ({"truth": tfds.features.Image(shape=(None, None, 3), encoding_format="png")} if truth else {})
    )


class Writer:
    """Writes one record file, in a `with` block: `place = writer.write(record)`. Equal records give equal bytes.

    truth: whether the records have truth maps.
    """

    def __init__(self, path: Path, truth: bool = False):
        tfds = imports.tensorflow_datasets()
        self._writer, self._end, self._features = imports.tensorflow().io.TFRecordWriter(str(path)), 0, features(truth)
        self._serializer = tfds.core.example_serializer.ExampleSerializer(self._features.get_serialized_info())

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *exception) -> None:
        self._writer.close()

    def write(self, record: dict) -> dict[str, int]:
        """Appends a dict of the features; returns offset, length and CRC-32 of its serialised data in the file."""
        example = self._serializer.get_tf_example(self._features.encode_example(record))
        data = example.SerializeToString(deterministic=True)
        self._writer.write(data)
        offset, self._end = self._end + HEADER, self._end + HEADER + len(data) + FOOTER
        return {"offset": offset, "length": len(data), "crc32": zlib.crc32(data)}


def write_tfds_metadata(directory: Path, lengths: Sequence[int], truth: bool = False) -> None:
    """Writes dataset_info.json and features.json for the record files of `directory`, with `lengths` records each."""
    tfds = imports.tensorflow_datasets()
    template = tfds.core.ShardedFileTemplate(
        data_dir=directory, dataset_name=NAME, split=SPLIT, filetype_suffix="tfrecord"
    )
    size = sum(path.stat().st_size for path in directory.glob("*.tfrecord-*"))
    split = tfds.core.SplitInfo(name=SPLIT, shard_lengths=list(lengths), num_bytes=size, filename_template=template)
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        features=features(truth),
        split_infos=[split],
        version=VERSION,
        check_data=False,
        disable_shuffling=True,
    )


class Reader:
    """Random access to the serialised examples of `files`, by the rows of their `table`. It is thread-safe.

    Files on object storage are first copied, once per process: reading shuffled records one by one would take a request
    each, which transfers tens of megabytes.
    """

    def __init__(self, files: Sequence[str], table: pd.DataFrame):
        self._files = files
        self._file, self._offset, self._length, self._crc32 = (table[name].to_numpy() for name in PLACE)
        with concurrent.futures.ThreadPoolExecutor(COPIES) as pool:
            self._descriptors = list(pool.map(_open, files))
        weakref.finalize(self, lambda descriptors: [os.close(d) for d in descriptors], self._descriptors)

    def __reduce__(self):
        """Lets a process that `multiprocessing` starts inherit the open files, so that no file is copied again."""
        files = [reduction.DupFd(descriptor) for descriptor in self._descriptors]
        places = dict(zip(PLACE, (self._file, self._offset, self._length, self._crc32), strict=True))
        return Reader._inherited, (self._files, pd.DataFrame(places), files)

    @classmethod
    def _inherited(cls, files: Sequence[str], places: pd.DataFrame, inherited: list) -> "Reader":
        reader = cls([], places)
        reader._files = files
        reader._descriptors.extend(file.detach() for file in inherited)
        return reader

    def images(self, rows: Iterable[int]) -> list[bytes]:
        """Returns the encoded images of these rows; ValueError, with file and position, for a damaged record."""
        return [image for (image,) in self.examples(rows, "image")]

    def examples(self, rows: Iterable[int], *names: str) -> list[tuple[bytes, ...]]:
        """Returns the encoded features `names`, 'image' and 'truth', of these rows.

        ValueError for records without truth maps, or as `images` does.
        """
        example, found = imports.tensorflow().train.Example, []
        for row in rows:
            features = example.FromString(self.read(row)).features.feature
            if missing := [name for name in names if name not in features]:
                raise ValueError(
                    f"config.data.truth=True: these records have no {missing[0]} maps; expected simulated_wild"
                )
            found.append(tuple(features[name].bytes_list.value[0] for name in names))
        return found

    def read(self, row: int) -> bytes:
        """Returns the serialised example of a row; raises as `images` does."""
        data = os.pread(self._descriptors[self._file[row]], self._length[row], self._offset[row])
        if zlib.crc32(data) != self._crc32[row]:
            path = self._files[self._file[row]]
            raise ValueError(
                f"{path}: the record at byte {self._offset[row]} is damaged; "
                f"delete {os.path.dirname(path)} and prepare again"
            )
        return data


def _open(path: str) -> int:
    """Opens a record file, or its copy, and returns the file descriptor."""
    return os.dup(_copy(path)) if is_remote(path) else os.open(path, os.O_RDONLY)


@functools.cache
def _copy(path: str) -> int:
    """Copies a file from object storage and returns a descriptor; the copy has no name and ends with the process."""
    with tempfile.TemporaryFile() as copy, epath.Path(path).open("rb") as file:
        shutil.copyfileobj(file, copy, PIECE)
        copy.flush()
        return os.dup(copy.fileno())
