"""From a raw data set to records: detect, crop, store.

    python -m input_pipeline.prepare --dataset=NAME --raw_dir=RAW [--data_dir=data] [--size=224] [--scale=1.3]
                                     [--option KEY=VALUE ...]

What it leaves in DATA_DIR/face_crops/NAME-SIZEpx-SCALEx[-HASH OF THE OPTIONS]/1.0.0:
    face_crops-records.tfrecord-*  one record a frame: `image` (JPEG), the columns of `schema.COLUMNS`, `bbox`
                                   float32 [4] and `landmarks` float32 [5, 2] (pixels of the raw frame; NaN where
                                   unknown)
    summary.json                   what was read, found, skipped
    metadata.csv                   one row a record, in the same order, with the CRC-32 of its image; written last,
                                   so its presence says that the preparation is finished
Two processes must not prepare the same records at the same time: on many hosts the first one does it.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import io
import itertools
import json
import os
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import absl.logging
import numpy as np
import pandas as pd
import tensorflow_datasets as tfds
import tqdm

from input_pipeline import datasets, faces, schema

MAX_CORRUPT = 0.01  # share of frames that may be unreadable before the copy is taken for broken [C]
NO_FACE = faces.encode(np.zeros((8, 8, 3), np.uint8))  # the image of a record without a face
UNKNOWN_LANDMARKS = np.full((5, 2), np.nan, np.float32)
FRAMES_PER_FILE = 512  # small enough that files read in turn mix well, some 10 MB at 224 pixels [C]
TABLE_TYPES = schema.COLUMNS | {"crc32": int}


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Finished records. `table` has one row a record, in the order of `files` and of the records within them.

    table: the columns of `schema.COLUMNS` and `crc32` (of the encoded image); row number == `index`.
    fingerprint: SHA-256 (hex) of metadata.csv; it changes with any frame, box, label or setting.
    """

    builder_dir: str
    files: list[str]
    table: pd.DataFrame
    fingerprint: str

    @staticmethod
    def parse(serialized) -> dict:
        """{'image': JPEG bytes (scalar string), 'index': scalar int64} of one serialised record, as TF tensors."""
        import tensorflow as tf  # seconds, and who only wants the table needs none of it

        scalar = {"image": tf.io.FixedLenFeature([], tf.string), "index": tf.io.FixedLenFeature([], tf.int64)}
        return tf.io.parse_single_example(serialized, scalar)


def prepare(
    dataset: str,
    *,
    raw_dir: str = "",
    data_dir: str = "data",
    size: int = 224,
    scale: float = 1.3,
    options: Mapping = {},
) -> Prepared:
    """The records of `dataset` (a name in `datasets.READERS`), made first where no finished ones exist.

    size: side of the crop in pixels. scale: crop side / longer side of the face box. options: the reader's own.
    Raises ValueError or OSError, and leaves nothing, for a missing or wrong raw directory, an unknown option, or
    a data set of which more than `MAX_CORRUPT` is unreadable.
    """
    if size < 1 or scale <= 0:
        raise ValueError(f"size and scale must be positive, got size={size}, scale={scale}")
    settings = {"raw_dir": raw_dir, "data_dir": data_dir, "size": size, "scale": scale, "options": options}
    if finished := load(dataset, **settings):
        return finished
    reader = datasets.get(dataset)
    datasets.check(reader, dataset, raw_dir, options)
    config_dir = _builder_dir(dataset, data_dir, size, scale, options).parent
    shutil.rmtree(config_dir, ignore_errors=True)  # what a killed preparation left
    try:
        _write(FrameReader(reader, dataset, raw_dir, options, size, scale), data_dir, config_dir.name, raw_dir)
    except BaseException:
        shutil.rmtree(config_dir, ignore_errors=True)
        raise
    return load(dataset, **settings)


def load(
    dataset: str,
    *,
    raw_dir: str = "",
    data_dir: str = "data",
    size: int = 224,
    scale: float = 1.3,
    options: Mapping = {},
) -> Prepared | None:
    """Finished records for exactly these settings, or None.

    `raw_dir` may be left out once the records exist. ValueError where it is given and they were made from another.
    """
    datasets.get(dataset)  # an unknown name is an error here too
    directory = _builder_dir(dataset, data_dir, size, scale, options)
    if not (directory / "metadata.csv").is_file():
        return None
    summary = json.loads((directory / "summary.json").read_text())
    files = sorted(str(path) for path in directory.glob("*.tfrecord*"))
    if len(files) != summary["files"]:
        return None
    made_from = summary["raw_dir"]
    if raw_dir and made_from != os.path.realpath(raw_dir):
        raise ValueError(
            f"the records in {directory} were made from {made_from}, not from {raw_dir}: "
            f"delete that directory to prepare them anew, or choose another --data_dir"
        )
    metadata = (directory / "metadata.csv").read_bytes()
    table = pd.read_csv(io.BytesIO(metadata), dtype=TABLE_TYPES, keep_default_na=False)
    return Prepared(str(directory), files, table, hashlib.sha256(metadata).hexdigest())


def describe_corruption(prepared: Prepared) -> str:
    """Where finished records are damaged, as the start of an error message: reads them all, checking each image."""
    import tensorflow as tf

    mend = f"delete {prepared.builder_dir} and prepare again"
    checksums = iter(prepared.table["crc32"])
    for file in prepared.files:
        read = 0
        try:
            for serialized in tf.data.TFRecordDataset(file):
                image = prepared.parse(serialized)["image"].numpy()
                if zlib.crc32(image) != next(checksums, None):
                    return f"{file}: record {read} is not the one that metadata.csv lists; {mend}"
                read += 1
        except (tf.errors.DataLossError, tf.errors.InvalidArgumentError):
            return f"{file}: damaged at record {read}; {mend}"
    if next(checksums, None) is not None:
        return f"{prepared.builder_dir}: fewer records than metadata.csv lists; {mend}"
    return f"{prepared.builder_dir}: every record is as it was prepared"


class FrameReader:
    """Iterates over the records-to-be of a raw data set: dicts of the record's features.

    `total` is how many frames to expect, `files` how many record files they fill. After the iteration `rows` holds
    the metadata of each, `counts` what was met, and `corrupt` the messages of what was skipped.
    """

    def __init__(self, reader: ModuleType, name: str, raw_dir: str, options: Mapping, size: int, scale: float):
        self._arguments = datasets.sources(raw_dir, options)
        self._reader, self._name, self._size, self._scale = reader, name, size, scale
        self.rows: list[dict] = []
        self.total = reader.count(**self._arguments)
        self.files = max(1, self.total // FRAMES_PER_FILE)
        self.counts = dict.fromkeys(("frames", "faces_not_found", "corrupt", "absent", "boxes_clamped"), 0)
        self.corrupt: list[str] = []

    def __iter__(self) -> Iterator[dict]:
        samples = self._reader.read(**self._arguments)
        samples = iter(tqdm.tqdm(samples, self._name, self.total, unit="frame", mininterval=1))
        while batch := list(itertools.islice(samples, faces.BATCH)):
            yield from self._records(batch)
            if len(self.corrupt) > MAX_CORRUPT * self.total:
                raise ValueError(
                    f"data set '{self._name}': more than {MAX_CORRUPT:.0%} of its {self.total} frames are corrupt; "
                    f"mend or remove these and run again, the first ones:\n" + "\n".join(self.corrupt[:5])
                )
        if len(self.rows) < self.files:
            raise ValueError(f"data set '{self._name}': only {len(self.rows)} of its {self.total} frames exist")

    def _records(self, samples: list[schema.Sample]) -> Iterator[dict]:
        loaded = []
        for sample in samples:
            try:
                loaded.append((sample, sample.load()))
            except FileNotFoundError:
                self.counts["absent"] += 1
            except (OSError, ValueError) as error:
                self._skip(sample, error)
        search = [frame for sample, frame in loaded if sample.box is None and not sample.cropped]
        detected = iter(faces.detect(search))
        for sample, frame in loaded:
            try:
                if sample.cropped:
                    height, width = frame.shape[:2]
                    yield self._record(sample, faces.resize(frame, self._size), (0, 0, width, height), "render", 1.0)
                elif sample.box is not None:
                    yield self._crop(sample, frame, sample.box, "annotation")
                elif face := next(detected):
                    yield self._crop(sample, frame, face.box, "mtcnn", face.landmarks)
                else:
                    self.counts["faces_not_found"] += 1
                    yield self._record(sample, None, (0, 0, 0, 0), "mtcnn", self._scale)
            except ValueError as error:
                self._skip(sample, error)

    def _crop(self, sample, frame, box, detector, landmarks=UNKNOWN_LANDMARKS) -> dict:
        clamped = faces.clamp(box, *frame.shape[:2])
        self.counts["boxes_clamped"] += clamped != tuple(box)
        image = faces.crop(frame, clamped, self._scale, self._size)
        return self._record(sample, image, clamped, detector, self._scale, landmarks)

    def _record(self, sample, image, box, detector, scale, landmarks=UNKNOWN_LANDMARKS) -> dict:
        encoded = NO_FACE if image is None else faces.encode(image)
        columns = {name: getattr(sample, name) for name in schema.COLUMNS if hasattr(sample, name)}
        columns |= {
            "index": len(self.rows),
            "domain": sample.domain or sample.dataset,
            "found": image is not None,
            "detector": detector,
            "scale": float(scale),
        }
        self.rows.append(columns | {"crc32": zlib.crc32(encoded)})
        self.counts["frames"] += 1
        return columns | {"image": encoded, "bbox": np.asarray(box, np.float32), "landmarks": landmarks}

    def _skip(self, sample: schema.Sample, error: Exception) -> None:
        self.counts["corrupt"] += 1
        self.corrupt.append(f"{sample.key}: {error}")


class FaceCrops(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Face crops of one data set at one size and scale; the records keep the reader's order."""

    VERSION = tfds.core.Version("1.0.0")
    code_path = None  # else TFDS looks beside this file for checksums and citations, with a package it may lack

    def __init__(self, frames: FrameReader | None = None, **kwargs):
        self._frames = frames
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        types = {int: np.int64, str: np.str_, bool: np.bool_, float: np.float32}
        features = {name: types[kind] for name, kind in schema.COLUMNS.items()}
        features["image"] = tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
        features["bbox"] = tfds.features.Tensor(shape=(4,), dtype=np.float32)
        features["landmarks"] = tfds.features.Tensor(shape=(5, 2), dtype=np.float32)
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"records": self._generate_examples()}

    def _generate_examples(self):
        for record in self._frames:
            yield record["index"], record


def _builder_dir(dataset: str, data_dir: str, size: int, scale: float, options: Mapping) -> Path:
    config = f"{dataset}-{size}px-{scale:g}x"
    if options:
        config += "-" + hashlib.sha256(json.dumps(dict(options), sort_keys=True).encode()).hexdigest()[:8]
    return Path(data_dir, FaceCrops.name, config, str(FaceCrops.VERSION))


def _write(frames: FrameReader, data_dir: str, config: str, raw_dir: str) -> None:
    """Writes the records, then the summary, then the metadata; reports on stderr."""
    started = time.monotonic()
    download = tfds.download.DownloadConfig(try_download_gcs=False, num_shards=frames.files)
    with _quiet_tfds(), tempfile.TemporaryDirectory() as no_downloads:
        builder = FaceCrops(frames, data_dir=data_dir, config=tfds.core.BuilderConfig(name=config))
        builder.download_and_prepare(download_dir=no_downloads, download_config=download)
    directory = Path(builder.data_dir)
    seconds = round(time.monotonic() - started, 1)
    summary = {
        **frames.counts,
        "seconds": seconds,
        "files": frames.files,
        "raw_dir": raw_dir and os.path.realpath(raw_dir),
        "corrupt_frames": frames.corrupt,
    }
    (directory / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    table = pd.DataFrame(frames.rows)[list(TABLE_TYPES)]
    unfinished = directory / "metadata.csv.tmp"
    table.to_csv(unfinished, index=False)
    os.replace(unfinished, directory / "metadata.csv")
    print(", ".join(f"{k.replace('_', ' ')} {v}" for k, v in frames.counts.items()), file=sys.stderr)
    for message in frames.corrupt[:5]:
        print(f"skipped {message}", file=sys.stderr)


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """Without it TFDS warns of a configuration made at run time, and announces a download of 0 bytes."""
    tfds.disable_progress_bar()
    verbosity = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        absl.logging.set_verbosity(verbosity)


def _option(text: str) -> tuple[str, object]:
    """KEY=VALUE with VALUE read as JSON where it is (3, true, 0.5), else as the string that it is."""
    key, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"'{text}' is not KEY=VALUE")
    with contextlib.suppress(json.JSONDecodeError):
        return key, json.loads(value)
    return key, value


def main(argv: list[str] | None = None) -> None:
    """The command line; exit code 1 and one message for bad input."""
    parser = argparse.ArgumentParser(prog="python -m input_pipeline.prepare", description="Raw data set -> records.")
    parser.add_argument("--dataset", required=True, help=", ".join(sorted(datasets.READERS)))
    parser.add_argument("--raw_dir", default="", help="the data set as it was downloaded")
    parser.add_argument("--data_dir", default="data", help="where the records go (default: %(default)s)")
    parser.add_argument("--size", type=int, default=224, help="side of the crop in pixels (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.3, help="crop side / face box side (default: %(default)s)")
    parser.add_argument("--option", type=_option, action="append", default=[], help="KEY=VALUE for the reader")
    flags = vars(parser.parse_args(argv))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported
    try:
        prepared = prepare(flags.pop("dataset"), options=dict(flags.pop("option")), **flags)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    table = prepared.table
    classes = table.groupby("label")["found"].agg(["size", "sum"])
    print(f"{len(table)} records in {prepared.builder_dir}")
    for label, row in classes.iterrows():
        print(f"  {'bona fide' if label else 'attack'}: {row['size']} frames, {row['sum']} with a face")


if __name__ == "__main__":
    main()
