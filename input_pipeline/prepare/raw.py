"""What the raw files of a data set were when its records were made: names, sizes and times, but no contents.

The listing lies with the records, so that a later preparation notices new, removed and changed raw files.
"""

import gzip
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping

LEFTOVERS = {"__MACOSX", "Icon\r", "Thumbs.db", "desktop.ini"}  # of file managers, beside hidden files
NAMED = 3  # files that a message names of each kind [C]

Listing = Mapping[str, tuple[int, int]]  # name relative to the raw directory -> bytes, time of the last change in ns


def listing(raw_dir: str, files: Iterable[str] = (), without: str = "") -> Listing:
    """All files below `raw_dir`, or of a `raw_dir` that is a file, that file and those that it names, `files`.

    Hidden files and folders and those that file managers leave are left out, as is the folder `without` (of records).
    Links to folders are followed, each folder once. An entry that vanishes meanwhile is not listed.
    """
    if os.path.isdir(raw_dir):
        return dict(sorted(_below(raw_dir, "", os.path.realpath(without) if without else "", set())))
    paths = {name: os.path.join(os.path.dirname(raw_dir), name) for name in (os.path.basename(raw_dir), *files)}
    found = {name: _facts(path) for name, path in paths.items() if os.path.exists(path)}
    return dict(sorted(found.items()))


def _below(folder: str, prefix: str, without: str, seen: set[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    real = os.path.realpath(folder)
    if real == without or real in seen:
        return
    seen.add(real)
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[0] == "." or entry.name in LEFTOVERS:
                continue
            if entry.is_dir():
                yield from _below(entry.path, f"{prefix}{entry.name}/", without, seen)
            elif entry.is_file():
                yield prefix + entry.name, _facts(entry.path)


def _facts(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def digest(files: Listing) -> str:
    """SHA-256 (hex) of a listing."""
    return hashlib.sha256(_encoded(files)).hexdigest()


def packed(files: Listing) -> bytes:
    """A listing as it is stored, compressed; the same listing, the same bytes."""
    return gzip.compress(_encoded(files), mtime=0)


def unpacked(content: bytes) -> Listing:
    """The listing that `packed` was given."""
    return {name: tuple(facts) for name, facts in json.loads(gzip.decompress(content)).items()}


def changes(then: Listing, now: Listing) -> str:
    """How `now` differs from `then`, in numbers and the first names: '2 new (a.png, b.png), 1 removed (c.png)'."""
    kinds = {
        "new": [name for name in now if name not in then],
        "removed": [name for name in then if name not in now],
        "changed": [name for name in now if name in then and now[name] != then[name]],
    }
    return ", ".join(f"{len(names)} {kind} ({_first(names)})" for kind, names in kinds.items() if names)


def _first(names: list[str]) -> str:
    return ", ".join(map(ascii, names[:NAMED])).replace("'", "") + (", ..." if len(names) > NAMED else "")


def _encoded(files: Listing) -> bytes:
    return json.dumps(files).encode()
