# SPDX-License-Identifier: GPL-3.0-or-later
"""Ground, gravity and contacts: the world frame of a take, and the anchoring of the root on feet at rest (numpy only).

World: Z up, metres, ground at z = 0, origin under the person's pelvis in the first solved frame, that frame's camera
looking along +Y.
"""

import numpy as np
from scipy.linalg import solveh_banded

CONTACT_HEIGHT = 0.03  # m: lower counts as touching, where no network says so
CONTACT_SPEED = 0.3  # m/s


def world_from_up(up: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) camera to world that sends `up` (3) to +Z and the camera's axis into the +Y half-plane."""
    z = up / np.linalg.norm(up)
    forward = np.array([0.0, 0.0, 1.0]) - z[2] * z
    if np.linalg.norm(forward) < 1e-3:  # the camera looks straight up or down: its own "up" points ahead
        forward = np.array([0.0, -1.0, 0.0]) - -z[1] * z
    y = forward / np.linalg.norm(forward)
    return np.stack((np.cross(y, z), y, z))


def average_direction(directions: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Weighted mean direction of (F, 3) and its agreement in [0, 1]; the frames that disagree most count less."""
    unit = directions / np.maximum(np.linalg.norm(directions, axis=-1, keepdims=True), 1e-9)
    w = weights / max(weights.sum(), 1e-9)
    mean = (unit * w[:, None]).sum(0)
    for _ in range(5):
        angle = np.arccos(np.clip(unit @ (mean / max(np.linalg.norm(mean), 1e-9)), -1, 1))
        robust = w / (1 + (angle / 0.15) ** 2)
        mean = (unit * robust[:, None]).sum(0) / max(robust.sum(), 1e-9)
    return mean / max(np.linalg.norm(mean), 1e-9), float(np.clip(np.linalg.norm(mean), 0, 1))


def ground_height(soles: np.ndarray, seen: np.ndarray) -> float:
    """Height (m) of the ground under sole points (F, 4, 3), z up: the 5th percentile of the lowest one over the frames
    seen (F)."""
    heights = soles[..., 2]
    lowest = heights[seen].min(-1) if seen.any() else heights.min(-1)
    return float(np.percentile(lowest, 5))


def contacts_by_height(soles: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Contacts (F, 4) in {0, 1} of sole points (F, 4, 3) in a world with its ground at z = 0 (paper mode)."""
    if len(soles) < 2:
        return (soles[..., 2] < CONTACT_HEIGHT).astype(np.float32)
    speed = np.linalg.norm(np.gradient(soles, times, axis=0), axis=-1)
    return ((soles[..., 2] < CONTACT_HEIGHT) & (speed < CONTACT_SPEED)).astype(np.float32)


def anchor_root(
    root: np.ndarray, feet: np.ndarray, contact: np.ndarray, doubt: np.ndarray, slip: float = 0.004
) -> np.ndarray:
    """The root's path moved so that feet at rest stay where they are.

    root: (F, 3) m as seen, camera axes; feet: (F, 4, 3) m about the root, same axes; contact: (F, 4) in [0, 1];
    doubt: (F, 3) expected error (m) of each coordinate of the path as seen; slip: m a frame that a foot at rest may
    move by. Least squares, one tridiagonal system an axis: (path - seen) / doubt against foot motion / slip. A foot
    that is seen to move across the image is not at rest, whatever its contact says: what is uncertain is depth.
    """
    frames = len(root)
    if frames < 3:
        return root
    path = _box_mean(root[:, None] + feet, 5)
    across = np.linalg.norm(path[1:, :, :2] - path[:-1, :, :2], axis=-1)
    seen_at_rest = 1 / (1 + (across / (2 * slip)) ** 4)
    both = np.minimum(contact[1:], contact[:-1])
    both = np.where(both > 0.5, both, 0) * seen_at_rest
    stiff = both.sum(-1) / slip**2
    # A foot at rest asks the root to move by minus the foot's own motion about it.
    pull = (both[..., None] * -(feet[1:] - feet[:-1])).sum(1) / slip**2
    out = np.empty_like(root)
    for axis in range(3):
        # Errors of the path as seen hang together over about a third of a second, so each frame counts a tenth.
        trust = 0.1 / np.maximum(doubt[:, axis], 1e-3) ** 2
        # Between contacts the path follows the seen path's own steps.
        free = 1 / 0.02**2
        steps = stiff + free
        aim = pull[:, axis] + free * (root[1:, axis] - root[:-1, axis])
        diagonal = trust.copy()
        diagonal[1:] += steps
        diagonal[:-1] += steps
        right = trust * root[:, axis]
        right[1:] += aim
        right[:-1] -= aim
        band = np.zeros((2, frames))
        band[1] = diagonal
        band[0, 1:] = -steps
        out[:, axis] = solveh_banded(band, right)
    return out


def _box_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Running mean over `width` frames (odd), shorter at the ends. values: (F, ...)."""
    half = width // 2
    total = np.concatenate((np.zeros_like(values[:1]), np.cumsum(values, 0)))
    at = np.arange(len(values))
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    return (total[high] - total[low]) / (high - low).reshape(-1, *([1] * (values.ndim - 1)))
