# SPDX-License-Identifier: GPL-3.0-or-later
"""The world of a camera that travels: the background tells its path but for size, place and gravity (`keypoints/camera_path.py`).
The person tells the rest: the ground beside their feet is as far from the camera as the feet are, and a foot on it stays where it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import contact
from .assemble import ground_world

if TYPE_CHECKING:
    from ..keypoints.camera_path import CameraPath

# The ground beside the feet: how far from a foot it is looked for, in heights of the person in the picture (to either side, upward,
# downward); how exactly its points agree on the size; how many must, and which share of all; s between the frames that are asked.
SIDE, ABOVE, BELOW = 0.6, 0.05, 0.4
EXACT, ENOUGH, MOST, EVERY = 0.06, 40, 0.5, 0.15
TALL, LOWER = 1.7, 0.2  # m: of a person; that a foot must be below the camera for its ground to tell
# Feet at rest: s over which a sole is watched, m/s below which it may rest, m/s at which a camera may travel on the whole, sizes tried.
LAG, REST, SPEEDS, TRIED = 0.2, 0.25, (0.02, 20.0), 140


def metric_path(
    path: CameraPath, up: np.ndarray, pelvis: np.ndarray, joints: np.ndarray, soles: np.ndarray, seen: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, str]:  # fmt: skip
    """T_world_cam (F, 4, 4) in metres with Z up and the ground at zero, and what told its size: "ground" or "feet".

    up: (3) in the path's world; pelvis (F, 3), joints (F, 24, 3) and soles (F, 4, 3) about it, m along the camera's axes; seen: (F)
    bool; times: (F) s.
    """
    begin = int(np.argmax(seen))
    up = path.world[begin, :3, :3].T @ up
    path = path.turned_to(begin)
    feet = soles + pelvis[:, None]
    size, told = by_the_ground(path, feet, up, seen, times), "ground"
    if size is None:
        size, told = by_the_feet(path.world, feet, seen, times), "feet"
    world = path.world.copy()
    world[:, :3, 3] *= size
    turn = world[:, :3, :3]
    pelvis = np.einsum("fab,fb->fa", turn, pelvis) + world[:, :3, 3]
    joints, soles = (np.einsum("fab,fkb->fka", turn, about) for about in (joints, soles))
    resting = _resting(soles + pelvis[:, None], up, times)
    up, _ = contact.balanced_up(up, joints, soles, resting)
    return ground_world(up, pelvis, soles, seen, times, resting) @ world, told


def by_the_ground(path: CameraPath, feet: np.ndarray, up: np.ndarray, seen: np.ndarray, times: np.ndarray) -> float | None:
    """How many metres the path's unit has, so that what lies beside the feet is as far below the camera as they are; None where too
    little does, or no two agree.

    feet: (F, 4, 3) m, soles before the camera; up: (3) in the path's world. What stands on the ground tells otherwise than the ground: most points count.
    """
    step = max(round(EVERY / float(np.median(np.diff(times)))), 1) if len(times) > 1 else 1
    logs, weights = [np.zeros(0)], [np.zeros(0)]
    for f in np.flatnonzero(seen)[::step]:
        turn, place = path.world[f, :3, :3], path.world[f, :3, 3]
        below = -(feet[f] @ turn.T @ up)
        foot = feet[f, below.argmax()]
        if below.max() < LOWER or foot[2] <= 0:
            continue
        points = (path.points - place) @ turn
        points = points[points[:, 2] > 1e-9]
        off = (points[:, :2] / points[:, 2:] - foot[:2] / foot[2]) * foot[2] / TALL
        beside = (np.abs(off[:, 0]) < SIDE) & (off[:, 1] > -ABOVE) & (off[:, 1] < BELOW)
        under = -(points[beside] @ turn.T @ up)
        under = under[under > 1e-9]
        logs.append(np.log(below.max() / under))
        weights.append(np.full(len(under), 1 / max(len(under), 5)))
    log, weight = np.concatenate(logs), np.concatenate(weights)
    if len(log) < ENOUGH:
        return None
    agree = lambda at: weight * np.exp(-0.5 * ((log - at) / EXACT) ** 2)  # noqa: E731
    tried = np.linspace(*np.percentile(log, (2, 98)), 300)
    best = tried[int(np.argmax([agree(at).sum() for at in tried]))]
    for _ in range(10):
        best = float((agree(best) * log).sum() / agree(best).sum())
    return float(np.exp(best)) if agree(best).sum() > MOST * weight.sum() else None


def by_the_feet(world: np.ndarray, feet: np.ndarray, seen: np.ndarray, times: np.ndarray) -> float:
    """How many metres the unit of the camera's path (F, 4, 4) has, so that as often as can be one sole rests.

    feet: (F, 4, 3) m, soles before the camera. Robust: feet in the air drop out. Told less well along the camera's axis, where steps look short.
    """
    at = np.einsum("fab,fkb->fka", world[:, :3, :3], feet)
    later = np.searchsorted(times, times + LAG - 1e-6)
    now = np.flatnonzero((later < len(times)) & seen)
    now = now[seen[later[now]]]
    then = later[now]
    if not len(now):
        return 1.0
    span = (times[then] - times[now])[:, None]
    own = (at[then] - at[now]) / span[..., None]
    carried = (world[then, :3, 3] - world[now, :3, 3]) / span
    tried = np.geomspace(*SPEEDS, TRIED) / max(np.linalg.norm(carried, axis=-1).mean(), 1e-9)

    def slowest(size: float) -> tuple[np.ndarray, np.ndarray]:
        """The own motion of each frame's slowest sole, and how fast it moves in the world."""
        moves = np.linalg.norm(own + size * carried[:, None], axis=-1)
        which = moves.argmin(-1)
        rows = np.arange(len(moves))
        return own[rows, which], moves[rows, which]

    size = tried[int(np.argmax([np.mean(1 / (1 + (slowest(size)[1] / REST) ** 2)) for size in tried]))]
    for _ in range(20):
        motion, speed = slowest(size)
        weight = 1 / (1 + (speed / REST) ** 2) ** 2
        size = max(-(weight * (motion * carried).sum(-1)).sum() / max((weight * (carried**2).sum(-1)).sum(), 1e-12), tried[0])
    return float(size)


def _resting(feet: np.ndarray, up: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(F, 4) in {0, 1}: soles (F, 4, 3) m that hardly move, and than which none is much lower."""
    if len(feet) < 3:
        return np.zeros(feet.shape[:2])
    speed = np.linalg.norm(np.gradient(feet, times, axis=0), axis=-1)
    height = feet @ (up / np.linalg.norm(up))
    return ((speed < 2 * contact.CONTACT_SPEED) & (height < height.min(-1, keepdims=True) + contact.SAME_LEVEL)).astype(float)
