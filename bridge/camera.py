# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras: focal length, projection, the closed-form placement of a posed body (numpy; OpenCV where a lens distorts)."""

import math

import numpy as np

# s: depth from one frame's points is too uncertain to be taken alone; across the image only a detector's jitter is.
DEPTH_SMOOTHING, PLACE_SMOOTHING = 0.3, 0.03
FOCAL_RANGE = (0.5, 3.5)  # of the image's longer side: what an estimate of a focal length may be
FEW = 4  # points: fewer do not tell how far a body is
LINEAR, REFINED = 4, 6  # rounds by which a body is placed
SKEW = 5e-4  # of the focal length
SKEW_HINT = "Put 0 beside its focal lengths, and straighten the points where the skew is real."
FARTHEST = 0.7  # of a depth's logarithm: no placement is believed that is farther from the path's own


def assumed_focal(width: float, height: float) -> float:
    """The focal length (px) assumed where none is known: the image's diagonal (WHAM, CLIFF)."""
    return math.hypot(width, height)


def camera_matrix(focal: float, width: float, height: float) -> np.ndarray:
    """(3, 3) px with the principal point in the middle of the image; pixel centres lie on whole numbers."""
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])


def is_skewed(cam_K: np.ndarray) -> bool:
    """Whether a matrix (..., 3, 3) px has more than focal lengths and a principal point, so that it is no camera of ours: u = fx x / z + cx,
    v = fy y / z + cy. What moves no point by as much as a pixel is let pass."""
    return bool((np.maximum(np.abs(cam_K[..., 0, 1]), np.abs(cam_K[..., 1, 0])) > SKEW * cam_K[..., 0, 0]).any())


def to_rays(points: np.ndarray, cam_K: np.ndarray) -> np.ndarray:
    """Pixels (F, K, 2) to rays (x / z, y / z). cam_K: (3, 3) or (F, 3, 3)."""
    k = np.broadcast_to(cam_K, (len(points), 3, 3))[:, None]
    x = (points[..., 0] - k[..., 0, 2]) / k[..., 0, 0]
    y = (points[..., 1] - k[..., 1, 2]) / k[..., 1, 1]
    return np.stack((x, y), -1)


def project(points: np.ndarray, cam_K: np.ndarray) -> np.ndarray:
    """Points (F, K, 3) m of the camera frame to pixels (F, K, 2). cam_K: (3, 3) or (F, 3, 3)."""
    k = np.broadcast_to(cam_K, (len(points), 3, 3))[:, None]
    depth = np.maximum(points[..., 2], 1e-3)
    return np.stack(
        (k[..., 0, 0] * points[..., 0] / depth + k[..., 0, 2], k[..., 1, 1] * points[..., 1] / depth + k[..., 1, 2]), -1
    )


def undistort(points: np.ndarray, cam_K: np.ndarray, distortion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where points of pictures as filmed lie in those of the same camera without the lens's distortion.

    points: (..., 2) px; cam_K: (3, 3); distortion: OpenCV's k1 k2 p1 p2 [k3 [k4 k5 k6]]. Returns (..., 2) px and (...) bool,
    False for a point that such a lens shows nowhere: it keeps its place.
    """
    import cv2

    flat = points.reshape(-1, 1, 2).astype(float)
    focal, middle = cam_K[[0, 1], [0, 1]], cam_K[:2, 2]
    seen = (flat - middle) / focal
    precise = (cv2.TERM_CRITERIA_MAX_ITER | cv2.TERM_CRITERIA_EPS, 100, 1e-9)
    straight = cv2.undistortPointsIter(seen, np.eye(3), distortion, None, None, precise)
    straight = np.where(np.isfinite(straight) & (np.abs(straight) < 1e3), straight, 1e3)
    rays = np.concatenate([straight, np.ones_like(straight[..., :1])], -1)
    again = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), np.eye(3), distortion)[0]
    # Within what the lens shows, farther out is farther out in the picture too.
    out = cv2.projectPoints(rays * [1.001, 1.001, 1.0], np.zeros(3), np.zeros(3), np.eye(3), distortion)[0]
    grows = (np.linalg.norm(out, axis=-1) >= np.linalg.norm(again, axis=-1)).all(-1)
    reached = grows & (np.abs((again - seen) * focal).max((-1, -2)) < 0.5)
    found = np.where(reached[:, None, None], straight * focal + middle, flat)
    return found.reshape(points.shape).astype(points.dtype), reached.reshape(points.shape[:-1])


def bend(points: np.ndarray, cam_K: np.ndarray, distortion: np.ndarray) -> np.ndarray:
    """Where points (..., 2) px of pictures without the lens's distortion lie in those as filmed: `undistort` the other way round."""
    import cv2

    focal, middle = cam_K[[0, 1], [0, 1]], cam_K[:2, 2]
    straight = (points.reshape(-1, 1, 2).astype(float) - middle) / focal
    rays = np.concatenate([straight, np.ones_like(straight[..., :1])], -1)
    seen = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), np.eye(3), distortion)[0] * focal + middle
    return seen.reshape(points.shape).astype(points.dtype)


def place_by_reprojection(relative: np.ndarray, rays: np.ndarray, confidence: np.ndarray, refined: bool = False) -> np.ndarray:
    """Where to put a body of fixed pose so that its points project onto rays: linear least squares.

    relative: (F, K, 3) m points about the pelvis, camera axes; rays: (F, K, 2); confidence: (F, K). Returns (F, 3) m.
    The linear form weighs near points more, which re-weighted rounds make good. The rays' errors are on both of its sides, so that it
    ends nearer to the camera than the reprojection's least squares, by some 0.3 % where the pose is about right. refined: Gauss-Newton
    steps go on to these, and are kept where they lower the error. Frames with fewer than two points seen are NaN.
    """
    frames, points = rays.shape[:2]
    out = np.full((frames, 3), np.nan)
    enough = (confidence > 0).sum(-1) >= 2
    rays, relative, confidence = rays[enough].astype(float), relative[enough], confidence[enough]
    columns = np.zeros((len(rays), 4, points, 2))  # of the unknowns, and the right side
    columns[:, 0, :, 0] = columns[:, 1, :, 1] = 1
    depth, toward, far = np.ones(rays.shape[:2]), rays, np.zeros((len(rays), 1))
    first = place = np.zeros((len(rays), 3))
    for step in range(LINEAR + REFINED * refined):
        # x (Z + z) = X + rx  ->  X - x Z = x z - rx, likewise for y; in the steps about the place so far, p being what is projected
        # there to p = (X + rx) / (Z + z), X' - p Z' = (Z + z) x - p Z - rx
        if step >= LINEAR:
            toward, far = (place[:, None, :2] + relative[..., :2]) / depth[..., None], place[:, 2:]
        columns[:, 2] = -toward
        columns[:, 3] = rays * (relative[..., 2:] + far[..., None]) - toward * far[..., None] - relative[..., :2]
        flat = columns.reshape(len(rays), 4, 2 * points)
        weighted = flat[:, :3] * np.repeat(confidence / depth**2, 2, axis=1)[:, None]
        system = np.einsum("fik,fjk->fij", weighted, flat)
        place = np.linalg.solve(system[..., :3] + 1e-9 * np.eye(3), system[..., 3:])[..., 0]
        place[:, 2] = np.clip(place[:, 2], 0.2, 1e3)
        depth = np.maximum(place[:, None, 2] + relative[..., 2], 0.1)
        first = place if step < LINEAR else first
    errors = [_squares(relative + at[:, None], rays, confidence) for at in (first, place)]
    out[enough] = np.where((errors[1] <= errors[0])[:, None], place, first)
    return out


def _squares(points: np.ndarray, rays: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """(F) weighted sum of squares of what points (F, K, 3) m project off rays (F, K, 2); inf where one that counts is not in front."""
    error = points[..., :2] / np.maximum(points[..., 2:], 0.1) - rays
    behind = ((points[..., 2] < 0.1) & (confidence > 0)).any(-1)
    return np.where(behind, np.inf, (confidence * (error**2).sum(-1)).sum(-1))


def settle(path: np.ndarray, relative: np.ndarray, rays: np.ndarray, confidence: np.ndarray, times: np.ndarray) -> np.ndarray:
    """A path moved so that the body covers its points, without the jitter of placing every frame alone.

    path: (F, 3) m; relative: (F, K, 3) m points about it; rays: (F, K, 2); confidence: (F, K); times: (F) s. Depth is the
    closed-form placement's, within bounds round the path's, smoothed; x and y follow by weighted least squares at that
    depth, their direction smoothed briefly. Frames with fewer than two points seen lie between their neighbours.
    """
    free = place_by_reprojection(relative, rays, confidence)
    good = np.isfinite(free).all(-1) & (free[:, 2] > 0.3)
    if (good & ((confidence > 0).sum(-1) >= FEW)).any():
        good &= (confidence > 0).sum(-1) >= FEW
    if not good.any():
        return path
    weight = good * confidence.sum(-1)
    near = np.log(np.maximum(path[:, 2], 0.1))  # a few points close together place a body anywhere along their ray
    log_depth = np.log(np.where(good, free[:, 2], 1.0)).clip(near - FARTHEST, near + FARTHEST)
    log_depth = fill_gaps(np.where(good, log_depth, np.nan)[:, None])
    first, last = np.flatnonzero(good)[[0, -1]]
    at = np.arange(len(good))
    ends = (at < first) | (at > last)  # there the slope of the frames at the edge would lead away
    distance = np.exp(smooth_in_time(log_depth, np.where(ends, weight.max(), weight), times, DEPTH_SMOOTHING))
    depth = np.maximum(distance[:, None] + relative[..., 2:], 0.1)
    w = (confidence / depth[..., 0] ** 2)[..., None]
    wanted = ((rays * depth - relative[..., :2]) * w).sum(1) / np.maximum(w.sum(1), 1e-12)
    across = fill_gaps(np.where(good[:, None], wanted / distance, np.nan))
    # Within a gap the line across it counts, not the slope of the two or three frames at its edge.
    across = smooth_in_time(across, np.where(good, weight, weight.max()), times, PLACE_SMOOTHING)
    return np.concatenate((across * distance, distance), -1)


def smooth_in_time(values: np.ndarray, weights: np.ndarray, times: np.ndarray, sigma: float) -> np.ndarray:
    """Local straight lines over time, weighted by a Gaussian: a steady motion passes unchanged, at the ends too.

    values: (F, C); weights: (F), where 0 the value itself counts, a little; times: (F) s, rising; sigma: s.
    """
    weights = np.maximum(weights, 1e-3 * weights.max(initial=1e-9))
    low, high = np.searchsorted(times, times - 3 * sigma), np.searchsorted(times, times + 3 * sigma, side="right")
    s0, s1, s2 = np.zeros((3, len(times), 1))
    b0, b1 = np.zeros((2, *values.shape))
    for ahead in range(int((high - low).max(initial=0))):  # few offsets, all frames at once
        at = low + ahead
        inside = at < high
        at = np.minimum(at, len(times) - 1)
        away = ((times[at] - times) / sigma)[:, None]
        k = np.exp(-0.5 * away**2) * (inside * weights[at])[:, None]
        s0, s1, s2 = s0 + k, s1 + k * away, s2 + k * away**2
        b0, b1 = b0 + k * values[at], b1 + k * away * values[at]
    s2 = s2 + 1e-3 * s0  # a lone frame has no slope
    return (s2 * b0 - s1 * b1) / (s0 * s2 - s1 * s1)


def fill_gaps(values: np.ndarray) -> np.ndarray:
    """NaN rows of (F, C) filled linearly between their neighbours; the ends are held. All NaN stays NaN."""
    good = np.isfinite(values).all(-1)
    if not good.any():
        return values
    at = np.arange(len(values))
    return np.stack([np.interp(at, at[good], values[good, c]) for c in range(values.shape[1])], -1)
