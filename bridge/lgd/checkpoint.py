# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights: those that ship, found beside this file, and the user's own; loaded without pickled code, named by their content."""

import hashlib
from functools import lru_cache
from pathlib import Path

from ..errors import LgdError

FOLDER = Path(__file__).with_name("weights")
MODES = ("video", "paper")  # the first whose weights are here is the default
NAME = "Name what `bridge train` exported: best.pt in its folder."


@lru_cache
def _digest(path: Path, stamp: float) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def available_weights() -> dict[str, dict[str, str]]:
    """The modes whose weights are there: {mode: {"name", "hash", "file"}}."""
    found = {}
    for mode in MODES:
        path = FOLDER / f"{mode}.pt"
        if path.is_file():
            found[mode] = {"name": path.stem, "hash": _digest(path, path.stat().st_mtime), "file": str(path)}
    return found


def weights_name(mode: str, path: Path | None = None) -> str:
    """Name and hash of a mode's weights, or of the user's own file of them, as results carry it. Raises LgdError "setup_incomplete"."""
    if path is not None:
        return f"{path.stem}-{_digest(path, path.stat().st_mtime)}"
    entry = available_weights().get(mode)
    if entry is None:
        raise LgdError("setup_incomplete", f"The weights of {mode} mode are missing.", "Install the add-on again.")
    return f"{entry['name']}-{entry['hash']}"


def mode_of(path: Path) -> str:
    """The mode that a file of the user's own weights is for. Raises LgdError "bad_input"."""
    import torch

    try:
        mode = torch.load(path, weights_only=True, map_location="cpu", mmap=True)["mode"]
    except Exception as fault:  # noqa: BLE001 (whatever the readers of zips and of what is in them raise)
        raise LgdError("bad_input", f"{path} holds no weights.", NAME) from fault
    if mode not in MODES:
        raise LgdError("bad_input", f"{path} holds weights of a mode {mode}, which this version does not know.", NAME)
    return mode


def load_network(mode: str, device="cpu", path: Path | None = None, family: str | None = None):
    """The network of a mode in evaluation state, float32. Raises LgdError "setup_incomplete" where there is none.

    family: of keypoint layouts (`landmarks.FAMILY`) to read; some of video mode's weights are trained for one family alone.
    """
    import torch

    from .paper import PaperNet
    from .video import VideoConfig, VideoNet

    if path is None:
        weights_name(mode)  # says so where they are missing
    own = path is None
    damaged = LgdError(
        "setup_incomplete" if own else "bad_input",
        f"The weights of {mode} mode are damaged or of another version than the add-on." if own
        else f"{path} holds no weights of {mode} mode that this version reads.",
        "Install the add-on again." if own else NAME,
    )  # fmt: skip
    try:
        saved = torch.load(path or FOLDER / f"{mode}.pt", weights_only=True, map_location="cpu")
        config = saved["config"]
        if mode == "video":
            config = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
            net = VideoNet(VideoConfig(**config))
        else:
            net = PaperNet(config["width"])
        weights = weights_of(saved, family)
        if mode == "video" and "doubts.weight" not in weights:  # trained before these were: the steps' own doubt
            weights.update({f"doubts.{name}": value for name, value in net.doubts.state_dict().items()})
        net.load_state_dict(weights)
        if not all(bool(value.isfinite().all()) for value in weights.values() if value.is_floating_point()):
            raise ValueError("not numbers")
    except MemoryError:
        raise
    except Exception as fault:  # noqa: BLE001 (whatever the readers of zips and of what is in them raise)
        raise damaged from fault
    net = net.eval().requires_grad_(False).to(device)
    return net.fuse() if mode == "paper" else net


def weights_of(saved: dict, family: str | None) -> dict:
    """The weights in a file of them that read a family of layouts, float32: its own in place of those that all share."""
    from .precision import unpacked

    return unpacked({**saved["weights"], **saved.get("families", {}).get(family, {}).get("weights", {})})
