# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of a picture: borders (x0, y0, x1, y1) in whole pixels (numpy only)."""

from collections.abc import Sequence

import numpy as np

Borders = tuple[int, int, int, int]


def clip_box(box: Sequence[float], width: int, height: int) -> Borders | None:
    """Borders of a box x, y, w, h inside the picture; None where nothing is left of it."""
    x0, y0 = max(int(np.floor(box[0])), 0), max(int(np.floor(box[1])), 0)
    x1, y1 = min(int(np.ceil(box[0] + box[2])), width), min(int(np.ceil(box[1] + box[3])), height)
    return (x0, y0, x1, y1) if x1 - x0 >= 8 and y1 - y0 >= 8 else None


def around(borders: Sequence[float], part: float, width: int, height: int) -> Borders:
    """Borders moved outwards on each side by a part of the longer one, inside the picture."""
    x0, y0, x1, y1 = borders
    more = part * max(x1 - x0, y1 - y0)
    return (
        max(int(x0 - more), 0),
        max(int(y0 - more), 0),
        min(int(np.ceil(x1 + more)), width),
        min(int(np.ceil(y1 + more)), height),
    )


def within(inner: Borders, outer: Borders) -> bool:
    """Whether borders lie inside others."""
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def masked(image: np.ndarray, borders: Sequence[Borders]) -> np.ndarray:
    """The picture with everything outside the borders black."""
    out = np.zeros_like(image)
    for x0, y0, x1, y1 in borders:
        out[y0:y1, x0:x1] = image[y0:y1, x0:x1]
    return out


def confidence_inside(points: np.ndarray, confidence: np.ndarray, width: int, height: int, beyond: np.ndarray | bool = False) -> np.ndarray:
    """Confidence (..., K) in [0, 1] of points (..., K, 2) px, 0 where they lie outside the picture.

    beyond: (K) bool, those of which the detector knows where they are outside it, too.
    """
    outside = ((points < 0) | (points > np.array([width - 1, height - 1]))).any(-1) & ~np.asarray(beyond)
    return np.where(outside | ~np.isfinite(points).all(-1), 0.0, np.clip(confidence, 0.0, 1.0))
