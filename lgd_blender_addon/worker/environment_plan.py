# SPDX-License-Identifier: GPL-3.0-or-later
"""What an environment is to hold, and whether a folder holds one. No bpy."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from .._bridge import LgdError
from .environment_hardware import TorchBuild, choose, probe, unsuited
from .environment_python import python_in
from .requirements import CONSTRAINTS, PACKAGES, SMPLX, TORCH


@dataclass(frozen=True)
class Plan:
    """All that a set-up depends on.

    folder: of the environment. installer: uv or pip. python: an interpreter, or empty to find one (uv may fetch one).
    offline: a folder of wheels; with it nothing is asked of the network. torch: the build. smplx: the user's answer.
    """

    folder: Path
    torch: TorchBuild
    smplx: bool
    installer: str = "uv"
    python: str = ""
    offline: Path | None = None
    torch_requirement: str = TORCH
    packages: tuple[str, ...] = PACKAGES
    constraints: tuple[str, ...] = CONSTRAINTS
    modules: tuple[str, ...] = ("torch", "numpy", "scipy", "cv2", "mediapipe")
    bridge: Path | None = None

    def fingerprint(self) -> str:
        """Equal for plans that lead to the same environment."""
        parts = (
            self.torch.kind, self.torch.tag, self.smplx, self.installer, self.python, self.torch_requirement,
            self.packages, self.constraints,
        )  # fmt: skip
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    @property
    def requirements(self) -> tuple[str, ...]:
        """The packages beside torch."""
        return (*self.packages, *((SMPLX,) if self.smplx else ()))


def plan(folder: Path, *, smplx: bool, build: str = "auto", **options) -> Plan:
    """A plan for this machine; `build`: auto or a kind of torch build. Runs the hardware's probe: takes a second.

    Raises LgdError where the packages do not come for the machine.
    """
    found = probe()
    text = unsuited(found)
    if text:
        raise LgdError("setup_incomplete", text, "Point to a Python of your own that has other releases of them.")
    return Plan(folder=Path(folder), torch=choose(found, build), smplx=smplx, **options)


def environment_python(folder: Path) -> Path:
    """The interpreter of the environment in `folder`, there or not."""
    return python_in(Path(folder) / "venv")


def status(folder: Path) -> dict:
    """environment.json's content, empty where there is none."""
    try:
        return json.loads((Path(folder) / "environment.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def installed(folder: Path) -> bool:
    """Whether a set-up was completed there and its interpreter is still there; starts nothing."""
    return bool(status(folder).get("complete")) and environment_python(folder).is_file()
