# SPDX-License-Identifier: GPL-3.0-or-later
"""Misbehaving worker programs, and a session that is quick to lose patience with them."""

import ctypes
import os
import sys
import textwrap
import time
from pathlib import Path

from lgd_blender_addon.session import Session
from lgd_blender_addon.worker.client import Timings

ROOT = Path(__file__).resolve().parents[2]
QUICK = Timings(start=10.0, ping=0.1, silence=1.5, cancel=0.6, terminate=0.4, gone=0.5, tick=0.02)

# A worker with the real server; its jobs are what the request's `mode` asks for.
OBEDIENT = """
import os, sys, time
from bridge.server import serve

class Cancelled(Exception):
    code, text, hint, action = "cancelled", "Cancelled.", "", ""

def fit(request, task):
    return JOBS[request.get("mode") or "quick"](request, task)

def quick(request, task):
    for n in range(4):
        task.progress("fit", n + 1, 4)
    path = os.path.join(request["out"], "motion.npz")
    open(path, "wb").close()
    return {"motions": [path], "traces": [], "keypoints": None}

def patient(request, task):
    for n in range(100000):
        task.send("log", text=str(n))
        if task.should_stop():
            raise Cancelled()
        time.sleep(0.005)

def deaf(request, task):
    task.progress("fit", 1, 2)
    time.sleep(60)

JOBS = {"quick": quick, "patient": patient, "deaf": deaf}
EXTRA
serve({"fit": fit}, "1.2.3")
"""


def alive(pid: int) -> bool:
    """Whether a process runs (one that ended and waits to be noticed does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in "ZX"
    except OSError:
        pass
    if sys.platform.startswith("linux"):
        return False
    if sys.platform == "win32":  # where os.kill(pid, 0) would send Ctrl-C
        kernel, code = ctypes.windll.kernel32, ctypes.c_ulong()
        process = kernel.OpenProcess(0x1000, False, pid)  # to ask about it
        still = bool(process) and kernel.GetExitCodeProcess(process, ctypes.byref(code)) and code.value == 259
        kernel.CloseHandle(process)
        return bool(still)
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def until(condition, seconds: float = 10.0):
    """Wait for a condition; its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)
    return value


class Desk:
    """A session with a worker program, and what came out of its pump."""

    def __init__(self, folder: Path, timings: Timings = QUICK):
        self.folder = folder
        self.session = Session(timings)
        self.events: list = []

    def program(self, source: str) -> "Desk":
        """Use this source as the worker's main module; `bridge.*` of the project can be imported in it."""
        package = self.folder / "worker" / "bridge"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text(f"__path__.append({str(ROOT / 'bridge')!r})\n")
        (package / "__main__.py").write_text(textwrap.dedent(source))
        self.session.configure(sys.executable, package.parent, self.folder / "user")
        return self

    def obedient(self, extra: str = "") -> "Desk":
        """Use the real server with the jobs above and more."""
        return self.program(OBEDIENT.replace("EXTRA", textwrap.dedent(extra)))

    def fit(self, mode: str = "quick", **fields):
        """Start a job."""
        return self.session.start("fit", {"keypoints": "k.npz", "mode": mode, **fields})

    def pump(self, condition, seconds: float = 10.0):
        """Pump until the condition holds."""

        def step():
            self.events += self.session.pump()
            return condition()

        return until(step, seconds)

    def over(self, job, seconds: float = 10.0):
        """Pump until the job is over; the job."""
        self.pump(lambda: job.over, seconds)
        return job

    def types(self, job) -> list[str]:
        """The types of the events that came for a job."""
        return [event["type"] for owner, event in self.events if owner is job]
