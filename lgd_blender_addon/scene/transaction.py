# SPDX-License-Identifier: GPL-3.0-or-later
"""A build that fails half-way leaves the file as it was."""

import bpy

from . import correctives

LAYERING = ("action_blend_type", "action_influence", "action_extrapolation")


class AllOrNothing:
    """Where the block inside fails, every data-block that appeared since goes, and rigs are put back to how they were.

    rigs: [(armature object, its body's mesh object or None)] that the block may animate anew.
    """

    KINDS = ("objects", "meshes", "armatures", "cameras", "actions", "collections", "materials", "images")

    def __init__(self, rigs):
        self._rigs = rigs

    def __enter__(self):
        self._before = {kind: set(getattr(bpy.data, kind)) for kind in self.KINDS}
        self._scenes = [(scene, scene.camera) for scene in bpy.data.scenes]
        self._held = [_Held(rig, skin) for rig, skin in self._rigs]
        return self

    def __exit__(self, kind, error, trace):
        if error is None:
            return
        for held in self._held:
            held.put_back()
        for scene, camera in self._scenes:
            scene.camera = camera
        new = [b for k in self.KINDS for b in getattr(bpy.data, k) if b not in self._before[k]]
        bpy.data.batch_remove(new)


class _Held:
    """What a build changes of a rig and its body that were there before."""

    def __init__(self, rig, skin):
        self.rig, self.skin = rig, skin
        self.actions = []
        for block in (rig, skin.data.shape_keys if skin else None):
            data = block.animation_data if block else None
            if data is not None:
                data.use_tweak_mode = False  # of the NLA, in which a block takes no other action
                kept = [(data, name, getattr(data, name)) for name in LAYERING]
                if data.action is not None:
                    kept.append((data.action, "use_fake_user", data.action.use_fake_user))
                self.actions.append((data, data.action, getattr(data, "action_slot", None), kept))
        self.modes = {bone.name: bone.rotation_mode for bone in rig.pose.bones}
        self.numbers = {name: rig[name] for name in rig.keys() if isinstance(rig[name], float)}
        note = getattr(rig, "lgd", None)  # where the add-on is registered
        self.note = {} if note is None else {name: getattr(note, name) for name in type(note).__annotations__}
        self.correctives = correctives.get_mode(skin) if skin else "OFF"

    def put_back(self) -> None:
        for data, action, slot, kept in self.actions:
            data.action = action
            for block, name, value in kept:
                setattr(block, name, value)
            if slot is not None and action is not None:
                data.action_slot = slot
        for name, mode in self.modes.items():
            self.rig.pose.bones[name].rotation_mode = mode
        for name, value in self.numbers.items():
            self.rig[name] = value
        for name, value in self.note.items():
            setattr(self.rig.lgd, name, value)
        if self.skin and correctives.get_mode(self.skin) != self.correctives:
            correctives.set_mode(self.skin, self.rig, self.correctives)
