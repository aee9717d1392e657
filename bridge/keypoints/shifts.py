# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the camera travels: whether what stands still differs between pictures by more than a turn of the camera (COLMAP)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from ..camera import assumed_focal
from ..errors import LgdError
from .apart import Apart, check_installed
from .background import free_of_people
from .colmap import check_space, lens, looked_at, write

STEP = 0.125  # s from one picture that is kept to the next
STRETCH, STRETCHES = 12, 8  # pictures one after the other, and stretches of so many, spread over the clip: half of them are dropped where more come
APART = (4, 8)  # pictures between those that are compared
SHARE, LEAST = 0.15, 3  # of a stretch's pairs that show the same, and pairs: so many differ by more than a turn before a camera that travels


class Shifts:
    """Keeps some pictures of a clip as it goes by, and tells from them at its end whether the camera travels."""

    def __init__(self, rate: float) -> None:
        """rate: frames a second."""
        self._step, self._every = max(round(STEP * rate), 1), 1  # frames; of the stretches that go by are kept
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # a frame's picture, small and grey, and where nobody is in it
        self._size = (0, 0)

    def add(self, index: int, image: np.ndarray, people: list[np.ndarray]) -> None:
        """The frame `index`, BGR. people: (K, 2) px each, the points at which somebody is."""
        if index % self._step or not self._is_kept(index):
            return
        height, width = image.shape[:2]
        grey = looked_at(image)
        scale = max(grey.shape) / max(height, width)
        self._size, self._kept[index] = (width, height), (grey, free_of_people(grey.shape, [points * scale for points in people]))
        while len(self._kept) > STRETCH * STRETCHES:
            self._every *= 2
            self._kept = {k: kept for k, kept in self._kept.items() if self._is_kept(k)}

    def _stretch(self, index: int) -> int:
        return index // (self._step * STRETCH)

    def _is_kept(self, index: int) -> bool:
        return self._stretch(index) % self._every == 0

    def only(self, take: range) -> None:
        """Keep the pictures of one take alone: from before a cut to after it a camera seems to have travelled."""
        self._kept = {k: kept for k, kept in self._kept.items() if k in take}

    def travels(self, should_stop: Callable[[], bool] | None = None) -> bool | None:
        """Whether the camera is seen to travel; None without pycolmap or room for what it writes, and of a clip too short to tell.
        Raises LgdError cancelled."""
        pairs = [(k, k + apart * self._step) for k in self._kept for apart in APART]
        pairs = [(a, b) for a, b in pairs if b in self._kept and self._stretch(a) == self._stretch(b)]
        if len(pairs) < LEAST:
            return None
        try:
            check_installed()
            seen = self._compared(pairs, should_stop)
        except (LgdError, OSError) as fault:  # no reason to lose what was detected
            if isinstance(fault, LgdError) and fault.code == "cancelled":
                raise
            return None
        if seen is None:
            return None
        alike = Counter(self._stretch(a) for a, _ in seen["pairs"])
        differ = Counter(self._stretch(a) for a, _ in seen["pairs"][seen["differ"]])
        return any(count >= max(LEAST, SHARE * alike[stretch]) for stretch, count in differ.items())

    def lens(self, turns: np.ndarray) -> float | None:
        """The focal length in px of a camera that turns, from the pictures kept; None where they do not tell. turns: as `Keypoints.camera_turns`."""
        from .turned_lens import turned_focal

        return turned_focal(self._kept, turns, self._size)

    def _compared(self, pairs: list[tuple[int, int]], should_stop: Callable[[], bool] | None) -> dict[str, np.ndarray] | None:
        """`colmap.compare` of pairs of frames; None where it fails. Raises LgdError: disk, cancelled."""
        with Apart(should_stop) as apart:
            check_space(apart.place, len(self._kept), 1)
            for index, pictures in self._kept.items():
                write(apart.place, index, *pictures)
            height, width = pictures[0].shape
            seen_by = lens(assumed_focal(*self._size), None, None, width / self._size[0], (width, height))
            (seen,) = apart("compare", {"seen_by": seen_by, "pairs": pairs})
            return seen
