"""Preparation of a raw data set: faces are detected, cropped and stored as records.

    python -m input_pipeline.prepare --dataset=NAME --raw_dir=RAW [--data_dir=data] [--size=224] [--scale=1.3]
                                     [--align] [--boxes=mtcnn] [--option KEY=VALUE ...] [--workers=N | --runner=...]
                                     [--changed=again] [--sheet=FILE.jpg]

writes the records (`records`) to DATA_DIR/face_crops/NAME-SIZEpx-SCALEx[-...]/1.1.0. The work is divided into parts
(`parts`); until all are finished they are in 1.1.0.unfinished, from which the same command resumes. The bytes do not
depend on the runner of the parts (this process, N workers or Apache Beam).
"""

import argparse
import contextlib
import fcntl
import functools
import hashlib
import importlib.metadata
import itertools
import json
import os
import re
import shlex
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import pandas as pd
from etils import epath

from input_pipeline import datasets, tables
from input_pipeline.prepare import parts, raw, records, runners, sheet
from input_pipeline.schema import Presentation
from input_pipeline.sources import screen

MAX_CORRUPT = 0.01  # share of unreadable files above which preparation stops (our own choice)
FORMAT = 3  # version of the content of parts


CHANGED = ("error", "again", "keep")  # what to do where the raw files have changed since the records were made


class BrokenCopyError(ValueError):
    """Too many files of a raw data set cannot be read."""


def prepare(
    dataset: str,
    *,
    raw_dir: str = "",
    data_dir: str = "data",
    options: Mapping = {},
    max_corrupt: float = MAX_CORRUPT,
    changed: str = "error",
    workers: int = 1,
    beam: Sequence[str] | None = None,
    **crop,
) -> records.Prepared:
    """Returns the records of `dataset`, a name in `datasets.READERS`; prepares them where they do not exist.

    Args:
      dataset: name of the reader.
      raw_dir: the raw data set; not needed once the records exist.
      data_dir: folder of all records. Records on object storage, which lacks renames and locks, are only read.
      options: options of the reader.
      max_corrupt: largest share of unreadable files.
      changed: what to do where files of `raw_dir` are new, removed or changed since the records were made: 'error';
        'again', to prepare them again; 'keep', to use the records as they are.
      workers: number of processes; 1 means this process.
      beam: arguments of an Apache Beam pipeline to use instead, such as ['--runner=DirectRunner']; its workers must see
        `raw_dir` and `data_dir`.
      crop: fields of `parts.Crop`: size, scale, boxes, align.

    Raises ValueError or OSError for missing or wrong raw data or options, and BrokenCopyError, after removing its work,
    where more than `max_corrupt` of the files is unreadable. After any other stop, the same call resumes. A second
    process that prepares the same records waits for the first.
    """
    if changed not in CHANGED:
        raise ValueError(f"changed={changed!r}; expected {', '.join(CHANGED[:-1])} or {CHANGED[-1]}")
    crop = parts.Crop(**crop)
    directory = builder_dir(dataset, data_dir, crop, options, raw_dir)
    reader = datasets.get(dataset)
    finished = functools.partial(
        _finished, directory, reader, raw_dir, changed, _command(dataset, data_dir, crop, options)
    )
    if found := finished():
        return found
    if records.is_remote(directory):
        raise ValueError(
            f"no records in {directory}: prepare them on a local disk (python -m input_pipeline.prepare "
            f"--dataset={dataset} ... --data_dir=data), then copy data/{records.NAME} to {data_dir}/{records.NAME}"
        )
    directory = Path(directory)
    datasets.check(reader, dataset, raw_dir, options)
    files = _listing(reader, raw_dir, directory) if raw_dir else None
    presentations = list(reader.read(**({"raw_dir": raw_dir} if raw_dir else {}), **options))
    with _alone(directory):
        if found := finished():
            return found
        started = time.monotonic()
        unfinished = directory.with_name(f"{directory.name}.unfinished")
        work = _plan(unfinished, presentations, crop, files)
        pending = [part for part in work if not part.finished]
        runner = runners.with_workers(pending, workers) if beam is None else runners.with_beam(pending, beam)
        try:
            _watch(dataset, work, runner, max_corrupt)
            _finish(unfinished, work, raw_dir, files, time.monotonic() - started)
        except BrokenCopyError:
            shutil.rmtree(unfinished)  # its finished parts lack files that may be repaired before the next call
            raise
        replaced = directory.with_name(f"{directory.name}.replaced")
        shutil.rmtree(replaced, ignore_errors=True)
        if directory.exists():  # an empty folder, or records of raw files that have changed
            directory.rename(replaced)
        unfinished.rename(directory)
        records.sync(directory.parent)
        shutil.rmtree(directory / "parts")
        shutil.rmtree(replaced, ignore_errors=True)
    return records.load(directory)


def builder_dir(dataset: str, data_dir: str, crop: parts.Crop, options: Mapping, raw_dir: str = "") -> epath.Path:
    """Returns the folder of the records of these settings, whether it exists or not.

    A reader with `ANY_RAW_DIR` reads many sets of a user, so a digest of the resolved `raw_dir` tells their folders
    apart. Without `raw_dir` the folder is the only one with these settings; ValueError where there are several. Records
    of an earlier version, whose folder has no digest, are found where they were made from `raw_dir`.
    """
    config = f"{dataset}-{crop.size}px-{crop.scale:g}x"
    config += ("-aligned" if crop.align else "") + ("-mtcnn" if crop.boxes == "mtcnn" else "")
    config += getattr(datasets.get(dataset), "VERSION", "")
    if options:
        config += "-" + hashlib.sha256(json.dumps(dict(options), sort_keys=True).encode()).hexdigest()[:8]
    every = epath.Path(data_dir, records.NAME)
    without = every / config / records.VERSION
    if not getattr(datasets.get(dataset), "ANY_RAW_DIR", False):
        return without
    if raw_dir:
        resolved = str(Path(raw_dir).resolve())
        named = every / f"{config}-raw{hashlib.sha256(resolved.encode()).hexdigest()[:8]}" / records.VERSION
        return without if _made_from(named) is None and _made_from(without) == resolved else named
    alike = re.compile(re.escape(config) + "(-raw[0-9a-f]{8})?")
    folders = [of / records.VERSION for of in (every.iterdir() if every.exists() else ()) if alike.fullmatch(of.name)]
    found = {of: raw_dir for of in folders if (raw_dir := _made_from(of)) is not None}
    if len(found) > 1:
        raise ValueError(
            f"{every} has {len(found)} sets '{dataset}' with these settings, made from "
            f"{', '.join(sorted(found.values()))}: expected one; choose it by raw_dir"
        )
    return next(iter(found), without)


def _made_from(directory: epath.Path) -> str | None:
    """Returns the resolved raw data of the records in `directory`; None where there are no finished records."""
    finished = directory.is_dir() and any(directory.iterdir())
    return records.read_summary(directory)["raw_dir"] if finished else None


def _finished(
    directory: epath.Path, reader: ModuleType, raw_dir: str, changed: str, command: str
) -> records.Prepared | None:
    """Returns the finished records if they match the raw files; otherwise acts by `changed`.

    Records without a listing, and raw files that do not exist here, are not compared.
    """
    found = records.load(directory, raw_dir)
    if not (found and found.raw and raw_dir and os.path.exists(raw_dir)):
        return found
    now = _listing(reader, raw_dir, directory)
    if raw.digest(now) == found.raw:
        return found
    if changed == "error" or records.is_remote(directory):
        what = raw.changes(raw.unpacked((directory / records.RAW_FILES).read_bytes()), now)
        raise ValueError(
            f"the raw files in {raw_dir} have changed since the records in {directory} were made: {what}; to prepare "
            f"them again: {command} --raw_dir={shlex.quote(raw_dir)} --changed=again; to keep the records as they "
            f"are, as where the same files were copied: the same with --changed=keep"
        )
    if changed == "again":
        return None
    summary = records.read_summary(directory) | {"raw": raw.digest(now)}
    records.write_atomically(Path(directory, records.RAW_FILES), raw.packed(now))
    records.write_summary(Path(directory), summary)
    return records.load(directory, raw_dir)


def _listing(reader: ModuleType, raw_dir: str, directory: epath.Path) -> raw.Listing:
    """Lists the current raw files, without records that may lie below the same folder."""
    named = reader.files(raw_dir) if hasattr(reader, "files") else ()
    return raw.listing(raw_dir, named, without=os.fspath(directory.parent.parent))


def _command(dataset: str, data_dir: str, crop: parts.Crop, options: Mapping) -> str:
    """Returns the command that prepares these records, without --raw_dir."""
    flags = [f"--dataset={dataset}", f"--data_dir={data_dir}", f"--size={crop.size}", f"--scale={crop.scale:g}"]
    flags += ["--align"] * crop.align + [f"--boxes={crop.boxes}"] * (crop.boxes != "annotation")
    flags += [f"--option={name}={json.dumps(value)}" for name, value in options.items()]
    return shlex.join(["python", "-m", "input_pipeline.prepare", *flags])


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Locks out other processes of this machine; the system releases the lock when the process ends."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with open(directory.with_name(".lock"), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another process is preparing {directory}: waiting for it", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _plan(
    unfinished: Path, presentations: Sequence[Presentation], crop: parts.Crop, files: raw.Listing | None
) -> list[parts.Part]:
    """Plans the parts of a data set; keeps the finished parts of an earlier run with the same plan."""
    groups = parts.split(presentations)
    facts = [FORMAT, crop, files and raw.digest(files), *((p.path, p.frames, p.columns()) for p in presentations)]
    facts += [importlib.metadata.version(package) for package in ("mtcnn", "opencv-python-headless")]
    plan = hashlib.sha256(repr(facts).encode()).hexdigest()
    note = unfinished / "parts" / "plan"
    if unfinished.exists() and not (note.exists() and note.read_text() == plan):
        print(f"the raw data or the settings have changed: {unfinished} is made again", file=sys.stderr)
        shutil.rmtree(unfinished)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(plan)
    return [
        parts.Part(group, crop, unfinished / records.file_name(i, len(groups)), note.parent / f"{i:05d}.json")
        for i, group in enumerate(groups)
    ]


def _watch(dataset: str, work: list[parts.Part], runner: Iterator[parts.Part], max_corrupt: float) -> None:
    """Runs the parts with a progress bar; BrokenCopyError where more than `max_corrupt` of the files are corrupt."""
    finished = [part for part in work if part.finished]
    total, done = (sum(part.frames for part in some) for some in (work, finished))
    files = sum(len(part.presentations) for part in work)
    corrupt = []
    with screen.bar(desc=dataset, total=total, initial=done, unit="frame") as bar:
        for part in itertools.chain(finished, runner):
            corrupt += part.read_note()["corrupt"]
            if len(corrupt) > max_corrupt * files:
                raise BrokenCopyError(
                    f"data set '{dataset}': more than {max_corrupt:.0%} of its {files} files are corrupt; repair or "
                    f"remove them and run again, or allow more with --max_corrupt:\n" + "\n".join(corrupt[:5])
                )
            bar.update(0 if part in finished else part.frames)


def _finish(unfinished: Path, work: list[parts.Part], raw_dir: str, files: raw.Listing | None, seconds: float) -> None:
    """Writes the table, TFDS's metadata and the summary from the notes of all parts."""
    notes = [part.read_note() for part in work]
    rows = [row | {"file": number} for number, note in enumerate(notes) for row in note["rows"]]
    corrupt = [message for note in notes for message in note["corrupt"]]
    if not rows:
        raise BrokenCopyError("none of the data set's files exists or can be read; " + "; ".join(corrupt[:5]))
    table = pd.DataFrame(rows)[list(records.TABLE_TYPES)]
    (unfinished / "metadata.csv").write_bytes(tables.to_csv(table).encode())
    records.write_tfds_metadata(unfinished, [len(note["rows"]) for note in notes], work[0].truth)
    counts = sum((Counter(note["counts"]) for note in notes), Counter(dict.fromkeys(parts.COUNTS, 0)))
    summary = {
        "videos": int(table.groupby("dataset")["video"].nunique().sum()),
        **{name: counts[name] for name in parts.COUNTS},
        "files": len(work),
        "seconds": round(seconds, 1),  # duration of the last run
        "raw_dir": raw_dir and str(Path(raw_dir).resolve()),
        "corrupt": corrupt,
        "missing": [row for note in notes for row in note["missing"]],
        "raw": raw.digest(files) if files is not None else "",
    }
    if files is not None:
        records.write_atomically(unfinished / records.RAW_FILES, raw.packed(files))
    (unfinished / "summary.txt").write_text(_text(summary, table))
    for path in unfinished.iterdir():
        records.sync(path)
    records.write_summary(unfinished, summary)


def _text(summary: Mapping, table: pd.DataFrame) -> str:
    """Formats the summary as text: counts, videos and frames by split and species, and skipped files."""
    lines = [f"{name.replace('_', ' '):>16}  {summary[name]}" for name in ("videos", *parts.COUNTS)]
    by_species = table.groupby(["split", "species"]).agg(
        videos=("video", "nunique"), frames=("video", "size"), with_face=("found", "sum")
    )
    lines += ["", by_species.to_string(), "", *(f"skipped {message}" for message in summary["corrupt"])]
    return "\n".join(lines).rstrip() + "\n"


def _option(text: str) -> tuple[str, object]:
    """Parses KEY=VALUE, with VALUE as JSON where possible (3, true, 0.5), else as a string."""
    key, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"'{text}' is not KEY=VALUE")
    with contextlib.suppress(json.JSONDecodeError):
        return key, json.loads(value)
    return key, value


def flag_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command's flags."""
    parser = argparse.ArgumentParser(prog="python -m input_pipeline.prepare", description="Raw data set -> records.")
    parser.add_argument("--dataset", required=True, help=", ".join(sorted(datasets.READERS)))
    parser.add_argument("--raw_dir", default="", help="the data set as it was received")
    parser.add_argument("--data_dir", default="data", help="where the records go (default: %(default)s)")
    parser.add_argument("--size", type=int, default=224, help="side of the crop in pixels (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.3, help="crop side / face box side (default: %(default)s)")
    parser.add_argument("--boxes", default="annotation", help="annotation (MTCNN where there is none) or mtcnn")
    parser.add_argument("--align", action="store_true", help="turn and fit MTCNN's landmarks to ArcFace's template")
    parser.add_argument("--option", type=_option, action="append", default=[], help="KEY=VALUE for the reader")
    parser.add_argument("--max_corrupt", type=float, default=MAX_CORRUPT, help="share of files (default: %(default)s)")
    parser.add_argument("--changed", default="error", help="if raw files have changed: error, again or keep")
    parser.add_argument("--sheet", help="a .jpg or .png to write, which shows live faces and attacks of the records")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--runner", help="an Apache Beam runner; its other arguments follow after --")
    parser.add_argument("beam", nargs="*", help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Runs the command line; ends with exit code 1 and one message for wrong input."""
    flags = flag_parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported
    try:
        if flags.sheet:
            sheet.check(flags.sheet)
        prepared = prepare(
            flags.dataset,
            raw_dir=flags.raw_dir,
            data_dir=flags.data_dir,
            options=dict(flags.option),
            size=flags.size,
            scale=flags.scale,
            boxes=flags.boxes,
            align=flags.align,
            max_corrupt=flags.max_corrupt,
            changed=flags.changed,
            workers=flags.workers,
            beam=[f"--runner={flags.runner}", *flags.beam] if flags.runner else None,
        )
        shown = f"{flags.sheet}: {sheet.write(flags.sheet, prepared)}\n" if flags.sheet else ""
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print(f"{len(prepared.table)} records in {prepared.builder_dir}")
    print(epath.Path(prepared.builder_dir, "summary.txt").read_text(), end=shown)
