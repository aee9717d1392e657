# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker's process: start it, write and read its lines, keep its standard error, end it. Threads, never Blender's."""

import collections
import os
import queue
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

START = "import sys, runpy; sys.path.insert(0, {folder!r}); runpy.run_module('bridge', run_name='__main__')"
# Blender's own Python must not leak into the worker's.
DROPPED = (
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONEXECUTABLE",
    "PYTHONUSERBASE",
    "VIRTUAL_ENV",
    "__PYVENV_LAUNCHER__",  # macOS
)
LOG_SIZE = 1 << 20  # bytes after which the log starts anew, the last one kept
TAIL_LINES = 30


@dataclass(frozen=True)
class Launch:
    """All that starting a worker depends on: python, the folder that holds `bridge/`, the user's folder, more variables."""

    python: str
    folder: Path
    user_folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def command(self) -> list[str]:
        """The start command (`python -I -m bridge` cannot find a package that is not installed)."""
        return [self.python, "-I", "-X", "utf8", "-c", START.format(folder=str(self.folder))]

    def environment(self) -> dict[str, str]:
        """The worker's environment variables: Blender's without its Python's."""
        variables = {key: text for key, text in os.environ.items() if key.upper() not in DROPPED}
        variables |= {"OMP_WAIT_POLICY": "PASSIVE", "LGD_HOME": str(self.user_folder)}
        return variables | self.variables

    @property
    def log(self) -> Path:
        """The file that takes the worker's standard error."""
        return self.user_folder / "logs" / "worker.log"


class Log:
    """A file that starts anew when it is full, and the last lines in memory. Never raises: a log ends no job."""

    def __init__(self, path: Path):
        self._path = path
        self._tail: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)

    def write(self, line: bytes) -> None:
        """Add one line."""
        self._tail.append(line[:500].decode("utf-8", "replace").rstrip())
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.is_file() and self._path.stat().st_size > LOG_SIZE:
                os.replace(self._path, self._path.with_suffix(".1.log"))
            with open(self._path, "ab") as file:
                file.write(line if line.endswith(b"\n") else line + b"\n")
        except OSError:
            pass

    def tail(self, lines: int = TAIL_LINES) -> str:
        """The last lines."""
        return "\n".join(list(self._tail)[-lines:])


class WorkerProcess:
    """One worker. `read` and `start` are for the thread that owns it; the rest never blocks and comes from anywhere."""

    def __init__(self, launch: Launch):
        self.launch = launch
        self.log = Log(launch.log)
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._popen: subprocess.Popen | None = None
        self._errors: threading.Thread | None = None

    def start(self) -> None:
        """Start the process and its two pipes' threads; raises OSError."""
        self.launch.user_folder.mkdir(parents=True, exist_ok=True)
        self._popen = subprocess.Popen(
            self.launch.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.launch.user_folder,
            env=self.launch.environment(),
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        self._errors = threading.Thread(target=self._keep_errors, name="lgd-stderr", daemon=True)
        self._errors.start()
        threading.Thread(target=self._write, name="lgd-stdin", daemon=True).start()

    def read(self, on_line: Callable[[bytes], None], limit: int) -> None:
        """Hand each line of standard output to `on_line`, cut after limit + 1 bytes, until the output ends."""
        assert self._popen and self._popen.stdout
        while line := self._popen.stdout.readline(limit + 1):
            on_line(line)
        self._popen.stdout.close()

    def send(self, line: bytes) -> None:
        """Put a line into the outbox; a thread writes it, since a stuck worker would hold the writer."""
        self._outbox.put(line)

    def close_input(self) -> None:
        """End the worker's standard input after what is in the outbox."""
        self._outbox.put(None)

    def terminate(self) -> None:
        """Ask the system to end the process."""
        if self._popen and self._popen.poll() is None:
            self._popen.terminate()

    def kill(self) -> None:
        """End the process."""
        if self._popen and self._popen.poll() is None:
            self._popen.kill()

    def code(self) -> int | None:
        """The exit code, or None while the process runs or was not started."""
        return self._popen.poll() if self._popen else None

    def wait(self, seconds: float) -> int | None:
        """The exit code, or None if the process still runs after so long."""
        if self._popen is None:
            return None
        try:
            code = self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        if self._errors:
            self._errors.join(0.5)  # the tail matters most at the end
        return code

    @property
    def pid(self) -> int | None:
        """The process id, once started."""
        return self._popen.pid if self._popen else None

    def _write(self) -> None:
        assert self._popen and self._popen.stdin
        pipe = self._popen.stdin
        try:
            while (line := self._outbox.get()) is not None:
                pipe.write(line)
                pipe.flush()
        except (OSError, ValueError):
            pass  # the reader sees the end
        try:
            pipe.close()
        except OSError:
            pass

    def _keep_errors(self) -> None:
        assert self._popen and self._popen.stderr
        while line := self._popen.stderr.readline(1 << 16):
            self.log.write(line)
        self._popen.stderr.close()
