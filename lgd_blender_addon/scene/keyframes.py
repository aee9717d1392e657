# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys written in bulk, alike in every version: actions with slots and layers where Blender has them (4.4 on)."""

import bpy
import numpy as np

SLOTS = bpy.app.version >= (4, 4, 0)


def _enum(name: str, value: str, default: str) -> int:
    items = bpy.types.Keyframe.bl_rna.properties[name].enum_items
    return (items.get(value) or items[default]).value


class Take:
    """One action for one take: `bag(id_block)` gives the f-curves of each data-block that the take moves.

    Before 4.4 an action serves one type of data-block, so every further block gets an action of its own, named
    after the take and the block.
    """

    def __init__(self, name: str):
        self.name = name
        self.actions = []
        self._shared = None
        self._bags = {}

    def bag(self, block):
        """The take's holder of f-curves (`.fcurves`, `.groups`) for `block`, made and assigned at the first call."""
        if block not in self._bags:
            self._bags[block] = self._new_bag(block)
        return self._bags[block]

    def _new_bag(self, block):
        data = block.animation_data_create()
        data.use_tweak_mode = False  # of the NLA, in which a block takes no other action
        # Of the action that was there: a take that is added to one in the NLA, as a layer of the user's own is, would move the body twice.
        data.action_blend_type, data.action_influence, data.action_extrapolation = "REPLACE", 1.0, "HOLD"
        before = data.action
        bag = self._assign(block, data)
        if before is not None and not before.users and before.library is None:
            before.use_fake_user = True  # the user's own work, which saving would throw away
        return bag

    def _assign(self, block, data):
        if SLOTS:
            if self._shared is None:
                self._shared = bpy.data.actions.new(self.name)
                self.actions.append(self._shared)
                self._shared.layers.new("Layer").strips.new(type="KEYFRAME")
            action = self._shared
            # As the last one, also where the block was renamed: by that Blender finds its slot in each of its takes when they are chosen.
            slot = action.slots.new(id_type=block.id_type, name=data.last_slot_identifier[2:] or block.name)
            data.action = action
            data.action_slot = slot
            return action.layers[0].strips[0].channelbag(slot, ensure=True)
        action = bpy.data.actions.new(self.name if not self.actions else f"{self.name} {block.name}")
        self.actions.append(action)
        data.action = action
        return action

    def finish(self, first: float, last: float) -> None:
        """Keep the take's actions in the file and give them their frame range."""
        for action in self.actions:
            action.use_fake_user = True
            action.use_frame_range = True
            action.frame_start, action.frame_end = first, max(last, first)


def write_curve(bag, path: str, index: int, frames, values, group="", interpolation="LINEAR", generated=True):
    """One f-curve with a key at each of frames (N,), values (N,); frames must rise. Returns the f-curve."""
    if SLOTS:
        curve = bag.fcurves.new(path, index=index)
        if group:
            curve.group = bag.groups.get(group) or bag.groups.new(group)
    else:
        curve = bag.fcurves.new(path, index=index, action_group=group)
    points = curve.keyframe_points
    points.add(len(frames))
    co = np.empty((len(frames), 2), np.float32)
    co[:, 0], co[:, 1] = frames, values
    points.foreach_set("co", co.ravel())
    points.foreach_set(
        "interpolation", np.full(len(frames), _enum("interpolation", interpolation, "LINEAR"), np.int32)
    )
    if generated:
        points.foreach_set("type", np.full(len(frames), _enum("type", "GENERATED", "KEYFRAME"), np.int32))
    curve.update()
    return curve


def write_curves(bag, path: str, frames, values, group="", interpolation="LINEAR") -> None:
    """One f-curve per column of values (N, C), all on frames (N,)."""
    for index in range(values.shape[1]):
        write_curve(bag, path, index, frames, values[:, index], group, interpolation)


def write_pose(take: Take, rig, bones, frames, quats, location) -> int:
    """Key a rig's pose: quats (F, 24, 4) on `bones` (24 names), location (F, 3) m on the first. Returns the keys."""
    bag = take.bag(rig)
    for joint, name in enumerate(bones):
        base = f'pose.bones["{bpy.utils.escape_identifier(name)}"]'
        if joint == 0:
            write_curves(bag, base + ".location", frames, location, name)
        write_curves(bag, base + ".rotation_quaternion", frames, quats[:, joint], name)
    return len(frames) * (len(bones) * 4 + 3)


def curves(block, action=None, slot=None):
    """The f-curves that move a data-block, by its assigned action, or another action's given or first fitting slot."""
    data = block.animation_data
    if data is None or (data.action is None and action is None):
        return []
    if not SLOTS:
        return list((action or data.action).fcurves)
    found = []
    if slot is None and action in (None, data.action):
        slot = data.action_slot
        if slot is None:  # another's action, of which Blender plays nothing until one is chosen
            return []
    action = action or data.action
    if slot is None:
        slot = next((s for s in action.slots if s.target_id_type == block.id_type), None)
    for layer in action.layers:
        for strip in layer.strips:
            bag = strip.channelbag(slot) if slot is not None else None
            if bag is not None:
                found.extend(bag.fcurves)
    return found


def shown_tracks(data) -> tuple[list, bool]:
    """The NLA's tracks that are seen, and whether the present action is: a track that is starred hides all else, a mute one itself. No track
    where the NLA of the block is off; no action without a slot, as another rig's is when it is chosen."""
    acts = not SLOTS or data.action is None or data.action_slot is not None
    if not data.use_nla:
        return [], acts
    starred = [track for track in data.nla_tracks if track.is_solo]
    return starred or [track for track in data.nla_tracks if not track.mute], acts and (data.use_tweak_mode or not starred)


def strips_of(track) -> list:
    """The strips of a track that play an action, without muted ones. A meta strip holds its own where they are in the scene's time; one that is
    reversed is not looked into."""
    found = []
    for strip in track.strips:
        if strip.mute:
            continue
        if strip.type == "META" and not strip.use_reverse:
            found += strips_of(strip)
        elif strip.action is not None:
            found.append(strip)
    return found


def bag_of(block):
    """The holder of f-curves of a block's present action, None where it has none."""
    data = block.animation_data
    if data is None or data.action is None:
        return None
    if not SLOTS:
        return data.action
    for layer in data.action.layers:
        for strip in layer.strips:
            if data.action_slot is not None:
                return strip.channelbag(data.action_slot, ensure=True)
    return None


def find_curve(block, path: str, index: int = 0):
    """The f-curve of a property of a block, or None."""
    return next((c for c in curves(block) if c.data_path == path and c.array_index == index), None)


def keys_of(curve):
    """An f-curve's keys as frames (N,) and values (N,)."""
    co = np.empty(2 * len(curve.keyframe_points), np.float32)
    curve.keyframe_points.foreach_get("co", co)
    return co[0::2].astype(float), co[1::2].astype(float)


def sample(curve, frames) -> np.ndarray:
    """The f-curve's values (N,) at frames (N,)."""
    return np.array([curve.evaluate(float(frame)) for frame in frames])


def read_pose(rig, bones, frames):
    """The keyed pose at frames (F,): quats (F, 24, 4), location (F, 3); what has no curve holds its present value."""
    by_path = {(c.data_path, c.array_index): c for c in curves(rig)}
    frames = np.asarray(frames, dtype=float)
    quats = np.empty((len(frames), len(bones), 4))
    location = np.empty((len(frames), 3))
    for joint, name in enumerate(bones):
        bone = rig.pose.bones[name]
        base = f'pose.bones["{bpy.utils.escape_identifier(name)}"]'
        if joint == 0:
            for axis in range(3):
                curve = by_path.get((base + ".location", axis))
                location[:, axis] = bone.location[axis] if curve is None else sample(curve, frames)
        for axis in range(4):
            curve = by_path.get((base + ".rotation_quaternion", axis))
            quats[:, joint, axis] = bone.rotation_quaternion[axis] if curve is None else sample(curve, frames)
    return quats, location
