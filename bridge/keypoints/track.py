# SPDX-License-Identifier: GPL-3.0-or-later
"""Detections frame by frame made into whole tracks: identity over time, duplicates, fragments, short false tracks."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from bridge.keypoints.formats import Layout, get_layout

# COCO's per-point spread for OKS, by the point's name without its side; others take the feet's and hands' 0.09.
_SIGMA = {
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062,
    "hip": 0.107, "knee": 0.087, "ankle": 0.089,
}  # fmt: skip

_APART = 2.0  # sizes: boxes whose centres are this far apart have no point so near one of the other's as to be alike (in crowds most pairs)


@dataclass(frozen=True)
class TrackOptions:
    """duplicate: OKS above which two detections are one; gate: largest jump in body sizes a frame (a person's box
    diagonal, growing with the gap); size: largest change of size; age s a lost person is waited for; join s the
    longest gap that fragments are joined over; shortest s a track must last; least: confidence of the points that a person's box is
    laid round."""

    duplicate: float = 0.7
    gate: float = 0.5
    size: float = 2.0
    age: float = 1.0
    join: float = 3.0
    shortest: float = 0.5
    least: float = 0.2


@dataclass
class _Track:
    number: int
    frames: list[int] = field(default_factory=list)
    rows: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)

    def add(self, frame: int, points: np.ndarray, conf: np.ndarray, box: np.ndarray) -> None:
        self.frames.append(frame)
        self.rows.append((points, conf))
        self.boxes.append(box)

    def velocity(self, times: np.ndarray, at_end: bool) -> np.ndarray:
        """Centre's speed px/s over the last (or first) five detections."""
        part = slice(-5, None) if at_end else slice(0, 5)
        frames, boxes = self.frames[part], np.array(self.boxes[part])
        span = times[frames[-1]] - times[frames[0]]
        if len(frames) < 3 or span <= 0:
            return np.zeros(2)
        centre = boxes[:, :2] + boxes[:, 2:] / 2
        return (centre[-1] - centre[0]) / span


def box_of(points: np.ndarray, conf: np.ndarray, least: float = 0.2) -> np.ndarray | None:
    """x, y, w, h px round the points (K, 2) whose confidence (K,) reaches `least`; None below three points."""
    good = conf >= least
    if good.sum() < 3:
        return None
    low, high = points[good].min(0), points[good].max(0)
    return np.concatenate([low, np.maximum(high - low, 1.0)])


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Overlap of two boxes x, y, w, h over their union."""
    low = np.maximum(a[:2], b[:2])
    high = np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    both = float(np.prod(np.maximum(high - low, 0)))
    return both / max(float(a[2] * a[3] + b[2] * b[3]) - both, 1e-9)


def oks(a, conf_a, b, conf_b, area: float, spread: np.ndarray) -> float:
    """Similarity of two people's points (K, 2) as COCO measures it, over the points that both have; 0 below four."""
    good = (conf_a >= 0.2) & (conf_b >= 0.2)
    if good.sum() < 4:
        return 0.0
    far = ((a - b) ** 2).sum(-1)[good]
    return float(np.exp(-far / (2 * max(area, 1.0) * (2 * spread[good]) ** 2)).mean())


def spread_of(layout: Layout) -> np.ndarray:
    """(K,) OKS spread of each point."""
    return np.array(
        [next((s for part, s in _SIGMA.items() if part in n.split("_")), 0.09) for n in layout.names]
    )


def suppress_duplicates(points, conf, scores, spread, limit: float = 0.7, least: float = 0.2) -> list[int]:
    """Indices of the detections (D, K, 2) kept, best score first, without those that repeat a better one."""
    kept: dict[int, np.ndarray] = {}
    for i in np.argsort(-np.asarray(scores), kind="stable"):
        box = box_of(points[i], conf[i], least)
        if box is None:
            continue
        for j, other in kept.items():
            area = max(box[2] * box[3], other[2] * other[3])
            if _away(box, other) < _APART and oks(points[i], conf[i], points[j], conf[j], area, spread) > limit:
                break
        else:
            kept[int(i)] = box
    return list(kept)


def _away(a: np.ndarray, b: np.ndarray) -> float:
    """How far the centres of two boxes lie apart, in sizes of the larger."""
    x, y = a[0] + a[2] / 2 - b[0] - b[2] / 2, a[1] + a[3] / 2 - b[1] - b[3] / 2
    return math.hypot(x, y) / max(math.hypot(a[2], a[3]), math.hypot(b[2], b[3]))


def _pair(cost: np.ndarray) -> list[tuple[int, int]]:
    """Cheapest one-to-one pairs of a cost matrix with inf for the forbidden."""
    if not cost.size:
        return []
    rows, columns = linear_sum_assignment(np.where(np.isfinite(cost), cost, 1e6))
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if np.isfinite(cost[r, c])]


def make_tracks(detections, times, layout: str, options: TrackOptions | None = None, cuts: Sequence[int] = ()):
    """Whole tracks from each frame's detections.

    detections: for each of F frames (points (D, K, 2) px, confidence (D, K)); times (F,) s; cuts: frames that begin another take,
    into which no track goes on. Returns keypoints
    (P, F, K, 2), confidence (P, F, K), 0 where a person is not seen, and ids (P,); P may be 0.
    """
    options = options or TrackOptions()
    times = np.asarray(times, dtype=float)
    # However slow the footage is (a time lapse), a frame or two may be missed.
    least = 2.5 * float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    options = replace(options, age=max(options.age, least), join=max(options.join, least))
    lay = get_layout(layout)
    spread = spread_of(lay)
    take = np.searchsorted(np.sort(np.asarray(cuts, dtype=int)), np.arange(len(times)), side="right")
    tracks: list[_Track] = []
    live: list[_Track] = []
    for frame, (points, conf) in enumerate(detections):
        kept = suppress_duplicates(points, conf, [c.mean() for c in conf], spread, options.duplicate, options.least)
        boxes = [box_of(points[i], conf[i], options.least) for i in kept]
        found = [(points[i], conf[i], box) for i, box in zip(kept, boxes, strict=True) if box is not None]
        live = [t for t in live if times[frame] - times[t.frames[-1]] <= options.age and take[t.frames[-1]] == take[frame]]
        cost = np.full((len(live), len(found)), np.inf)
        for r, track in enumerate(live):
            speed = track.velocity(times, True)
            for c, (p, q, box) in enumerate(found):
                cost[r, c] = _link_cost(track, speed, frame, p, q, box, times, spread, options)
        taken = set()
        for r, c in _pair(cost):
            live[r].add(frame, *found[c])
            taken.add(c)
        for c, one in enumerate(found):
            if c not in taken:
                tracks.append(_Track(len(tracks)))
                tracks[-1].add(frame, *one)
                live.append(tracks[-1])
    tracks = _join(tracks, times, take, options)
    tracks = _drop_short(tracks, times, options)
    keypoints = np.zeros((len(tracks), len(times), lay.count, 2), np.float32)
    confidence = np.zeros((len(tracks), len(times), lay.count), np.float32)
    for row, track in enumerate(tracks):
        for frame, (p, q) in zip(track.frames, track.rows, strict=True):
            keypoints[row, frame], confidence[row, frame] = p, q
    return keypoints, confidence, np.array([t.number for t in tracks], dtype=np.int64)


def _link_cost(track: _Track, speed: np.ndarray, frame, points, conf, box, times, spread, options: TrackOptions) -> float:
    last, (p, q) = track.boxes[-1], track.rows[-1]
    gap = frame - track.frames[-1]
    seconds = times[frame] - times[track.frames[-1]]
    # At low frame rates a person moves further between frames: the gate grows with time beyond 1/10 s.
    reach = options.gate * (1.0 + min(max(seconds * 10 - 1, 0), 3) * 0.5)
    move = np.clip(
        speed * seconds, -reach * np.hypot(*last[2:]), reach * np.hypot(*last[2:])
    )
    moved = last + np.concatenate([move, [0, 0]])
    size_a, size_b = np.hypot(*last[2:]), np.hypot(*box[2:])
    away = min(_away(moved, box), _away(last, box))
    if away > max(reach, _APART):
        return np.inf
    ratio = max(size_a, size_b) / min(size_a, size_b)
    area = max(last[2] * last[3], box[2] * box[3])
    alike = max(oks(p + move, q, points, conf, area, spread), oks(p, q, points, conf, area, spread))
    alike = max(alike, 0.9 * iou(moved, box), 0.9 * iou(last, box))
    if alike < 0.1 and (away > reach or ratio > options.size):
        return np.inf
    return 1.0 - alike + 0.5 * away + 0.01 * gap


def _join(tracks: list[_Track], times: np.ndarray, take: np.ndarray, options: TrackOptions) -> list[_Track]:
    """Joins fragments end to start, the cheapest pair first, where place and size agree with a steady motion."""
    # A crowd, or a detector that sees people for a moment, makes thousands of fragments: each pair is looked at once, and again only
    # where one of the two has changed.
    begins, ends = (times[[t.frames[k] for t in tracks]] if tracks else np.zeros(0) for k in (0, -1))
    changed = [0] * len(tracks)
    pairs: list[tuple[float, int, int, int, int]] = []

    def add(a: int, b: int) -> None:
        cost = _join_cost(tracks[a], tracks[b], times, take, options)
        if a != b and cost < np.inf:
            heapq.heappush(pairs, (cost, a, b, changed[a], changed[b]))

    def after(a: int) -> None:
        for b in np.flatnonzero((begins > ends[a]) & (begins - ends[a] <= options.join)).tolist():
            add(a, b)

    for a in range(len(tracks)):
        after(a)
    gone = set()
    while pairs:
        _, a, b, *when = heapq.heappop(pairs)
        if when != [changed[a], changed[b]]:
            continue
        one, other = tracks[a], tracks[b]
        one.frames += other.frames
        one.rows += other.rows
        one.boxes += other.boxes
        gone.add(b)
        ends[a], begins[b], ends[b] = ends[b], np.inf, -np.inf
        changed[a], changed[b] = changed[a] + 1, changed[b] + 1
        after(a)
        for before in np.flatnonzero((ends < begins[a]) & (begins[a] - ends <= options.join)).tolist():
            add(before, a)
    return [track for number, track in enumerate(tracks) if number not in gone]


def _join_cost(a: _Track, b: _Track, times: np.ndarray, take: np.ndarray, options: TrackOptions) -> float:
    """What it costs to go on from the end of one track to the begin of another; inf where they do not go together."""
    gap = times[b.frames[0]] - times[a.frames[-1]]
    if not 0 < gap <= options.join or take[a.frames[-1]] != take[b.frames[0]]:
        return np.inf
    end, start = a.boxes[-1], b.boxes[0]
    sizes = np.hypot(*end[2:]), np.hypot(*start[2:])
    size, ratio = sum(sizes) / 2, max(sizes) / min(sizes)
    if ratio > options.size:
        return np.inf
    step = start[:2] + start[2:] / 2 - end[:2] - end[2:] / 2
    speed = (a.velocity(times, True) + b.velocity(times, False)) / 2
    away = min(np.hypot(*(step - speed * gap)), np.hypot(*step)) / size
    return away + 0.2 * gap + 0.3 * (ratio - 1) if away <= options.gate * (1 + min(gap, 1.0)) else np.inf


def _drop_short(tracks: list[_Track], times: np.ndarray, options: TrackOptions) -> list[_Track]:
    step = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    # In a clip that is itself short, half of it is enough.
    least = min(options.shortest, 0.5 * step * len(times))
    kept = [t for t in tracks if len(t.frames) * step >= least - 1e-9]
    return kept or tracks[:1]
