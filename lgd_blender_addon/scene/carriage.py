# SPDX-License-Identifier: GPL-3.0-or-later
"""What moves a rig beside the keys of its take: the armature's object, the bone above the pelvis, constraints, layers of the NLA."""

import bpy
import numpy as np

from .._bridge import LgdError
from .armature import applied
from .keyframes import curves, read_pose, shown_tracks


def now(rig, names) -> np.ndarray:
    """(4, 4) what the bone above the pelvis and the armature's object do to the body in the world, at the present frame. Raises LgdError where
    nothing is left of it."""
    held = rig.evaluated_get(bpy.context.evaluated_depsgraph_get())
    # Of what is hidden since the file was opened Blender has not reckoned the place.
    root, moved = rig.pose.bones[names[0]].parent, held.matrix_world if held.is_evaluated or rig.parent is not None else rig.matrix_basis
    if root is not None:
        moved = moved @ held.pose.bones[root.name].matrix @ root.bone.matrix_local.inverted() @ applied(rig, names)
    if abs(moved.to_3x3().determinant()) < 1e-12:
        raise LgdError("bad_input", f"{rig.name} is scaled to nothing.", "Give it, and what it is parented to, a size.")
    return np.array(moved)


def unscaled(moved) -> tuple[np.ndarray, float]:
    """A transform (4, 4) as a rigid one, and the scale that it had besides."""
    moved = np.array(moved, dtype=float)
    sizes = np.linalg.norm(moved[:3, :3], axis=0)
    moved[:3, :3] /= np.maximum(sizes, 1e-12)
    return moved, float(sizes.mean())


def seen_to_move(item) -> None:
    """Raises LgdError where Blender does not evaluate an object, or its bones, which then stand where they were last seen."""
    if item.type == "ARMATURE" and item.data.is_editmode:
        raise LgdError("bad_input", f"{item.name} is in Edit Mode, in which Blender does not move its bones.", "Leave Edit Mode first.")
    if not item.evaluated_get(bpy.context.evaluated_depsgraph_get()).is_evaluated:
        text = f"Blender does not move {item.name} while it or its collection is hidden in viewports or left out of the view layer."
        raise LgdError("bad_input", text, "Show both.")


def animation(scene, rig, names, frames):
    """The rig at frames (F,) as it is seen: quaternions (F, 24, 4) against the parent, the pelvis's location (F, 3), and `now`,
    (1, 4, 4) where nothing moves it, else (F, 4, 4). Raises LgdError where Blender does not evaluate it."""
    moves = _moves(rig, names)
    if not moves and _keyed_alone(rig, names):
        return (*read_pose(rig, names, frames), now(rig, names)[None])
    seen_to_move(rig)
    if rig.data.pose_position == "REST":
        raise LgdError("bad_input", f"{rig.name} is in Rest Position, in which nothing moves its bones.", "Set its armature to Pose Position.")
    found = at_each(scene, frames, lambda: (_pose(rig, names), now(rig, names)))
    quats, location = (np.array(part) for part in zip(*(pose for pose, _ in found), strict=True))
    carried = np.array([carried for _, carried in found])
    return quats, location, carried if moves else carried[:1]


def _moves(rig, names) -> bool:
    """Whether anything may move the bone above the pelvis, or the armature's object."""
    root, data = rig.pose.bones[names[0]].parent, rig.animation_data
    own = tuple(_path(name) for name in names) + ("[",)
    held = rig.parent is not None or len(rig.constraints) or (root is not None and len(root.constraints))
    return bool(held or layered(rig) or (data is not None and len(data.drivers)) or any(not c.data_path.startswith(own) for c in curves(rig)))


def _keyed_alone(rig, names) -> bool:
    """Whether the quaternion keys of the present action, and nothing else, pose the bones."""
    data = rig.animation_data
    if data is None or layered(rig) or data.use_tweak_mode or len(data.drivers) or any(c.mute or (c.group is not None and c.group.mute) for c in curves(rig)):
        return False
    bones = [rig.pose.bones[name] for name in names]
    return all(b.rotation_mode == "QUATERNION" and all(c.mute or not c.influence for c in b.constraints) for b in bones)


def _pose(rig, names) -> tuple[list, tuple]:
    """Quaternions against the parent (24) and the pelvis's location, as Blender evaluates the present frame."""
    held = rig.evaluated_get(bpy.context.evaluated_depsgraph_get()).pose.bones
    out = []
    for name in names:
        rest = rig.data.bones[name]
        base = rest.matrix_local
        if rest.parent is not None:
            base = held[rest.parent.name].matrix @ rest.parent.matrix_local.inverted() @ base
        out.append(base.inverted_safe() @ held[name].matrix)
    return [tuple(m.to_quaternion()) for m in out], tuple(out[0].translation)


def turns(rig, names) -> list:
    """The bones' own rotations (24) as quaternions, as the present frame's animation sets them."""
    held = rig.evaluated_get(bpy.context.evaluated_depsgraph_get()).pose.bones
    bones = [held[name] for name in names]
    return [tuple(bone.rotation_quaternion if bone.rotation_mode == "QUATERNION" else bone.matrix_basis.to_quaternion()) for bone in bones]


def at_each(scene, frames, look) -> list:
    """What `look()` gives at each of frames (F,); the scene is then where it was."""
    before, sub, found = scene.frame_current, scene.frame_subframe, []
    try:
        for frame in frames:
            scene.frame_set(int(np.floor(frame)), subframe=float(frame - np.floor(frame)))
            found.append(look())
    finally:
        scene.frame_set(before, subframe=sub)
    return found


def layered(rig) -> bool:
    """Whether the NLA makes of the rig's animation something else than its present action is."""
    data = rig.animation_data
    if data is None:
        return False
    tracks, acts = shown_tracks(data)
    return not acts or any(not s.mute for t in tracks for s in t.strips)


def _path(name: str) -> str:
    return f'pose.bones["{bpy.utils.escape_identifier(name)}"]'
