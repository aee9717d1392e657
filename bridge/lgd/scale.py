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
# it: how far off it its points lie, and how far apart they must each way; how many it takes. Of what is seen beside the feet, where there are
# some points, such a share lies on it (0.8 to 0.9 do), or another plane is looked for, so many times: a street is not the stage above it.
STEEPEST, STEEP = np.tan(np.radians(15)), np.tan(np.radians(8))
OFF, WIDE, ENOUGH, SHARE, PLANES = 0.02, 0.2, 30, 0.4, 3
# Feet on it: how exactly (log) frames agree on the size, and how often, against the size that most tell, the largest must be told that is
# taken: feet in the air tell a smaller one. LIKELY, ACROSS: of the sizes that feet at rest tell it must be so likely against the likeliest; and by
# how feet move across the camera's axis alone, which is told well: of right sizes that is 0.9 to 1 (of who runs 0.8), of who walks half a metre above the ground 0.6.
EXACT, OFTEN, LIKELY, ACROSS = 0.05, 0.5, 0.25, 0.7
# Feet at rest: s over which a sole is watched, m/s below which it may rest, m/s at which a camera may travel on the whole, sizes tried.
LAG, REST, SPEEDS, TRIED = 0.2, 0.25, (0.02, 20.0), 140
# What is seen beside somebody: how far to either side, in heights of theirs (m), and below their feet, or a little above; how many points it takes. What
# is beside their body lies behind them: how much nearer it may be.
BESIDE, BELOW, ABOVE, TALL, SOME, NEARER = 0.6, 0.4, 0.05, 1.7, 10, 0.8


def metric_path(
    path: CameraPath, up: np.ndarray, pelvis: np.ndarray, joints: np.ndarray, soles: np.ndarray, seen: np.ndarray, times: np.ndarray,
    skin: np.ndarray | None = None,
) -> tuple[np.ndarray, bool]:  # fmt: skip
    """T_world_cam (F, 4, 4) in metres with Z up and the ground at zero, and whether the ground tells so, not only feet at rest.

    up: (3) in the path's world; pelvis (F, 3), joints (F, 24, 3), soles (F, 4, 3) and skin (F, K, 3) about it, m along the camera's
    axes; seen: (F) bool; times: (F) s.
    """
    begin = int(np.argmax(seen))
    up = path.world[begin, :3, :3].T @ up
    path = path.turned_to(begin)
    turn, feet = path.world[:, :3, :3], soles + pelvis[:, None]
    steps = Steps(path.world, feet, seen, times)
    least = behind(path, pelvis, seen)
    plane = ground_plane(path, up, beside_the_feet(path, up, feet, seen))
    size = plane and by_the_ground(path, *plane[:2], feet, seen)
    grounded = size is not None and steps.may_be(size, least, beside=plane[2])
    metric = path.world.copy()
    metric[:, :3, 3] *= size if grounded else steps.size(least)
    if not grounded:
        return _balanced(metric, up, pelvis, joints, soles, seen, times, skin), False
    normal, level, _ = plane
    world = np.eye(4)
    world[:3, :3] = contact.world_from_up(normal)
    start = turn[begin] @ pelvis[begin] + metric[begin, :3, 3]
    world[:3, 3] = -np.array([*(world[:3, :3] @ start)[:2], level * size])
    return world @ metric, True


def turning_path(
    world: np.ndarray, up: np.ndarray, pelvis: np.ndarray, joints: np.ndarray, soles: np.ndarray, seen: np.ndarray, times: np.ndarray,
    skin: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """T_world_cam (F, 4, 4), with Z up and the ground at zero, of a camera that turns where it stands, world (F, 4, 4) in axes of its own;
    the rest as in `metric_path`."""
    begin = int(np.argmax(seen))
    return _balanced(np.linalg.inv(world[begin]) @ world, world[begin, :3, :3].T @ up, pelvis, joints, soles, seen, times, skin)


def _balanced(
    metric: np.ndarray, up: np.ndarray, pelvis: np.ndarray, joints: np.ndarray, soles: np.ndarray, seen: np.ndarray, times: np.ndarray,
    skin: np.ndarray | None,
) -> np.ndarray:  # fmt: skip
    """A path (F, 4, 4), in metres, in the world in which the body is balanced over feet at rest, and those, or what it lies on, are on
    the ground."""
    turn = metric[:, :3, :3]
    body = np.einsum("fab,fb->fa", turn, pelvis) + metric[:, :3, 3]
    about, lower = (np.einsum("fab,fkb->fka", turn, points) for points in (joints, soles))
    still = _still(lower + body[:, None], up, times)
    up, _ = contact.balanced_up(up, about, lower, still)
    skin = None if skin is None else np.einsum("fab,fkb->fka", turn.astype(skin.dtype), skin)
    return ground_world(up, body, lower, seen, times, still, skin) @ metric


def ground_plane(path: CameraPath, up: np.ndarray, beside: np.ndarray) -> tuple[np.ndarray, float, bool] | None:
    """The ground that is walked on as a plane: its normal (3), which is up, its height along that, in the path's unit, and whether it is seen
    to lie beside the feet; None where no ground is seen.

    up: (3) in the path's world, by 15 degrees at most off; beside: (N) bool, the path's points that are seen beside feet. Of the planes below
    the camera that with the most points, fitted to them. On rendered walks it is off by 0.0 to 0.4 degrees, where the body's own balance is by 0.5 to 6.
    """
    left = np.ones(len(path.points), bool)
    for _ in range(PLANES):
        normal, level, on_it = _largest_plane(path, up, left)
        if normal is None:
            return None
        told = beside.sum() >= SOME
        if not told or on_it[beside].mean() > SHARE:
            return normal, level, bool(told)
        left &= ~on_it
    return None


def _largest_plane(path: CameraPath, up: np.ndarray, left: np.ndarray) -> tuple[np.ndarray | None, float, np.ndarray]:
    """`ground_plane` of some of the points (N) alone, and which of all lie on it."""
    turn = contact.world_from_up(up)
    places = path.world[:, :3, 3] @ turn.T
    middle = places.mean(0)
    places, points = places - middle, path.points @ turn.T - middle
    none = None, 0.0, np.zeros(len(points), bool)
    best, plane = 0.0, None
    for slope in np.stack(np.meshgrid(*[np.linspace(-STEEPEST, STEEPEST, 31)] * 2), -1).reshape(-1, 2):
        below = (points[:, :2] @ slope - points[:, 2])[left]  # how far below the middle of the path
        below = np.sort(np.log(below[below > max((places[:, :2] @ slope - places[:, 2]).max(), 1e-9)]))
        within = np.searchsorted(below, below + 3 * OFF) - np.arange(len(below))
        score = within.max(initial=0) * np.exp(-0.5 * (slope @ slope) / STEEP**2)
        if score > best:
            best, plane = score, np.array([*slope, -np.exp(below[within.argmax()] + 1.5 * OFF)])
    if plane is None:
        return none
    columns = np.column_stack((points[:, :2], np.ones(len(points))))
    for _ in range(20):
        off = (points[:, 2] - columns @ plane) / plane[2]
        weight = left / (1 + (off / OFF) ** 2)
        plane = np.linalg.lstsq(columns * weight[:, None], points[:, 2] * weight, rcond=None)[0]
    height, on_it = -plane[2], np.abs(off) < 2 * OFF
    told = points[on_it & left]
    if len(told) < ENOUGH or height <= 0 or np.linalg.norm(plane[:2]) > STEEPEST:
        return none
    if np.sqrt(np.linalg.eigvalsh(np.cov(told[:, :2].T))[0]) < WIDE * height:
        return none
    normal = np.array([-plane[0], -plane[1], 1]) / np.sqrt(1 + plane[:2] @ plane[:2])
    return turn.T @ normal, float(normal @ (middle - (0, 0, height))), on_it


def beside_the_feet(path: CameraPath, up: np.ndarray, feet: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(N) bool: the path's points that some frames show beside the lower foot, of soles (F, 4, 3) m before the camera, or nearer than it."""
    out = np.zeros(len(path.points), bool)
    for f, points in _shown(path, seen):
        foot = feet[f, (feet[f] @ path.world[f, :3, :3].T @ up).argmin()]
        out |= _within(points, foot, -ABOVE, BELOW)
    return out


def _shown(path: CameraPath, seen: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Frames now and then, and the path's points (N, 3) before the camera in each."""
    frames = np.flatnonzero(seen)[:: max(int(seen.sum()) // 30, 1)].tolist()
    return [(f, (path.points - path.world[f, :3, 3]) @ path.world[f, :3, :3]) for f in frames]


def _within(points: np.ndarray, of: np.ndarray, above: float, below: float) -> np.ndarray:
    """(N) bool: which points (N, 3) before the camera the picture shows beside a place (3) m, from so far above to so far below it, in heights."""
    off = (points[:, :2] / np.maximum(points[:, 2:], 1e-9) - of[:2] / max(of[2], 1e-9)) * of[2] / TALL
    return (points[:, 2] > 1e-9) & (np.abs(off[:, 0]) < BESIDE) & (off[:, 1] > above) & (off[:, 1] < below)


def by_the_ground(path: CameraPath, normal: np.ndarray, level: float, feet: np.ndarray, seen: np.ndarray) -> float | None:
    """How many metres the path's unit has, so that the lower foot mostly is as far below the camera as the ground; None where no frame tells.

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
    told = [np.log(pelvis[f, 2] / points[_within(points, pelvis[f], -0.5, 0.0), 2]) for f, points in _shown(path, seen)]
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
        turn = world[now, :3, :3]  # both along the axes of the camera
        self.own = np.einsum("fba,fkb->fka", turn, at[then] - at[now]) / span[..., None]
        self.carried = np.einsum("fba,fb->fa", turn, world[then, :3, 3] - world[now, :3, 3]) / span

    def _slowest(self, size: float, axes: int = 3) -> tuple[np.ndarray, np.ndarray]:
        """The own motion of each frame's slowest sole, and how fast it moves in the world, along the first so many of the camera's axes."""
        moves = np.linalg.norm((self.own + size * self.carried[:, None])[..., :axes], axis=-1)
        which = moves.argmin(-1)
        rows = np.arange(len(moves))
        return self.own[rows, which], moves[rows, which]

    def rest(self, size: float, axes: int = 3) -> float:
        """How often a sole rests, from 0 to 1."""
        return float(np.mean(1 / (1 + (self._slowest(size, axes)[1] / REST) ** 2))) if len(self.own) else 0.0

    def may_be(self, size: float, least: float, beside: bool) -> bool:
        """Whether the size that a plane tells may be right. beside: it is seen to lie beside the feet: then only larger sizes speak against it, as
        of the hall below a stage. Smaller ones would as well of who skates or rides along with the camera, whose feet never rest."""
        best = lambda least: max(self.rest(other, 2) for other in self._tried(least))  # noqa: E731
        if not len(self.own):
            return True
        if beside:
            return self.rest(size, 2) > ACROSS * best(size)
        return size > least and self.rest(size) > LIKELY * self.rest(self.size(least)) and self.rest(size, 2) > ACROSS * best(least)

    def _tried(self, least: float) -> np.ndarray:
        return np.maximum(np.geomspace(*SPEEDS, TRIED) / max(np.linalg.norm(self.carried, axis=-1).mean(), 1e-9), least)

    def size(self, least: float = 0.0) -> float:
        """How many metres the unit has, which are more than `least`."""
        if not len(self.own):
            return max(1.0, least)
        tried = self._tried(least)
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
