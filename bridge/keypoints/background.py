# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the camera stands still, told from what does not move with the people: how far each picture has turned (OpenCV).

Corners of the picture outside the people are followed from frame to frame; what most of them do, a shift, a turn and a change of size,
is the camera's. Each picture is laid on one before it that still shows much of the same, so that errors do not add up from frame to frame.
"""

from __future__ import annotations

import cv2
import numpy as np

LONGER = 480  # px of the longer side that is looked at
CELLS, CORNERS, APART = 4, 10, 10  # at most so many corners in each of 4 x 4 parts of the picture, so many px apart
ENOUGH, MOST = 12, 0.5  # corners; of them: fewer that agree tell nothing
FAR, STAYED = 3.0, 0.25  # px; of the corners: where so many have not moved, though the camera would have moved them so far, it has not
ASTRAY, ALIKE = 0.7, 1.5  # px: a corner that does not come back to where it was followed from; how exactly corners agree
AGAIN = 0.12  # of the longer side, or half of the corners: then a new picture to lay the next ones on
ROOM = 0.15  # of a person's box: what moves with them round their points
STILL_SHIFT, STILL_ROLL, STILL_SIZE = 0.005, np.radians(0.5), 1.1  # of the longer side; times: less is a camera on a tripod
TOLD = 0.9  # of the frames in which the background must tell


class Background:
    """Follows the background through a clip, frame after frame."""

    def __init__(self) -> None:
        self.moves: list[np.ndarray] = []  # (3, 3) each, from a frame's pixels to the first one's
        self._told: list[bool] = []
        self._before = self._free = None  # the last frame, grey, and where nobody is in it
        self._last = np.eye(3)  # from its pixels to the first one's
        self._here = self._there = np.zeros((0, 1, 2), np.float32)  # corners in the last frame, and in the one it is laid on
        self._on = np.eye(3)  # from the latter's pixels to the first one's
        self._count = 0

    def add(self, image: np.ndarray, people: list[np.ndarray]) -> None:
        """The next frame, BGR. people: (K, 2) px each, the points at which somebody is."""
        height, width = image.shape[:2]
        scale = min(LONGER / max(height, width), 1.0)
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        if scale < 1:
            grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        free = _free(grey.shape, [points * scale for points in people])
        move = self._last
        if self._before is not None:
            found = self._follow(grey, free)
            if found is None:  # anew, from the last frame
                self._begin(self._before, self._free)
                found = self._follow(grey, free)
            self._told.append(found is not None)
            move = self._last if found is None else found
        self._last, self._before, self._free = move, grey, free
        far = np.linalg.norm(_middle(np.linalg.inv(self._on) @ move, grey.shape)) > AGAIN * LONGER
        if far or len(self._here) < max(0.5 * self._count, ENOUGH):
            self._begin(grey, free)
        whole = np.diag([scale, scale, 1.0])
        self.moves.append(np.linalg.inv(whole) @ move @ whole)

    def _begin(self, grey: np.ndarray, free: np.ndarray) -> None:
        """Lay the next frames on this one, whose pixels lie at `_last` in the first one's."""
        found = cv2.goodFeaturesToTrack(grey, 1000, 0.003, APART, mask=free)  # the strongest first
        found = np.zeros((0, 1, 2), np.float32) if found is None else found
        # Everywhere alike: what is rich in corners, a train or a crowd, is not all of the background.
        cell = (found[:, 0] * CELLS / grey.shape[::-1]).astype(int) @ (1, CELLS)
        self._here = self._there = found[np.sort(np.concatenate([np.flatnonzero(cell == c)[:CORNERS] for c in range(CELLS**2)]))]
        self._on, self._count = self._last, len(self._here)

    def _follow(self, grey: np.ndarray, free: np.ndarray) -> np.ndarray | None:
        """Where this frame's pixels lie in the first one's; None where the background does not tell."""
        if len(self._here) < ENOUGH:
            return None
        here, good, _ = cv2.calcOpticalFlowPyrLK(self._before, grey, self._here, None)
        back, again, _ = cv2.calcOpticalFlowPyrLK(grey, self._before, here, None)
        size = np.array(grey.shape[::-1])
        at = np.clip(np.round(here[:, 0]).astype(int), 0, size - 1)
        kept = (good[:, 0] > 0) & (again[:, 0] > 0) & (np.linalg.norm(back - self._here, axis=-1)[:, 0] < ASTRAY)
        kept &= ((here[:, 0] >= 0) & (here[:, 0] < size)).all(-1) & (free[at[:, 1], at[:, 0]] > 0)
        self._here, self._there = here[kept], self._there[kept]
        if len(self._here) < ENOUGH:
            return None
        found, agree = cv2.estimateAffinePartial2D(self._here, self._there, method=cv2.RANSAC, ransacReprojThreshold=ALIKE)
        if found is None or agree.sum() < max(ENOUGH, MOST * len(agree)):
            return None
        here, there = self._here[:, 0], self._there[:, 0]
        moved = np.linalg.norm(here @ found[:, :2].T + found[:, 2] - here, axis=-1) > FAR
        if moved.any() and np.mean(np.linalg.norm(here - there, axis=-1)[moved] < ASTRAY) > STAYED:
            return self._on
        return self._on @ np.vstack((found, (0.0, 0.0, 1.0)))

    def turns(self, width: int, height: int) -> np.ndarray | None:
        """`Keypoints.camera_turns` (F, 4) for pictures of this size. None for a camera that stands still, and where the background does not tell."""
        if len(self.moves) < 2 or np.mean(self._told) < TOLD:
            return None
        moves = np.stack(self.moves)
        middle = np.array(((width - 1) / 2, (height - 1) / 2, 1.0))
        shift = (moves @ middle - middle)[:, :2]
        roll = np.unwrap(np.arctan2(moves[:, 1, 0], moves[:, 0, 0]))
        size = np.hypot(moves[:, 0, 0], moves[:, 1, 0])
        still = np.ptp(shift, axis=0).max() < STILL_SHIFT * max(width, height) and np.ptp(roll) < STILL_ROLL
        return None if still and size.max() < STILL_SIZE * size.min() else np.column_stack((shift, roll, size))


def _middle(move: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    middle = np.array((shape[1] / 2, shape[0] / 2, 1.0))
    return (move @ middle - middle)[:2]


def _free(shape: tuple[int, int], people: list[np.ndarray]) -> np.ndarray:
    """(H, W) 255 where nobody is."""
    free = np.full(shape, 255, np.uint8)
    for points in people:
        low, high = points.min(0), points.max(0)
        room = ROOM * max(high - low)
        (x0, y0), (x1, y1) = np.maximum(low - room, 0).astype(int), np.maximum(high + room, 0).astype(int)
        free[y0 : y1 + 1, x0 : x1 + 1] = 0
    return free
