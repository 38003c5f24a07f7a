"""A CSV table of your own images and videos: one row per file, with its label and optional metadata."""

import csv
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from input_pipeline.schema import LIVE, Frame, Presentation
from input_pipeline.sources import media

EXPECTED_TREE = """\
RAW.csv, UTF-8, commas between the fields:
  path,label[,species,subject,video,domain,split][,session,sensor,medium,light,environment,support,attributes]
  faces/1.jpg,live                                 label: 1, live, real or bonafide; 0, attack, spoof or fake
  /data/2.mp4,attack                               a path is absolute or relative to the folder of RAW.csv"""

ANY_RAW_DIR = True
REQUIRED = ("path", "label")
GROUPS = ("session", "sensor", "medium", "light", "environment", "support", "attributes")  # as in `schema.COLUMNS`
OPTIONAL = ("species", "subject", "video", "domain", "split", *GROUPS)
LABELS = dict.fromkeys(("1", "live", "real", "bonafide"), 1) | dict.fromkeys(("0", "attack", "spoof", "fake"), 0)
SPLITS = ("train", "dev", "test", "")


def read(raw_dir: str, *, frames: int = media.FRAMES, name: str = "") -> list[Presentation]:
    """Lists every video, and every image or group of images with one `video`, in the order of their first rows.

    raw_dir: the .csv file. Empty fields have defaults: species 'attack' ('live' in a live row), the subject is the
    video, the video is the path, the domain is the option `name`, and there is no split; the columns `GROUPS` are
    unknown. Rows of images with the same
    `video` are its frames in the order of the file; they must agree in all columns but the path.
    Options: `frames`, the number of evenly spaced frames of a video or such a group; `name`, the domain of rows without
    one. Raises FileNotFoundError for a `raw_dir` that is not a file; ValueError, with file and line, for a wrong row.
    """
    media.check_frames("csv", frames)
    videos: dict[str, list[tuple[int, dict[str, str]]]] = {}
    paths: dict[str, int] = {}
    for line, row in _rows(Path(raw_dir)):
        where = f"{raw_dir}, line {line}"
        row = _complete(row, where, name)
        if (other := paths.setdefault(row["path"], line)) != line:
            raise ValueError(f"{where}: {row['path']} is also on line {other}; remove one of them")
        group = videos.setdefault(row["video"], [])
        group.append((line, row))
        _check_group(group, where)
    if not videos:
        raise ValueError(f"{raw_dir}: no row below the header; expected\n{EXPECTED_TREE}")
    return [_presentation(Path(raw_dir).parent, [row for _, row in group], frames) for group in videos.values()]


def files(raw_dir: str) -> list[str]:
    """Returns the paths of all rows of the table `raw_dir`, as written; raises as `read` does."""
    return [row["path"] for _, row in _rows(Path(raw_dir))]


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line number, {column: field}) of every row; ValueError for a wrong header or number of fields."""
    if not path.is_file():
        raise FileNotFoundError(f"csv: {path} is not a file; give the table itself as raw_dir:\n{EXPECTED_TREE}")
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = [column.strip() for column in next(reader, [])]
            _check_header(header, f"{path}, line 1")
            for fields in filter(None, reader):
                if len(fields) != len(header):
                    raise ValueError(
                        f"{path}, line {reader.line_num}: found {len(fields)} fields, expected {len(header)} as in the "
                        "header; quote a field that contains a comma"
                    )
                yield reader.line_num, dict(zip(header, (field.strip() for field in fields), strict=True))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}, after line {reader.line_num}: not UTF-8; save it as UTF-8") from error
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}; correct it") from error


def _check_header(header: Sequence[str], where: str) -> None:
    if unknown := [column for column in header if column not in (*REQUIRED, *OPTIONAL)]:
        raise ValueError(f"{where}: unknown columns {unknown}; known: {', '.join((*REQUIRED, *OPTIONAL))}")
    if len(set(header)) < len(header) or not set(REQUIRED) <= set(header):
        raise ValueError(f"{where}: found columns {','.join(header)}; expected path, label and others, each once")


def _complete(row: dict[str, str], where: str, domain: str) -> dict[str, str]:
    """Checks a row and returns it with all columns: defaults for empty fields (`read`), a species for the label."""
    row = dict.fromkeys(OPTIONAL, "") | row
    label = LABELS.get(row.pop("label").lower())
    if label is None:
        raise ValueError(f"{where}: the label must be one of {', '.join(LABELS)}")
    if Path(row["path"]).suffix.lower() not in media.IMAGE_SUFFIXES | media.VIDEO_SUFFIXES:
        known = ", ".join(sorted(media.IMAGE_SUFFIXES | media.VIDEO_SUFFIXES))
        raise ValueError(f"{where}: '{row['path']}' is not an image or video; known suffixes: {known}")
    if row["split"] not in SPLITS:
        raise ValueError(f"{where}: split '{row['split']}'; expected train, dev, test or nothing")
    if not all("=" in part for part in filter(None, row["attributes"].split(";"))):
        raise ValueError(f"{where}: attributes '{row['attributes']}'; expected NAME=VALUE;NAME=VALUE or nothing")
    species = row["species"] or (LIVE if label else "attack")
    if (species == LIVE) != bool(label):
        raise ValueError(f"{where}: species '{species}' contradicts the label; correct one of them")
    video = row["video"] or row["path"]
    return row | {
        "species": species,
        "video": video,
        "subject": row["subject"] or video,
        "domain": row["domain"] or domain,
    }


def _check_group(group: Sequence[tuple[int, dict[str, str]]], where: str) -> None:
    """Raises ValueError where the last row of a group cannot be a frame of the same video as the first."""
    (line, first), (_, last) = group[0], group[-1]
    if len(group) > 1 and any(Path(row["path"]).suffix.lower() in media.VIDEO_SUFFIXES for row in (first, last)):
        raise ValueError(f"{where}: video '{last['video']}' is also on line {line}; a video file takes a single row")
    if differing := [column for column in OPTIONAL if last[column] != first[column]]:
        raise ValueError(
            f"{where}: a frame of video '{last['video']}' differs from line {line} in {', '.join(differing)}; "
            f"make them agree, or give another video"
        )


def _presentation(root: Path, rows: Sequence[dict[str, str]], frames: int) -> Presentation:
    row, paths = rows[0], [str(root / row["path"]) for row in rows]
    if len(paths) == 1:
        load, taken = media.loader(paths[0], frames)
    else:
        numbers = media.evenly(len(paths), frames)
        load, taken = functools.partial(_pictures, tuple((n, paths[n]) for n in numbers)), len(numbers)
    return Presentation(dataset="csv", load=load, frames=taken, **row)


def _pictures(numbered: Sequence[tuple[int, str]]) -> Iterator[Frame]:
    """Yields the frames of a video that is given as images."""
    for number, path in numbered:
        yield Frame(number, media.load_image(path))
