"""Worker processes of the input pipeline: what they return, raise and survive. 1 s."""

import os
import signal

import numpy as np
import pytest

from input_pipeline.stream import workers


def squares(numbers: np.ndarray, fate: str = "") -> dict[str, np.ndarray]:
    """What a worker makes in these tests: the numbers' squares and the process that computed them."""
    if fate == "raise":
        raise ValueError("not a JPEG image")
    if fate == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return {"square": numbers**2, "process": np.full((len(numbers), 2), os.getpid(), np.int32)}


EMPTY = {"square": np.zeros(0, np.int64), "process": np.zeros((0, 2), np.int32)}


def test_a_process_makes_the_arrays_and_outlives_the_signals_of_a_launcher():
    with workers.processes(squares, EMPTY, 4, 1) as make:
        first = make(np.array([2, 3, 4, 5]))
        (process,) = set(first["process"].flat)
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(process, number)
        with pytest.raises(ValueError, match="not a JPEG image"):
            make(np.arange(2), "raise")
        second = make(np.array([6]))
        assert first["square"].ctypes.data % 64 == 0  # TensorFlow copies other arrays, and holds Python's lock
        assert first["square"].tolist() == [4, 9, 16, 25]  # not overwritten by the later call
        assert second["square"].tolist() == [36]
        assert set(second["process"].flat) == {process} != {os.getpid()}
        with pytest.raises(RuntimeError, match=r"config.data.workers=1: a worker process has died.* set fewer workers"):
            make(np.arange(2), "die")


def test_without_processes_the_function_is_called_itself():
    with workers.processes(squares, EMPTY, 4, 0) as make:
        assert make is squares
