"""A lock on a run's folder, so that two commands never write the same run."""

import contextlib
import fcntl
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from kdfas_jax.runs import files

logger = logging.getLogger(__name__)

NAME = ".lock"
POLL_SECONDS = 1.0  # between two looks at a lock that is waited for [C]


class LockedError(ValueError):
    """Another command is working on the same run."""


@contextlib.contextmanager
def held(folder: str, *, wait: bool = False) -> Iterator[None]:
    """Keeps other commands out of the run in `folder` while the block runs.

    The operating system drops the lock with the process, however it ends. FOLDER/.lock says who took it last: process,
    host, time and command. Of the processes of one job, process 0 takes the lock and the others follow its outcome.
    With `wait`, as for a teacher that several students share, another holder is waited for; otherwise LockedError
    names it. Object storage (gs://) has no locks: there the caller sees to it that one job writes a run.
    """
    if files.is_remote(folder):
        yield
        return
    main, descriptor, waiting = jax.process_index() == 0, None, False
    try:
        while not _agreed(main and (descriptor := _take(folder)) is not None):
            if not wait:
                raise LockedError(
                    f"{folder} is in use by {_holder(folder)}; wait for it to end, or give another --workdir"
                )
            if not waiting:
                logger.info("%s is in use by %s: waiting for it to end", folder, _holder(folder))
            waiting = True
            time.sleep(POLL_SECONDS)
        yield
    finally:
        if descriptor is not None:
            _release(folder, descriptor)


def _take(folder: str) -> int | None:
    """The descriptor of the lock file, locked and signed, or None where another process holds it."""
    path = os.path.join(folder, NAME)
    while True:
        try:
            os.makedirs(folder, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except (FileNotFoundError, FileExistsError):
            if os.path.exists(folder) and not os.path.isdir(folder):
                raise
            continue  # the holder has just removed the folder
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if _is_at(descriptor, path):
            _sign(descriptor)
            return descriptor
        os.close(descriptor)  # removed in between: that was a lock on nothing


def _is_at(descriptor: int, path: str) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _release(folder: str, descriptor: int) -> None:
    """Drops the lock, and the folder where nothing else has come into it."""
    if files.names(folder) == [NAME]:
        os.unlink(os.path.join(folder, NAME))
        with contextlib.suppress(OSError):  # another process may hold the lock by now
            os.rmdir(folder)
    os.close(descriptor)


def _agreed(taken: bool) -> bool:
    """What process 0 found, in all processes."""
    return taken if jax.process_count() == 1 else bool(multihost_utils.broadcast_one_to_all(np.asarray(taken)))


def _sign(descriptor: int) -> None:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    text = f"process {os.getpid()} on {socket.gethostname()} since {since}: {shlex.join(sys.argv)}\n"
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)


def _holder(folder: str) -> str:
    """Who signed the lock; another process may be about to."""
    with contextlib.suppress(OSError), open(os.path.join(folder, NAME)) as file:
        if text := file.read().strip():
            return text
    return "another process"
