"""Listings of the raw files of a data set: names, sizes and modification times, but no contents.

The listing is stored with the records, so that a later preparation detects new, removed and changed raw files.
"""

import gzip
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping

LEFTOVERS = {"__MACOSX", "Icon\r", "Thumbs.db", "desktop.ini"}  # files of file managers, which are not hidden
NAMED = 3  # files of each kind that a message names

Listing = Mapping[str, tuple[int, int]]  # name relative to the raw directory -> bytes, time of the last change in ns


def listing(raw_dir: str, files: Iterable[str] = (), without: str = "") -> Listing:
    """Lists all files below `raw_dir`; where `raw_dir` is a file, that file and the `files` that it names.

    Hidden files and folders, files of file managers and the folder `without` (of records) are left out. Links to
    folders are followed, each folder once. An entry that disappears during the listing is left out.
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
    """Compresses a listing for storage; equal listings give equal bytes."""
    return gzip.compress(_encoded(files), mtime=0)


def unpacked(content: bytes) -> Listing:
    """Inverse of `packed`."""
    return {name: tuple(facts) for name, facts in json.loads(gzip.decompress(content)).items()}


def changes(then: Listing, now: Listing) -> str:
    """Describes how `now` differs from `then`: '2 new (a.png, b.png), 1 removed (c.png)'.

    Files of another date, but of the same size, are named apart: a copy of the data has them.
    """
    both = [name for name in now if name in then and now[name] != then[name]]
    kinds = {
        "new": [name for name in now if name not in then],
        "removed": [name for name in then if name not in now],
        "changed": [name for name in both if now[name][0] != then[name][0]],
        "of another date, but the same size": [name for name in both if now[name][0] == then[name][0]],
    }
    return ", ".join(f"{len(names)} {kind} ({_first(names)})" for kind, names in kinds.items() if names)


def _first(names: list[str]) -> str:
    return ", ".join(map(ascii, names[:NAMED])).replace("'", "") + (", ..." if len(names) > NAMED else "")


def _encoded(files: Listing) -> bytes:
    return json.dumps(files).encode()
