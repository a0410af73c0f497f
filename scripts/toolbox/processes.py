"""Start processes that never outlive the one that started them."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from .project import ProjectError

PR_SET_PDEATHSIG = 1  # prctl(2)
_libc = ctypes.CDLL(None, use_errno=True)


def free_port() -> int:
    """Return a loopback TCP port that is free at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def die_with_parent(death_signal: int = signal.SIGKILL) -> Callable[[], None]:
    """Return a ``preexec_fn`` with which a child never outlives this process."""
    parent = os.getpid()

    def prepare():
        _libc.prctl(PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:  # died before the line above
            os._exit(1)

    return prepare


def start(
    command: list,
    log: Path,
    *,
    death_signal: int = signal.SIGKILL,
    **popen_arguments,
) -> subprocess.Popen:
    """Start a process that gets a signal when the calling thread's process dies.

    :param command: program and arguments
    :param log: file that gets its standard output and error
    :param death_signal: sent by the kernel when this process dies, also by SIGKILL
    :param popen_arguments: of :class:`subprocess.Popen`
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent(death_signal),
            start_new_session=True,
            **popen_arguments,
        )


def stop(process: subprocess.Popen, signal_number=signal.SIGTERM, seconds=15) -> int:
    """Stop a process and all of its process group; return its exit status."""
    if process.poll() is None:
        process.send_signal(signal_number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    with contextlib.suppress(ProcessLookupError):  # nobody left: what we want
        os.killpg(process.pid, signal.SIGKILL)
    return process.returncode


def wait_until(
    ready: Callable[[], object],
    what: str,
    seconds: float = 60,
    process: subprocess.Popen | None = None,
    log: Path | None = None,
):
    """Wait until a condition holds and return its value.

    :param ready: called again and again; OSError counts as "not yet"
    :param what: for the message
    :param process: stop waiting when it has ended
    :param log: its last lines go into the message
    :raises ProjectError: when the process ended or the time is over
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            value = ready()
        except OSError:
            value = None
        if value:
            return value
        ended = process and process.poll() is not None
        if ended or time.monotonic() > deadline:
            tail = ""
            if log and log.exists():
                lines = log.read_text(errors="replace").split("\n")
                tail = "\n".join(["", *lines[-25:]])
            reason = f"ended with {process.returncode}" if ended else "took too long"
            raise ProjectError(f"{what}: {reason} ({seconds:.0f} s at most){tail}")
        time.sleep(0.05)


def accepts_connections(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
