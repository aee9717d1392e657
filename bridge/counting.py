# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures and counts: which picture of a variable-rate file is shown where frames are counted at one rate.

Blender counts a movie's frames at one rate, whatever times its pictures have, and shows on count k the last picture
whose time has come at k / rate. Both programs load this file.
"""

import numpy as np

NEAR = 9e-4  # s; so far times may lie from the places of a steady rate: some files count in 1/1000 or 1/600 s
STEADY = 50  # pictures in a row that tell a steady rate


def counts(times, rate: float) -> np.ndarray:
    """The first count (F,) on which each picture may be shown; times (F,) s of the pictures, 0 = the file's first.

    A picture whose successor has the same count is never shown. At a steady rate picture i has the count i.
    """
    times = np.asarray(times, dtype=float)
    places = times * rate
    near = np.round(places)
    # Steady, but for pictures left out: Blender rounds as the file does. By the pictures before alone (at the beginning, by the
    # first), so that who reads a file from its beginning counts as those who have read it.
    far = np.concatenate(([0], np.cumsum(np.abs(times - near / rate) >= min(NEAR, 0.1 / rate))))
    last = np.minimum(np.maximum(np.arange(len(times)), STEADY - 1) + 1, len(times))
    steady = far[last] == far[np.maximum(last - STEADY, 0)]
    return np.where(steady, near, np.maximum(np.ceil((times - 3e-5) * rate - 1e-6), 0)).astype(int)


def shown(times, rate: float, a: int, b: int) -> tuple[int, int]:
    """The pictures, half-open, that are shown on the counts from a to before b."""
    numbers = counts(times, rate)
    start = max(int(np.searchsorted(numbers, a, side="right")) - 1, 0)
    return start, max(int(np.searchsorted(numbers, b, side="left")), start)


def cuts_text(frames: list[int], whose: str) -> str:
    """What is told of footage that is cut: frames that begin another take, and whose counting they are of ("of the file")."""
    named = ", ".join(map(str, frames[:5])) + (" and more" if len(frames) > 5 else "")
    text = f"The footage is cut at frame{'s' * (len(frames) > 1)} {named} {whose}: who is seen before a cut and after it count as different people."
    return f"{text} Set the range to one take."


def frames_text(count: int) -> str:
    """1 frame, 24 frames."""
    return f"{count} frame" + "s" * (count != 1)
