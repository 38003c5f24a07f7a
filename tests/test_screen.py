"""What is shown on the screen: no banners of libraries, and progress that a log file can hold. 1 s."""

import os
import threading
import time

import pytest

from input_pipeline.sources import screen

BANNERS = (
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n",
    b"I0000 00:00:1795735749.1 28054 port.cc:153] oneDNN custom operations are on.\n",
    b"2026-11-26 23:00:00.5: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.\n",
)


def test_banners_of_libraries_are_left_out_and_all_else_is_shown(capfd):
    """By the file descriptor, as C++ writes to it; also what was said before an import failed."""
    kept = b"E0000 00:00:1795735749.1 28054 cuda.cc:1] no driver\n", b"Info of somebody\n"

    @screen.without_banners()
    def fail():
        os.write(2, b"".join([*BANNERS, *kept]))
        raise ImportError

    with pytest.raises(ImportError):
        fail()
    os.write(2, b"after\n")
    assert capfd.readouterr().err.encode() == b"".join([*kept, b"after\n"])


def test_two_threads_leave_the_screen_as_it_was(capfd):
    """Records are read by several threads, each of which may import TensorFlow first."""
    entered = threading.Event()

    def first():
        with screen.without_banners():
            entered.set()
            time.sleep(0.1)

    def second():
        entered.wait()
        with screen.without_banners():
            time.sleep(0.2)

    threads = [threading.Thread(target=each) for each in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_progress_in_a_log_file_is_seldom(capsys):
    for _ in screen.bar(range(300)):
        time.sleep(0.001)
    assert capsys.readouterr().err.count("\r") <= 2  # the first and the last report
