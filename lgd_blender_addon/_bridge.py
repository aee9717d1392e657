# SPDX-License-Identifier: GPL-3.0-or-later
"""Where `bridge/` lies (inside the add-on in the zip, beside it in a checkout), and its modules used in Blender."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_HERE = Path(__file__).resolve().parent


def _find() -> Path:
    for folder in (_HERE, _HERE.parent):
        if (folder / "bridge" / "protocol.py").is_file():
            return folder
    raise ImportError("The add-on is incomplete: its folder `bridge` is missing. Install it again.")


def _load(name: str) -> ModuleType:
    # By file and under the add-on's own name: nothing is put on sys.path, and no package `bridge` of others is met.
    full = f"{__package__}._bridge_{name}"
    if full in sys.modules:
        return sys.modules[full]
    spec = importlib.util.spec_from_file_location(full, FOLDER / "bridge" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    spec.loader.exec_module(module)
    return module


FOLDER = _find()
"""The folder that holds `bridge/`: what the worker's start command puts on its path."""
protocol = _load("protocol")
errors = _load("errors")
counting = _load("counting")
arrays = _load("arrays")
models = _load("models")
LgdError = errors.LgdError
