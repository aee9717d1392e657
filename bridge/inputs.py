# SPDX-License-Identifier: GPL-3.0-or-later
"""What a request names, checked: files, the body, the camera, the people to fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .errors import LgdError
from .places import user_folder

if TYPE_CHECKING:
    from .keypoints.tracks import Keypoints
    from .server import Task


def existing(path: str, code: str, what: str, folder: bool = False) -> Path:
    """`path` as a Path to a file (or, with `folder`, a folder) that is there; raises LgdError of `code` otherwise."""
    if not (Path(path).is_file() or (folder and Path(path).is_dir())):
        raise LgdError(code, f"{what} {path} does not exist.", "Check the path.")
    return Path(path)


def body_file(path: str | None) -> Path | None:
    """The body model to load: None for the default one; an official .pkl is converted once, into the user's folder."""
    if not path:
        return None
    file = existing(path, "model_file", "The body model's file")
    if file.suffix.lower() != ".pkl":
        return file
    from .body.files import convert_official

    return convert_official(file, user_folder() / "bodies")


def chosen_people(person: int | str, keypoints: Keypoints, task: Task) -> list[int]:
    """The people to fit, by prominence; says how many others there are. Raises LgdError for one who is not there."""
    seen = [entry["person"] for entry in keypoints.describe() if entry["seen"]]
    if not seen:
        raise LgdError("no_person")
    if person == "all":
        return seen
    if isinstance(person, str) or not 0 <= person < keypoints.people:
        have = (
            "one person"
            if keypoints.people == 1
            else f"{keypoints.people} people, 0 to {keypoints.people - 1}"
        )
        raise LgdError(
            "bad_input", f"There is no person {person}: there is {have}.", "Choose another person."
        )
    others = len([n for n in seen if n != person])
    if others:
        whom = f"{others} other {'person was' if others == 1 else 'people were'} found"
        task.warning(f"Person {person} is fitted; {whom}, most prominent first.")
    return [person]


def read_camera(path: str, frames: int | None = None, places=None):
    """T_world_cam (4, 4) or (F, 4, 4) and cam_K (3, 3), (F, 3, 3) or None of a camera's .npz; raises LgdError.

    frames: F, None where it is not known yet; places (F,): which of the file's entries each frame has, where it has
    one for each counted frame of the range.
    """
    import numpy as np

    hint = "It needs T_world_cam, (4, 4) or one for each frame, and may hold cam_K."
    file = existing(path, "bad_input", "The camera's file")
    try:
        with np.load(file, allow_pickle=False) as data:
            world = np.asarray(data["T_world_cam"], np.float64)
            cam_K = np.asarray(data["cam_K"], np.float64) if "cam_K" in data.files else None
    except KeyError as fault:
        raise LgdError("bad_input", f"The camera's file {path} holds no T_world_cam.", hint) from fault
    except (OSError, ValueError, EOFError, TypeError, AttributeError, NotImplementedError) as fault:
        raise LgdError("bad_input", f"The camera's file {path} cannot be read.", hint) from fault
    except Exception as fault:  # zipfile.BadZipFile and zlib.error share no base
        raise LgdError("bad_input", f"The camera's file {path} is damaged.", hint) from fault
    if places is not None:

        def picked(array):
            return array[places] if array.ndim == 3 and len(array) > max(places) else array

        world, cam_K = picked(world), cam_K if cam_K is None else picked(cam_K)
    for name, array, side in (("T_world_cam", world, 4), ("cam_K", cam_K, 3)):
        if array is None:
            continue
        long = len(array) if frames is None and array.ndim == 3 else frames
        if array.shape not in ((side, side), (long, side, side)) or not np.isfinite(array).all():
            given = "" if frames is None else f" for {frames} frames"
            text = f"In the camera's file {name} has the shape {array.shape}{given}, or is not finite."
            raise LgdError("bad_input", text, hint)
    _check_camera(world, cam_K, hint)
    return world, cam_K


def _check_camera(world, cam_K, hint: str) -> None:
    import numpy as np

    turn = world[..., :3, :3]
    if np.abs(turn @ np.swapaxes(turn, -1, -2) - np.eye(3)).max() > 1e-3 or (np.linalg.det(turn) < 0).any():
        raise LgdError(
            "bad_input", "The camera's T_world_cam holds no rotation.", "Take scale and shear out of it."
        )
    for name, array in (("T_world_cam", world), ("cam_K", cam_K)):
        if array is not None and np.abs(array[..., -1, :] - np.eye(array.shape[-1])[-1]).max() > 1e-6:
            text = f"The last row of the camera's {name} is not 0, ..., 0, 1: is it transposed?"
            raise LgdError("bad_input", text, hint)
    if cam_K is not None and not (np.diagonal(cam_K, axis1=-2, axis2=-1) > 0).all():
        raise LgdError("bad_input", "The camera's cam_K holds no focal lengths above 0.", hint)
