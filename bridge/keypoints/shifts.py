# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the camera travels: whether what stands still differs between pictures by more than a turn of the camera (COLMAP)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np

from ..camera import assumed_focal
from ..errors import LgdError
from .background import free_of_people
from .colmap import Waiting, colmap, extract, lens, looked_at, match, shifted, write

APART = 0.5  # s from one picture to the next of three
THREES = 16  # kept, spread over the clip: half of them are dropped where more come
SHARE, LEAST = 0.1, 3  # of the pairs that show the same, and pairs: so many differ by more than a turn before a camera that travels


class Shifts:
    """Keeps some pictures of a clip as it goes by, and tells from them at its end whether the camera travels."""

    def __init__(self, rate: float) -> None:
        """rate: frames a second."""
        self._apart = max(round(APART * rate), 1)
        self._every = 3 * self._apart
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # a frame's picture, small and grey, and where nobody is in it
        self._size = (0, 0)

    def add(self, index: int, image: np.ndarray, people: list[np.ndarray]) -> None:
        """The frame `index`, BGR. people: (K, 2) px each, the points at which somebody is."""
        if not self._one_of_three(index):
            return
        height, width = image.shape[:2]
        grey = looked_at(image)
        scale = max(grey.shape) / max(height, width)
        self._size, self._kept[index] = (width, height), (grey, free_of_people(grey.shape, [points * scale for points in people]))
        if len(self._kept) > 3 * THREES:
            self._every *= 2
            self._kept = {k: kept for k, kept in self._kept.items() if self._one_of_three(k)}

    def _one_of_three(self, index: int) -> bool:
        at = index % self._every
        return at % self._apart == 0 and at < 3 * self._apart

    def travels(self, should_stop: Callable[[], bool] | None = None) -> bool | None:
        """Whether the camera is seen to travel; None without pycolmap. Raises LgdError: disk, cancelled."""
        threes = [(k, k + self._apart, k + 2 * self._apart) for k in self._kept if k % self._every == 0]
        pairs = [pair for three in threes for pair in combinations(three, 2) if pair[1] in self._kept]
        if len(pairs) < LEAST:
            return False
        try:
            colmap()
        except LgdError:
            return None
        with Waiting(should_stop) as waiting:
            for index, pictures in self._kept.items():
                write(waiting.place, index, *pictures)
            height, width = pictures[0].shape
            database = waiting.place / "shifts.db"
            extract(database, lens(assumed_focal(*self._size), None, None, width / self._size[0], (width, height)), waiting)
            match(database, waiting, pairs)
            found, of = shifted(database)
        return found >= max(LEAST, SHARE * of)
