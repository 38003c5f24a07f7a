"""Preemption: on SIGTERM the machine will be taken away, so save, print one line, and exit with code 0."""

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
    """Lets SIGTERM end the process at once; the training loop uses `watch` to finish its step first."""
    signal.signal(
        signal.SIGTERM, lambda *_: leave("stopped between two stages of the command; the same command resumes there")
    )


@contextmanager
def watch() -> Iterator[Callable[[int], bool]]:
    """Yields stopping(step) -> bool: whether SIGTERM was received; all processes agree on it at the same step.

    A signal that arrives too late for the body to see ends the process after the body.
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
