"""What is shown on the screen and in log files: progress, notes, and no banners of libraries."""

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator

import tqdm

SELDOM = 30  # seconds between two reports in a log file [C]
# Lines that TensorFlow and XLA write when they are imported, whatever TF_CPP_MIN_LOG_LEVEL says.
BANNER = re.compile(rb"WARNING: All log messages before absl::InitializeLog|[IW]\d{4} |\d{4}-\d\d-\d\d [\d:.]+: [IW] ")


def bar(items: Iterable | None = None, **options) -> tqdm.tqdm:
    """Returns tqdm's bar over `items` with its `options`: one line on a terminal, else a report in `SELDOM` seconds."""
    often = sys.stderr.isatty()
    return tqdm.tqdm(items, dynamic_ncols=True, mininterval=0.1 if often else SELDOM, **options)


def note(line: str) -> None:
    """Writes a line to stderr, above the bars; what cannot be printed is written out, as a name could forge lines."""
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)
    tqdm.tqdm.write(printable, file=sys.stderr)


_redirected = threading.Lock()


@contextlib.contextmanager
def without_banners() -> Iterator[None]:
    """Leaves `BANNER` lines out of what the block, also by libraries in C++, writes to stderr; the rest comes after it.

    It redirects the file descriptor of the process, so no other thread should write to stderr meanwhile. One thread at
    a time does so: the second of two would take the redirected descriptor for the screen, and leave it there.
    """
    with _redirected, tempfile.TemporaryFile() as written, os.fdopen(os.dup(2), "wb") as stderr:
        sys.stderr.flush()
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr.fileno(), 2)
            written.seek(0)
            stderr.writelines(line for line in written if not BANNER.match(line))
