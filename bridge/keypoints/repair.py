# SPDX-License-Identifier: GPL-3.0-or-later
"""Repairs over time of one person's internal points: left-right swaps, isolated jumps and excursions (numpy only).

A detector swaps the labels of the whole body or of a pair of limbs for some frames. Three groups of points (trunk
with head, arms, legs) can each be mirrored: eight label states a frame. A Viterbi search over pairs of states finds
the labels under which the points move most steadily; the detector's own labels, the length of the limbs and the
direction of the feet (toes nearer than heels = facing the camera = left is on the picture's right) decide which of
two steady labellings is the true one.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np

from bridge.body.landmarks import FAMILY
from bridge.keypoints.formats import POINT_INDEX, POINT_MIRROR, POINTS, get_layout, to_internal
from bridge.keypoints.tracks import Keypoints, shows_somebody

GUESS = 0.1  # confidence of what a detector guesses of an arm that it does not see
TRUNK, ARMS, LEGS = 1, 2, 4
"""Bits of a label state: 0 = as detected, 7 = the whole body mirrored."""

_PARTS = {
    "eye": (TRUNK, 0.3), "ear": (TRUNK, 0.3), "shoulder": (TRUNK, 2.0), "hip": (TRUNK, 1.0),
    "elbow": (ARMS, 1.0), "wrist": (ARMS, 1.0), "index": (ARMS, 0.3), "pinky": (ARMS, 0.3),
    "knee": (LEGS, 1.0), "ankle": (LEGS, 1.0), "toe": (LEGS, 0.4), "heel": (LEGS, 0.4),
}  # fmt: skip
_GROUP = np.zeros(len(POINTS), dtype=np.int64)
_WEIGHT = np.zeros(len(POINTS))
for _i, _name in enumerate(POINTS):
    for _part, (_group, _weight) in _PARTS.items():
        if _part in _name.split("_") and POINT_MIRROR[_i] != _i:
            _GROUP[_i], _WEIGHT[_i] = _group, _weight

_LINK = 4.0  # weight of a group's unsteadiness, which lies in [0, 1]
_SIGMA = 0.03  # steady means within this part of the body's diagonal
_FLIP, _FLIP_GROUP = 0.5, 0.3  # cost of any change of labels, and of each group's
_APART = 0.15  # cost a frame of a group labelled against the others
_PRIOR = 0.05  # cost a frame of a label against the detector's
_LIMB = 0.6  # weight of limbs that get longer when relabelled
_FACING = (
    0.04  # weight of the feet's direction against the trunk's: below the prior, so that it alone flips nothing
)
_BURST, _SHARP = 4.0, 4.0  # an excursion's first and last steps: bodies a second, and against the two steps outside
_EXCURSION = 0.45  # s that it may last
_AWAY, _BACK = 0.08, 0.3  # bodies that its points are off the straight way, and the part of that which may be left at its end


def repair_swaps(keypoints: np.ndarray, confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Undoes left-right swaps of one person's internal points over a clip.

    keypoints (F, 30, 2) px, confidence (F, 30). Returns the relabelled keypoints and confidence, and the label states
    (F,) int: the bits TRUNK, ARMS and LEGS say which groups were mirrored, 0 where nothing was. Nothing is moved.
    """
    points = np.asarray(keypoints, dtype=np.float64)
    conf = np.asarray(confidence, dtype=np.float64)
    count = len(points)
    if count < 3 or not (conf > 0).any():
        return np.array(keypoints), np.array(confidence), np.zeros(count, dtype=np.int64)
    held, weight = _hold(points, conf)
    scale = body_scale(points, conf)
    states = _search(_unsteady(held, weight, scale), _evidence(points, conf, scale))
    source = np.broadcast_to(np.arange(len(POINTS)), (count, len(POINTS)))
    source = np.where((states[:, None] & _GROUP) > 0, POINT_MIRROR, source)
    rows = np.arange(count)[:, None]
    return np.asarray(keypoints)[rows, source], np.asarray(confidence)[rows, source], states


def label_states(keypoints: Keypoints) -> np.ndarray:
    """The label states (F,) that `repair_swaps` finds for one person's keypoints."""
    return repair_swaps(*to_fit(keypoints))[2]


def to_fit(keypoints: Keypoints) -> tuple[np.ndarray, np.ndarray]:
    """One person's internal points (F, 30, 2) px and confidence (F, 30) as video mode takes them.

    BlazePose's guesses of arms that it does not see count a little, where it sees a person: hidden by the body or cut off by the
    picture's edge, they are mostly where it has them. Its guesses of legs are not (LOG, 2026-11-30).
    """
    points, confidence = to_internal(keypoints.keypoints[0], keypoints.confidence[0], keypoints.layout)
    if FAMILY[keypoints.layout] == "blaze":
        there = shows_somebody(confidence)[:, None] & (confidence > 0) & (_GROUP == ARMS)
        confidence = np.where(there, np.maximum(confidence, GUESS), confidence)
    return points, confidence


def relabelled(keypoints: Keypoints, states: np.ndarray) -> Keypoints:
    """One person's keypoints in their own layout under the label states (F,) that `repair_swaps` found."""
    if not states.any():
        return keypoints
    layout = get_layout(keypoints.layout)
    # What is no internal point (fingers, a face's outline) goes along where the whole body does.
    group = np.where(layout.internal >= 0, _GROUP[np.maximum(layout.internal, 0)], 0)
    swapped = (states[:, None] & group > 0) | ((states[:, None] == TRUNK + ARMS + LEGS) & (layout.internal < 0))
    source = np.where(swapped, layout.mirror, np.arange(layout.count))
    rows = np.arange(len(states))[:, None]
    return replace(keypoints, keypoints=keypoints.keypoints[:, rows, source], confidence=keypoints.confidence[:, rows, source])


def reject_outliers(
    keypoints: np.ndarray, confidence: np.ndarray, times: np.ndarray | None = None, limit: float = 4.0
) -> np.ndarray:
    """Confidence (F, K) lowered where a point (F, K, 2) jumps away from its own steady motion and back.

    A point is compared with the midpoints of its neighbours one to three frames away on both sides, which any uniform
    motion meets; what lies beyond `limit` times the usual distance of that point nearby loses confidence with the
    square of the excess. Where the frames' times (F,) s are told, excursions of up to half a second lose it too: limbs that a
    detector puts elsewhere for some frames. Nothing is deleted: the coordinates stay.
    """
    points = np.asarray(keypoints, dtype=np.float64)
    conf = np.asarray(confidence, dtype=np.float64)
    count = len(points)
    if count < 5:
        return np.array(confidence)
    scale = body_scale(points, conf)
    middles = np.full((*points.shape, 3), np.nan)
    for k in (1, 2, 3)[: (count - 1) // 2]:
        both = (conf[: count - 2 * k] > 0.05) & (conf[2 * k :] > 0.05)
        middle = (points[: count - 2 * k] + points[2 * k :]) / 2
        middles[k : count - k, ..., k - 1] = np.where(both[..., None], middle, np.nan)
    away = np.linalg.norm(points - _nanmedian(middles), axis=-1) / scale[:, None]
    away[conf <= 0] = np.nan
    reach = 10
    padded = np.pad(away.astype(np.float32), ((reach, reach), (0, 0)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=0)
    bound = np.full(away.shape, limit * 0.006)
    far = np.isfinite(away) & (away > bound)
    bound[far] += limit * _nanmedian(windows[far])
    factor = np.where(far & (away > bound), (bound / np.maximum(away, 1e-9)) ** 2, 1.0)
    if times is not None:
        factor = np.where(_excursions(points, conf > 0.05, times, scale), np.minimum(factor, 0.1), factor)
    return (conf * factor).astype(np.asarray(confidence).dtype)


def _excursions(points: np.ndarray, seen: np.ndarray, times: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(F, K) where a point leaves its way in one step, stays off it and comes back in one. People speed up and slow down over
    several frames: the fastest kick's steps are not four times as long as those beside them."""
    off = np.zeros(seen.shape, dtype=bool)
    length = np.linalg.norm(np.diff(points, axis=0), axis=-1) / scale[1:, None]
    speed = np.zeros(seen.shape)
    speed[1:] = np.where(seen[1:] & seen[:-1], length / np.maximum(np.diff(times), 1e-3)[:, None], 0)
    around = np.pad(speed, ((2, 2), (0, 0)))
    before, after = np.maximum(around[:-4], around[1:-3]), np.maximum(around[3:-1], around[4:])
    leaves = speed > np.maximum(_SHARP * before, _BURST)
    returns = speed > np.maximum(_SHARP * after, _BURST)
    leaves[:3], returns[-2:] = False, False  # nothing is known of what lies outside the clip
    for first, k in zip(*np.nonzero(leaves), strict=True):
        ends = np.flatnonzero(returns[first + 1 :, k]) + first + 1
        for end in reversed(ends[times[ends] - times[first] <= _EXCURSION]):
            start, way = points[first - 1, k], points[end, k] - points[first - 1, k]
            along = (times[first:end] - times[first - 1]) / (times[end] - times[first - 1])
            away = np.linalg.norm(points[first:end, k] - start - along[:, None] * way, axis=-1) / scale[first:end]
            here = seen[first:end, k]
            far = here & (away > _AWAY)
            usual = max(before[first, k], after[end, k]) * (times[end] - times[first - 1])
            if far.sum() > len(far) / 2 and np.linalg.norm(way) < (_BACK * np.median(away[here]) + usual) * scale[end]:
                off[first:end, k] |= far
                break
    return off


def body_scale(points: np.ndarray, conf: np.ndarray) -> np.ndarray:
    """(F,) px: the diagonal of the box round the seen points, smoothed over time, never 0."""
    good = conf >= 0.2
    low = np.where(good[..., None], points, np.inf).min(1)
    high = np.where(good[..., None], points, -np.inf).max(1)
    with np.errstate(invalid="ignore"):
        size = np.hypot(*(high - low).T)
    size = np.where((good.sum(1) >= 4) & np.isfinite(size), size, np.nan)
    if not np.isfinite(size).any():
        return np.ones(len(points))
    padded = np.pad(size, 15, constant_values=np.nan)
    # Boxes shrink when limbs are hidden: the upper quartile nearby is the body's size.
    windows = np.lib.stride_tricks.sliding_window_view(padded, 31)
    filled = np.where(np.isfinite(windows), windows, -1.0)
    number = (filled > 0).sum(1)
    ranked = np.sort(filled, axis=1)[:, ::-1]
    near = ranked[np.arange(len(points)), np.minimum(number // 4, 30)]
    near = np.where(number > 0, near, np.nanmedian(size))
    return np.maximum(near, 1.0)


def _nanmedian(values: np.ndarray) -> np.ndarray:
    """Median over the last axis without NaN; NaN where there is nothing, without a warning."""
    ranked = np.sort(values, axis=-1)  # NaN last
    number = np.isfinite(ranked).sum(-1)
    at = lambda index: np.take_along_axis(ranked, index[..., None], -1)[..., 0]  # noqa: E731
    return (at(np.maximum((number - 1) // 2, 0)) + at(np.minimum(number // 2, values.shape[-1] - 1))) / 2


def _hold(points: np.ndarray, conf: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unseen points stay where they were last seen, with a weight that fades by a fifth a frame."""
    seen = conf >= 0.1
    last = np.maximum.accumulate(np.where(seen, np.arange(len(points))[:, None], -1))
    ago = np.where(last >= 0, np.arange(len(points))[:, None] - last, 0)
    source = np.maximum(last, 0)
    held = np.where((ago > 0)[..., None], np.take_along_axis(points, source[..., None], 0), points)
    return held, np.where(last >= 0, np.take_along_axis(conf, source, 0) * 0.8**ago, 0.0)


def _robust(move: np.ndarray) -> np.ndarray:
    """In [0, 1] for moves (..., 2) in bodies."""
    x, y = move[..., 0], move[..., 1]  # a sum over so short an axis takes three times as long
    square = (x * x + y * y) / _SIGMA**2
    return square / (1.0 + square)


def _unsteady(points: np.ndarray, weight: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per group g (trunk, arms, legs): first (3, F, 2, 2) of the bits at t-1, t; second (3, F, 2, 2, 2) of those at
    t-2, t-1, t; each a mean over the group's points in [0, 1] times the confidence there is."""
    count = len(points)
    both = np.stack([points, points[:, POINT_MIRROR]]) / scale[:, None, None]
    sure = np.stack([weight, weight[:, POINT_MIRROR]])
    first = np.zeros((3, count, 2, 2))
    second = np.zeros((3, count, 2, 2, 2))
    for g, bit in enumerate((TRUNK, ARMS, LEGS)):
        here = np.flatnonzero(_GROUP == bit)
        share = _WEIGHT[here] / _WEIGHT[here].sum()
        p, two, three = both[:, :, here], np.sqrt(sure[:, :, here]), np.cbrt(sure[:, :, here])
        for b, c in product((0, 1), repeat=2):
            first[g, 1:, b, c] = (_robust(p[c, 1:] - p[b, :-1]) * two[c, 1:] * two[b, :-1]) @ share
            for a in (0, 1):
                sight = three[c, 2:] * three[b, 1:-1] * three[a, :-2]
                second[g, 2:, a, b, c] = (_robust(p[c, 2:] - 2 * p[b, 1:-1] + p[a, :-2]) * sight) @ share
    return first, second


def _evidence(points: np.ndarray, conf: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(F, 8) cost of each label state for itself: prior, limbs' lengths, the feet's direction, groups apart."""
    index = POINT_INDEX
    states = np.arange(8)
    bits = np.stack([(states & b) > 0 for b in (TRUNK, ARMS, LEGS)], -1)
    ones = bits.sum(1)
    cost = np.zeros((len(points), 8))
    cost += _APART * np.minimum(ones, 3 - ones) + _PRIOR * ones / 3

    def limb(a: str, b: str) -> np.ndarray:
        """How much longer the two limbs get when one end is relabelled, in parts of the body."""
        la, ra, lb, rb = (index[f"{side}_{n}"] for n in (a, b) for side in ("left", "right"))
        sure = conf[:, [la, ra, lb, rb]].min(1)

        def length(i: int, j: int) -> np.ndarray:
            return np.linalg.norm(points[:, i] - points[:, j], axis=-1)

        longer = length(la, rb) + length(ra, lb) - length(la, lb) - length(ra, rb)
        return np.clip(longer / scale / 0.3, -1, 1) * sure

    arms, legs = limb("shoulder", "elbow"), limb("hip", "knee")
    for a, column in ((arms, 1), (legs, 2)):
        split = bits[:, 0] != bits[:, column]
        cost[:, split] += _LIMB * a[:, None]
    cost[:, bits[:, 0]] += _FACING * _facing(points, conf)[:, None]
    return cost


def _facing(points: np.ndarray, conf: np.ndarray) -> np.ndarray:
    """(F,) in [-1, 1]: whether the trunk's labels agree (+) with the direction that the feet point in; 0 = unknown."""
    index = POINT_INDEX
    ls, rs, lh, rh = (index[n] for n in ("left_shoulder", "right_shoulder", "left_hip", "right_hip"))
    down = (points[:, lh] + points[:, rh] - points[:, ls] - points[:, rs]) / 2
    trunk = np.maximum(np.linalg.norm(down, axis=-1), 1e-6)
    down = down / trunk[:, None]
    right = np.stack([down[:, 1], -down[:, 0]], -1)
    wide = ((points[:, ls] - points[:, rs] + points[:, lh] - points[:, rh]) * right).sum(-1) / trunk
    sure = conf[:, [ls, rs, lh, rh]].min(1)
    total, number = np.zeros(len(points)), np.zeros(len(points))
    for side in ("left", "right"):
        toe, heel = index[f"{side}_big_toe"], index[f"{side}_heel"]
        seen = conf[:, [toe, heel]].min(1)
        total += seen * ((points[:, toe] - points[:, heel]) * down).sum(-1) / trunk
        number += seen
    lower = total / np.maximum(number, 1e-6)
    # Below a twelfth of the trunk the direction says nothing: rolled cameras and bent trunks reach that.
    clear = np.sign(lower) * np.clip((np.abs(lower) - 0.08) / 0.12, 0, 1)
    return clear * np.clip(wide / 0.5, -1, 1) * sure * np.minimum(number / 2, 1)


def _search(unsteady: tuple[np.ndarray, np.ndarray], evidence: np.ndarray) -> np.ndarray:
    """The cheapest sequence of label states (F,), by Viterbi over pairs of states."""
    first, second = unsteady
    bits = np.stack([(np.arange(8) & b) > 0 for b in (TRUNK, ARMS, LEGS)], -1).astype(np.int64)
    changed = (bits[:, None] != bits[None]).sum(-1)
    flip = _FLIP * (changed > 0) + _FLIP_GROUP * changed
    count = len(evidence)
    two = np.zeros((3, 2, 2, 8, 8))  # which of `first` a pair of states costs
    three = np.zeros((3, 2, 2, 2, 8, 8, 8))
    a, b, c = np.ogrid[:8, :8, :8]
    for g, of in enumerate(bits.T):
        two[g, of[a[..., 0]], of[b[..., 0]], a[..., 0], b[..., 0]] = _LINK / 2
        three[g, of[a], of[b], of[c], a, b, c] = _LINK / 2
    step = (first.swapaxes(0, 1).reshape(count, -1) @ two.reshape(-1, 64)).reshape(count, 8, 8)
    bend = (second.swapaxes(0, 1).reshape(count, -1) @ three.reshape(-1, 512)).reshape(count, 8, 8, 8)
    entering = step + evidence[:, None]
    # Mostly nothing is swapped, and that can be told at once: no labels kept throughout are cheaper than the detector's,
    # and all that changing them could ever gain is less than one change costs.
    cheapest = entering + bend.min(1) if count > 2 else entering
    kept = evidence[0] + np.einsum("tii->i", entering[1:]) + np.einsum("tiii->i", bend[2:])
    least = evidence[0].min() + entering[1].min() + cheapest[2:].min((1, 2)).sum()
    if kept[0] <= min(kept.min(), least + flip[flip > 0].min()):
        return np.zeros(count, dtype=np.int64)
    entering += flip
    best = evidence[0][:, None] + entering[1]
    came = np.zeros((count, 64), dtype=np.int64)
    every, total = np.arange(64), np.empty((8, 8, 8))
    for t in range(2, count):
        np.add(best[:, :, None], bend[t], out=total)
        came[t] = total.reshape(8, 64).argmin(0)
        best = total.reshape(8, 64)[came[t], every].reshape(8, 8) + entering[t]
    came = came.reshape(count, 8, 8)
    states = np.zeros(count, dtype=np.int64)
    states[-2], states[-1] = np.unravel_index(best.argmin(), best.shape)
    for t in range(count - 1, 1, -1):
        states[t - 2] = came[t, states[t - 1], states[t]]
    return states
