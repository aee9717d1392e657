# SPDX-License-Identifier: GPL-3.0-or-later
"""Putting a written file in its place, and removing folders, as Windows has it too (standard library only; Blender loads it too)."""

import os
import shutil
import time
from pathlib import Path

_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)  # s


def replace(part: Path, target: Path) -> None:
    """`os.replace`. On Windows that fails while anybody has one of the two open, and scanners of viruses open what was just written:
    there it is tried for some 1.5 s. Raises OSError."""
    for pause in _PAUSES if os.name == "nt" else ():
        try:
            os.replace(part, target)
            return
        except PermissionError:
            time.sleep(pause)
    os.replace(part, target)


def remove(folder: Path, ignore_errors: bool = False) -> None:
    """`shutil.rmtree`, also of paths longer than the 260 letters that Windows takes without this prefix: the licences in torch's wheel alone
    have 167. Raises OSError."""
    shutil.rmtree(unlimited(folder), ignore_errors=ignore_errors)


def unlimited(folder: Path) -> str:
    """A folder's full path; on Windows in the form that has no limit of length."""
    full = os.path.abspath(folder)
    if os.name != "nt" or full.startswith("\\\\?\\"):
        return full
    return "\\\\?\\UNC" + full[1:] if full.startswith("\\\\") else "\\\\?\\" + full
