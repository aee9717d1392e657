# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the camera stands still, told from what does not move with the people: how far each picture has turned (OpenCV).

Corners of the picture outside the people are followed from frame to frame; what most of them do, a shift, a turn and a change of size,
is the camera's. Each picture is laid on one before it that still shows much of the same, so that errors do not add up from frame to frame,
and that one on the oldest that does, so that they do not add up along a long film before a camera that stands still either.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from bridge.keypoints.colmap import looked_at
from bridge.keypoints.tracks import stands_still
from bridge.keypoints.turned_rays import laid, moves

LONGER = 480  # px of the longer side that is looked at
CLEAR, APART = 0.001, 10  # how clear a corner must be, in parts of the clearest; px between corners
PARTS, EACH = 8, 4  # of the longer side; in each square of that width at most so many corners are followed
ENOUGH, MOST = 12, 0.5  # corners; of them: fewer that agree tell nothing
ASTRAY, ALIKE = 0.7, 1.5  # px: a corner that does not come back to where it was followed from; how exactly corners agree
BESIDE = 20  # px round a corner that went another way, where others may go along with it
KEPT = 12  # pictures that others were laid on, the last ones that were like none before them
AGAIN = 0.12  # of the longer side, or half of the corners: then a new picture to lay the next ones on
ROOM = 0.15  # of a person's box: what moves with them round their points
SAID = 64  # corners that are kept of each frame, to tell its turn anew by
TOLD = 0.9  # of the frames in which the background must tell


class Background:
    """Follows the background through a clip, frame after frame."""

    def __init__(self) -> None:
        self.moves: list[np.ndarray] = []  # (3, 3) each, from a frame's pixels to the first one's
        self._told: list[bool] = []
        self._before = self._free = None  # the last frame, grey, and where nobody is in it
        self._last = np.eye(3)  # from its pixels to the first one's
        self._here = self._there = np.zeros((0, 1, 2), np.float32)  # corners in the last frame, and in the one it is laid on
        self._with = np.zeros(0, bool)  # which of them go with the camera: who once went another way has no more say
        self._on = np.eye(3)  # from the latter's pixels to the first one's
        self._base = self._count = 0  # the number of the latter's frame; corners that were found in it
        self._kept: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []  # frames, their pictures, their corners, from their pixels to the first one's
        # Each frame, by which other it is told, from its pixels to the other's (3, 3), and corners (N, 2) px in both.
        self._laid: list[tuple[int, np.ndarray, np.ndarray, np.ndarray] | None] = []
        self._shape = (0, 0)

    def add(self, image: np.ndarray, people: list[np.ndarray]) -> None:
        """The next frame, BGR. people: (K, 2) px each, the points at which somebody is."""
        grey, scale = looked_at(image, LONGER), min(LONGER / max(image.shape[:2]), 1.0)
        free = free_of_people(grey.shape, [points * scale for points in people])
        move, number = self._last, len(self.moves)
        self._laid.append(None)
        self._shape = grey.shape
        if self._before is not None:
            found = self._follow(grey, free)
            if found is None:  # anew, from the last frame
                self._begin(number - 1, self._before, self._free)
                found = self._follow(grey, free)
            self._told.append(found is not None)
            move = self._last if found is None else found
        self._last, self._before, self._free = move, grey, free
        far = np.linalg.norm(_middle(np.linalg.inv(self._on) @ move, grey.shape)) > AGAIN * LONGER
        if far or self._with.sum() < max(0.5 * self._count, ENOUGH):
            self._begin(number, grey, free)
        whole = np.diag([scale, scale, 1.0])
        self.moves.append(np.linalg.inv(whole) @ self._last @ whole)

    def _begin(self, number: int, grey: np.ndarray, free: np.ndarray) -> None:
        """Lay the next frames on this one, the frame `number`, whose pixels lie at `_last` in the first one's. Round what has gone another way than the camera
        no corner is taken: subtitles would be the most as a pan leaves the background's corners behind, or a train as it comes."""
        other = self._here[_off(np.linalg.inv(self._on) @ self._last, self._here, self._there) > ALIKE]
        apart = free.copy()
        for x, y in other[:, 0].astype(int).tolist():
            cv2.circle(apart, (x, y), BESIDE, 0, -1)
        found = _corners(grey, apart)
        if len(found) < ENOUGH:
            other, found = other[:0], _corners(grey, free)
        self._settle(number, grey, free, found)
        self._here = self._there = np.concatenate((found, other))
        self._with = np.arange(len(self._here)) < len(found)
        self._on, self._base, self._count = self._last, number, len(found)

    def _settle(self, number: int, grey: np.ndarray, free: np.ndarray, corners: np.ndarray) -> None:
        """Tell `_last` anew by the oldest picture that shows the same; where none does, keep this one and its corners (N, 1, 2)."""
        if len(corners) < ENOUGH:
            return
        for older, before, there, on in self._kept:
            about = cv2.transform(there, (np.linalg.inv(self._last) @ on)[:2]).astype(np.float32)
            shown = _open(about, free)
            if shown.sum() < max(ENOUGH, MOST * len(there)):
                continue
            here, kept = _followed(before, grey, there, about, free)
            found, agree = _move(here[kept], there[kept])
            if agree.sum() >= max(ENOUGH, MOST * shown.sum()):
                self._last = on @ found
                if older < number:
                    self._lay(number, older, found, here[kept], there[kept])
                return
        self._kept = [*self._kept, (number, grey, corners, self._last)][-KEPT:]

    def _lay(self, number: int, on: int, move: np.ndarray, here: np.ndarray, there: np.ndarray) -> None:
        some = slice(None, None, max(-(-len(here) // SAID), 1))
        self._laid[number] = on, move, here[some, 0], there[some, 0]

    def _follow(self, grey: np.ndarray, free: np.ndarray) -> np.ndarray | None:
        """Where this frame's pixels lie in the first one's; None where the background does not tell."""
        if self._with.sum() < ENOUGH:
            return None
        here, kept = _followed(self._before, grey, self._here, self._here, free)
        here, there, told = here[kept], self._there[kept], self._with[kept]
        if told.sum() < ENOUGH:
            return None
        move, agree = _move(here[told], there[told])
        if agree.sum() < max(ENOUGH, MOST * len(agree)):
            return None
        self._lay(len(self.moves), self._base, move, here[told], there[told])
        self._here, self._there, self._with = here, there, told & (_off(move, here, there) < ALIKE)
        return self._on @ move

    def turns(self, width: int, height: int) -> np.ndarray | None:
        """`Keypoints.camera_turns` (F, 4) for pictures of this size. None for a camera that stands still, and where the background does not tell."""
        turned = self._turned(width, height)
        return None if turned is None or stands_still(turned, (width, height)) else turned

    def turns_seen_by(self, focal: float, zooms: bool, width: int, height: int, go_on: Callable[[], None] = lambda: None) -> np.ndarray:
        """`turns` for a lens of this focal length, px, told anew by rays; zooms: False keeps the sizes at 1; go_on: raises where it is enough."""
        scale = max(self._shape) / max(width, height)
        middle = (np.array(self._shape[::-1]) - 1) / 2
        centred = np.array(((1, 0, middle[0]), (0, 1, middle[1]), (0, 0, 1)))
        turns, sizes = np.tile(np.eye(3), (len(self._laid), 1, 1)), np.ones(len(self._laid))
        for k, seen in enumerate(self._laid):
            go_on()
            if seen is None:
                turns[k], sizes[k] = turns[max(k - 1, 0)], sizes[max(k - 1, 0)]
                continue
            on, move, here, there = seen
            turn, size = laid(here - middle, there - middle, focal * scale / sizes[on], np.linalg.inv(centred) @ move @ centred, zooms)
            turns[k], sizes[k] = turns[on] @ turn, sizes[on] * size
        return moves(turns, sizes, focal)

    def still(self, width: int, height: int) -> bool:
        """Whether the background tells that the camera stands still."""
        turned = self._turned(width, height)
        return turned is not None and stands_still(turned, (width, height))

    def _turned(self, width: int, height: int) -> np.ndarray | None:
        if len(self.moves) < 2 or np.mean(self._told) < TOLD:
            return None
        moves = np.stack(self.moves)
        middle = np.array(((width - 1) / 2, (height - 1) / 2, 1.0))
        shift = (moves @ middle - middle)[:, :2]
        roll = np.unwrap(np.arctan2(moves[:, 1, 0], moves[:, 0, 0]))
        size = np.hypot(moves[:, 0, 0], moves[:, 1, 0])
        return np.column_stack((shift, roll, size))


def _corners(grey: np.ndarray, free: np.ndarray) -> np.ndarray:
    """(N, 1, 2) px: the clearest corners of each part of a picture, so that a train, or subtitles, have no more say than their share of it."""
    found = cv2.goodFeaturesToTrack(grey, 0, CLEAR, APART, mask=free)  # the clearest first
    if found is None:
        return np.zeros((0, 1, 2), np.float32)
    part = (found[:, 0] // (max(grey.shape) / PARTS)).astype(int) @ (1, PARTS + 1)
    before = [np.count_nonzero(part[:k] == here) for k, here in enumerate(part)]
    return found[np.array(before) < EACH]


def _followed(before: np.ndarray, after: np.ndarray, corners: np.ndarray, about: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where corners (N, 1, 2) of one picture, looked for about (N, 1, 2), are in another, (N, 1, 2), and which of them (N) are there."""
    here, good, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, about.copy(), flags=cv2.OPTFLOW_USE_INITIAL_FLOW)
    back, again, _ = cv2.calcOpticalFlowPyrLK(after, before, here, here - about + corners, flags=cv2.OPTFLOW_USE_INITIAL_FLOW)
    return here, (good[:, 0] > 0) & (again[:, 0] > 0) & (np.linalg.norm(back - corners, axis=-1)[:, 0] < ASTRAY) & _open(here, free)


def _open(points: np.ndarray, free: np.ndarray) -> np.ndarray:
    """(N) whether points (N, 1, 2) lie in the picture where nobody is."""
    size = np.array(free.shape[::-1])
    at = np.clip(np.round(points[:, 0]).astype(int), 0, size - 1)
    return ((points[:, 0] >= 0) & (points[:, 0] < size)).all(-1) & (free[at[:, 1], at[:, 0]] > 0)


def _move(here: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The shift, turn and size (3, 3) that lays most corners (N, 1, 2) on others, and which of them (N, 1) agree: none where nothing is told."""
    found, agree = cv2.estimateAffinePartial2D(here, there, method=cv2.RANSAC, ransacReprojThreshold=ALIKE) if len(here) >= ENOUGH else (None, None)
    return (np.eye(3), np.zeros((len(here), 1), np.uint8)) if found is None else (np.vstack((found, (0.0, 0.0, 1.0))), agree)


def _off(move: np.ndarray, here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """(N) px: how far corners (N, 1, 2) lie from where a move (3, 3) has them."""
    return np.linalg.norm(here[:, 0] @ move[:2, :2].T + move[:2, 2] - there[:, 0], axis=-1)


def _middle(move: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    middle = np.array((shape[1] / 2, shape[0] / 2, 1.0))
    return (move @ middle - middle)[:2]


def free_of_people(shape: tuple[int, int], people: list[np.ndarray]) -> np.ndarray:
    """(H, W) 255 where nobody is."""
    free = np.full(shape, 255, np.uint8)
    for points in people:
        low, high = points.min(0), points.max(0)
        room = ROOM * max(high - low)
        (x0, y0), (x1, y1) = np.maximum(low - room, 0).astype(int), np.maximum(high + room, 0).astype(int)
        free[y0 : y1 + 1, x0 : x1 + 1] = 0
    return free
