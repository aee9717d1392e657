# SPDX-License-Identifier: GPL-3.0-or-later
"""The focal length of a camera that turns, from how its background's pictures lie on each other (OpenCV).

Before a camera that turns where it stands two pictures differ by K R K^-1: only a lens of the right focal length lays the one on the
other by a turn alone. (Hartley, Self-calibration of stationary cameras, IJCV 1997.)
"""

from __future__ import annotations

import cv2
import numpy as np

from ..camera import FOCAL_RANGE

FAR = 0.1  # of the longer side, that two pictures lie apart at least: further tells more
SHOWN, LEAST = 0.68, 0.5  # of a picture, that the other shows, too: what is best, and what is enough
MOST, EACH = 24, 4  # pairs that are compared; of them with one picture
CORNERS, RATIO = 1500, 0.75  # of a picture; of two likely matches the better is this much nearer
ALIKE, ENOUGH = 1.5, 25  # px of the small picture; corners that lie on each other by a homography
STEPS = 61  # focal lengths that are tried, over FOCAL_RANGE
OFF = 9.0  # px^2: a corner further off counts no more than this
LAID = 2.5  # px^2 that corners may miss by in the mean: more is no turn (a zoom, a lens that bends the picture)
TELLS, PAIRS, SPREAD = 1.25, 4, 0.1  # times as much are they to miss by with a focal length a fifth off; pairs; of the logarithms of what each pair tells


def turned_focal(pictures: dict[int, tuple[np.ndarray, np.ndarray]], turns: np.ndarray, size: tuple[int, int]) -> float | None:
    """The focal length in px of pictures of size (w, h), None where the background does not tell.

    pictures: by frame, small and grey, and where nobody is in it; turns: (F, 4) as `Keypoints.camera_turns`.
    """
    pairs = _pairs(sorted(pictures), turns, size)
    corners: dict[int, tuple] = {}
    detector = cv2.SIFT_create(CORNERS)
    for frame in sorted({frame for pair in pairs for frame in pair}):
        corners[frame] = detector.detectAndCompute(*pictures[frame])
    found = [both for a, b in pairs if (both := _same(corners[a], corners[b], pictures[a][0].shape)) is not None]
    if len(found) < PAIRS:
        return None
    longer = max(next(iter(pictures.values()))[0].shape)
    tried = np.geomspace(*FOCAL_RANGE, STEPS)
    missed = np.array([[_misses(here, there, focal * longer) for focal in tried] for here, there in found])
    laid = missed.min(1) < LAID
    if laid.sum() < PAIRS:
        return None
    missed, alone = missed[laid], np.log(tried[missed[laid].argmin(1)])
    total = missed.mean(0)
    best = int(total.argmin())
    fifth = int(np.ceil(np.log(1.2) / np.log(tried[1] / tried[0])))
    if not fifth <= best < STEPS - fifth or np.median(np.abs(alone - np.log(tried[best]))) > SPREAD:
        return None
    if min(total[best - fifth], total[best + fifth]) < TELLS * total[best]:
        return None
    before, here, after = total[best - 1 : best + 2]
    bend = before - 2 * here + after
    between = (before - after) / (2 * bend) if bend > 0 else 0.0  # of a parabola through the three
    return float(tried[best] * (tried[1] / tried[0]) ** between * max(size))


def _pairs(frames: list[int], turns: np.ndarray, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Those pairs of frames between which the camera turned by about as much as tells most."""
    a, b = np.triu_indices(len(frames), 1)
    at = turns[frames, :2] if frames else np.zeros((0, 2))
    apart = np.abs(at[a] - at[b])
    shown = np.maximum(1 - apart / size, 0).prod(-1)
    tells = (np.linalg.norm(apart, axis=-1) >= FAR * max(size)) & (shown >= LEAST)
    used, out = dict.fromkeys(frames, 0), []
    for k in np.argsort(np.abs(shown - SHOWN), kind="stable"):
        pair = frames[a[k]], frames[b[k]]
        if tells[k] and len(out) < MOST and max(used[frame] for frame in pair) < EACH:
            out.append(pair)
            for frame in pair:
                used[frame] += 1
    return out


def _same(one: tuple, other: tuple, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray] | None:
    """Corners (N, 2) px from the middle in two pictures that show the same; None where few do."""
    if one[1] is None or other[1] is None or min(len(one[0]), len(other[0])) < ENOUGH:
        return None
    nearest = cv2.BFMatcher().knnMatch(one[1], other[1], k=2)
    good = [first for first, second in nearest if first.distance < RATIO * second.distance]
    if len(good) < ENOUGH:
        return None
    middle = (np.array(shape[::-1]) - 1) / 2
    here = np.array([one[0][m.queryIdx].pt for m in good]) - middle
    there = np.array([other[0][m.trainIdx].pt for m in good]) - middle
    _, agree = cv2.findHomography(here, there, cv2.RANSAC, ALIKE)
    if agree is None or agree.sum() < ENOUGH:
        return None
    return here[agree[:, 0] > 0], there[agree[:, 0] > 0]


def _misses(here: np.ndarray, there: np.ndarray, focal: float) -> float:
    """px^2 by which the turn that best lays some corners' rays on the others misses them, in the mean."""
    one, other = (np.column_stack((xy, np.full(len(xy), focal))) for xy in (here, there))
    one, other = (rays / np.linalg.norm(rays, axis=-1, keepdims=True) for rays in (one, other))
    u, _, vt = np.linalg.svd(other.T @ one)
    laid = one @ (u @ np.diag((1.0, 1.0, np.linalg.det(u @ vt))) @ vt).T
    depth = np.maximum(laid[:, 2:], 1e-3)  # what is turned behind the camera is far off
    return float(np.minimum(((laid[:, :2] / depth * focal - there) ** 2).sum(-1), OFF).mean())
