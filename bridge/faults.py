# SPDX-License-Identifier: GPL-3.0-or-later
"""Unexpected exceptions become sentences, and the core's Python warnings become messages (standard library only)."""

import contextlib
import errno
import importlib.util
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import LgdError
from .models import MEDIAPIPE
from .places import BRIDGE, user_folder, write_traceback

# module to import: the package that has it; what Blender's way through a solve needs, the default detector with it
PACKAGES = {"numpy": "numpy", "scipy": "scipy", "torch": "torch", "cv2": "opencv-python", "mediapipe": MEDIAPIPE}

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
_NO_MEMORY = re.compile(r"(allocate|not enough|out of|insufficient) memory", re.IGNORECASE)  # torch's RuntimeError, OpenCV's error, the system's
_NO_PATH = {errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR}


@contextlib.contextmanager
def translated(warn: Callable[[str], None]) -> Iterator[None]:
    """Let LgdError pass, turn any other Exception into one, and hand warnings that the core raises to `warn`.

    The core tells the user something that does not end the job by `warnings.warn("A sentence.")`.
    """

    def show(message, category, filename, lineno, file=None, line=None):
        # stacklevel may point out of the core; deprecations of other packages are nobody's business here
        if issubclass(category, UserWarning) and os.path.normcase(os.path.realpath(filename)).startswith(os.path.normcase(BRIDGE)):
            warn(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        try:
            yield
        except LgdError:
            raise
        except Exception as error:
            raise translate(error) from error


def _package(name: str, absent: bool) -> LgdError:
    """A package to import that is absent or does not load; of absent ones all are named, so that one installation will do."""
    packages = [PACKAGES.get(name, name)]
    if absent:
        packages += [package for module, package in PACKAGES.items() if module != name and importlib.util.find_spec(module) is None]
    several = f"s {', '.join(packages[:-1])} and {packages[-1]} are" if len(packages) > 1 else f" {packages[0]} is"
    fault = f"{several} missing in" if absent else f" {packages[0]} cannot be loaded by"
    own = (user_folder() / "env").resolve() in Path(sys.prefix).resolve().parents
    again = "" if absent else "--force-reinstall "
    python = f'"{sys.executable}"' if " " in sys.executable else sys.executable  # as C:\\Program Files has
    hint = "Run or repair the set-up." if own else f"Install {'them' if len(packages) > 1 else 'it'} there: {python} -m pip install {again}{' '.join(packages)}"
    return LgdError("setup_incomplete", f"The package{fault} the Python that runs the worker.", hint)


def translate(error: Exception) -> LgdError:
    """The LgdError that says what an unexpected exception means to the user; a defect's traceback goes to a file."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or _NO_MEMORY.search(str(error)):
        return LgdError("out_of_memory")
    if isinstance(error, ImportError):
        name = (error.name or "").split(".")[0]
        if name and name != "bridge":
            return _package(name, isinstance(error, ModuleNotFoundError))
    if isinstance(error, OSError) and error.errno in _FULL:
        text = f"{error.filename or 'A file'} cannot be used: {error.strerror}."
        return LgdError("disk", text, "Check the free space and the permissions.")
    if isinstance(error, OSError) and error.errno in _NO_PATH and error.filename:
        return LgdError("bad_input", f"{str(error.filename)[:200]} cannot be used: {error.strerror}.", "Check the path.")
    kind = type(error).__name__
    try:
        where = f"the details are in {write_traceback(error)}"
    except OSError:
        where = "and the log file could not be written"
    return LgdError("internal", f"Something failed unexpectedly ({kind}: {str(error)[:200]}); {where}.")
