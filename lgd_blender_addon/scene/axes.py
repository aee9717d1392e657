# SPDX-License-Identifier: GPL-3.0-or-later
"""The only place that turns an axis: camera frame -> world -> rig, and back (numpy only).

Three frames, all in metres. Camera (OpenCV): x right, y down, z forward. World (Blender's): Z up. Rig: SMPL's own
Y-up frame, in which the bones rest; `RIG_TO_WORLD` stands it up, so the armature object itself stays at identity.
A motion's parameters change frame as a whole: for X' = R X + t, global_orient' = R global_orient and
trans' = R (J_0 + trans) + t - J_0, because `trans` is an offset of the body and not the pelvis (design: contracts).
"""

import numpy as np

# (x, y, z) -> (x, -z, y)
RIG_TO_WORLD = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
# OpenCV camera axes -> Blender camera axes (x right, y up, z backward)
CV_TO_BLENDER_CAMERA = np.diag([1.0, -1.0, -1.0])


def stand_up(points):
    """Points (..., 3) of the rig's Y-up frame in Blender's Z-up axes."""
    return np.asarray(points) @ RIG_TO_WORLD.T.astype(np.asarray(points).dtype)


def quaternions(rotvec):
    """Axis-angle (..., 3) rad -> unit quaternions (..., 4) as w, x, y, z."""
    rotvec = np.asarray(rotvec, dtype=np.float64)
    angle = np.linalg.norm(rotvec, axis=-1, keepdims=True)
    small = angle < 1e-8
    half = 0.5 * angle
    scale = np.where(small, 0.5 - angle**2 / 48.0, np.sin(half) / np.where(small, 1.0, angle))
    return np.concatenate([np.cos(half), rotvec * scale], axis=-1)


def rotvecs(quats):
    """Quaternions (..., 4) as w, x, y, z, of any length but 0 -> axis-angle (..., 3) rad, at most half a turn."""
    q = np.asarray(quats, dtype=np.float64)
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    q = np.where(q[..., :1] < 0, -q, q)
    sine = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    angle = 2.0 * np.arctan2(sine, q[..., :1])
    return q[..., 1:] * np.where(sine < 1e-12, 2.0, angle / np.where(sine < 1e-12, 1.0, sine))


def matrices(quats):
    """Unit quaternions (..., 4) -> rotation matrices (..., 3, 3)."""
    w, x, y, z = np.moveaxis(np.asarray(quats, dtype=np.float64), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def matrix_quaternions(mats):
    """Rotation matrices (..., 3, 3) -> unit quaternions (..., 4) with w >= 0."""
    m = np.asarray(mats, dtype=np.float64)
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    # Four ways to write the same quaternion; the one with the largest divisor is the accurate one.
    ways = np.stack(
        [
            np.stack([1 + xx + yy + zz, m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]], -1),
            np.stack([m[..., 2, 1] - m[..., 1, 2], 1 + xx - yy - zz, m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0]], -1),
            np.stack([m[..., 0, 2] - m[..., 2, 0], m[..., 0, 1] + m[..., 1, 0], 1 - xx + yy - zz, m[..., 1, 2] + m[..., 2, 1]], -1),
            np.stack([m[..., 1, 0] - m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1], 1 - xx - yy + zz], -1),
        ],
        -2,
    )  # fmt: skip
    best = np.argmax(np.stack([xx + yy + zz, xx - yy - zz, yy - xx - zz, zz - xx - yy], -1), -1)
    q = np.take_along_axis(ways, best[..., None, None], axis=-2)[..., 0, :]
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    return np.where(q[..., :1] < 0, -q, q)


def multiply(a, b):
    """Product of quaternions (..., 4): first b's rotation, then a's."""
    aw, ax, ay, az = np.moveaxis(np.asarray(a, dtype=np.float64), -1, 0)
    bw, bx, by, bz = np.moveaxis(np.asarray(b, dtype=np.float64), -1, 0)
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def continuous(quats):
    """Quaternions (F, ..., 4) with signs chosen so that no frame jumps to the other half of the sphere."""
    q = np.array(quats, dtype=np.float64)
    if len(q) > 1:
        flips = np.sum(q[1:] * q[:-1], axis=-1, keepdims=True) < 0
        q[1:] *= np.where(np.cumsum(flips, axis=0) % 2 == 1, -1.0, 1.0)
    return q


def _parts(transform, frames: int):
    """(4, 4) or (F, 4, 4) -> rotations (F, 3, 3) and translations (F, 3)."""
    transform = np.broadcast_to(np.asarray(transform, dtype=np.float64), (frames, 4, 4))
    return transform[:, :3, :3], transform[:, :3, 3]


def move_root(orient, trans, pelvis, transform):
    """A body's root under a rigid change of frame.

    orient (F, 4) quaternions; trans (F, 3) m; pelvis (3,) m, the shaped body's J_0; transform (4, 4) or (F, 4, 4).
    Returns orient' (F, 4), trans' (F, 3).
    """
    R, t = _parts(transform, len(trans))
    orient = multiply(matrix_quaternions(R), orient)
    return orient, np.einsum("fij,fj->fi", R, np.asarray(trans, dtype=np.float64) + pelvis) + t - pelvis


def rigid(rotation, translation=(0.0, 0.0, 0.0)):
    """A (4, 4) transform of a (3, 3) rotation and a translation."""
    out = np.eye(4)
    out[:3, :3] = rotation
    out[:3, 3] = translation
    return out


def inverse(transform):
    """Inverse of rigid transforms (..., 4, 4)."""
    transform = np.asarray(transform, dtype=np.float64)
    out = np.zeros_like(transform)
    out[..., :3, :3] = np.swapaxes(transform[..., :3, :3], -1, -2)
    out[..., :3, 3] = -np.einsum("...ij,...j->...i", out[..., :3, :3], transform[..., :3, 3])
    out[..., 3, 3] = 1.0
    return out


def camera_to_rig(poses, trans, pelvis, T_world_cam):
    """A motion in the camera frame as the rig's keys.

    poses (F, 72) rad, global_orient first; trans (F, 3) m; pelvis (3,) m; T_world_cam (4, 4) or (F, 4, 4).
    Returns quaternions (F, 24, 4), continuous over the frames, and pelvis locations (F, 3) m.
    """
    frames = len(poses)
    quats = quaternions(np.asarray(poses, dtype=np.float64).reshape(frames, 24, 3))
    to_rig = rigid(RIG_TO_WORLD.T) @ np.broadcast_to(
        np.asarray(T_world_cam, dtype=np.float64), (frames, 4, 4)
    )
    quats[:, 0], location = move_root(quats[:, 0], trans, pelvis, to_rig)
    return continuous(quats), location


def rig_to_world(quats, location, pelvis):
    """The rig's keys as a motion in Blender's Z-up world: poses (F, 72) rad, trans (F, 3) m. The inverse direction."""
    quats = np.array(quats, dtype=np.float64)
    quats /= np.linalg.norm(quats, axis=-1, keepdims=True)
    quats[:, 0], trans = move_root(quats[:, 0], location, pelvis, rigid(RIG_TO_WORLD))
    return rotvecs(quats).reshape(len(quats), 72), trans


def world_to_camera(poses, trans, pelvis, T_world_cam):
    """A motion of the Z-up world in the camera frame: poses (F, 72) rad, trans (F, 3) m."""
    quats = quaternions(np.asarray(poses, dtype=np.float64).reshape(len(poses), 24, 3))
    quats[:, 0], trans = move_root(quats[:, 0], trans, pelvis, inverse(T_world_cam))
    return rotvecs(quats).reshape(len(quats), 72), trans


def camera_object(T_world_cam):
    """T_world_cam (..., 4, 4) of an OpenCV camera -> matrix_world (..., 4, 4) of the Blender camera object."""
    return np.asarray(T_world_cam, dtype=np.float64) @ rigid(CV_TO_BLENDER_CAMERA)


def camera_frame(matrix_world):
    """matrix_world (..., 4, 4) of a Blender camera object -> T_world_cam; a scaled object counts as unscaled."""
    m = np.array(matrix_world, dtype=np.float64)
    m[..., :3, :3] /= np.linalg.norm(m[..., :3, :3], axis=-2, keepdims=True)
    return m @ rigid(CV_TO_BLENDER_CAMERA)
