# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a solve can be trusted: which frames of a take are doubtful, and which limbs in a frame."""

import numpy as np

from .._bridge import LgdError
from . import takes
from .armature import bone_names
from .body import PARENTS
from .motion import load_motion
from .result import CONFIDENCE_PROPERTY, ERROR_PROPERTY

LIMBS = (1, 2, 4, 5, 7, 8, 16, 17, 18, 19, 20, 21)  # hips, knees, ankles, shoulders, elbows, wrists
DOUBTFUL = 0.35  # confidence of a frame, or of a joint: about 14 cm of expected error
LOST = 0.2  # of one limb: 20 cm
_TAIL = 2048  # bytes at an archive's end, which hold the check sums of all its parts
_read: dict[int, tuple] = {}


def bad_frames(rig, pixels: float = 0.0) -> list[float]:
    """The worst Blender frame of every stretch in which the solve is doubtful, in order: the error is high, or the confidence low, of
    the whole body or of one limb against what it is through the take.

    pixels: the reprojection error that counts as bad; 0 takes three times the take's median.
    """
    score: dict[float, float] = {}

    def count(frames, values, covered) -> None:
        here = takes.uncovered(frames, covered)
        for frame, value in zip(frames[here], values[here], strict=True):
            score[frame] = max(score.get(frame, 0.0), value)

    for take, covered in takes.seen(rig):
        errors, trust = (takes.take_keys(rig, f'["{name}"]', take) for name in (ERROR_PROPERTY, CONFIDENCE_PROPERTY))
        if errors is not None:
            frames, values = errors
            count(frames, values / (pixels or max(3.0 * float(np.median(values)), 2.0)), covered)
        if trust is not None:
            frames, values = trust
            count(frames, DOUBTFUL / np.maximum(values, 1e-3), covered)
        kept = _limbs_of(rig, take)
        if kept is not None:
            frames, values = kept
            # A limb that is never seen would make one stretch of the whole take.
            bound = np.minimum(LOST, np.median(values, axis=0) / 2)
            count(frames, (bound / np.maximum(values, 1e-3)).max(1), covered)
    found, run = [], []
    for frame in [*sorted(score), None]:
        if frame is not None and score[frame] > 1.0:
            run.append(frame)
        elif run:
            found.append(float(max(run, key=score.__getitem__)))
            run = []
    return found


def limbs(rig) -> tuple[np.ndarray, np.ndarray] | None:
    """The Blender frames (F,), rising, at which the takes that are seen were keyed, and the confidence (F, 12) of LIMBS there, in [0, 1]; None for a
    rig without a take. Cheap when asked again: panels ask at every redraw."""
    found = []
    for take, covered in takes.seen(rig):
        kept = _limbs_of(rig, take)
        if kept is not None:
            here = takes.uncovered(kept[0], covered)
            found.append((kept[0][here], kept[1][here]))
    frames, values = (np.concatenate(part) for part in zip(*found, strict=True)) if found else (np.zeros(0), None)
    rising = np.argsort(frames, kind="stable")
    return (frames[rising], values[rising]) if len(frames) else None


def _limbs_of(rig, take) -> tuple[np.ndarray, np.ndarray] | None:
    """`limbs` of one of the takes that `takes.seen` gives, also where others cover it."""
    action, strips = take
    data = action[takes.STORED_PROPERTY]
    mark = (len(data), bytes(data[-_TAIL:]))
    known = _read.get(action.session_uid)
    if known is None or known[0] != mark:
        if len(_read) > 16:
            _read.clear()
        known = _read[action.session_uid] = (mark, _limbs(data))
    if known[1] is None:
        return None
    frames, values = known[1]
    at, index = takes.shown(rig, strips, frames)
    return (takes.moved_to(rig, at, f'["{CONFIDENCE_PROPERTY}"]', take), values[index]) if len(at) else None


def _limbs(data) -> tuple[np.ndarray, np.ndarray] | None:
    """Frames and confidence as an action keeps them."""
    try:
        motion = load_motion(bytes(data))
    except LgdError:
        return None
    order, frames = motion.extra.get("key_order"), motion.extra.get("key_frames")
    if order is None or frames is None or not len(frames):  # of an older version
        return None
    return frames.astype(np.float32).astype(float), motion.joint_confidence[order][:, LIMBS]  # as curves hold them


def at(rig, frame: float) -> dict[int, float]:
    """The confidence of each of LIMBS, by joint, at the key nearest to a Blender frame; empty for a rig without a take."""
    found = limbs(rig)
    if found is None:
        return {}
    frames, values = found
    return dict(zip(LIMBS, values[np.abs(frames - frame).argmin()].tolist(), strict=True))


def leading_bone(rig, joint: int) -> str:
    """The name of the bone whose turn places a joint: its parent's."""
    return bone_names(rig.data)[PARENTS[joint]]
