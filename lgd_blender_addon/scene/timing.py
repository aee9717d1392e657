# SPDX-License-Identifier: GPL-3.0-or-later
"""Where in Blender's time each solved frame lies (numpy only): as the footage is shown, or in real time."""

from dataclasses import replace

import numpy as np

from .._bridge import counting


def decoded_table(table, fps: float, frame_times, first: int):
    """The table of a footage with Blender's frame numbers turned into decoded pictures, for variable-rate files.

    Blender counts frames of a file at one rate; the worker counts pictures. frame_times (F,) s are those of the
    solved pictures, numbered from `first` on. Where the rate is steady the table comes back unchanged.
    """
    table = np.asarray(table)
    if not fps or not len(frame_times):
        return table
    numbers = counting.counts(frame_times, fps)
    found = np.searchsorted(numbers, table, side="right") - 1
    step = np.median(np.diff(numbers)) if len(numbers) > 1 else np.inf
    late = table > numbers[-1] + 1.5 * max(step, 1)
    return np.where((table < 0) | (found < 0) | late, -1, first + np.maximum(found, 0))


def decoded(footage, frame_times):
    """A Footage with its table so turned; frame_times None: as it is."""
    if frame_times is None:
        return footage
    table = decoded_table(footage.table, footage.fps, frame_times, footage.frames[0])
    return replace(footage, table=table)


def shown_keys(table, start: int, first: int, count: int, held: bool = True):
    """Key k where the place shows source frame first + k.

    table (N,): the source frame shown on Blender's frames start + i (-1 none), never turning back. Returns (order,
    times): which solved frames, 0 to count - 1, and their Blender frames, rising. held: a frame shown for long gets a second
    key at its end, so that the body stands still with the picture; frames that are skipped lie in between.
    """
    table = np.asarray(table)
    frames = start + np.arange(len(table), dtype=float)
    seen = table >= 0
    table, frames = table[seen], frames[seen]
    wanted = np.arange(first, first + count)
    if not len(table):
        return np.arange(count), wanted.astype(float)
    backwards = len(table) > 1 and table[-1] < table[0]
    sources, begin = np.unique(table, return_index=True)
    _, back = np.unique(table[::-1], return_index=True)
    begins, ends = frames[begin], frames[::-1][back]
    holds = ends - begins
    typical = np.median(holds) if len(holds) > 4 else 2.0
    long = (holds > max(3.0, 2.0 * typical + 1.0)) & held
    if len(sources) > 1:
        slope = (begins[-1] - begins[0]) / (sources[-1] - sources[0])
        # What is skipped behind a hold lies behind all of it: a second knot at its end, on the side that is played next.
        places, when = np.append(sources, sources[long] + (-1e-6 if backwards else 1e-6)), np.append(begins, ends[long])
        rank = np.argsort(places)
        places, when = places[rank], when[rank]
        times = np.where(
            wanted < sources[0],
            when[0] + (wanted - sources[0]) * slope,
            np.where(wanted > sources[-1], when[-1] + (wanted - sources[-1]) * slope, np.interp(wanted, places, when)),
        )
    else:
        times = begins[0] + (wanted - sources[0]) * (-1.0 if backwards else 1.0)
    order = np.arange(count)
    for source, end in zip(sources[long], ends[long], strict=True):
        if first <= source < first + count:
            order, times = np.append(order, source - first), np.append(times, end)
    rank = np.lexsort((order if not backwards else -order, times))
    return order[rank], times[rank]


def first_shown(footage) -> tuple[np.ndarray, np.ndarray]:
    """Blender's frames (N,) on which the pictures of a Footage, as Blender counts them, are first shown, and their numbers (N,)."""
    a, b = footage.frames
    order, times = shown_keys(footage.table, footage.start, a, b - a)
    pictures, first = np.unique(order, return_index=True)
    return times[first], a + pictures


def real_keys(frame_times, rate: float, start: float):
    """Keys at time x scene rate, the first on Blender's frame `start`; subframes stay. Returns (order, times)."""
    times = np.asarray(frame_times, dtype=float)
    return np.arange(len(times)), start + (times - times[0]) * rate


def picture_steps(order, times, numbers):
    """Which source frame the background shows on each whole Blender frame of the take: frames (N,), sources (N,).

    numbers (F,): Blender's frame number, in the file, of each solved picture.
    """
    frames = np.arange(int(np.floor(times[0])), int(np.ceil(times[-1])) + 1)
    last = np.clip(np.searchsorted(times, frames + 1e-4, side="right") - 1, 0, len(times) - 1)
    return frames, np.asarray(numbers)[np.asarray(order)[last]]
