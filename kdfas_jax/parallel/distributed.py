"""Training in several processes: how they connect, and how all of them stop when one is lost.

jax detects the other processes under SLURM, Open MPI, in an indexed Kubernetes job (with `jax[k8s]`) and on Cloud TPU,
including GKE (jax 0.10 and 0.11, `jax.distributed.initialize`). Elsewhere the flags name them, or this process runs
alone. [C] marks our own choices.
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
from jax._src.distributed import global_state  # no public API tells which processes jax waits for

logger = logging.getLogger(__name__)

# A process without a heartbeat for this long counts as lost, and jax ends the others [C]. With jax's default of 100 s a
# broken job would hold its machines for more than a minute.
HEARTBEAT_SECONDS = 30
# A process that times out stays alive this long, so that processes that started later also time out with a message [C].
LINGER_SECONDS = 5


def start(coordinator: str, num_processes: int | None, process_id: int | None, timeout: int) -> None:
    """Connects to the other processes; returns at once for a single process. Call it before anything touches a device.

    Args:
      coordinator: host:port of process 0, given together with the next two; '' lets jax detect the launcher.
      num_processes: number of processes; 1 means a single process, whatever the launcher says.
      process_id: number of this process, from 0.
      timeout: seconds, after which the process reports how many processes connected and ends with exit code 1.

    Raises ValueError for incomplete or inconsistent flags, and in an indexed Kubernetes job without the package that
    jax needs to query Kubernetes.
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
    faulthandler.disable()  # its dump of all threads would hide jax's one-line message about a lost process
    logger.info("%s is connected to the coordinator at %s", _myself(), global_state.coordinator_address)


def leave(code: int) -> NoReturn:
    """Ends this process after an error; with several processes, at once and without jax's shutdown.

    jax's shutdown would wait for the other processes, while they wait for this one in a collective.
    """
    if global_state.num_processes > 1:
        print(
            f"{_myself()} stops, and so will the others. If its error is about another process, the log of that "
            "process has the cause; the same command in all processes resumes from the last checkpoint",
            file=sys.stderr,
        )
        _end(code)
    sys.exit(code)


def _end(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _initialize(timeout: int, *who, **how) -> None:
    # Longer than `_deadline`, because jax's time-out aborts with a C++ stack trace.
    longer = timeout + 2 * LINGER_SECONDS
    jax.distributed.initialize(*who, **how, initialization_timeout=longer, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)


def _detected(timeout: int) -> bool:
    """Returns whether jax detects the launcher of this process, after connecting to the processes that it started."""
    try:
        _initialize(timeout)
    except ValueError as error:
        if "coordinator_address should be defined" not in str(error):  # jax's message where it detects no launcher
            raise
        if "JOB_COMPLETION_INDEX" in os.environ:
            raise ValueError(
                "this is a pod of an indexed Kubernetes job, and jax cannot query Kubernetes for the others: pip "
                "install 'jax[k8s]', or give --coordinator, --num_processes and --process_id; --num_processes=1 runs "
                "alone"
            ) from error
        return False
    return True


def _check(by_hand: dict[str, str | int | None]) -> None:
    missing = [f"--{name}" for name, value in by_hand.items() if value is None]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing: to name the processes by hand, give --{', --'.join(by_hand)}")
    host, _, port = by_hand["coordinator"].rpartition(":")
    if not (host and port.isdigit()):
        raise ValueError(f"--coordinator={by_hand['coordinator']}: expected host:port of process 0, such as node0:8476")
    if not 0 <= by_hand["process_id"] < by_hand["num_processes"]:
        raise ValueError(
            f"--process_id={by_hand['process_id']}: expected 0 .. {by_hand['num_processes'] - 1} for "
            f"--num_processes={by_hand['num_processes']}, a different one in each process"
        )


@contextmanager
def _deadline(seconds: int) -> Iterator[None]:
    """Ends the process with exit code 1 if the body takes longer; jax's wait cannot be interrupted in another way."""

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
    """Describes how many processes have connected, as seen from this one, and what to check."""
    address = global_state.coordinator_address
    if address is None:
        return "the launcher of this process is known, but process 0 has no address yet: check that its host is up"
    port = int(address.rpartition(":")[2])
    connections = psutil.Process().net_connections("tcp")
    connected = [end for end in connections if end.status == psutil.CONN_ESTABLISHED]
    if global_state.service is None:
        if any(end.raddr.port == port for end in connected):
            return (
                f"{_myself()} reached process 0 at {address}, but not all others did; process 0 logs how many connected"
            )
        return f"{_myself()} found nothing at {address}: check that process 0 runs there and that no firewall blocks it"
    hosts = sorted(end.raddr.ip.removeprefix("::ffff:") for end in connected if end.laddr.port == port)
    return (
        f"{len(hosts)} of {global_state.num_processes} processes connected to {address}, from {', '.join(hosts)}: "
        "check in the logs of the others that they started, each with a different --process_id, and can reach that "
        "address"
    )


def _myself() -> str:
    return f"process {global_state.process_id} of {global_state.num_processes}"
