# SPDX-License-Identifier: GPL-3.0-or-later
"""Keypoints of any timing to the rate video mode works at (numpy only)."""

import numpy as np

from ..keypoints.tracks import TOGETHER, rate_beside_pauses

RATE = 30.0  # frames a second that video mode works at
SLOW = 14.9  # below (15 / 1.001 is not): in-betweens are guesses, contacts are not claimed
LONGEST = 1.0  # s: a gap between two frames that is solved as what it is


def to_rate(
    rays: np.ndarray, confidence: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Points of any timing at RATE frames a second.

    rays: (F, 30, 2), confidence: (F, 30), times: (F) s. Returns the grid's times (T) (None where the source already
    runs at that rate), rays (T, 30, 2), confidence (T, 30). Points are interpolated between the neighbours that see
    them; a gap longer than a third of a second, or than the source's own spacing, stays a gap; what lies between
    two frames counts less the farther both are.
    """
    frames = len(times)
    if frames == 1:
        return None, rays, confidence
    gaps = np.diff(times)
    if np.abs(gaps * RATE - 1).max() < 0.08:
        return None, rays, confidence
    # From the first frame to the last, at a rate as near as that allows: an end beyond it would be held, as a key that repeats.
    grid = np.linspace(times[0], times[-1], 1 + max(round((times[-1] - times[0]) * RATE), 1))
    longest = max(TOGETHER, 1.5 * float(np.median(gaps)))
    out = np.zeros((len(grid), *rays.shape[1:]))
    seen = np.zeros((len(grid), rays.shape[1]))
    if np.median(gaps) < 0.75 / RATE:  # faster than the grid: the frames round each grid time are averaged
        rays, confidence = _box_filter(rays, confidence, times, 0.5 / RATE)
    for k in range(rays.shape[1]):
        good = confidence[:, k] > 0.05
        if not good.any():
            continue
        t, c = times[good], confidence[good, k]
        right = np.searchsorted(t, grid).clip(1, max(1, len(t) - 1)) if len(t) > 1 else np.zeros(len(grid), np.int64)
        left = np.maximum(right - 1, 0)
        span = np.maximum(t[right] - t[left], 1e-9)
        s = ((grid - t[left]) / span).clip(0, 1)
        out[:, k] = rays[good, k][left] * (1 - s)[:, None] + rays[good, k][right] * s[:, None]
        away = np.minimum(np.abs(grid - t[left]), np.abs(grid - t[right]))
        inside = ((span <= longest) & (grid >= t[left] - 0.6 / RATE) & (grid <= t[right] + 0.6 / RATE)) | (away < 0.6 / RATE)
        fade = 1 / (1 + np.maximum(away * RATE - 0.5, 0) / 3)
        seen[:, k] = np.where(inside, (c[left] * (1 - s) + c[right] * s) * fade, 0)
    return grid, out, seen


def without_pauses(times: np.ndarray) -> np.ndarray:
    """Times (F) s whose gaps are cut to LONGEST: what happens in a pause is not known, however long it is, and the hour between two
    pictures of a motion-triggered camera is not to be solved frame by frame."""
    gaps = np.diff(times)
    if gaps.max(initial=0) <= LONGEST:
        return times
    return times[0] + np.concatenate(([0], np.cumsum(np.minimum(gaps, LONGEST))))


def _box_filter(rays: np.ndarray, confidence: np.ndarray, times: np.ndarray, half: float):
    """Confidence-weighted mean of the frames within `half` seconds of each frame."""
    low, high = np.searchsorted(times, times - half), np.searchsorted(times, times + half, side="right")
    weight = np.where(confidence > 0.05, confidence, 0)
    total = np.concatenate((np.zeros((1, *weight.shape[1:])), np.cumsum(weight, 0)))
    moved = np.concatenate((np.zeros((1, *rays.shape[1:])), np.cumsum(rays * weight[..., None], 0)))
    sums = total[high] - total[low]
    mean = (moved[high] - moved[low]) / np.maximum(sums, 1e-9)[..., None]
    return np.where(weight[..., None] > 0, mean, rays), weight


def is_slow(times: np.ndarray) -> bool:
    """Whether footage has too few frames a second to tell what lies between them; pauses in it say nothing of that."""
    return len(times) > 1 and rate_beside_pauses(times) < SLOW
