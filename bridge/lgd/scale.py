# SPDX-License-Identifier: GPL-3.0-or-later
"""The world of a camera that travels: the background tells its path but for size, place and gravity (`keypoints/camera_path.py`).
The background tells the plane of the ground as well, and the person's feet on it the size; where no ground is seen, feet that rest do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import contact
from .assemble import ground_world

if TYPE_CHECKING:
    from ..keypoints.camera_path import CameraPath

# The plane of the ground: slopes that are tried, and how steep it mostly is against what the person tells; in heights of the camera above
# it: how far off it its points lie, and how far apart they must each way; how many it takes.
STEEPEST, STEEP = np.tan(np.radians(15)), np.tan(np.radians(8))
OFF, WIDE, ENOUGH = 0.02, 0.2, 30
# Feet on it: how exactly (log) frames agree on the size, and how often, against the size that most tell, the largest must be told that is
# taken: feet in the air tell a smaller one. LIKELY: of the sizes that feet at rest tell it must be so likely against the likeliest.
EXACT, OFTEN, LIKELY = 0.05, 0.5, 0.25
# Feet at rest: s over which a sole is watched, m/s below which it may rest, m/s at which a camera may travel on the whole, sizes tried.
LAG, REST, SPEEDS, TRIED = 0.2, 0.25, (0.02, 20.0), 140
# What is seen beside somebody lies behind them: how far beside, in heights of theirs (m), how many points it takes, how much nearer it may be.
BESIDE, TALL, SOME, NEARER = 0.6, 1.7, 10, 0.8


def metric_path(
    path: CameraPath, up: np.ndarray, pelvis: np.ndarray, joints: np.ndarray, soles: np.ndarray, seen: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, bool]:  # fmt: skip
    """T_world_cam (F, 4, 4) in metres with Z up and the ground at zero, and whether the ground tells so, not only feet at rest.

    up: (3) in the path's world; pelvis (F, 3), joints (F, 24, 3) and soles (F, 4, 3) about it, m along the camera's axes; seen: (F)
    bool; times: (F) s.
    """
    begin = int(np.argmax(seen))
    up = path.world[begin, :3, :3].T @ up
    path = path.turned_to(begin)
    turn, feet = path.world[:, :3, :3], soles + pelvis[:, None]
    steps = Steps(path.world, feet, seen, times)
    least = behind(path, pelvis, seen)
    plane = ground_plane(path, up)
    size = plane and by_the_ground(path, *plane, feet, seen)
    grounded = size is not None and size > least and steps.rest(size) > LIKELY * steps.rest(steps.size(least))
    metric = path.world.copy()
    metric[:, :3, 3] *= size if grounded else steps.size(least)
    body = np.einsum("fab,fb->fa", turn, pelvis) + metric[:, :3, 3]
    if grounded:
        normal, level = plane
        world = np.eye(4)
        world[:3, :3] = contact.world_from_up(normal)
        world[:3, 3] = -np.array([*(world[:3, :3] @ body[begin])[:2], level * size])
    else:
        about, lower = (np.einsum("fab,fkb->fka", turn, points) for points in (joints, soles))
        still = _still(lower + body[:, None], up, times)
        up, _ = contact.balanced_up(up, about, lower, still)
        world = ground_world(up, body, lower, seen, times, still)
    return world @ metric, grounded


def ground_plane(path: CameraPath, up: np.ndarray) -> tuple[np.ndarray, float] | None:
    """The ground as a plane: its normal (3), which is up, and its height along that, in the path's unit; None where it is not seen.

    up: (3) in the path's world, by 15 degrees at most off. Of the planes below the camera that with the most points, fitted to them. On
    rendered walks it is off by 0.0 to 0.4 degrees, where the body's own balance is by 0.5 to 6.
    """
    turn = contact.world_from_up(up)
    places = path.world[:, :3, 3] @ turn.T
    middle = places.mean(0)
    places, points = places - middle, path.points @ turn.T - middle
    best, plane = 0.0, None
    for slope in np.stack(np.meshgrid(*[np.linspace(-STEEPEST, STEEPEST, 31)] * 2), -1).reshape(-1, 2):
        below = points[:, :2] @ slope - points[:, 2]  # how far below the middle of the path
        below = np.sort(np.log(below[below > max((places[:, :2] @ slope - places[:, 2]).max(), 1e-9)]))
        within = np.searchsorted(below, below + 3 * OFF) - np.arange(len(below))
        score = within.max(initial=0) * np.exp(-0.5 * (slope @ slope) / STEEP**2)
        if score > best:
            best, plane = score, np.array([*slope, -np.exp(below[within.argmax()] + 1.5 * OFF)])
    if plane is None:
        return None
    columns = np.column_stack((points[:, :2], np.ones(len(points))))
    for _ in range(20):
        off = (points[:, 2] - columns @ plane) / plane[2]
        weight = 1 / (1 + (off / OFF) ** 2)
        plane = np.linalg.lstsq(columns * weight[:, None], points[:, 2] * weight, rcond=None)[0]
    height, on_it = -plane[2], np.abs(off) < 2 * OFF
    if on_it.sum() < ENOUGH or height <= 0 or np.linalg.norm(plane[:2]) > STEEPEST:
        return None
    if np.sqrt(np.linalg.eigvalsh(np.cov(points[on_it, :2].T))[0]) < WIDE * height:
        return None
    normal = np.array([-plane[0], -plane[1], 1]) / np.sqrt(1 + plane[:2] @ plane[:2])
    return turn.T @ normal, float(normal @ (middle - (0, 0, height)))


def by_the_ground(path: CameraPath, normal: np.ndarray, level: float, feet: np.ndarray, seen: np.ndarray) -> float | None:
    """How many metres the path's unit has, so that the lower foot mostly is as far below the camera as the ground; None where frames do not agree.

    normal, level: of `ground_plane`; feet: (F, 4, 3) m, soles before the camera; seen: (F) bool.
    """
    above = path.world[:, :3, 3] @ normal - level
    below = (-np.einsum("fka,fba,b->fk", feet, path.world[:, :3, :3], normal)).max(-1)
    good = seen & (above > 0) & (below > 0)
    if not good.any():
        return None
    told = np.log(below[good] / above[good])
    tried = np.linspace(told.min() - EXACT, told.max() + EXACT, 400)
    agree = np.exp(-0.5 * ((told[:, None] - tried) / EXACT) ** 2).sum(0)
    peaks = np.flatnonzero((agree >= np.r_[0, agree[:-1]]) & (agree >= np.r_[agree[1:], 0]) & (agree >= OFTEN * agree.max()))
    best = tried[peaks[-1]]
    for _ in range(10):
        weight = np.exp(-0.5 * ((told - best) / EXACT) ** 2)
        best = float((weight * told).sum() / weight.sum())
    return float(np.exp(best))


def behind(path: CameraPath, pelvis: np.ndarray, seen: np.ndarray) -> float:
    """The least size (m) of the path's unit with which what is seen beside a person, and above their feet, is mostly not before them.

    pelvis: (F, 3) m before the camera; seen: (F) bool.
    """
    told = []
    for f in np.flatnonzero(seen)[:: max(int(seen.sum()) // 20, 1)]:
        points = (path.points - path.world[f, :3, 3]) @ path.world[f, :3, :3]
        points = points[points[:, 2] > 1e-9]
        off = (points[:, :2] / points[:, 2:] - pelvis[f, :2] / pelvis[f, 2]) * pelvis[f, 2] / TALL
        beside = (np.abs(off[:, 0]) < BESIDE) & (np.abs(off[:, 1] + 0.25) < 0.25)
        told.append(np.log(pelvis[f, 2] / points[beside, 2]))
    logs = np.concatenate([np.zeros(0), *told])
    return NEARER * float(np.exp(np.median(logs))) if len(logs) >= SOME else 0.0


class Steps:
    """How feet move under a camera whose path's unit has some size: of the right one a sole rests as often as can be.

    Robust: feet in the air drop out. Told less well along the camera's axis, where steps look short.
    """

    def __init__(self, world: np.ndarray, feet: np.ndarray, seen: np.ndarray, times: np.ndarray):
        """world: (F, 4, 4) the camera's path; feet: (F, 4, 3) m, soles before the camera; seen: (F) bool; times: (F) s."""
        at = np.einsum("fab,fkb->fka", world[:, :3, :3], feet)
        later = np.searchsorted(times, times + LAG - 1e-6)
        now = np.flatnonzero((later < len(times)) & seen)
        now = now[seen[later[now]]]
        then = later[now]
        span = (times[then] - times[now])[:, None]
        self.own = (at[then] - at[now]) / span[..., None]
        self.carried = (world[then, :3, 3] - world[now, :3, 3]) / span

    def _slowest(self, size: float) -> tuple[np.ndarray, np.ndarray]:
        """The own motion of each frame's slowest sole, and how fast it moves in the world."""
        moves = np.linalg.norm(self.own + size * self.carried[:, None], axis=-1)
        which = moves.argmin(-1)
        rows = np.arange(len(moves))
        return self.own[rows, which], moves[rows, which]

    def rest(self, size: float) -> float:
        """How often a sole rests, from 0 to 1."""
        return float(np.mean(1 / (1 + (self._slowest(size)[1] / REST) ** 2))) if len(self.own) else 0.0

    def size(self, least: float = 0.0) -> float:
        """How many metres the unit has, which are more than `least`."""
        if not len(self.own):
            return max(1.0, least)
        tried = np.geomspace(*SPEEDS, TRIED) / max(np.linalg.norm(self.carried, axis=-1).mean(), 1e-9)
        tried = np.maximum(tried, least)
        size = tried[int(np.argmax([self.rest(size) for size in tried]))]
        for _ in range(20):
            motion, speed = self._slowest(size)
            weight = 1 / (1 + (speed / REST) ** 2) ** 2
            size = max(-(weight * (motion * self.carried).sum(-1)).sum() / max((weight * (self.carried**2).sum(-1)).sum(), 1e-12), tried[0])
        return float(size)


def _still(feet: np.ndarray, up: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(F, 4) in {0, 1}: soles (F, 4, 3) m that hardly move, and than which none is much lower."""
    if len(feet) < 3:
        return np.zeros(feet.shape[:2])
    speed = np.linalg.norm(np.gradient(feet, times, axis=0), axis=-1)
    height = feet @ (up / np.linalg.norm(up))
    return ((speed < 2 * contact.CONTACT_SPEED) & (height < height.min(-1, keepdims=True) + contact.SAME_LEVEL)).astype(float)
