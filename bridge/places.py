# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things lie: the user's folder, the logs, the version (standard library only)."""

import atexit
import contextlib
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
from functools import lru_cache
from pathlib import Path

BRIDGE = Path(__file__).resolve().parent


def user_folder() -> Path:
    """The folder of the user's files (not created here): LGD_HOME, else the platform's user-data folder."""
    home = os.environ.get("LGD_HOME")
    if home:
        return Path(home).expanduser()
    try:
        own = Path.home()
    except RuntimeError:  # of a user whom the system does not know (containers)
        own = Path(tempfile.gettempdir())
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or own / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = own / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or own / ".local" / "share")
    return base / "lgd_blender_addon"


def named(path: str | Path) -> Path:
    """The file that a path names: ~ is the user's home, but for a file that is called so."""
    given = Path(path)
    if not str(given).startswith("~") or given.exists():
        return given
    try:
        return given.expanduser()
    except RuntimeError:  # nobody's home
        return given


@lru_cache(maxsize=1)
def version() -> str:
    """The version in the extension's manifest, which lies beside `bridge` in the zip and in the add-on in a checkout."""
    for folder in (BRIDGE.parent, BRIDGE.parent / "lgd_blender_addon"):
        try:
            text = (folder / "blender_manifest.toml").read_text("utf-8")
        except OSError:
            continue
        match = re.search(r'^version\s*=\s*"([^"]+)"', text, re.MULTILINE)
        if match:
            return match.group(1)
    return "0.0.0"


def write_traceback(error: BaseException) -> Path:
    """Write the traceback of `error` to a new file in the log folder (or, failing that, a temporary one)."""
    text = "".join(traceback.format_exception(error))
    name = f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    for folder in (user_folder() / "logs", Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with open(folder / name, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"bridge {version()}, Python {sys.version}, {sys.platform}\n{text}\n")
            return folder / name
        except OSError:
            continue
    raise OSError("no folder takes a log file")


DAY = 24 * 3600.0  # s
_passing: set[Path] = set()


def plain_temporary() -> Path:
    """Where temporary files lie. On Windows, where mediapipe and COLMAP open no path with letters that they do not know, and a user's name is part of it,
    a folder of all users where that has some beyond ASCII."""
    own = Path(tempfile.gettempdir())
    for name in ("ProgramData", "PUBLIC") if sys.platform == "win32" and not str(own).isascii() else ():
        with contextlib.suppress(OSError, KeyError):
            plain = Path(os.environ[name], "lgd_blender_addon")
            plain.mkdir(exist_ok=True)
            if str(plain).isascii():
                return plain
    return own


def passing_folder(prefix: str) -> Path:
    """A new temporary folder; `drop` removes it, and `drop_all` where the process ends first. Those of processes that were killed go after a day."""
    base = plain_temporary()
    for old in base.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > DAY:
                shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
    _passing.add(folder)
    atexit.register(drop_all)
    return folder


def drop(folder: Path) -> None:
    """Remove a passing folder, as far as that can be done."""
    shutil.rmtree(folder, ignore_errors=True)
    _passing.discard(folder)


def drop_all() -> None:
    """Remove the passing folders that are left, for a process that ends without waiting for the threads that use them."""
    for folder in list(_passing):
        drop(folder)
