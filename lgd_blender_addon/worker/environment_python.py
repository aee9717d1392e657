# SPDX-License-Identifier: GPL-3.0-or-later
"""Interpreters on this machine that the worker's packages come for: Blender's own, on PATH, pyenv's, uv's, the launcher's."""

import json
import locale
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .process import DROPPED
from .requirements import PYTHONS

QUESTION = (
    "import json, sys, platform, sysconfig; "
    "print(json.dumps([list(sys.version_info[:3]), sys.executable, platform.machine(), sys.maxsize > 2**32, sysconfig.get_platform()]))"
)


@dataclass(frozen=True)
class Interpreter:
    """A Python that answered: its path, its version, where it was found, and the processor it is for where the packages do not come for that."""

    path: str
    version: tuple[int, int, int]
    origin: str
    foreign: str = ""

    @property
    def suits(self) -> bool:
        """Whether the worker's packages come for this version and processor."""
        return self.version[:2] in PYTHONS and not self.foreign

    @property
    def label(self) -> str:
        """A line for a list."""
        return f"Python {'.'.join(map(str, self.version))} ({self.origin}): {self.path}"


def foreign(machine: str, built: str) -> str:
    """The processor that a Python is built for, where the packages do not come for it: Intel's on a Mac, as Homebrew of an earlier one brings, and arm64
    on Windows. machine, built: `platform.machine()` and `sysconfig.get_platform()` in it; a universal one runs as the Mac's own."""
    if built.startswith("macosx") and machine != "arm64":
        return "Intel processors"
    return "arm64" if built == "win-arm64" else ""


def clean_environment(**more: str) -> dict[str, str]:
    """This process's variables without those by which Blender's Python would leak into another."""
    variables = {key: text for key, text in os.environ.items() if key.upper() not in DROPPED}
    return {**variables, "PYTHONUTF8": "1", **more}


def ask(path: str | os.PathLike, origin: str = "chosen") -> Interpreter | None:
    """Start a Python and have it say what it is; None where it is none, or a 32-bit one."""
    try:
        done = subprocess.run(
            [str(path), "-I", "-c", QUESTION],
            capture_output=True,
            text=True,
            timeout=20,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        version, executable, machine, wide, built = json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
    if not wide:
        return None
    return Interpreter(str(executable or path), (version[0], version[1], version[2]), origin, foreign(machine, built))


def candidates(uv_folder: Path | None = None) -> Iterator[tuple[str, str]]:
    """(path, origin) of what may be a suitable Python, the best first; nothing is started but Windows' launcher."""
    for major, minor in PYTHONS:
        found = shutil.which(f"python{major}.{minor}", path=_search_path(f"{major}.{minor}"))
        if found:
            yield found, "PATH"
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from ((path, "pyenv") for path in _in_folder(root / "versions"))
    for folder in _uv_folders(uv_folder):
        yield from ((path, "uv") for path in _in_folder(folder))
    yield from ((path, "py launcher") for path in _launcher())
    if sys.executable and not passing(sys.executable):
        yield sys.executable, "Blender"
    for name in ("python3", "python"):
        found = shutil.which(name)
        if found and (sys.platform != "darwin" or found != MAC_STUB):
            yield found, "PATH"


MAC_STUB = "/usr/bin/python3"  # where the developers' tools are not installed it asks, in a window, to install them; with them it is 3.9


def _search_path(version: str) -> str:
    """PATH, and on a Mac, whose Finder starts Blender with hardly any, where Homebrew and python.org install."""
    places = [os.environ.get("PATH") or os.defpath]
    if sys.platform == "darwin":
        places += ["/opt/homebrew/bin", "/usr/local/bin", f"/Library/Frameworks/Python.framework/Versions/{version}/bin"]
    return os.pathsep.join(places)


def passing(path: str) -> bool:
    """Whether a Blender's Python lies where no environment can be based on it, since its place changes: with each update from Microsoft's
    store, and on a Mac where Blender was started from a download or a disk image."""
    return path.startswith("/Volumes/") or not {"WindowsApps", "AppTranslocation"}.isdisjoint(re.split(r"[\\/]", path))


def find(uv_folder: Path | None = None, suitable: bool = True) -> list[Interpreter]:
    """The interpreters that answer, each once; `suitable` leaves the versions out that the packages do not come for."""
    found: list[Interpreter] = []
    for path, origin in candidates(uv_folder):
        known = {os.path.realpath(entry.path) for entry in found}
        if os.path.realpath(path) in known:
            continue
        entry = ask(path, origin)
        if entry is None or os.path.realpath(entry.path) in known or (suitable and not entry.suits):
            continue
        found.append(entry)
    return found


def python_in(folder: Path) -> Path:
    """The interpreter of a virtual environment or a Python's folder."""
    if os.name == "nt":
        inner = folder / "Scripts" / "python.exe"
        return inner if (folder / "pyvenv.cfg").exists() or inner.exists() else folder / "python.exe"
    return folder / "bin" / "python"


def _in_folder(folder: Path) -> Iterator[str]:
    # versions/3.11.7 (pyenv), cpython-3.12.4-linux-x86_64-gnu (uv)
    try:
        entries = sorted(folder.iterdir(), reverse=True)
    except OSError:
        return
    for major, minor in PYTHONS:
        for entry in entries:
            if re.search(rf"(^|-){major}\.{minor}(\.|-|$)", entry.name):
                for path in (entry / "bin" / f"python{major}.{minor}", entry / "python.exe"):
                    if path.is_file():
                        yield str(path)


def _uv_folders(uv_folder: Path | None) -> list[Path]:
    folders = [uv_folder] if uv_folder else []
    if os.environ.get("UV_PYTHON_INSTALL_DIR"):
        folders.append(Path(os.environ["UV_PYTHON_INSTALL_DIR"]))
    if os.name == "nt":
        folders.append(Path(os.environ.get("APPDATA") or Path.home()) / "uv" / "python")
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
        folders.append(base / "uv" / "python")
    return folders


def launcher_paths(text: str) -> list[str]:
    """The paths in what Windows' `py -0p` prints, of the versions that suit."""
    paths = []
    for line in text.splitlines():
        match = re.match(r"\s*-(?:V:)?(\d+)\.(\d+)(?:-64)?\S*\s+\*?\s*(.+?)\s*$", line)
        if match and (int(match.group(1)), int(match.group(2))) in PYTHONS:
            paths.append(match.group(3))
    return paths


def _launcher() -> list[str]:
    launcher = shutil.which("py") if os.name == "nt" else None
    if launcher is None:
        return []
    try:
        done = subprocess.run(
            [launcher, "-0p"], capture_output=True, timeout=10, stdin=subprocess.DEVNULL,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    try:
        return launcher_paths(done.stdout.decode("utf-8"))
    except UnicodeDecodeError:  # one that writes in the user's code page
        return launcher_paths(done.stdout.decode(locale.getencoding(), "replace"))
