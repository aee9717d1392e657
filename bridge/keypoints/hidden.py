# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures without people who are known, in which somebody else is looked for (OpenCV)."""

from __future__ import annotations

import cv2
import numpy as np

from .formats import get_layout

# What is painted over along a body: from point to point, so wide on either side, in torso lengths.
_WIDE = {
    "shoulder elbow": 0.15, "elbow wrist": 0.13, "wrist index": 0.12, "hip knee": 0.22, "knee ankle": 0.16, "ankle big_toe": 0.14, "heel big_toe": 0.14,
}  # fmt: skip
_HEAD, _TORSO = 0.3, 0.12
_LEAST = 0.25  # of the person: what a torso is long at least, seen from its end
SURE = 0.2  # confidence from which a point is painted over: one that is guessed may lie on somebody else
_COARSE = 16  # px of the picture to one of the small one in which what lies round the people is drawn over them


def without(image: np.ndarray, people: list[tuple[np.ndarray, np.ndarray]], layout: str) -> np.ndarray:
    """A picture (H, W, 3) in which what lies round some people is drawn over them. people: points (K, 2) px and confidence (K) of each."""
    mask = np.zeros(image.shape[:2], np.uint8)
    for points, confidence in people:
        _cover(mask, points, confidence, layout)
    if not mask.any():
        return image
    size = tuple(max(side // _COARSE, 1) for side in image.shape[1::-1])
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    hidden = (cv2.resize(mask, size, interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)
    if hidden.all():
        return np.zeros_like(image)
    around = cv2.resize(cv2.inpaint(small, hidden, 3, cv2.INPAINT_TELEA), image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.where(mask[..., None] > 0, around, image)


def _cover(mask: np.ndarray, points: np.ndarray, confidence: np.ndarray, layout: str) -> None:
    """Draw a person on a mask (H, W), whose every point (K, 2) px is sure enough."""
    at = {name: tuple(int(v) for v in np.clip(xy, -1e5, 1e5)) for name, xy, sure in zip(get_layout(layout).names, points, confidence, strict=True) if sure >= SURE}
    if not at:
        return
    found = np.array(list(at.values()))
    torso = _LEAST * float(np.linalg.norm(np.ptp(found, 0)))
    corners = [at[name] for name in ("left_shoulder", "right_shoulder", "right_hip", "left_hip") if name in at]
    if len(corners) == 4:
        left, right, lower, other = np.array(corners)
        torso = max(torso, float(np.linalg.norm(left + right - lower - other)) / 2)
    wide = lambda part: max(round(2 * part * torso), 3)  # noqa: E731
    for side in ("left", "right"):
        for bone, part in _WIDE.items():
            a, b = (f"{side}_{name}" for name in bone.split())
            if a in at and b in at:
                cv2.line(mask, at[a], at[b], 255, wide(part))
    for name in ("nose", "left_ear", "right_ear"):
        if name in at:
            cv2.circle(mask, at[name], wide(_HEAD / 2), 255, -1)
    if len(corners) > 1:
        corners = np.array(corners)
        cv2.fillPoly(mask, [corners], 255)
        cv2.polylines(mask, [corners], True, 255, wide(_TORSO))
