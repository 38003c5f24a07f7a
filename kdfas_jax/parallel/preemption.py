"""SIGTERM means that the machine will be taken away: save, say so in one line, exit with 0."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import jax
from jax.experimental import multihost_utils


def leave(message: str) -> NoReturn:
    """Ends the process with exit code 0 and one line on stderr."""
    print(f"SIGTERM: {message}", file=sys.stderr, flush=True)
    raise SystemExit(0)


def install() -> None:
    """From here on SIGTERM leaves at once; the training loop asks for time by `watch`."""
    signal.signal(
        signal.SIGTERM, lambda *_: leave("stopped between two pieces of work; the same command continues from there")
    )


@contextmanager
def watch() -> Iterator[Callable[[int], bool]]:
    """Yields stopping(step) -> bool: whether SIGTERM has come, agreed by all processes at the same step.

    A signal too late for the body to see ends the process when the body is done.
    """
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        yield lambda _: bool(received)
    finally:
        signal.signal(signal.SIGTERM, before)
    if received:
        leave("training is finished and saved; the same command continues with the evaluation")
