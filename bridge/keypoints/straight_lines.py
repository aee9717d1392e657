# SPDX-License-Identifier: GPL-3.0-or-later
"""Straight lines of the background: the edges of walls, doors and furniture, by which `lgd/manhattan.py` tells the lens and what is up (OpenCV)."""

from __future__ import annotations

import cv2
import numpy as np

from .background import free_of_people
from .colmap import looked_at

LONGER = 960  # px of the longer side that is looked at
SHORTEST = 34  # px, as it is looked at: which way a shorter one runs is not sure
MOST = 150  # of a picture, the longest first
BORDER = 3  # px: what lies along the picture's edge is that


def straight_lines(image: np.ndarray, people: list[np.ndarray]) -> np.ndarray:
    """(N, 4) px: both ends of the straight lines of a picture, BGR, where nobody is. people: (K, 2) px each, the points at which somebody is."""
    grey, scale = looked_at(image, LONGER), min(LONGER / max(image.shape[:2]), 1.0)
    free = free_of_people(grey.shape, [points * scale for points in people])
    free[:BORDER], free[-BORDER:], free[:, :BORDER], free[:, -BORDER:] = 0, 0, 0, 0
    found = cv2.createLineSegmentDetector().detect(grey)[0] if min(grey.shape) > 2 * BORDER else None
    if found is None:
        return np.zeros((0, 4))
    ends = found.reshape(-1, 2, 2)
    length = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=-1)
    x, y = np.clip(ends.mean(1).astype(int), 0, np.array(grey.shape[::-1]) - 1).T
    kept = np.flatnonzero((length > SHORTEST) & (free[y, x] > 0))
    kept = kept[np.argsort(-length[kept], kind="stable")[:MOST]]
    return (ends[kept].reshape(-1, 4) + 0.5) / scale - 0.5
