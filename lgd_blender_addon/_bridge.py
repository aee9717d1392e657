# SPDX-License-Identifier: GPL-3.0-or-later
"""Where `bridge/` lies (inside the add-on in the zip, beside it in a checkout), and its modules used in Blender."""

import importlib
from pathlib import Path

_HERE = Path(__file__).resolve().parent


def _find() -> Path:
    for folder in (_HERE, _HERE.parent):
        if (folder / "bridge" / "protocol.py").is_file():
            return folder
    raise ImportError("The add-on is incomplete: its folder `bridge` is missing. Install it again.")


FOLDER = _find()
"""The folder that holds `bridge/`: what the worker's start command puts on its path."""
# Its modules are this one's own: nothing is put on sys.path, and no package `bridge` of others is met.
__path__ = [str(FOLDER / "bridge")]

protocol = importlib.import_module(f"{__name__}.protocol")
errors = importlib.import_module(f"{__name__}.errors")
counting = importlib.import_module(f"{__name__}.counting")
arrays = importlib.import_module(f"{__name__}.arrays")
models = importlib.import_module(f"{__name__}.models")
moving = importlib.import_module(f"{__name__}.moving")
LgdError = errors.LgdError
