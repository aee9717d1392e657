# SPDX-License-Identifier: GPL-3.0-or-later
"""A rig's take: the action that a solve made, as it plays now, in Blender's time and in the footage's."""

import numpy as np

from .keyframes import curves
from .motion import Motion, load_motion

STORED_PROPERTY = "lgd_motion"  # of an action: the motion as it was solved


def playing(rig):
    """The action that holds the rig's take, and the strip of the NLA that it plays in or None: the present action, else the uppermost
    of those pushed down that are not muted. (None, None) where there is none."""
    data = rig.animation_data
    if data is None:
        return None, None
    if data.action is not None and STORED_PROPERTY in data.action:
        return data.action, None
    for track in reversed(data.nla_tracks):
        for strip in reversed(track.strips):
            if not track.mute and not strip.mute and strip.action is not None and STORED_PROPERTY in strip.action:
                return strip.action, strip
    return None, None


def to_scene(strip, frames) -> np.ndarray:
    """Frames (F,) of an action as the scene's, where the action plays in a strip; strip None: the present action's own."""
    frames = np.asarray(frames, dtype=float)
    if strip is None:
        return frames
    along = (frames - strip.action_frame_start) * strip.scale
    return strip.frame_end - along if strip.use_reverse else strip.frame_start + along


def take_curve(rig, path: str):
    """The f-curve of a property in the rig's take, and the take's strip or None; (None, None) where there is none."""
    action, strip = playing(rig)
    found = curves(rig, action) if action is not None else []
    return next((c for c in found if c.data_path == path), None), strip


def stored_motion(rig) -> Motion | None:
    """The motion as it was solved. `extra` has key_frames (N,), rising, where its keys were put, in the scene's frames as it plays now;
    key_order (N,), the solved frame of each; and retimed, whether a strip plays it at another speed. Raises LgdError where it is
    damaged."""
    action, strip = playing(rig)
    if action is None:
        return None
    motion = load_motion(bytes(action[STORED_PROPERTY]))
    if "key_frames" in motion.extra:
        frames = to_scene(strip, motion.extra["key_frames"])
        rising = np.argsort(frames)
        motion.extra["key_frames"] = frames[rising]
        if "key_order" in motion.extra:
            motion.extra["key_order"] = motion.extra["key_order"][rising]
    motion.extra["retimed"] = strip is not None and (strip.scale != 1 or strip.repeat != 1 or strip.use_animated_time)
    return motion


def solved_frames(motion: Motion, frames: np.ndarray) -> np.ndarray | None:
    """The frame of a stored motion (F,) that lies at each Blender frame (F,), of keys that are still where the solve put them;
    None where others are among them. A reversed strip's come in falling order."""
    keys, order = motion.extra.get("key_frames"), motion.extra.get("key_order")
    if keys is None or order is None:  # of an older version
        return None
    index, near = _nearest(keys, frames)
    return order[index] if near.all() else None


def footage_times(motion: Motion, frames: np.ndarray) -> np.ndarray | None:
    """The footage's times (F,) s at Blender frames (F,), also between the keys that the solve put and where some were taken out or
    added; None where these were moved, or run backwards: then the scene's own time counts."""
    keys, order = motion.extra.get("key_frames"), motion.extra.get("key_order")
    if keys is None or order is None or motion.extra.get("retimed") or not (np.diff(motion.frame_times[order]) > 0).all():
        return None
    inside = frames[0] > keys[0] - 1e-3 and frames[-1] < keys[-1] + 1e-3
    if not inside or _nearest(keys, frames)[1].mean() < 0.5:
        return None
    return np.interp(frames, keys, motion.frame_times[order])


def rate_of(motion: Motion) -> float:
    """The frames a second at which the take plays as fast as the footage: its own rate where there is a key for each picture."""
    keys, order = motion.extra.get("key_frames"), motion.extra.get("key_order")
    if keys is None or order is None or len(keys) < 2:
        return motion.framerate
    seconds = np.abs(np.diff(motion.frame_times[order]))
    moving = seconds > 1e-6  # not where a picture is held
    if not moving.any():
        return motion.framerate
    rate = float(np.median(np.diff(keys)[moving] / seconds[moving]))
    return motion.framerate if abs(rate / motion.framerate - 1) < 0.005 else rate


def _nearest(keys: np.ndarray, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(F,) index of the key nearest to each frame, and whether it lies there. Frames come back from Blender in single precision."""
    before = (np.searchsorted(keys, frames) - 1).clip(0)
    after = (before + 1).clip(max=len(keys) - 1)
    index = np.where(np.abs(keys[after] - frames) < np.abs(keys[before] - frames), after, before)
    return index, np.abs(keys[index] - frames) < 2e-3
