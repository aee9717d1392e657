# SPDX-License-Identifier: GPL-3.0-or-later
"""What moves a rig beside the keys of its take: the armature's object, the bone above the pelvis, constraints, layers of the NLA."""

import bpy
import numpy as np

from .keyframes import curves


def now(rig, names) -> np.ndarray:
    """(4, 4) what the bone above the pelvis and the armature's object do to the body in the world, at the present frame."""
    held = rig.evaluated_get(bpy.context.evaluated_depsgraph_get())
    root = rig.pose.bones[names[0]].parent
    if root is None:
        return np.array(held.matrix_world)
    return np.array(held.matrix_world @ held.pose.bones[root.name].matrix @ root.bone.matrix_local.inverted())


def unscaled(moved) -> tuple[np.ndarray, float]:
    """A transform (4, 4) as a rigid one, and the scale that it had besides."""
    moved = np.array(moved, dtype=float)
    sizes = np.linalg.norm(moved[:3, :3], axis=0)
    moved[:3, :3] /= np.maximum(sizes, 1e-12)
    return moved, float(sizes.mean())


def over_time(scene, rig, names, frames) -> np.ndarray:
    """`now` at frames (F,): (1, 4, 4) where nothing moves it, else (F, 4, 4)."""
    root = rig.pose.bones[names[0]].parent
    own = tuple(_path(name) for name in names) + ("[",)
    moves = rig.parent is not None or len(rig.constraints) or (root is not None and len(root.constraints)) or _layered(rig)
    moves = moves or any(not c.data_path.startswith(own) for c in curves(rig))
    moves = moves or (rig.animation_data is not None and len(rig.animation_data.drivers))
    if not moves:
        return now(rig, names)[None]
    return np.array(at_each(scene, frames, lambda: now(rig, names)))


def keyed_alone(rig, names) -> bool:
    """Whether the quaternion keys of the present action, and nothing else, pose the bones."""
    data = rig.animation_data
    if data is None or _layered(rig) or len(data.drivers):
        return False
    bones = [rig.pose.bones[name] for name in names]
    return all(b.rotation_mode == "QUATERNION" and all(c.mute or not c.influence for c in b.constraints) for b in bones)


def posed(scene, rig, names, frames):
    """The pose as Blender evaluates it, constraints and layers included, at frames (F,): quaternions (F, 24, 4) against the parent, and
    the pelvis's location (F, 3)."""
    quats, location = np.empty((len(frames), len(names), 4)), np.empty((len(frames), 3))

    def look():
        held = rig.evaluated_get(bpy.context.evaluated_depsgraph_get()).pose.bones
        out = []
        for name in names:
            bone, rest = held[name], rig.data.bones[name]
            base = rest.matrix_local
            if rest.parent is not None:
                base = held[rest.parent.name].matrix @ rest.parent.matrix_local.inverted() @ base
            out.append(base.inverted_safe() @ bone.matrix)
        return [tuple(m.to_quaternion()) for m in out], tuple(out[0].translation)

    for row, (turns, place) in enumerate(at_each(scene, frames, look)):
        quats[row], location[row] = turns, place
    return quats, location


def at_each(scene, frames, look) -> list:
    """What `look()` gives at each of frames (F,); the scene is then where it was."""
    before, sub, found = scene.frame_current, scene.frame_subframe, []
    for frame in frames:
        scene.frame_set(int(np.floor(frame)), subframe=float(frame - np.floor(frame)))
        found.append(look())
    scene.frame_set(before, subframe=sub)
    return found


def _layered(rig) -> bool:
    data = rig.animation_data
    return data is not None and any(not t.mute and any(not s.mute for s in t.strips) for t in data.nla_tracks)


def _path(name: str) -> str:
    return f'pose.bones["{bpy.utils.escape_identifier(name)}"]'
