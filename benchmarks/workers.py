"""Processes that measure: one for each alternative, told what to do line by line."""

import contextlib
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path


class WorkerError(Exception):
    """What was measured failed; the text is the worker's traceback."""


class Worker:
    """A process that runs the methods of an object; see :func:`serve`.

    :param command: program and arguments
    :param env: environment variables
    :param log: file that gets its standard error
    """

    def __init__(self, command: list, env: dict[str, str], log: Path):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.log = log

    def call(self, method: str, **arguments):
        """Run a method and return its result.

        :raises WorkerError: when it raised, or when the process has ended
        """
        with contextlib.suppress(BrokenPipeError):  # then the answer is missing too
            print(json.dumps([method, arguments]), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            tail = self.log.read_text(errors="replace")[-3000:]
            raise WorkerError(f"{method}: the process has ended\n{tail}")
        result, error = json.loads(answer)
        if error:
            raise WorkerError(f"{method}: {error}")
        return result

    def stop(self):
        """Let the process end."""
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def serve(worker) -> None:
    """Run methods of an object as :class:`Worker` asks for, until it stops asking."""
    # whatever else prints must not get between the answers
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        method, arguments = json.loads(line)
        try:
            answer = [getattr(worker, method)(**arguments), None]
        except Exception:
            answer = [None, traceback.format_exc()]
        print(json.dumps(answer), file=answers, flush=True)
