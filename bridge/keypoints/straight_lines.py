# SPDX-License-Identifier: GPL-3.0-or-later
"""Straight lines of the background: the edges of walls, doors and furniture, by which `lgd/manhattan.py` tells the lens and what is up (OpenCV)."""

from __future__ import annotations

import cv2
import numpy as np

from .background import free_of_people

LONGER = 960  # px of the longer side that is looked at
SHORTEST = 34  # px, as it is looked at: which way a shorter one runs is not sure
MOST = 150  # of a picture, the longest first
BORDER = 3  # px: what lies along the picture's edge is that


def straight_lines(image: np.ndarray, people: list[np.ndarray]) -> np.ndarray:
    """(N, 4) px: both ends of the straight lines of a picture, BGR, where nobody is. people: (K, 2) px each, the points at which somebody is."""
    height, width = image.shape[:2]
    scale = min(LONGER / max(height, width), 1.0)
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    if scale < 1:
        grey = cv2.resize(grey, (max(round(width * scale), 1), max(round(height * scale), 1)), interpolation=cv2.INTER_AREA)
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
