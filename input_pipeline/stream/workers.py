"""Worker processes of the input pipeline, for hosts with more cores than Python's lock lets threads use."""

import atexit
import contextlib
import multiprocessing
import queue
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection

import cv2
import numpy as np

Arrays = dict[str, np.ndarray]
ALIGNED = 64  # bytes, at multiples of which arrays begin


@contextlib.contextmanager
def processes(
    make: Callable[..., Arrays], empty: Mapping[str, np.ndarray], rows: int, count: int
) -> Iterator[Callable[..., Arrays]]:
    """Yields a function that calls `make` in one of `count` processes; it is thread-safe. `count` 0 yields `make`.

    `make(*arguments)` returns {name: array [n, ...]} with n <= `rows`, and `empty` is its result for n = 0; `make` must
    be picklable while a process is started, its arguments at any time. Arrays come back through shared memory, so that
    a call holds Python's lock only to send the arguments and to be told n. A call waits until a process is free. What
    `make` raises is raised here; RuntimeError where a process has died. The processes ignore SIGTERM and SIGINT, which
    launchers send to all processes of a job: the calling process decides when to stop. They end with the block, or when
    the calling process has ended in any way.
    """
    if not count:
        yield make
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks of TensorFlow and JAX
    free: queue.SimpleQueue[tuple[Connection, Arrays]] = queue.SimpleQueue()
    block = sum(array.itemsize * rows * int(np.prod(array.shape[1:])) + ALIGNED for array in empty.values())
    with contextlib.ExitStack() as started:
        atexit.register(started.close)  # before multiprocessing waits for its processes
        started.callback(atexit.unregister, started.close)
        running: list[multiprocessing.process.BaseProcess] = []
        started.callback(lambda: [worker.join() for worker in running])  # after all connections have been closed
        for _ in range(count):
            memory, (ours, theirs) = context.RawArray("B", block), context.Pipe()
            worker = context.Process(target=_serve, args=(theirs, make, memory, dict(empty), rows), daemon=True)
            worker.start()
            theirs.close()
            running.append(worker)
            started.callback(ours.close)
            free.put((ours, _views(memory, empty, rows)))

        def call(*arguments) -> Arrays:
            connection, views = free.get()
            try:
                connection.send(arguments)
                answer = connection.recv()
                made = {} if isinstance(answer, Exception) else {name: _copy(of[:answer]) for name, of in views.items()}
            except (EOFError, ConnectionError):
                raise RuntimeError(
                    f"config.data.workers={count}: a worker process has died, perhaps for lack of memory; "
                    "set fewer workers, or 0 for threads"
                ) from None
            finally:
                free.put((connection, views))
            if isinstance(answer, Exception):
                raise answer
            return made

        yield call


def _views(memory, empty: Mapping[str, np.ndarray], rows: int) -> Arrays:
    """Returns arrays in shared memory, with the types and shapes of `empty` but `rows` rows."""
    views, start = {}, 0
    for name, array in empty.items():
        shape = (rows, *array.shape[1:])
        views[name] = np.ndarray(shape, array.dtype, memory, start)
        start += -(-views[name].nbytes // ALIGNED) * ALIGNED
    return views


def _copy(array: np.ndarray) -> np.ndarray:
    """Copies without Python's lock, to where TensorFlow takes the array over; it copies others, and holds the lock."""
    memory = np.empty(array.nbytes + ALIGNED, np.uint8)
    start = -memory.ctypes.data % ALIGNED
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    np.copyto(copy, array)
    return copy


def _serve(connection: Connection, make, memory, empty: Mapping[str, np.ndarray], rows: int) -> None:
    """The loop of a worker process: answers calls over `connection` until the caller closes it or ends."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(1)  # there is a process for each core
    views = _views(memory, empty, rows)
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            arguments = connection.recv()
            try:
                made = make(*arguments)
                for name, view in views.items():
                    view[: len(made[name])] = made[name]
                connection.send(len(made[name]))
            except Exception as error:
                error.add_note(traceback.format_exc())  # a traceback does not travel
                connection.send(error)
