# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the worker's Python environment: a plan, its steps as a state that a pump polls, resumable, cancellable. No bpy.

The folder: environment.json (what is planned and which steps are done; `complete` is false until the last one is),
setup.log, venv/, and uv with its downloads while they are needed.
"""

import contextlib
import dataclasses
import enum
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .._bridge import LgdError, models, moving
from . import environment_uv
from .environment_check import REDISTRIBUTABLE, Finding, check, complete
from .environment_hardware import TorchBuild
from .environment_install import explain, install_command, missing_wheels, signal_tree, synchronised
from .environment_plan import Plan, environment_python, installed, plan, status
from .environment_python import Interpreter, ask, clean_environment, find
from .requirements import MODULES, PYTHONS

__all__ = [
    "Finding",
    "Plan",
    "Setup",
    "State",
    "check",
    "complete",
    "environment_python",
    "installed",
    "plan",
    "status",
]

STEPS = {
    "uv": 0.04,
    "python": 0.04,
    "venv": 0.02,
    "torch": 0.5,
    "packages": 0.28,
    "models": 0.04,
    "check": 0.08,
}  # share of time
LOG_KEPT = 400  # lines in memory
STOP_LADDER = 3.0  # s between terminate and kill
STOP_WAIT = 10.0  # s that a worker has to end before its environment is removed


class State(str, enum.Enum):
    """Where a set-up is."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    DONE = "DONE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class Report(NamedTuple):
    """What `poll` tells: state, fraction in [0, 1], the last line (or the sentence of the fault)."""

    state: State
    fraction: float
    line: str


class Setup:
    """One run of a plan, in a thread of its own; poll and cancel come from Blender's thread and never wait."""

    def __init__(self, plan: Plan, fresh: bool = False, after: Callable[[float], bool] | None = None):
        """fresh: from nothing (repair); after: waits so many seconds for the end of who uses the environment (the worker)."""
        self.plan = plan
        self._fresh, self._after = fresh, after
        self._state = State.WAITING
        self._step, self._within, self._line = "", 0.0, ""
        self._done: list[str] = []
        self._whole = False
        self._lines: list[str] = []
        self._stop = threading.Event()
        self._process: subprocess.Popen | None = None
        self._thread: threading.Thread | None = None
        self._started = 0.0
        self.seconds: dict[str, float] = {}
        self.error: LgdError | None = None
        self.findings: list[Finding] = []

    def start(self) -> "Setup":
        """Start, or go on where the same plan was left; `fresh` (repair) starts from nothing."""
        self._state = State.RUNNING
        self._thread = threading.Thread(target=self._run, name="lgd-setup", daemon=True)
        self._thread.start()
        return self

    def poll(self) -> Report:
        """State, fraction and last line."""
        share = sum(part for step, part in STEPS.items() if step in self._done)
        share += STEPS.get(self._step, 0.0) * self._within if self._step not in self._done else 0.0
        if self._state is State.DONE:
            share = 1.0
        return Report(self._state, min(share, 1.0), self.error.text if self.error else self._line)

    def log(self, lines: int = 20) -> list[str]:
        """The last lines of the log."""
        return self._lines[-lines:]

    @property
    def log_file(self) -> Path:
        """The whole log."""
        return self.plan.folder / "setup.log"

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._state in (State.DONE, State.FAILED, State.CANCELLED)

    def cancel(self) -> None:
        """End it; what is done stays, and a later start goes on from there."""
        if not self.over:
            self._state = State.CANCELLING
            self._stop.set()
            threading.Thread(target=self._end_process, daemon=True).start()

    def end(self) -> None:
        """Cancel it and wait until what it runs is gone: a program that quits takes its threads along, but not what they started."""
        self.cancel()
        self.wait(2 * STOP_LADDER)

    def wait(self, seconds: float | None = None) -> Report:
        """For scripts: wait for the end."""
        if self._thread:
            self._thread.join(seconds)
        return self.poll()

    def _run(self) -> None:
        try:
            self._prepare()
            for step in STEPS:
                if self._stop.is_set():
                    raise LgdError("cancelled")
                if step in self._done:
                    continue
                self._step, self._within = step, 0.0
                start = time.monotonic()
                getattr(self, f"_do_{step}")()
                self.seconds[step] = round(time.monotonic() - start, 2)
                self._done.append(step)
                self._write(self._whole)
            self._write(True)
            # What uv has fetched is linked into the environment; only the copies in its cache go.
            moving.remove(self.plan.folder / "cache", ignore_errors=True)
            self._say("The set-up is complete.")
            self._state = State.DONE
        except LgdError as fault:
            cancelled = fault.code == "cancelled" or self._stop.is_set()
            self.error = None if cancelled else fault
            self._say("Cancelled; what is done stays." if cancelled else fault.sentence())
            self._state = State.CANCELLED if cancelled else State.FAILED
        except Exception as fault:  # noqa: BLE001 (a thread's fault must reach the user)
            text = f"The set-up failed ({type(fault).__name__}: {fault})."
            self.error = LgdError("setup_incomplete", text, f"The log: {self.log_file}")
            self._say(self.error.sentence())
            self._state = State.CANCELLED if self._stop.is_set() else State.FAILED

    def _prepare(self) -> None:
        self._started = time.monotonic()
        folder = self.plan.folder
        past = status(folder)
        if self._fresh or past.get("plan") != self.plan.fingerprint():
            if self._after is not None:
                self._after(STOP_WAIT)  # Windows keeps files that are in use
            try:
                (folder / "environment.json").unlink(missing_ok=True)  # first: what is half removed is not set up
            except OSError as fault:
                raise self._kept(fault) from fault
            self._remove_old()
            past = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._done = [step for step in past.get("done", []) if step in STEPS]
        if not (folder / "venv" / "pyvenv.cfg").is_file():
            self._done = []
        self._done = [step for step in self._done if step != "check"]
        if not models.there(models.mediapipe(folder / "venv")):
            self._done = [step for step in self._done if step != "models"]
        self._say(f"{time.strftime('%Y-%m-%d %H:%M:%S')} set-up in {folder}; {self.plan.torch.sentence}")
        if self._done:
            self._say(f"Going on after: {', '.join(self._done)}.")
        self._interpreter = past.get("python", "")
        # Where the large network alone is to come, without which all works, it stays complete meanwhile, and if that is cancelled.
        self._whole = bool(past.get("complete")) and set(STEPS) - set(self._done) <= {"models", "check"}
        self._write(self._whole)

    def _remove_old(self) -> None:
        try:
            if (self.plan.folder / "venv").exists():
                moving.remove(self.plan.folder / "venv")
        except OSError as fault:
            raise self._kept(fault) from fault

    def _kept(self, fault: OSError) -> LgdError:
        text = f"The old environment in {self.plan.folder} cannot be removed: {fault.strerror}."
        return LgdError("disk", text, "Close what uses it (another Blender, a terminal) and start the set-up again.")

    def _write(self, whole: bool) -> None:
        content = {
            "complete": whole,
            "plan": self.plan.fingerprint(),
            "done": self._done,
            "python": self._interpreter,
            "torch": dataclasses.asdict(self.plan.torch),
            "smplx": self.plan.smplx,
            "requirements": [self.plan.torch_requirement, *self.plan.requirements],
        }
        part = self.plan.folder / "environment.json.part"
        part.write_text(json.dumps(content, indent=1), "utf-8")
        moving.replace(part, self.plan.folder / "environment.json")

    def _do_uv(self) -> None:
        if self.plan.installer != "uv":
            return
        found = probe_system()
        self._say(f"uv {environment_uv.UV_VERSION}")
        environment_uv.obtain(
            self.plan.folder, *found, self.plan.offline, on_part=self._bytes, should_stop=self._stop.is_set
        )

    def _bytes(self, done: int, total: int) -> None:
        self._within = done / total if total else 0.0
        self._line = f"uv: {done / 1e6:.1f} of {total / 1e6:.1f} MB"

    def _do_python(self) -> None:
        wanted = " or ".join(f"{major}.{minor}" for major, minor in PYTHONS)
        if self.plan.python:
            chosen: Interpreter | None = ask(self.plan.python)
            if chosen is None:
                raise LgdError(
                    "setup_incomplete", f"{self.plan.python} does not start as a Python.", "Choose another."
                )
            if not chosen.suits:
                other = f"is for {chosen.foreign}, which the packages do not come for." if chosen.foreign else f"is not {wanted}, which the packages come for."
                text = f"{chosen.label} {other}"
                raise LgdError("setup_incomplete", text, "Choose another, or leave the field empty.")
        else:
            chosen = next(iter(find(self.plan.folder / "python")), None)
        if chosen is None and self.plan.installer == "uv" and self.plan.offline is None:
            self._say(f"No Python {wanted} was found here: uv fetches one.")
            major, minor = PYTHONS[0]
            self._command([str(self._uv), "python", "install", f"{major}.{minor}", "--no-config", "--no-bin", "--no-registry"], "python")
            chosen = next(iter(find(self.plan.folder / "python")), None)
        if chosen is None:
            text = f"No Python {wanted} was found on this computer."
            raise LgdError("setup_incomplete", text, "Install one and run the set-up again, or point to one.")
        self._interpreter = chosen.path
        self._say(chosen.label)

    def _do_venv(self) -> None:
        target = self.plan.folder / "venv"
        self._remove_old()
        if self.plan.installer == "uv":
            command = [
                str(self._uv),
                "venv",
                "--no-config",
                "--no-project",
                "--python",
                self._interpreter,
                str(target),
            ]
            if self.plan.offline is not None:
                command.insert(2, "--offline")
        else:
            command = [self._interpreter, "-I", "-m", "venv", str(target)]
        self._command(command, "venv")

    def _do_torch(self) -> None:
        if self.plan.offline is not None:
            wanted = (self.plan.torch_requirement, *self.plan.requirements)
            version = ask(environment_python(self.plan.folder))
            missing = missing_wheels(self.plan.offline, wanted, version.version if version else (3, 11, 0))
            if missing:
                text = f"The offline folder {self.plan.offline} has no wheel of {', '.join(missing)}."
                raise LgdError("setup_incomplete", text, "Add what is missing and press Set Up again.")
        self._install((self.plan.torch_requirement,), self.plan.torch)

    def _do_packages(self) -> None:
        self._install(self.plan.requirements, None)

    def _do_models(self) -> None:
        try:
            models.fetch(models.mediapipe(self.plan.folder / "venv"), self.plan.offline, self._megabytes, self._stop.is_set, environment_uv.context())
            self._say(f"{models.NAME} is there.")
        except models.Cancelled:
            raise LgdError("cancelled") from None
        except models.Unfetched as fault:  # all works without it
            self._say(f"{fault} {models.WITHOUT}")

    def _megabytes(self, done: float, total: float) -> None:
        self._within = done / total if total else 0.0
        self._line = f"{models.NAME}: {done:.0f} of {total:.0f} MB"

    def _do_check(self) -> None:
        modules = {name: row for name, row in MODULES.items() if name in self.plan.modules}
        self._say("Checking that everything loads.")
        self.findings = check(environment_python(self.plan.folder), self.plan.bridge, modules)
        for finding in self.findings:
            self._say(finding.sentence)
        bad = [finding.sentence for finding in self.findings if not finding.ok and finding.needed]
        if bad:
            self._write(False)
            raise LgdError("setup_incomplete", " ".join(bad), "" if REDISTRIBUTABLE in bad[0] else "Press Repair to make the environment anew.")

    @property
    def _uv(self) -> Path:
        return self.plan.folder / f"uv-{environment_uv.UV_VERSION}" / environment_uv.program_name()

    def _install(self, requirements: tuple[str, ...], torch: TorchBuild | None) -> None:
        constraints = self.plan.folder / "constraints.txt"
        constraints.write_text(
            "\n".join([self.plan.torch_requirement, *self.plan.constraints]) + "\n", "utf-8"
        )
        python = environment_python(self.plan.folder)
        command = install_command(
            python, requirements, constraints, torch, uv=self._uv if self.plan.installer == "uv" else None,
            offline=self.plan.offline,
        )  # fmt: skip
        self._command(command, "packages" if torch is None else "torch")

    def _command(self, command: list[str], what: str) -> None:
        self._say("> " + " ".join(command))
        more = {
            "UV_CACHE_DIR": str(self.plan.folder / "cache"),
            "UV_PYTHON_INSTALL_DIR": str(self.plan.folder / "python"),
            "UV_NO_PROGRESS": "1",
            **({"UV_LINK_MODE": "copy"} if synchronised(self.plan.folder) else {}),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
        }
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            cwd=self.plan.folder,
            env=clean_environment(**more),
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            start_new_session=sys.platform != "win32",
        )
        if self._stop.is_set():  # cancelled between the check and the start
            self._end_process()
        printed = []
        assert self._process.stdout
        for line in self._process.stdout:
            if line.strip():
                printed.append(line.rstrip())
                self._say(line.rstrip())
                self._within = 1 - (1 - self._within) * 0.93  # how many lines will come is not known
        code = self._process.wait()
        self._process = None
        if self._stop.is_set():
            raise LgdError("cancelled")
        if code:
            raise explain(what, printed, code, self.plan.offline, self.log_file)

    def _end_process(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        signal_tree(process, "SIGTERM")
        try:
            process.wait(STOP_LADDER)
        except subprocess.TimeoutExpired:
            signal_tree(process, "SIGKILL")

    def _say(self, line: str) -> None:
        self._line = line
        self._lines.append(line)
        del self._lines[:-LOG_KEPT]
        with contextlib.suppress(OSError), open(self.log_file, "a", encoding="utf-8") as file:
            file.write(line + "\n")


def probe_system() -> tuple[str, str]:
    """This machine's system and processor, as uv's wheels are listed."""
    import platform

    return platform.system(), platform.machine()
