# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures and counts: which picture of a variable-rate file is shown where frames are counted at one rate.

Blender counts a movie's frames at one rate, whatever times its pictures have, and shows on count k the last picture
whose time has come at k / rate. Both programs load this file.
"""

import numpy as np

NEAR = 9e-4  # s; so far times may lie from the places of a steady rate: some files count in 1/1000 or 1/600 s


def counts(times, rate: float) -> np.ndarray:
    """The first count (F,) on which each picture may be shown; times (F,) s of the pictures, 0 = the file's first.

    A picture whose successor has the same count is never shown. At a steady rate picture i has the count i.
    """
    times = np.asarray(times, dtype=float)
    places = times * rate
    near = np.round(places)
    if np.abs(times - near / rate).max(initial=0.0) < min(NEAR, 0.1 / rate):
        return near.astype(int)  # steady, but for pictures left out; Blender rounds as the file does
    return np.maximum(np.ceil((times - 3e-5) * rate - 1e-6), 0).astype(int)


def shown(times, rate: float, a: int, b: int) -> tuple[int, int]:
    """The pictures, half-open, that are shown on the counts from a to before b."""
    numbers = counts(times, rate)
    start = max(int(np.searchsorted(numbers, a, side="right")) - 1, 0)
    return start, max(int(np.searchsorted(numbers, b, side="left")), start)


def frames_text(count: int) -> str:
    """1 frame, 24 frames."""
    return f"{count} frame" + "s" * (count != 1)
