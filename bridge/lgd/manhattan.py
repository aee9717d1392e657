# SPDX-License-Identifier: GPL-3.0-or-later
"""What straight lines of the background tell of the lens and of what is up: in rooms and streets most of them run along three directions at right
angles to each other, one of them upright. (Coughlan, Yuille, Manhattan world, Neural Computation 2003.)

A line and the camera's place span a plane, whose normal is at right angles to the line's direction, however far away it is.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial.transform import Rotation

from ..camera import FOCAL_RANGE, camera_matrix
from ..keypoints.tracks import Keypoints
from ..keypoints.turned_rays import turns_of

OFF = np.sin(np.radians(1.3))  # of a line's plane: one that is further off the three directions tells nothing
AWAY, TRUSTED = np.radians(14), np.radians(9)  # from what the body tells of up: how far is looked, and how far it mostly is off
ENOUGH, MOST = 24, 140  # lines
LONG = 90  # percentile of their lengths: a line counts by its length, but no more than that
SHORT, LONG_LENS, LENSES = 0.38, 4.0, 57  # of the longer side: focal lengths that are tried, beyond what one may be, and how many
# A lens is told if so much of the lines' length runs along three directions, and so much less does with any that is a quarter shorter, or longer.
SHARE, TELLS = 0.38, 0.88
# What is up is told if so much does, so many times as much as in the median of the directions that are looked at (where it is true 0.4 to 0.9 does, 2.7
# to 4 times as much; of pictures and guesses of up where it is not 0.1 to 0.4, 1 to 2.4 times), and so many lines are upright. Through a lens that is a
# guess: if one somewhat shorter and one somewhat longer tell the same, so nearly (rad).
RUNS, CLEAR, UPRIGHT = 0.3, 2.3, 5
OTHERS, ALIKE = (0.85, 1.2), np.radians(2.5)


def told_focal(keypoints: Keypoints, up: np.ndarray) -> float | None:
    """The focal length px of a camera that does not zoom; None where the lines do not tell. up: (3) about, in the axes of a camera that stands still,
    or as if it stood in the middle of its turns, which hangs on the lens."""
    if keypoints.lines is None or len(keypoints.lines) < ENOUGH:
        return None
    tried = np.geomspace(SHORT, LONG_LENS, LENSES) * max(keypoints.image_size)
    lenses = [camera_matrix(focal, *keypoints.image_size) for focal in tried]
    found = np.array([_best(*_planes(keypoints, K), _middle(keypoints, K) @ up)[0] for K in lenses])
    best = int(found.argmax())
    quarter = int(np.ceil(np.log(1.25) / np.log(tried[1] / tried[0])))
    if found[best] < SHARE or not quarter <= best < LENSES - quarter:
        return None
    if max(found[: best - quarter + 1].max(), found[best + quarter :].max()) > TELLS * found[best]:
        return None
    return float(np.clip(_finer(keypoints, tried[best], _middle(keypoints, lenses[best]) @ up), *np.multiply(FOCAL_RANGE, max(keypoints.image_size))))


def _finer(keypoints: Keypoints, focal: float, up: np.ndarray) -> float:
    """A focal length px told anew near one: each lens begins with the directions that its neighbour found, so that where it was looked from, and
    by which steps, no longer counts (of rooms 0.3 % for 1)."""
    change = np.linspace(-0.1, 0.1, 21)
    planes = [_planes(keypoints, camera_matrix(focal * np.exp(x), *keypoints.image_size)) for x in change]
    share, middle = np.zeros(len(change)), len(change) // 2
    _, first, _, aside = _best(*planes[middle], up)
    for way in (range(middle, len(change)), range(middle - 1, -1, -1)):
        best, turned = first, aside
        for k in way:
            share[k], best, turned = _near(*planes[k], best, turned, ((2.0, 0.5), (0.6, 0.15), (0.2, 0.05)))
    top = share > 0.97 * share.max()
    if top.sum() > 3:
        bend, slope, _ = np.polyfit(change[top], share[top], 2)
        if bend < 0:
            return focal * math.exp(float(np.clip(-slope / (2 * bend), change[0], change[-1])))
    return focal * math.exp(float(change[share.argmax()]))


def _middle(keypoints: Keypoints, K: np.ndarray) -> np.ndarray:
    """(3, 3) from the axes of a camera in the middle of the turns to the first frame's."""
    turns = keypoints.camera_turns
    return np.eye(3) if turns is None else Rotation.from_matrix(turns_of(turns, K)).mean().as_matrix()


def told_up(keypoints: Keypoints, cam_K: np.ndarray, up: np.ndarray, sure: bool) -> np.ndarray | None:
    """What is up (3), in the first frame's axes; None where the lines do not tell. cam_K: (3, 3) px; up: (3) as the body tells it; sure: the lens
    is no guess from the person."""
    if keypoints.lines is None or len(keypoints.lines) < ENOUGH or cam_K.ndim == 3:
        return None
    found = _told_up(keypoints, cam_K, up)
    if sure or found is None:
        return found
    others = [_told_up(keypoints, cam_K * ((times, 1, 1), (1, times, 1), (1, 1, 1)), up) for times in OTHERS]
    return found if all(other is not None and np.arccos(np.clip(other @ found, -1, 1)) < ALIKE for other in others) else None


def _told_up(keypoints: Keypoints, cam_K: np.ndarray, up: np.ndarray) -> np.ndarray | None:
    normals, weights = _planes(keypoints, cam_K)
    share, found, usual, _ = _best(normals, weights, up, fine=True)
    upright = np.abs(normals @ found) < OFF / 2
    if share < max(RUNS, CLEAR * usual) or upright.sum() < UPRIGHT:
        return None
    return found


def _planes(keypoints: Keypoints, K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals (N, 3) of the planes through the camera and each line, in the first frame's axes, and each line's weight (N), of 1 in all."""
    frames, ends = keypoints.lines[:, 0].astype(np.int64), keypoints.lines[:, 1:].reshape(-1, 2, 2)
    rays = np.concatenate(((ends - K[:2, 2]) / K[[0, 1], [0, 1]], np.ones((len(ends), 2, 1))), -1)
    normals = np.cross(rays[:, 0], rays[:, 1])
    if keypoints.camera_turns is not None:
        normals = np.einsum("nab,nb->na", turns_of(keypoints.camera_turns, K)[frames], normals)
    length = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=-1)
    kept = np.argsort(-length, kind="stable")[:MOST]
    kept = kept[length[kept] > 0]
    weights = np.minimum(length, np.percentile(length, LONG))[kept]
    return normals[kept] / np.linalg.norm(normals[kept], axis=-1, keepdims=True), weights / weights.sum()


def _best(normals: np.ndarray, weights: np.ndarray, about: np.ndarray, fine: bool = False) -> tuple[float, np.ndarray, float, float]:
    """How much of the lines runs along the best three directions, of which one is upright (3), how much does with other ones, in the median, and
    by how much the level ones are turned (rad)."""
    about = about / np.linalg.norm(about)
    ups = _around(about, AWAY, np.radians(1.0 if fine else 1.5))
    aside = np.linspace(0, np.pi / 2, 45, endpoint=False)
    score = _score(normals, weights, ups, aside)
    trust = np.exp(-0.5 * (np.arccos(np.clip(ups @ about, -1, 1)) / TRUSTED) ** 2)
    usual = float(np.median(score.max(1)))
    k, j = np.unravel_index((score * trust[:, None]).argmax(), score.shape)
    share, best, turned = _near(normals, weights, ups[k], aside[j], ((1.5, 0.375), (0.4, 0.1)) if fine else ((1.0, 0.5),))
    return share, best, usual, turned


def _near(normals: np.ndarray, weights: np.ndarray, best: np.ndarray, turned: float, looks) -> tuple[float, np.ndarray, float]:
    """`_best` near directions that are known. looks: how far (degrees), and by which steps, one after the other."""
    share = 0.0
    for span, step in looks:
        ups = _around(best, np.radians(span), np.radians(step))
        aside = turned + np.radians(np.arange(-2, 2.01, 0.5) * span / 1.5)
        score = _score(normals, weights, ups, aside, best)
        k, j = np.unravel_index(score.argmax(), score.shape)
        share, best, turned = float(score[k, j]), ups[k], float(aside[j])
    return share, best, turned


def _around(middle: np.ndarray, away: float, step: float) -> np.ndarray:
    """(V, 3) unit directions up to so far (rad) from one."""
    e, f = _level(middle[None], middle)
    steps = np.arange(-np.floor(away / step), np.floor(away / step) + 1) * step
    x, y = (v.ravel() for v in np.meshgrid(steps, steps))
    inside = np.hypot(x, y) <= away + 1e-9
    out = middle + np.tan(x[inside])[:, None] * e + np.tan(y[inside])[:, None] * f
    return out / np.linalg.norm(out, axis=-1, keepdims=True)


def _level(ups: np.ndarray, about: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two level directions (V, 3) for each up (V, 3), which change little with it."""
    side = np.cross(about, (0.0, 0.0, 1.0) if abs(about[2]) < 0.9 else (1.0, 0.0, 0.0))
    e = side - (ups @ side)[:, None] * ups
    e /= np.linalg.norm(e, axis=-1, keepdims=True)
    return e, np.cross(ups, e)


def _score(normals: np.ndarray, weights: np.ndarray, ups: np.ndarray, aside: np.ndarray, about: np.ndarray | None = None) -> np.ndarray:
    """(V, A) the share of lines that run along an up (V, 3), or along two level directions turned by so much (A, rad)."""
    normals = normals.astype(np.float32)
    e, f = _level(ups, ups[len(ups) // 2] if about is None else about)
    x, y, z = ((directions.astype(np.float32) @ normals.T) / np.float32(OFF) for directions in (e, f, ups))
    z *= z
    out = np.empty((len(ups), len(aside)))
    for k, angle in enumerate(aside.tolist()):
        c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        off = np.minimum(np.minimum((c * x + s * y) ** 2, (c * y - s * x) ** 2), z)
        out[:, k] = np.maximum(1 - off, 0) ** 2 @ weights
    return out
