# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker's side of the pipe: one job at a time, exactly one terminal message a request. No torch before a job."""

import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import BinaryIO

from . import protocol

GRACE = 2.0  # s that a job has to notice that standard input ended, before the process goes
PROGRESS_INTERVAL = 0.05  # s between two progress messages of one stage


class ServerFault(Exception):
    """A refusal by the server itself, in the shape that `protocol.failure` reads."""

    def __init__(self, code: str, text: str, hint: str = "", action: str = ""):
        super().__init__(text)
        self.code, self.text, self.hint, self.action = code, text, hint, action


class Task:
    """What a running job may do: tell its progress, stream, warn, and ask whether it shall stop."""

    counts_from = 1
    """The number by which sentences call the most prominent person: the add-on's list of people begins with Person 1."""

    def __init__(self, request: dict, send: Callable[[dict], None]):
        self.request = request
        self.id: int = request["id"]
        self._send = send
        self._stop = threading.Event()
        self._last: tuple[str, float] = ("", 0.0)

    def stop(self) -> None:
        """Ask the job to end soon."""
        self._stop.set()

    def should_stop(self) -> bool:
        """Whether the job was cancelled; the job then raises its error of code `cancelled`."""
        return self._stop.is_set()

    def progress(self, stage: str, done: int, total: int) -> None:
        """Tell how far a stage is; what comes too fast to be seen is dropped, but never a stage's end."""
        now = time.monotonic()
        if stage == self._last[0] and done < total and now - self._last[1] < PROGRESS_INTERVAL:
            return
        self._last = (stage, now)
        self.send("progress", stage=stage, done=int(done), total=int(total))

    def send(self, type: str, **fields) -> None:
        """Send one event of this job."""
        self._send(protocol.message(type, self.id, **fields))

    def warning(self, text: str, **more) -> None:
        """Tell the user a sentence that does not end the job."""
        self.send("warning", text=text, **more)

    def log(self, text: str) -> None:
        """Write a line for the log."""
        self.send("log", text=text)


Handler = Callable[[dict, Task], dict]


def claim_output() -> BinaryIO:
    """Take standard output for the caller alone: whatever else is printed to it, in C too, goes to standard error."""
    sys.stdout.flush()
    own = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return own


def claim_input() -> BinaryIO:
    """Take standard input for the caller alone: programs that the worker starts read nothing from it."""
    own = os.fdopen(os.dup(0), "rb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return own


class Server:
    """Reads requests in a thread, answers the quick ones there, and runs jobs one after the other in `run`."""

    def __init__(self, jobs: dict[str, Handler], version: str, source: BinaryIO, sink: BinaryIO, at_end: Callable[[], object]):
        self._jobs = jobs
        self._at_end = at_end
        self._version = version
        self._source = source
        self._sink = sink
        self._lock = threading.Lock()
        self._state = threading.Lock()
        self._queue: queue.Queue[Task | None] = queue.Queue()
        self._task: Task | None = None
        self._closing = False

    def run(self) -> int:
        """Serve until standard input ends or `shutdown` comes; returns the exit code."""
        self._send(protocol.message("ready", 0, version=self._version, pid=os.getpid()))
        threading.Thread(target=self._read, name="requests", daemon=True).start()
        while (task := self._queue.get()) is not None:
            self._work(task)
        return 0

    # The main thread

    def _work(self, task: Task) -> None:
        kind = task.request["type"]
        terminal = protocol.message(
            "error", task.id, code="internal", text="The job ended without a word.", hint="", action=""
        )
        try:
            if task.should_stop():
                raise ServerFault("cancelled", "Cancelled.")
            value = self._jobs[kind](task.request, task)
            protocol.check_files(kind, value, task.request["out"], task.id)
            terminal = protocol.message("cancelled", task.id)
            if not task.should_stop():
                terminal = protocol.message("result", task.id, value=value)
                protocol.encode(terminal)
        except BaseException as error:  # noqa: BLE001 (SystemExit too: no job ends the worker unheard)
            if not isinstance(getattr(error, "code", None), str):
                traceback.print_exc()
            terminal = protocol.failure(task.id, error)
        finally:
            with self._state:
                self._task = None
            self._send(terminal)

    # The reader's thread

    def _read(self) -> None:
        try:
            while line := self._source.readline(protocol.MAX_LINE + 1):
                if len(line) > protocol.MAX_LINE and not line.endswith(b"\n"):
                    while (rest := self._source.readline(protocol.MAX_LINE)) and not rest.endswith(b"\n"):
                        pass
                try:
                    request = protocol.decode(line)
                    if request["type"] not in protocol.REQUESTS:
                        raise protocol.ProtocolError(f"{request['type']} is not a request.", id=request["id"])
                    if not self._answer(request):
                        break
                except protocol.ProtocolError as fault:
                    self._send(protocol.failure(fault.id, fault))
        except OSError:
            pass  # a broken pipe is an end too
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        self._end()

    def _answer(self, request: dict) -> bool:
        kind, id = request["type"], request["id"]
        if kind == "shutdown":
            self._send(protocol.message("result", id, value={}))
            return False
        if kind == "ping":
            self._send(protocol.message("result", id, value={}))
        elif kind == "hello":
            about = {
                "version": self._version,
                "python": sys.version.split()[0],
                "pid": os.getpid(),
                "jobs": sorted(self._jobs),
            }
            self._send(protocol.message("result", id, value=about))
        elif kind == "cancel":
            with self._state:
                task = self._task if self._task and self._task.id == request["job"] else None
            if task:
                task.stop()
            self._send(
                protocol.message("result", id, value={"job": request["job"], "running": task is not None})
            )
        else:
            self._accept(request)
        return True

    def _accept(self, request: dict) -> None:
        fault = None
        if request["type"] not in self._jobs:
            fault = ServerFault("bad_message", f"This worker cannot do {request['type']}.")
        elif not (os.path.isabs(request["out"]) and os.path.isdir(request["out"])):
            fault = ServerFault("bad_message", "The job's folder is not there.")
        else:
            with self._state:
                if self._task or self._closing:
                    fault = ServerFault(
                        "busy", "The worker is busy with another job.", "Wait for it, or cancel it."
                    )
                else:
                    self._task = Task(request, self._send)
                    self._queue.put(self._task)
        if fault:
            self._send(protocol.failure(request["id"], fault))

    def _end(self) -> None:
        with self._state:
            self._closing = True
            if self._task:
                self._task.stop()
        self._queue.put(None)
        time.sleep(GRACE)
        self._at_end()
        os._exit(0)  # the job did not notice; nobody listens any more

    def _send(self, message: dict) -> None:
        line = protocol.encode(message)
        with self._lock:
            try:
                view = memoryview(line)
                while view:
                    view = view[self._sink.write(view) or 0 :]
            except (OSError, ValueError):
                pass  # the other side is gone; the reader sees the end of standard input and ends the worker


def serve(jobs: dict[str, Handler], version: str, at_end: Callable[[], object] = lambda: None) -> int:
    """Serve over standard input and output until the input ends; `jobs` maps a request's type to its handler. at_end: called where the
    process ends in the midst of a job, which is the caller's to call otherwise."""
    source, sink = claim_input(), claim_output()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in Blender's terminal is meant for Blender
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the session's own way to end a job that does not listen
    return Server(jobs, version, source, sink, at_end).run()
