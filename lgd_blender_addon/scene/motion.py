# SPDX-License-Identifier: GPL-3.0-or-later
"""The result file motion.npz as Blender reads it, and its copy inside the .blend (numpy only)."""

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .._bridge import LgdError, arrays


@dataclass(frozen=True)
class Motion:
    """One person's take, in the camera frame. Shapes and units: contracts, motion.npz."""

    poses: np.ndarray
    betas: np.ndarray
    trans: np.ndarray
    cam_K: np.ndarray
    T_world_cam: np.ndarray
    frame_times: np.ndarray
    image_size: tuple[int, int]
    gender: str
    body_model: str
    reprojection_px: np.ndarray
    joint_confidence: np.ndarray
    person_id: int
    framerate: float
    extra: dict

    @property
    def frames(self) -> int:
        return len(self.poses)


def load_motion(source) -> Motion:
    """The Motion in a file (path) or in bytes. Raises LgdError (bad_input) with a sentence for anything else."""
    label, hint = ("The stored motion", "Solve again.") if isinstance(source, bytes) else (f"The file {Path(source).name}", "Choose a motion.npz.")
    if not isinstance(source, bytes) and not os.path.isfile(source):  # nor is one whose name is too long
        text = f"{source} is a folder." if os.path.isdir(source) else f"The file {source} does not exist."
        raise LgdError("bad_input", text, "Choose a motion.npz.")
    try:
        data = arrays.load_arrays(io.BytesIO(source) if isinstance(source, bytes) else Path(source))
    except arrays.Unreadable:
        raise LgdError("bad_input", f"{label} cannot be read as a motion.", hint) from None
    other = _other_form(data)
    if other:
        raise LgdError(
            "bad_input", f"{label} is a motion in the form {other}, which has no camera: only the form Motion is read here.",
            "Export it again with Form on Motion, or have an SMPL add-on read this one.",
        )  # fmt: skip
    steps = np.ndim(data.get("poses")) == 3 and "reprojection" in data
    if steps or ("keypoints" in data and "poses" not in data):  # what the command line writes beside motions
        what = "the steps of a descent" if steps else "keypoints"
        hint = "Choose the motion, and name this file beside it, as Steps." if steps else "Choose a motion.npz, or this file in the panel, under Keypoints."
        raise LgdError("bad_input", f"{label} holds {what}, no motion.", hint)
    try:
        return _checked(data)
    except (KeyError, ValueError, TypeError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise LgdError("bad_input", f"{label} is no motion of this add-on: {reason}.", hint) from None


def _other_form(data: dict) -> str:
    """AMASS or SMPL where the arrays are such a motion (`scene/export.py` writes both), else nothing."""
    poses, trans = (np.shape(data.get(name)) for name in ("poses", "trans"))
    if {"cam_K", "image_size", "body_model"} & set(data) or len(poses) != 2 or trans != (poses[0], 3):
        return ""
    return {72: "SMPL", 156: "AMASS", 165: "AMASS"}.get(poses[1], "")  # 165: AMASS of SMPL-X bodies


def _checked(data: dict) -> Motion:
    poses = np.asarray(data["poses"], dtype=np.float64)
    frames = len(poses)
    trans = np.asarray(data["trans"], dtype=np.float64)
    if poses.ndim != 2 or poses.shape[1] != 72 or trans.shape != (frames, 3) or not frames:
        raise ValueError(
            f"poses of shape {poses.shape} and trans of shape {trans.shape} do not belong together"
        )
    if not (np.isfinite(poses).all() and np.isfinite(trans).all()):
        raise ValueError("it holds values that are not finite")
    rate = float(data.get("mocap_framerate", 30.0))
    size = np.asarray(data["image_size"], dtype=np.float64).reshape(-1)
    if not 0 < rate < np.inf:
        raise ValueError(f"mocap_framerate is {rate:g}")
    if size.shape != (2,) or not ((size >= 1) & (size < np.inf)).all():
        raise ValueError("image_size is no width and height")
    times = np.asarray(data.get("frame_times", np.arange(frames) / rate), dtype=np.float64)
    if len(times) != frames or (np.diff(times) <= 0).any():
        raise ValueError("its frame times do not rise")
    betas = np.asarray(data["betas"], dtype=np.float64).reshape(-1)[:10]
    camera = np.asarray(data["cam_K"], dtype=np.float64)
    world = np.asarray(data.get("T_world_cam", _level()), dtype=np.float64)
    errors = np.asarray(data.get("reprojection_px", np.full(frames, np.nan)), dtype=np.float64)
    confidence = np.asarray(data.get("joint_confidence", np.ones((frames, 24))), dtype=np.float64)
    shapes = {"betas": (10,), "reprojection_px": (frames,), "joint_confidence": (frames, 24)}
    for name, value in (("betas", betas), ("reprojection_px", errors), ("joint_confidence", confidence)):
        if value.shape != shapes[name]:
            raise ValueError(f"{name} has the shape {value.shape}")
    for name, value, side in (("cam_K", camera, 3), ("T_world_cam", world, 4)):
        if value.shape not in ((side, side), (frames, side, side)) or not np.isfinite(value).all():
            raise ValueError(f"{name} is no ({side}, {side}) matrix, nor one for each frame")
    if not (camera[..., [0, 1], [0, 1]] > 0).all():
        raise ValueError("cam_K has no focal lengths above 0")
    used = {"poses", "betas", "trans", "cam_K", "T_world_cam", "frame_times", "image_size", "gender", "body_model",
            "reprojection_px", "joint_confidence", "person_id", "mocap_framerate"}  # fmt: skip
    return Motion(
        poses,
        betas,
        trans,
        camera,
        world,
        times,
        (int(size[0]), int(size[1])),
        str(np.ravel(data.get("gender", "neutral"))[0]),
        str(np.ravel(data["body_model"])[0]),
        errors,
        confidence,
        int(data.get("person_id", 0)),
        rate,
        {name: value for name, value in data.items() if name not in used},
    )


def _level() -> np.ndarray:
    """A level camera at 1.5 m that looks along +Y."""
    return np.array([[1.0, 0, 0, 0], [0, 0, 1.0, 0], [0, -1.0, 0, 1.5], [0, 0, 0, 1.0]])


def pack(motion: Motion, first: int, order: np.ndarray, keys: np.ndarray, carriage: np.ndarray) -> bytes:
    """What a later re-solve or comparison needs of a motion, small enough to live in the .blend.

    first: the footage's frame of the first solved one; order, keys (N,): the solved frame of each key, and its Blender frame;
    carriage (4, 4): where the rig stood that was keyed against it.
    """
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, poses=motion.poses.astype(np.float32), betas=motion.betas.astype(np.float32),
        trans=motion.trans.astype(np.float32), cam_K=motion.cam_K, T_world_cam=motion.T_world_cam,
        frame_times=motion.frame_times, image_size=np.array(motion.image_size), gender=motion.gender,
        body_model=motion.body_model, reprojection_px=motion.reprojection_px.astype(np.float32),
        joint_confidence=motion.joint_confidence.astype(np.float16), person_id=motion.person_id,
        mocap_framerate=motion.framerate, first=first, key_order=order, key_frames=keys, carriage=carriage,
    )  # fmt: skip
    return buffer.getvalue()
