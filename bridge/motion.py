# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a fit and its file, motion.npz (numpy only)."""

from dataclasses import MISSING, dataclass, fields
from pathlib import Path

import numpy as np

from .arrays import Unreadable, load_arrays, save_arrays
from .errors import LgdError


@dataclass
class Motion:
    """One person's motion over F frames, camera frame (OpenCV), metres, radians.

    poses (F, 72) axis-angle, global_orient first; betas (10); trans (F, 3) smplx's transl: the pelvis is
    J_0(betas) + trans; joints (F, 24, 3); cam_K (3, 3) or (F, 3, 3) px as used; focal_source: given, file, estimated,
    assumed; T_world_cam (4, 4) or (F, 4, 4); world_confidence in [0, 1]; mocap_framerate; frame_times (F) s; gender;
    body_model; reprojection_px (F), NaN where nothing is seen; joint_confidence (F, 24) in [0, 1]; contacts (F, 4) left
    heel, left toe, right heel, right toe; keypoints (F, K, 2) px, confidence (F, K), layout, image_size (2), person_id;
    keypoints_3d (F, K, 3); mode, weights, bridge_version; betas_per_frame (F, 10) in paper mode; feet_planted after that clean-up.
    """

    poses: np.ndarray
    betas: np.ndarray
    trans: np.ndarray
    joints: np.ndarray
    cam_K: np.ndarray
    focal_source: str
    T_world_cam: np.ndarray
    world_confidence: float
    mocap_framerate: float
    frame_times: np.ndarray
    gender: str
    body_model: str
    reprojection_px: np.ndarray
    joint_confidence: np.ndarray
    contacts: np.ndarray
    keypoints: np.ndarray
    confidence: np.ndarray
    layout: str
    image_size: np.ndarray
    person_id: int
    keypoints_3d: np.ndarray
    mode: str
    weights: str
    bridge_version: str
    betas_per_frame: np.ndarray | None = None
    feet_planted: bool | None = None

    @property
    def frames(self) -> int:
        return len(self.poses)

    def save(self, path: Path | str) -> None:
        """Write motion.npz whole or not at all. Floats are float32 but the times."""
        arrays = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            value = np.asarray(value)
            if value.dtype.kind == "f" and field.name not in ("frame_times", "mocap_framerate"):
                value = value.astype(np.float32)
            arrays[field.name] = value
        save_arrays(Path(path), arrays, compressed=True)

    @classmethod
    def load(cls, path: Path | str) -> "Motion":
        """Read motion.npz. Raises LgdError "bad_input" where it is not one."""
        try:
            found = load_arrays(path)
        except Unreadable as fault:
            raise LgdError("bad_input", f"{Path(path).name} cannot be read as a motion.", "Fit it again.") from fault
        values = {f.name: found[f.name] for f in fields(cls) if f.name in found}
        missing = [f.name for f in fields(cls) if f.name not in values and f.default is MISSING]
        if missing:
            raise LgdError("bad_input", f"{Path(path).name} lacks {', '.join(missing)}.", "Fit it again.")
        scalars = {k: v.item() if v.ndim == 0 else v for k, v in values.items()}
        return cls(**scalars)
