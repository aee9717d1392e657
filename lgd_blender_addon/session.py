# SPDX-License-Identifier: GPL-3.0-or-later
"""Run-time state: one worker, its jobs, and `pump`, the only place where their events reach Blender's thread. No bpy."""

import collections
import itertools
import json
import os
import shutil
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from ._bridge import LgdError, protocol
from .worker.client import Client, Timings
from .worker.client import State as WorkerState
from .worker.job import Job
from .worker.process import Launch

BUDGET = 0.002  # s after which one pump takes no further event in
KEPT_JOBS = 20  # folders of past jobs that stay, to look into
_numbers = itertools.count()


class Session:
    """The worker and its jobs, one at a time, in the order in which they were started."""

    def __init__(self, timings: Timings = Timings()):  # noqa: B008 (frozen)
        self._timings = timings
        self._launch: Launch | None = None
        self._client: Client | None = None
        self._jobs: collections.deque[Job] = collections.deque()  # the first may run; none is over
        self._told: collections.deque[tuple[Job, dict]] = collections.deque()  # events that are made here

    def configure(
        self, python: str, bridge_dir: Path, user_dir: Path, env: dict[str, str] | None = None
    ) -> None:
        """Say how to start the worker; bridge_dir holds `bridge/` (`_bridge.FOLDER`). A change ends the worker, a busy one after its job."""
        launch = Launch(str(python), Path(bridge_dir), Path(user_dir), dict(env or {}))
        if launch != self._launch:
            self._launch = launch
            if self.busy is None:
                self.release()
            _tidy(launch.user_folder / "jobs")

    def start(self, kind: str, request: dict, on_event: Callable[[Job, dict], None] | None = None) -> Job:
        """Queue a job; its private folder becomes the request's `out`. Raises LgdError for what cannot even start."""
        if self._launch is None or not self._launch.python or not os.path.isfile(self._launch.python):
            raise LgdError("setup_incomplete", "The worker's Python is not there.", "Run the set-up.")
        if kind not in protocol.JOBS:
            raise LgdError("bad_message", f"There is no job of the kind {kind}.")
        folder = self._launch.user_folder / "jobs" / _name(kind)
        request = {**request, "out": str(folder)}
        try:
            protocol.encode(protocol.message(kind, 0, **request))
        except protocol.ProtocolError as fault:
            raise LgdError("bad_input", fault.text) from fault
        try:
            folder.mkdir(mode=0o700, parents=True)
            if request.get("camera"):  # a passing file of the add-on's; with it here the request can be repeated
                request["camera"] = str(shutil.copyfile(request["camera"], folder / "camera.npz"))
            (folder / "request.json").write_text(json.dumps({"type": kind, **request}, indent=1), "utf-8")
        except OSError as fault:
            text = f"The folder {folder} cannot be written: {fault.strerror}."
            raise LgdError("disk", text, "Choose another user folder.") from fault
        job = Job(kind, request, folder, on_event)
        self._jobs.append(job)
        self._advance()
        return job

    @property
    def busy(self) -> Job | None:
        """The job that runs, or is the next to run."""
        return self._jobs[0] if self._jobs else None

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id while there is one."""
        alive = self._client is not None and self._client.state is not WorkerState.DEAD
        return self._client.pid if alive and self._client else None

    def pump(self) -> list[tuple[Job, dict]]:
        """Take in what has come, tell each job's on_event, start the next job; never waits. Returns the events."""
        found: list[tuple[Job, dict]] = []
        until = time.perf_counter() + BUDGET
        if self._client is not None and self._client.state is WorkerState.READY and self.busy:
            self.busy.runs()
        while time.perf_counter() < until:
            if self._told:
                job, event = self._told.popleft()
            elif self._client is not None and (event := self._client.next_event()) is not None:
                job = self.busy
                if job is None or event["id"] != job.id or not job.apply(event):
                    continue
                if job.over:
                    self._jobs.popleft()
            else:
                break
            found.append((job, event))
            self._tell(job, event)
        self._advance()
        return found

    def cancel(self, job: Job) -> None:
        """End a job for the user now; what the worker still says about it is dropped."""
        if job.over or job not in self._jobs:
            return
        self._jobs.remove(job)
        if job.id is not None and self._client is not None:
            self._client.cancel(job.id)
        job.cancel()
        self._told.append((job, protocol.message("cancelled", job.id or 0)))

    def release(self) -> Callable[[float], bool]:
        """End the worker, which frees its memory and the GPU's; its job is cancelled. The next job starts a new one.

        Returns what waits at most so many seconds for the worker's end, and says whether it has ended; for other threads.
        """
        if self.busy and self.busy.id is not None:
            self.cancel(self.busy)
        client, self._client = self._client, None
        if client is None:
            return lambda seconds: True
        client.close()
        return client.wait

    def shutdown(self, wait: float = 1.0) -> None:
        """Cancel everything and end the worker; waits at most so many seconds, the stop ladder goes on behind."""
        for job in list(self._jobs):
            self.cancel(job)
        self.release()(wait)
        self._told.clear()

    def _advance(self) -> None:
        job = self.busy
        if job is None or job.id is not None or self._launch is None:
            return
        if self._client is not None and self._client.state in (WorkerState.ENDING, WorkerState.DEAD):
            if self._client.state is WorkerState.ENDING:
                return  # two workers would share the memory; the ladder is short
            self._client = None
        if self._client is not None and self._client.launch != self._launch:
            self.release()  # the settings were changed while the last job ran
        if self._client is None:
            self._client = Client(self._launch, self._timings)
        if self._client.free:
            job.asked(self._client.ask(job.kind, **job.request))

    def _tell(self, job: Job, event: dict) -> None:
        if job.on_event is None:
            return
        try:
            job.on_event(job, event)
        except Exception as fault:  # noqa: BLE001 (an operator's mistake must not stop the pump)
            traceback.print_exc()
            self.cancel(job)
            job.fail(LgdError("internal", f"Blender's side failed ({type(fault).__name__}: {fault})."))


def _name(kind: str) -> str:
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{next(_numbers)}-{kind}"


def _tidy(folder: Path) -> None:
    # Only folders of this name's form, the newest kept, and none of today: another Blender may be at work there.
    try:
        past = sorted(entry for entry in folder.iterdir() if entry.is_dir() and entry.name.count("-") == 4)
        for entry in past[:-KEPT_JOBS]:
            if time.time() - entry.stat().st_mtime > 86400:
                shutil.rmtree(entry, ignore_errors=True)
    except OSError:
        pass


_session: Session | None = None


def get() -> Session:
    """The one Session."""
    global _session
    if _session is None:
        _session = Session()
    return _session
