# SPDX-License-Identifier: GPL-3.0-or-later
"""COLMAP's steps in processes of their own: several at a time, ended at once when told to, and what ends COLMAP (which ends its whole
process where it can write no more) ends nothing else."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import LgdError
from ..places import drop, passing_folder

# Isolated (-I) as the worker is: no module of the folder where it was started stands in the way, nor what the environment tells Python.
START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from bridge.keypoints.apart import run; run()"
OFTEN = 0.05  # s between two looks at what runs


def check_installed() -> None:
    """Raises LgdError setup_incomplete where COLMAP is not."""
    try:
        found = importlib.util.find_spec("pycolmap")
    except ValueError:  # as where its import failed
        found = None
    if found is None:
        raise LgdError(
            "setup_incomplete", "COLMAP, which finds the path of a camera that travels, is not installed.", "Press Repair in the preferences, or set Camera to New."
        )


class Apart:
    """Runs steps of `colmap` on what is in a temporary folder, `place`, which goes at the end. Raises LgdError disk where none can be made."""

    def __init__(self, should_stop: Callable[[], bool] | None):
        self.should_stop = should_stop or (lambda: False)
        try:
            self.place = passing_folder("lgd-path-")
        except OSError as fault:  # where they are may be gone since the worker began
            raise LgdError("disk", f"No temporary folder can be made: {fault.strerror or fault}.", "Free some space, or release the worker.") from fault

    def check(self) -> None:
        """Raises LgdError cancelled where that is so."""
        if self.should_stop():
            raise LgdError("cancelled", "The search for the camera's path was cancelled.")

    def __call__(self, step: str, *calls: dict, on_progress: Callable[[int], None] | None = None) -> list[dict[str, np.ndarray] | None]:
        """What a step gives for each of several calls, side by side: its arrays, or None of one that failed, which standard error has
        the reason of, or of all where the system starts no process. Calls hold what JSON does. Raises LgdError cancelled."""
        started = []
        try:
            for number, call in enumerate(calls):
                out = self.place / f"{step}{number}.npz"
                job = {"step": step, "place": str(self.place), "out": str(out), "call": call}
                process = subprocess.Popen(
                    [sys.executable, "-I", "-X", "utf8", "-c", START, json.dumps(sys.path)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                )  # fmt: skip
                started.append((process, out))
                try:
                    process.stdin.write(json.dumps(job).encode() + b"\n")
                    process.stdin.flush()  # left open: its end is ours
                except OSError:  # it ended
                    pass
            ended = -1
            while True:
                before, ended = ended, sum(process.poll() is not None for process, _ in started)
                if on_progress and ended != before:
                    on_progress(ended)
                if ended == len(started):
                    return [_read(out) if process.returncode == 0 and out.is_file() else None for process, out in started]
                self.check()
                time.sleep(OFTEN)
        except OSError:  # too many processes, or too little memory: no reason to lose what does without
            traceback.print_exc()
            return [None] * len(calls)
        finally:
            for process, _ in started:
                process.kill()
                process.wait()
                try:
                    process.stdin.close()
                except OSError:
                    pass

    def __enter__(self) -> Apart:
        return self

    def __exit__(self, *_) -> None:
        drop(self.place)


def _read(out: Path) -> dict[str, np.ndarray]:
    with np.load(out) as found:
        return dict(found)


def run() -> None:
    """A process that does one step: what and where comes as a line of JSON on standard input, and it ends with that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who interrupts the other process ends this one with it
    # Standard input is read apart from descriptor 0, as the worker's is: on Windows a library that looks at that while it is loaded, as numpy's
    # do, would wait for the reading thread, which reads until the other process ends.
    own, null = os.fdopen(os.dup(0), "rb"), os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    job = json.loads(own.readline())

    def end_with_parent() -> None:
        own.read()
        shutil.rmtree(job["place"], ignore_errors=True)  # whoever is killed removes nothing
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        from . import colmap

        found = getattr(colmap, job["step"])(Path(job["place"]), **job["call"])
        np.savez(job["out"], **found)
    except BaseException:  # noqa: BLE001 (an end of Python's own would crash over the other thread)
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)  # the other thread is not waited for
