# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a camera turned from one picture to another, by the rays in which it sees what both show.

Shifts of the picture grow towards its sides as a camera turns: laid on each other as flat pictures, those of a wide lens add up to a turn
that is degrees off.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from ..camera import assumed_focal
from .tracks import Keypoints

OFF = (6.0, 4.0, 3.0, 2.0, 1.5, 1.0, 1.0, 1.0)  # px: a corner this far off has a quarter of its say, in one round after the other
ANEW, AT_ONCE = 0.2, 1000  # rad, and frames, after which turns that another lens told are told from the frame that is reached


def laid(here: np.ndarray, there: np.ndarray, focal: float, start: np.ndarray, zooms: bool) -> tuple[np.ndarray, float]:
    """The turn (3, 3) from one picture's camera axes to another's, and how many times the first is made larger to lie on the second.

    here, there: (N, 2) px from the middle of the two pictures, where they show the same; focal: px, of the second; start: (3, 3) like a
    picture's pixels to the other's, a shift, a turn and a size that lays most corners on each other (Geman and McClure's weights from there
    on); zooms: False keeps the size at 1.
    """
    size = float(np.hypot(start[0, 0], start[1, 0])) if zooms else 1.0
    tilt = Rotation.from_rotvec((-start[1, 2] / focal, start[0, 2] / focal, 0.0))
    turn = (tilt * Rotation.from_rotvec((0.0, 0.0, np.arctan2(start[1, 0], start[0, 0])))).as_matrix()
    unknown = 4 if zooms else 3
    for off in OFF:
        at = np.column_stack((here * size, np.full(len(here), focal))) @ turn.T
        depth = np.maximum(at[:, 2:], 1e-3 * focal)
        seen = focal * at[:, :2] / depth
        error = there - seen
        grown = here * size @ turn[:, :2].T  # what it moves by as it grows
        moved = np.stack((*np.cross(np.eye(3)[:, None], at), grown)[:unknown], -1)  # (N, 3, U)
        slope = (focal * moved[:, :2] - seen[:, :, None] * moved[:, 2:]) / depth[:, :, None]
        weight = 1 / (1 + (error**2).sum(-1) / off**2) ** 2
        normal = np.einsum("n,nau,nav->uv", weight, slope, slope)
        step = np.linalg.solve(normal + 1e-9 * np.trace(normal) * np.eye(unknown), np.einsum("n,nau,na->u", weight, slope, error))
        turn = Rotation.from_rotvec(step[:3]).as_matrix() @ turn
        size *= float(np.exp(np.clip(step[3:], -0.5, 0.5).sum()))
    return turn, size


def moves(turns: np.ndarray, sizes: np.ndarray, focal: float) -> np.ndarray:
    """(F, 4) as `Keypoints.camera_turns` has them, for turns (F, 3, 3) from each frame's camera axes to the first one's, what each frame's
    picture is made larger by to lie on the first (F), and the focal length of the first, px. `turns_of` is the way back."""
    turned = Rotation.from_matrix(turns)
    x, y, z, w = turned.as_quat().T
    roll = np.unwrap(2 * np.arctan2(z, w))
    tilt = (turned * Rotation.from_rotvec(np.outer(roll, (0, 0, -1.0)))).as_rotvec()
    return np.column_stack((focal * tilt[:, 1], -focal * tilt[:, 0], roll, sizes))


def turns_of(moves: np.ndarray, cam_K: np.ndarray, told_by: float | None = None) -> np.ndarray:
    """(F, 3, 3) rotations from each frame's camera axes to the first one's, for moves (F, 4) as `Keypoints.camera_turns` has them. told_by: px, the
    focal length by which they were told (`lens_of_turns`), where that of cam_K (3, 3), of a lens that does not zoom, may be another."""
    if told_by is not None and cam_K.ndim == 2:
        return _seen_by_another(turns_of(moves, np.diag((told_by, told_by, 1.0))), told_by / moves[:, 3], cam_K)
    # The moves are in px of the picture that others were laid on: of a told zoom its lens, which is each frame's times what that was enlarged by.
    K = np.broadcast_to(cam_K, (len(moves), 3, 3)) * (moves[:, 3, None, None] if cam_K.ndim == 3 else 1)
    tilt = np.stack((-moves[:, 1] / K[:, 1, 1], moves[:, 0] / K[:, 0, 0], np.zeros(len(moves))), -1)
    roll = np.stack((np.zeros(len(moves)), np.zeros(len(moves)), moves[:, 2]), -1)
    return (Rotation.from_rotvec(tilt) * Rotation.from_rotvec(roll)).as_matrix()


def _seen_by_another(turns: np.ndarray, focal: np.ndarray, cam_K: np.ndarray) -> np.ndarray:
    """Turns (F, 3, 3) that were told by a lens of these focal lengths (F) px, told by that of cam_K: it moves the picture by as many px from a frame
    to those soon after it. A wide turn as a whole is no tilt that may be made longer: past half way round it would lead elsewhere."""
    out, base = turns.copy(), 0
    out[:1] = turns_of(moves(turns[:1], np.ones(1), focal[0]), cam_K)
    while base < len(turns) - 1:
        near = turns[base].T @ turns[base + 1 : base + 1 + AT_ONCE]
        far = near[:, 2, 2] < np.cos(ANEW)
        near = near[: int(far.argmax()) + 1 if far.any() else len(near)]
        out[base + 1 : base + 1 + len(near)] = out[base] @ turns_of(moves(near, np.ones(len(near)), focal[base]), cam_K)
        base += len(near)
    return out


def lens_of_turns(keypoints: Keypoints) -> float:
    """The focal length, px, by which the background told `Keypoints.camera_turns`."""
    return keypoints.camera_focal or assumed_focal(*keypoints.image_size)


def farthest(turns: np.ndarray) -> float:
    """How far (rad) turns (F, 3, 3) that go on from frame to frame lie apart at most, up to all round."""
    q = Rotation.from_matrix(turns).as_quat()
    q[1:] *= np.cumprod(np.where((q[1:] * q[:-1]).sum(-1) < 0, -1, 1))[:, None]
    some = q[:: max(len(q) // 500, 1)]
    return float(2 * np.arccos(np.clip((some @ q.T).min(), -1, 1)))
