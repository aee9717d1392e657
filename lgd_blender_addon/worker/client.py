# SPDX-License-Identifier: GPL-3.0-or-later
"""One worker and its open requests: each ends with exactly one terminal event, whatever the process does."""

import enum
import itertools
import queue
import threading
import time
from dataclasses import dataclass

from .._bridge import LgdError, protocol
from .environment_python import ask
from .process import Launch, WorkerProcess

NO_PYTHON_HINT = "Name another Python in the preferences, or run or repair the set-up there."
STRAY_LIMIT = 1 << 16  # bytes of prints before `ready` (site customisations do that) that are put up with


@dataclass(frozen=True)
class Timings:
    """Seconds: until `ready`; between pings; of silence before the worker is ended; the two rungs of the stop ladder;
    from the process's end to the end of its output; between two looks at all this."""

    start: float = 60.0
    ping: float = 5.0
    silence: float = 120.0
    cancel: float = 5.0
    terminate: float = 3.0
    gone: float = 2.0
    tick: float = 0.1


class State(enum.Enum):
    """The worker's life."""

    STARTING = "starting"
    READY = "ready"
    ENDING = "ending"
    DEAD = "dead"


class Client:
    """Speaks to one worker process. Its threads fill a queue; `next_event` empties it; nothing here waits for the worker."""

    def __init__(self, launch: Launch, timings: Timings = Timings()):
        self._timings = timings
        self._process = WorkerProcess(launch)
        self._lock = threading.RLock()
        self._ids = itertools.count(1)
        self._events: queue.SimpleQueue[dict] = queue.SimpleQueue()
        self._open: dict[int, dict] = {}  # the requests that the caller waits for
        self._dropped: int | None = None  # the cancelled job that the worker may still be at
        self._waiting: list[bytes] = []  # requests before `ready`
        self._ladder: list[float] = []  # when to terminate, when to kill
        self._stray = 0
        self._quiet = 0.0
        self._ended = threading.Event()
        self.state = State.STARTING
        threading.Thread(target=self._run, name="lgd-worker", daemon=True).start()
        threading.Thread(target=self._watch, name="lgd-watch", daemon=True).start()

    # For Blender's thread

    @property
    def launch(self) -> Launch:
        """How the worker was started."""
        return self._process.launch

    @property
    def pid(self) -> int | None:
        """The worker's process id, once it runs."""
        return self._process.pid

    @property
    def free(self) -> bool:
        """Whether a job may be asked for now."""
        with self._lock:
            return self.state in (State.STARTING, State.READY) and not self._open and self._dropped is None

    def ask(self, type: str, **fields) -> int:
        """Send a request and return its id; before `ready` it waits. Raises ProtocolError for a bad one."""
        with self._lock:
            id = next(self._ids)
            request = protocol.message(type, id, **fields)
            line = protocol.encode(request)
            self._open[id] = request
            if self.state is State.READY:
                self._process.send(line)
            elif self.state is State.STARTING:
                self._waiting.append(line)
            else:
                self._finish(id, LgdError("worker_died"))
            return id

    def next_event(self) -> dict | None:
        """The next event that has come in, or None; late messages of cancelled jobs are not among them."""
        try:
            return self._events.get_nowait()
        except queue.Empty:
            return None

    def cancel(self, id: int) -> None:
        """Forget a job at once: none of its messages comes out any more. The stop ladder runs behind."""
        with self._lock:
            if self._open.pop(id, None) is None or self.state is State.DEAD:
                return
            if self.state is State.STARTING:
                self._waiting.clear()
                return
            self._dropped = id
            self._process.send(protocol.encode(protocol.message("cancel", next(self._ids), job=id)))
            self._climb(self._timings.cancel)

    def close(self) -> None:
        """End the worker, kindly first; open requests end with an error. Returns at once."""
        with self._lock:
            if self.state in (State.ENDING, State.DEAD):
                return
            self._end(LgdError("cancelled"))
            self._process.send(protocol.encode(protocol.message("shutdown", next(self._ids))))
            self._process.close_input()
            self._climb(self._timings.cancel)

    def wait(self, seconds: float) -> bool:
        """Wait for the process's end; whether it has ended."""
        return self._ended.wait(seconds)

    # The two threads

    def _run(self) -> None:
        try:
            self._process.start()
        except (OSError, ValueError) as fault:
            python = self._process.launch.python
            text = f"The worker's Python {python} cannot be started: {getattr(fault, 'strerror', None) or fault}."
            self._dead(LgdError("setup_incomplete", text, NO_PYTHON_HINT, "lgd.open_preferences"))
            return
        try:
            self._process.read(self._take, protocol.MAX_LINE)
        except (OSError, ValueError):
            pass
        code = self._process.wait(self._timings.gone)
        if code is None:  # it closed its output and lives on
            self._process.kill()
            code = self._process.wait(self._timings.terminate)
        self._process.close_input()
        self._dead(self._death(code))

    def _take(self, line: bytes) -> None:
        with self._lock:
            self._quiet = 0.0
            try:
                message = protocol.decode(line)
            except protocol.ProtocolError as fault:
                self._process.log.write(line[:500])
                self._stray += len(line)
                early = self.state is State.STARTING and fault.code != "protocol_mismatch"
                if not early or self._stray > STRAY_LIMIT:
                    self._break(fault.code, fault.text)
                return
            kind, id = message["type"], message["id"]
            if kind == "ready" and self.state is State.STARTING:
                self.state = State.READY
                for waiting in self._waiting:
                    self._process.send(waiting)
                self._waiting.clear()
            elif kind == "error" and id == 0:
                self._break(message["code"], message["text"])
            elif kind in protocol.TERMINAL:
                self._terminal(message)
            elif id in self._open and kind in protocol.EVENTS:
                self._events.put(message)

    def _terminal(self, message: dict) -> None:
        id = message["id"]
        if id == self._dropped:
            self._dropped = None
            if self.state is State.READY:
                self._ladder = []
        request = self._open.get(id)
        if request is None:
            return
        if message["type"] == "result" and request["type"] in protocol.JOBS:
            try:
                protocol.check_files(request["type"], message["value"], request["out"], id)
            except protocol.ProtocolError as fault:
                self._break(fault.code, fault.text)
                return
        del self._open[id]
        self._events.put(message)

    def _watch(self) -> None:
        last = time.monotonic()
        waited = since_ping = gone = 0.0
        while not self._ended.wait(self._timings.tick):
            now = time.monotonic()
            # A machine that slept jumps here; a worker that slept with it was not silent.
            step, last = min(now - last, 10 * self._timings.tick), now
            with self._lock:
                if self.state is State.STARTING:
                    waited += step
                    if waited > self._timings.start:
                        self._break(
                            "worker_silent", f"The worker did not start within {self._timings.start:.0f} s."
                        )
                elif self.state is State.READY:
                    self._quiet += step
                    since_ping += step
                    if since_ping > self._timings.ping:
                        since_ping = 0.0
                        self._process.send(protocol.encode(protocol.message("ping", next(self._ids))))
                    if self._quiet > self._timings.silence:
                        self._break("worker_silent", "")
                self._step(now)
            gone += step if self._process.code() is not None else 0.0
            if gone > self._timings.gone:  # a program that the worker started holds the pipe open
                self._dead(self._death(self._process.code()))

    # The stop ladder (under the lock)

    def _climb(self, first: float) -> None:
        start = time.monotonic() + first
        self._ladder = [start, start + self._timings.terminate]

    def _step(self, now: float) -> None:
        if len(self._ladder) == 2 and now >= self._ladder[0]:
            del self._ladder[0]
            self._end(LgdError("worker_silent"))
            self._process.terminate()
        if len(self._ladder) == 1 and now >= self._ladder[0]:
            self._ladder = []
            self._process.kill()

    def _break(self, code: str, text: str) -> None:
        if self.state in (State.ENDING, State.DEAD):
            return
        self._end(LgdError(code, text, LgdError(code).hint))
        self._climb(0.0)

    def _end(self, error: LgdError) -> None:
        if self.state is not State.DEAD:
            self.state = State.ENDING
        for id in list(self._open):
            self._finish(id, error)

    def _finish(self, id: int, error: LgdError) -> None:
        del self._open[id]
        self._events.put(protocol.failure(id, error))

    def _dead(self, error: LgdError) -> None:
        with self._lock:
            self._end(error)
            self.state = State.DEAD
            self._dropped = None
            self._ladder = []
        self._ended.set()

    def _death(self, code: int | None) -> LgdError:
        python = self._process.launch.python
        if self.state is State.STARTING and ask(python) is None:
            return LgdError("setup_incomplete", f"{python} is no Python: it does not answer as one.", NO_PYTHON_HINT, "lgd.open_preferences")
        how = "" if code is None else f" (exit code {code})" if code >= 0 else f" (signal {-code})"
        tail = self._process.log.tail(6)
        if code == LgdError("setup_incomplete").exit_code and tail.strip():  # it has said what is missing
            return LgdError("setup_incomplete", tail.strip().splitlines()[-1], "", "lgd.open_preferences")
        hint = f"{LgdError('worker_died').hint} The log: {self._process.launch.log}"
        return LgdError("worker_died", f"The worker ended unexpectedly{how}.", f"{hint}\n{tail}".rstrip())
