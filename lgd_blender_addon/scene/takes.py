# SPDX-License-Identifier: GPL-3.0-or-later
"""A rig's take: the action that a solve made, as it plays now, in Blender's time and in the footage's."""

import bpy
import numpy as np

from .._bridge import LgdError, counting
from .keyframes import curves, find_curve, keys_of, shown_tracks, strips_of
from .motion import Motion, load_motion

STORED_PROPERTY = "lgd_motion"  # of an action: the motion as it was solved
STEPS_PROPERTY = "lgd_steps"  # of an action: the file of the paper mode's steps by which it was solved; empty where none were kept
CAMERA_PROPERTY = "lgd_camera"  # of an action: what the camera is known as before which it was solved
MOST = 0.9  # of the keys that a solve put, or of those that are there: one of them must lie on the others


def playing(rig):
    """The action that holds the rig's take, and the strips of the NLA that it plays in: the present action, for which there are none, else
    the uppermost of those pushed down that are seen, in all its strips. (None, []) where there is none."""
    data = rig.animation_data
    if data is None:
        return None, []
    tracks, acts = shown_tracks(data)
    if acts and data.action is not None and STORED_PROPERTY in data.action:
        return data.action, []
    strips = [s for track in reversed(tracks) for s in reversed(strips_of(track))]
    action = next((s.action for s in strips if STORED_PROPERTY in s.action), None)
    return action, [s for s in strips if s.action == action] if action is not None else []


def known_as(camera) -> str:
    """What takes and rigs note of a camera: the name that it had when the first of them was solved before it, by which it is known when it is
    renamed. It is told from others of its scene that had the same, as a new one has where the one before was renamed."""
    note = getattr(camera, "lgd", None)  # where the add-on is registered
    if note is None:
        return camera.name
    beside = (o for o in bpy.data.objects if o.type == "CAMERA" and o != camera and set(o.users_scene) & set(camera.users_scene))
    others = {o.lgd.camera for o in beside}
    if not note.camera or (note.camera in others and note.camera != camera.name):  # a copy has it of the first
        name, count = camera.name, 1
        while name in others:
            name, count = f"{camera.name} ({count + 1})", count + 1
        note.camera = name
    return note.camera


def camera_of(scene, rig, last: bool = False):
    """The camera of a scene that a rig's take was solved for, or its last one, also where it was renamed since, as in a full copy of a scene.
    None where there is none."""
    note = getattr(rig, "lgd", None)  # where the add-on is registered
    if note is None:
        return None
    action = None if last else playing(rig)[0]
    name = note.camera if action is None else action.get(CAMERA_PROPERTY, note.camera)
    cameras = [o for o in scene.objects if o.type == "CAMERA"]
    known = [o for o in cameras if name and o.lgd.camera == name]
    known = [o for o in known if o.lgd.footage == note.footage] or known  # another file's, appended, may have had the same name
    named = [o for o in known or cameras if o.name == name]  # of copies, and where it was noted by an older version
    solved = [o for o in cameras if o.lgd.role == "CAMERA" and o.lgd.footage == note.footage]
    return next((found[0] for found in (named, known, solved) if len(found) == 1), None)


def shown(rig, strips, frames) -> tuple[np.ndarray, np.ndarray]:
    """Where the frames (F,) of the action that `playing` gives are shown: the scene's frames (M,), rising, and the index (M,) of each in
    `frames`. Strips may be trimmed, repeated, slowed down and reversed, and be several parts of the action."""
    frames = np.asarray(frames, dtype=float)
    if not strips:
        data = rig.animation_data
        if data.use_tweak_mode:  # the action of a strip, opened: its keys lie in its own time
            frames = np.array([data.nla_tweak_strip_time_to_scene(frame) for frame in frames])
        return frames, np.arange(len(frames))
    at, index = [], []
    for strip in strips:
        length = (strip.action_frame_end - strip.action_frame_start) * strip.scale
        inside = np.flatnonzero((frames > strip.action_frame_start - 1e-3) & (frames < strip.action_frame_end + 1e-3))
        along = (frames[inside] - strip.action_frame_start) * strip.scale
        for turn in range(int(np.ceil(strip.repeat - 1e-6))):
            places = strip.frame_start + turn * length + (length - along if strip.use_reverse else along)
            here = places < strip.frame_end + 1e-3
            at.append(places[here])
            index.append(inside[here])
    at, index = np.concatenate(at), np.concatenate(index)
    rising = np.argsort(at, kind="stable")
    return at[rising], index[rising]


def keyed(rig) -> np.ndarray:
    """The Blender frames (F,) at which the rig's pelvis or any bone has keys, in all strips of the NLA that are seen: takes that follow one
    another, and layers of the user's own. A take covers those below it; as the present action, all."""
    action, strips = playing(rig)
    tracks, acts = shown_tracks(rig.animation_data) if rig.animation_data else ([], False)
    frames = set(shown(rig, [], sorted(keys_of_bones(curves(rig))))[0].tolist()) if acts else set()
    if action is None or strips:
        covered: list[tuple[float, float]] = []
        for track in reversed(tracks):
            strips = strips_of(track)
            for strip in strips:
                keys = keys_of_bones(curves(rig, strip.action, getattr(strip, "action_slot", None)))
                frames |= {f for f in shown(rig, [strip], sorted(keys))[0].tolist() if not any(a < f < b for a, b in covered)}
            covered += [_covers(strip) for strip in strips if STORED_PROPERTY in strip.action]
    return np.array(sorted(frames))


def _covers(strip) -> tuple[float, float]:
    """Between which frames a take's strip hides what lies below it, with what it holds before and after."""
    before = -np.inf if strip.extrapolation == "HOLD" else strip.frame_start - 1e-3
    return before, np.inf if strip.extrapolation != "NOTHING" else strip.frame_end + 1e-3


def keys_of_bones(found) -> set[float]:
    """The frames of all keys that f-curves of bones have."""
    return {f for c in found if c.data_path.startswith("pose.bones") for f in keys_of(c)[0]}


def seen(rig) -> list:
    """Every take of a rig that is seen, of which `playing` gives the uppermost, with the frames that those above it cover: [((action, strips),
    [(first, last), ...]), ...]."""
    action, strips = playing(rig)
    if not strips:
        return [] if action is None else [((action, []), [])]
    found, covered = {}, []
    for track in reversed(shown_tracks(rig.animation_data)[0]):
        own = [strip for strip in strips_of(track) if STORED_PROPERTY in strip.action]
        for strip in own:
            found.setdefault(strip.action, ([], list(covered)))[0].append(strip)
        covered += [_covers(strip) for strip in own]
    return [((action, strips), covers) for action, (strips, covers) in found.items()]


def uncovered(frames: np.ndarray, covered) -> np.ndarray:
    """(F,) whether each Blender frame lies in none of the stretches that `seen` gives."""
    free = np.ones(len(frames), dtype=bool)
    for first, last in covered:
        free &= (frames <= first) | (frames >= last)
    return free


def take_keys(rig, path: str, take=None) -> tuple[np.ndarray, np.ndarray] | None:
    """The keys of a property in the rig's take, or in one that `seen` gives: the scene's frames (M,) and values (M,); None where it has none."""
    action, strips = take or playing(rig)
    slot = getattr(strips[0], "action_slot", None) if strips else None
    curve = next((c for c in curves(rig, action, slot) if c.data_path == path), None) if action is not None else None
    if curve is None:
        return None
    frames, values = keys_of(curve)
    at, index = shown(rig, strips, frames)
    return at, values[index]


def played_keys(block, path: str, index: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The keys of a property of any block: the scene's frames (M,) and values (M,), of its present action or else of the uppermost strip of the
    NLA that has some; none where none has."""
    curve, data = find_curve(block, path, index), block.animation_data
    if curve is not None or data is None:
        return keys_of(curve) if curve is not None else (np.zeros(0), np.zeros(0))
    for strip in (s for track in reversed(shown_tracks(data)[0]) for s in reversed(strips_of(track))):
        found = curves(block, strip.action, getattr(strip, "action_slot", None))
        curve = next((c for c in found if c.data_path == path and c.array_index == index), None)
        if curve is not None:
            frames, values = keys_of(curve)
            at, which = shown(block, [strip], frames)
            return at, values[which]
    return np.zeros(0), np.zeros(0)


def stored_motion(rig) -> Motion | None:
    """The motion as it was solved. `extra` has key_frames (N,), rising, where its keys were put, in the scene's frames as it plays now;
    key_order (N,), the solved frame of each; and retimed, whether strips play it at another speed or with parts moved against others.
    Raises LgdError where it is damaged."""
    action, strips = playing(rig)
    if action is None:
        return None
    motion = load_motion(bytes(action[STORED_PROPERTY]))
    if "key_frames" in motion.extra and "key_order" in motion.extra:
        put = motion.extra["key_frames"]
        at, index = shown(rig, strips, put)
        motion.extra.update(key_frames=at, key_order=motion.extra["key_order"][index])
        motion.extra["retimed"] = any(s.use_animated_time for s in strips) or (len(at) > 0 and float(np.ptp(at - put[index])) > 0.01)
    return motion


def readable_motion(rig) -> Motion | None:
    """`stored_motion`, or None where it is damaged."""
    try:
        return stored_motion(rig)
    except LgdError:
        return None


def pelvis_seen(motion: Motion, rest) -> tuple[np.ndarray, np.ndarray]:
    """Where a motion's pelvis is seen, (F, 2) px, and how many px a metre has there, (F,). rest: where it rests in its body, (3,) m."""
    hips = motion.trans + rest
    K = np.broadcast_to(motion.cam_K, (len(hips), 3, 3))
    pixels, depth = np.einsum("fab,fb->fa", K, hips), np.maximum(hips[:, 2], 1e-3)
    return pixels[:, :2] / depth[:, None], K[:, 0, 0] / depth


def elsewhere(old: Motion, old_rest, new: Motion, new_rest, footage) -> bool:
    """Whether in the frames of a footage that two motions share the second is mostly seen more than half a metre beside the first. Rests as in
    `pelvis_seen`."""
    firsts = int(old.extra.get("first", 0)), footage.frames[0]
    ours, theirs = (
        counting.counts(motion.frame_times, footage.fps) if footage.fps else first + np.arange(motion.frames)
        for motion, first in zip((old, new), firsts, strict=True)
    )
    _, ours, theirs = np.intersect1d(ours, theirs, return_indices=True)
    (before, metre), (now, _) = pelvis_seen(old, old_rest), pelvis_seen(new, new_rest)
    gap = np.linalg.norm(now[theirs] - before[ours], axis=-1) / metre[ours]
    return len(gap) > 0 and float(np.median(gap)) > 0.5


def solved_frames(motion: Motion, frames: np.ndarray) -> np.ndarray | None:
    """The frame of a stored motion (F,) that lies at each Blender frame (F,), of keys that are still where the solve put them;
    None where others are among them. A reversed strip's come in falling order."""
    keys, order = motion.extra.get("key_frames"), motion.extra.get("key_order")
    if keys is None or order is None or not len(keys):  # of an older version
        return None
    index, near = _nearest(keys, frames)
    return order[index] if near.all() else None


def moved_to(rig, at: np.ndarray, path: str, take=None) -> np.ndarray:
    """Where keys that a solve put at the scene's frames (N,), rising, lie by now: told by those of a property that was keyed with them,
    as long as none was taken out or added. take: as in `take_keys`."""
    keyed = take_keys(rig, path, take)
    return keyed[0] if keyed is not None and len(keyed[0]) == len(at) else at


def nearest_solved(rig, motion: Motion, frames: np.ndarray, path: str) -> np.ndarray | None:
    """The frame of a rig's stored motion (F,) whose key is the nearest to each Blender frame (F,), -1 before the first and after the last,
    where another take plays, or the user's own. path: as in `moved_to`."""
    keys, order = motion.extra.get("key_frames"), motion.extra.get("key_order")
    if keys is None or order is None or not len(keys):
        return None
    keys = moved_to(rig, keys, path)
    return np.where((frames < keys[0] - 0.5) | (frames > keys[-1] + 0.5), -1, order[_nearest(keys, frames)[0]])


def footage_times(motion: Motion, frames: np.ndarray) -> np.ndarray | None:
    """The footage's times (F,) s at Blender frames (F,), also between and beside the keys that the solve put and where some were taken
    out or added; None where these were moved, or do not run evenly on: then the scene's own time counts."""
    keys, order = motion.extra.get("key_frames"), motion.extra.get("key_order")
    if keys is None or order is None or not len(keys) or motion.extra.get("retimed"):
        return None
    times = motion.frame_times[order]
    if not (np.diff(times) > 0).all() or not (np.diff(keys) > 0).all():
        return None
    if max(_nearest(keys, frames)[1].mean(), _nearest(frames, keys)[1].mean()) < MOST:
        return None
    out = np.interp(frames, keys, times)
    pace = (times[-1] - times[0]) / (keys[-1] - keys[0]) if len(keys) > 1 else 1 / motion.framerate
    return out + pace * (np.minimum(frames - keys[0], 0) + np.maximum(frames - keys[-1], 0))


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
