"""Several processes that train one model: how they meet, and how they stop together when one of them is lost.

jax finds the others by itself under SLURM, Open MPI, in an indexed Kubernetes job (with `jax[k8s]`) and on Cloud TPU,
GKE's too [S: jax 0.10 and 0.11, `jax.distributed.initialize`]. Elsewhere they are named by hand, or this one is alone.
"""

import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import jax
import psutil
from jax._src.distributed import global_state  # only here does jax say whom it is waiting for

logger = logging.getLogger(__name__)

# A process that is silent for so long is lost, and jax ends the others [C]. jax's own 100 s would let a broken job hold
# its machines for longer than a minute.
HEARTBEAT_SECONDS = 30
LINGER_SECONDS = 5  # a process that gives up stays so long, for those that started later to give up as clearly [C]


def start(coordinator: str, num_processes: int | None, process_id: int | None, timeout: int) -> None:
    """Meets the other processes, before anything touches a device; returns at once where this one is alone.

    coordinator: host:port of process 0, to be given with the other two; '' has jax detect the launcher. num_processes=1
    is alone, whatever the launcher says. timeout: seconds, after which the process says how many came and ends with
    exit code 1. ValueError for flags that are incomplete or do not fit, and for an indexed Kubernetes job without the
    package that jax asks Kubernetes with.
    """
    if num_processes == 1:
        return
    by_hand = {"coordinator": coordinator or None, "num_processes": num_processes, "process_id": process_id}
    with _deadline(timeout):
        if any(value is not None for value in by_hand.values()):
            _check(by_hand)
            _initialize(timeout, coordinator, num_processes, process_id, cluster_detection_method="deactivate")
        elif not _detected(timeout):
            return
    faulthandler.disable()  # its dump of all threads hides the line with which jax ends the others of a lost process
    logger.info("%s has met the others at %s", _myself(), global_state.coordinator_address)


def leave(code: int) -> NoReturn:
    """Ends this process after an error, at once where there are others.

    jax's own end would wait for them, while they wait in a collective for this one.
    """
    if global_state.num_processes > 1:
        print(
            f"{_myself()} stops, and so will the others. If its error is about another process, that one's log has the "
            "cause; the same command in all of them goes on from the last checkpoint",
            file=sys.stderr,
        )
        _end(code)
    sys.exit(code)


def _end(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _initialize(timeout: int, *who, **how) -> None:
    # Longer than `_deadline`: jax's own end of patience is an abort with a stack trace of C++.
    patience = timeout + 2 * LINGER_SECONDS
    jax.distributed.initialize(
        *who, **how, initialization_timeout=patience, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
    )


def _detected(timeout: int) -> bool:
    """Whether jax knows the launcher of this process, and has met the others that it started."""
    try:
        _initialize(timeout)
    except ValueError as error:
        if "coordinator_address should be defined" not in str(error):  # so it says that it knows no launcher here
            raise
        if "JOB_COMPLETION_INDEX" in os.environ:
            raise ValueError(
                "this is a pod of an indexed Kubernetes job, and jax cannot ask who the others are: pip install "
                "'jax[k8s]', or give --coordinator, --num_processes and --process_id; --num_processes=1 works alone"
            ) from error
        return False
    return True


def _check(by_hand: dict[str, str | int | None]) -> None:
    missing = [f"--{name}" for name, value in by_hand.items() if value is None]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing: several processes by hand need --{', --'.join(by_hand)}")
    host, _, port = by_hand["coordinator"].rpartition(":")
    if not (host and port.isdigit()):
        raise ValueError(f"--coordinator={by_hand['coordinator']}: expected host:port of process 0, such as node0:8476")
    if not 0 <= by_hand["process_id"] < by_hand["num_processes"]:
        raise ValueError(
            f"--process_id={by_hand['process_id']}: expected 0 .. {by_hand['num_processes'] - 1} for "
            f"--num_processes={by_hand['num_processes']}, another one in each process"
        )


@contextmanager
def _deadline(seconds: int) -> Iterator[None]:
    """Ends the process with exit code 1 where the body takes longer; jax's waiting cannot be interrupted otherwise."""

    def give_up() -> None:
        print(f"error: after {seconds} s (--initialization_timeout) {_who_came()}", file=sys.stderr, flush=True)
        time.sleep(LINGER_SECONDS)
        _end(1)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _who_came() -> str:
    """How many of the processes have come, as far as this one can know, and what to check."""
    address = global_state.coordinator_address
    if address is None:
        return "the launcher of this process is known, but process 0 has no address yet: see whether its host is up"
    port = int(address.rpartition(":")[2])
    connections = psutil.Process().net_connections("tcp")
    connected = [end for end in connections if end.status == psutil.CONN_ESTABLISHED]
    if global_state.service is None:
        if any(end.raddr.port == port for end in connected):
            return f"{_myself()} reached process 0 at {address}, but others did not come; process 0 says how many did"
        return f"{_myself()} found nothing at {address}: see whether process 0 runs there, and no firewall is between"
    hosts = sorted(end.raddr.ip.removeprefix("::ffff:") for end in connected if end.laddr.port == port)
    return (
        f"{len(hosts)} of {global_state.num_processes} processes came to {address}, from {', '.join(hosts)}: see in "
        "the logs of the others whether they started, each with its own --process_id, and can reach that address"
    )


def _myself() -> str:
    return f"process {global_state.process_id} of {global_state.num_processes}"
