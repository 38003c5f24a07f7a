"""Progress on the screen and in log files."""

import sys
from collections.abc import Iterable

import tqdm

SELDOM = 30  # seconds between two reports in a log file [C]


def bar(items: Iterable | None = None, **options) -> tqdm.tqdm:
    """Returns tqdm's bar over `items` with its `options`: one line on a terminal, else a report in `SELDOM` seconds."""
    often = sys.stderr.isatty()
    return tqdm.tqdm(items, dynamic_ncols=True, mininterval=0.1 if often else SELDOM, **options)


def note(line: str) -> None:
    """Writes a line to stderr, above the bars; what cannot be printed is written out, as a name could forge lines."""
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)
    tqdm.tqdm.write(printable, file=sys.stderr)
