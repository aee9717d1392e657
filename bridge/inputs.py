# SPDX-License-Identifier: GPL-3.0-or-later
"""What a request names, checked: files, the body, the mode, the camera, the people to fit."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import LgdError
from .places import user_folder

if TYPE_CHECKING:
    import numpy as np

    from .keypoints.tracks import Keypoints
    from .lgd.fitter import FitOptions
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


def chosen_mode(mode: str | None, weights: str | None) -> str:
    """The mode asked for, else that of the user's own weights, else the first whose weights ship.

    Raises LgdError: setup_incomplete where none are here, bad_input for weights of another mode or none.
    """
    if weights:
        from .lgd.checkpoint import mode_of

        own = mode_of(existing(weights, "bad_input", "The file of weights"))
        if mode not in (None, own):
            raise LgdError("bad_input", f"{weights} holds weights of {own} mode, not of {mode} mode.", "Name others, or choose that mode.")
        return own
    from .lgd.checkpoint import MODES, available_weights

    here = available_weights()
    if not here:
        raise LgdError("setup_incomplete", "The weights are missing.", "Install the add-on again.")
    mode = mode or next(iter(here))
    if mode not in MODES:
        raise LgdError("bad_input", f"There is no mode {mode}.", f"Choose {' or '.join(MODES)}.")
    if mode not in here:
        raise LgdError("setup_incomplete", f"The weights of {mode} mode are missing.", "Choose the other mode.")
    return mode


def chosen_people(person: int | str | list[int], keypoints: Keypoints, task: Task) -> list[int]:
    """The people to fit, by prominence; where one is wanted, says how many others there are. Raises LgdError for one who is not there."""
    seen = [entry["person"] for entry in keypoints.describe() if entry["seen"]]
    if not seen:
        raise LgdError("no_person", "No person is seen in the keypoints of these frames.", "Choose another range, or other keypoints.")
    if person == "all":
        return seen
    if isinstance(person, list) and set(person) <= set(seen):
        return [n for n in seen if n in person]
    first = task.counts_from
    if isinstance(person, list):
        person = next(n for n in person if n not in seen)
    if isinstance(person, str) or not 0 <= person < keypoints.people:
        have = "is one person" if keypoints.people == 1 else f"are {keypoints.people} people, {first} to {first + keypoints.people - 1}"
        whom = person if isinstance(person, str) else person + first
        raise LgdError("bad_input", f"There is no person {whom}: there {have}.", "Choose another person.")
    others = len([n for n in seen if n != person])
    if others:
        whom = f"{others} other {'person was' if others == 1 else 'people were'} found"
        task.warning(f"Person {person + first} is fitted; {whom}, most prominent first.")
    return [person]


@dataclass(frozen=True)
class GivenCamera:
    """What a camera's file tells: where the camera stands, its lens, how the lens distorts; None for what it does not.

    T_world_cam (4, 4) or (F, 4, 4); cam_K (3, 3) or (F, 3, 3) px; distortion (4, 5 or 8) as OpenCV has it, k1 k2 p1 p2
    [k3 [k4 k5 k6]], of a lens whose camera matrix is distortion_K, (3, 3) px (cam_K where that is not told).
    """

    T_world_cam: np.ndarray | None = None
    cam_K: np.ndarray | None = None
    distortion: np.ndarray | None = None
    distortion_K: np.ndarray | None = None

    def of(self, frames: int | None, places=None) -> GivenCamera:
        """For F frames. places (F): which entry each frame has, where there is one for each counted frame of a range."""

        def picked(array):
            return array[places] if array is not None and array.ndim == 3 and places is not None and len(array) > max(places) else array

        given = dataclasses.replace(self, T_world_cam=picked(self.T_world_cam), cam_K=picked(self.cam_K))
        for name, array in (("T_world_cam", given.T_world_cam), ("cam_K", given.cam_K)):
            if array is not None and array.ndim == 3 and frames is not None and len(array) != frames:
                text = f"In the camera's file {name} has the shape {array.shape} for {frames} frames."
                raise LgdError("bad_input", text, CAMERA_HINT)
        return given

    def straightened(self, keypoints: Keypoints) -> tuple[Keypoints, int]:
        """Keypoints as a lens without the distortion would show them, and how many points lie where the lens shows nothing:
        those count as not seen."""
        if self.distortion is None:
            return keypoints, 0
        from . import camera

        K = self.distortion_K if self.distortion_K is not None else self.cam_K
        points, reached = camera.undistort(keypoints.keypoints, K, self.distortion)
        lost = (keypoints.confidence > 0) & ~reached
        confidence = keypoints.confidence * reached
        return dataclasses.replace(keypoints, keypoints=points, confidence=confidence, lines=None), int(lost.sum())

    def bent_as(self, cam_K: np.ndarray | None) -> np.ndarray | None:
        """The distortion as of a lens (3, 3) px of another focal length, which bends the same pictures alike; None where there is none."""
        import numpy as np

        own = self.distortion_K if self.distortion_K is not None else self.cam_K
        if self.distortion is None or cam_K is None or own is None:
            return self.distortion
        longer = cam_K[0, 0] / own[0, 0]
        return self.distortion * longer ** np.array(DEGREES[: len(self.distortion)], float)


DEGREES = (2, 4, 1, 1, 6, 2, 4, 6)  # of OpenCV's values of a distortion, in how far off the axis a ray goes


CAMERA_HINT = "It needs T_world_cam, (4, 4) or one for each frame, or cam_K, (3, 3), and may hold distortion."


def read_camera(path: str) -> GivenCamera:
    """A camera's .npz; raises LgdError."""
    import numpy as np

    from .arrays import Unreadable, load_arrays

    file = existing(path, "bad_input", "The camera's file")
    try:
        data = load_arrays(file)
        names = [f.name for f in dataclasses.fields(GivenCamera) if f.name in data]
        found = {name: np.asarray(data[name], np.float64) for name in names}
    except (Unreadable, ValueError, TypeError) as fault:
        raise LgdError("bad_input", f"The camera's file {path} cannot be read.", CAMERA_HINT) from fault
    if found.get("distortion", np.zeros(0)).shape in ((1, 5), (5, 1), (1, 8), (8, 1)):  # as OpenCV's calibrateCamera gives it; its fisheye model's is (4, 1)
        found["distortion"] = found["distortion"].ravel()
    if not {"T_world_cam", "cam_K"} & set(found):
        raise LgdError("bad_input", f"The camera's file {path} holds neither T_world_cam nor cam_K.", CAMERA_HINT)
    for name, array in found.items():
        many = len(array) if array.ndim == 3 and name != "distortion_K" else None
        side = 4 if name == "T_world_cam" else 3
        good = array.shape in ((4,), (5,), (8,)) if name == "distortion" else array.shape in ((side, side), (many, side, side))
        if not good or not np.isfinite(array).all():
            text = f"In the camera's file {name} has the shape {array.shape}, or is not finite."
            raise LgdError("bad_input", text, CAMERA_HINT)
        if name == "T_world_cam":
            _check_place(array)
        elif name != "distortion":
            _check_lens(name, array)
    lens = found.get("distortion_K", found.get("cam_K"))
    if "distortion" in found and (lens is None or lens.ndim == 3):
        raise LgdError(
            "bad_input", "The camera's file tells a distortion, but not of which lens.", "Add cam_K, (3, 3), or distortion_K beside a lens that zooms."
        )  # fmt: skip
    return GivenCamera(**found)


def _check_place(world) -> None:
    import numpy as np

    turn = world[..., :3, :3]
    if np.abs(turn @ np.swapaxes(turn, -1, -2) - np.eye(3)).max() > 1e-3 or (np.linalg.det(turn) < 0).any():
        raise LgdError(
            "bad_input", "The camera's T_world_cam holds no rotation.", "Take scale and shear out of it."
        )
    _check_last_row("T_world_cam", world)


def _check_lens(name: str, cam_K) -> None:
    import numpy as np

    from .camera import SKEW_HINT, is_skewed

    _check_last_row(name, cam_K)
    if not (np.diagonal(cam_K, axis1=-2, axis2=-1) > 0).all():
        raise LgdError("bad_input", f"The camera's {name} holds no focal lengths above 0.", CAMERA_HINT)
    if is_skewed(cam_K):
        raise LgdError("bad_input", f"The camera's {name} has skew, which is not modelled.", SKEW_HINT)


def _check_last_row(name: str, array) -> None:
    import numpy as np

    if np.abs(array[..., -1, :] - np.eye(array.shape[-1])[-1]).max() > 1e-6:
        text = f"The last row of the camera's {name} is not 0, ..., 0, 1: is it transposed?"
        raise LgdError("bad_input", text, CAMERA_HINT)


SAME_RATE = 0.01  # rates that differ by less are one, rounded


def timed(request: dict, keypoints: Keypoints) -> Keypoints:
    """Keypoints with times where they have none: of a video whose frames are counted at about their rate, or where they tell none, frame k is
    picture k, and has its time; else by the rate that is told."""
    import numpy as np

    rate = request.get("counted")
    if rate and keypoints.frame_times is None and abs((keypoints.fps or rate) / rate - 1) < SAME_RATE:
        from .keypoints.video import picture_times

        times = np.arange(keypoints.frames) / rate
        if request.get("footage"):
            with contextlib.suppress(LgdError):  # it may have gone since
                times = picture_times(request["footage"]["path"], keypoints.frames)
        return dataclasses.replace(keypoints, frame_times=times)
    if request.get("fps") is not None and not keypoints.rate_known:
        return dataclasses.replace(keypoints, fps=request["fps"])
    return keypoints


def places_of(request: dict, keypoints: Keypoints):
    """Which of a range's counted frames each picture is (F,); None where pictures are counted."""
    import numpy as np

    source = request.get("source") or request
    if request.get("short"):
        return np.arange(keypoints.frames)
    if not source.get("counted") or not source.get("frames"):
        return None
    from .counting import counts

    a, b = source["frames"]
    return np.clip(counts(keypoints.times(), source["counted"]) - a, 0, b - a - 1)


def check_travels(given: GivenCamera | None, focal: float | None) -> None:
    """Raises LgdError where a camera's path cannot be looked for: its place or a zoom is told beside, or COLMAP is missing."""
    from .keypoints.apart import check_installed

    check_installed()
    if given is not None and given.T_world_cam is not None:
        raise LgdError("bad_input", "A camera that travels has its path from the footage, and another one is given.", "Leave one of the two out.")
    if given is not None and given.cam_K is not None and given.cam_K.ndim == 3 and not focal:
        raise _zooms()


def _zooms() -> LgdError:
    return LgdError("bad_input", "The path of a camera that zooms is not found from its footage.", "Solve it in the movie clip editor and choose Scene Camera.")


def path_is_wanted(request: dict, keypoints: Keypoints, options: FitOptions) -> bool:
    """Whether the camera's path is to be looked for: where that is asked, and in video mode where the detection saw that it travels,
    nothing tells where it is, and it can be found. (The published method is of a camera that stands still.)"""
    if request.get("moves") == "travels":
        return True
    if request.get("moves") == "still" or not keypoints.camera_travels or not _footage_of(request):
        return False
    zooms = keypoints.cam_K is not None and keypoints.cam_K.ndim == 3 and options.focal is None
    if zooms or options.mode != "video" or options.T_world_cam is not None:
        return False
    from .keypoints.apart import check_installed

    try:
        check_installed()
    except LgdError:
        return False
    return True


def _footage_of(request: dict) -> dict | None:
    return request.get("source") or request.get("footage")


def travelling(request: dict, keypoints: Keypoints, options: FitOptions, task: Task) -> FitOptions:
    """The options of a fit before a camera that travels along the path that the background tells; as they are where it tells none."""
    from .camera import camera_matrix
    from .keypoints.camera_path import HARDLY, NO_SHIFT, Untold, find_camera_path

    given = read_camera(request["camera"]) if request.get("camera") else None
    told = keypoints.cam_K if options.focal is None else camera_matrix(options.focal, *keypoints.image_size)
    if told is not None and told.ndim == 3:
        raise _zooms()
    bent = None if given is None else given.bent_as(told)
    try:
        found = find_camera_path(_covered(request, keypoints), keypoints, told, bent, task.progress, task.should_stop)
    except Untold as why:
        if request.get("moves") == "travels" or str(why) not in (NO_SHIFT, HARDLY):  # nobody asked
            otherwise = "" if str(why) == HARDLY else " If it does, solve its motion in the movie clip editor and choose Scene Camera."
            task.warning(f"The path of the camera cannot be read from the background: {why}. It was taken for one that does not travel.{otherwise}")
        return options
    except LgdError as fault:
        if fault.code not in ("disk", "bad_input") or request.get("moves") == "travels":
            raise
        task.warning(f"{fault.text} The camera was taken for one that does not travel. {fault.hint}".rstrip())  # nobody asked
        return options
    if found.rather is not None:
        task.warning(f"By the background the focal length is about {found.rather:.0f} px, not the {told[0, 0]:.0f} px that were told: leave it out if you are unsure.")
    return dataclasses.replace(options, path=found)


def _covered(request: dict, keypoints: Keypoints) -> dict:
    """The footage to look through without the frames after the last that the keypoints have: `handlers` has told of these."""
    source = _footage_of(request)
    assert source is not None  # `path_is_wanted`, and the protocol
    if not source.get("frames"):
        return source
    from .counting import counts

    a, b = source["frames"]
    have = keypoints.frames
    if source.get("counted"):
        counted = counts(keypoints.times(), source["counted"])
        begin = (request.get("frames") or counted)[0]  # the first picture may be shown from before the range on
        have = int(counted[-1] - max(counted[0], begin)) + 1
    return {**source, "frames": [a, min(b, a + have)]}


def told_shape(request: dict, person: int):
    """The betas (10) that a request tells of a person, who keeps them; None for a shape of their own."""
    import numpy as np

    told = request.get("betas") or []
    mine = told if told and isinstance(told[0], (int, float)) else told[person] if person < len(told) else None
    return None if mine is None else np.asarray(mine, np.float32)


# Of the picture's longer side: wider and longer lenses than any (147 degrees; 3.6 m on full frame). Millimetres given as pixels lie below.
FOCAL = (0.15, 100.0)


def check_focal(told: list[float], side: int) -> None:
    """Raises LgdError where one of the focal lengths told, px, is none on pictures whose longer side is so many px."""
    odd = [focal for focal in told if not FOCAL[0] * side <= focal <= FOCAL[1] * side]
    if odd:
        raise LgdError(
            "bad_input", f"No lens has a focal length of {odd[0]:g} px on a picture of {side} px.",
            f"Give it in pixels: millimetres by the sensor's width, 36 on full frame, times {side}; 35 mm are {35 / 36 * side:.0f} px.",
        )  # fmt: skip
